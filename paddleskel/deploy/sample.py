"""A made-up skeleton sequence with the output it must give, so that a port to another language can check itself."""

import io
from collections.abc import Callable

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms import Pipeline
from paddleskel.skeleton.layout import Layout

_IMAGE = (1080, 1920)


def make_clip(layout: Layout, dimensions: int, scored: bool, frames: int) -> Clip:
    """One person of that layout swinging all limbs; metres in 3D, pixels in 2D. The same on every machine."""
    rng = np.random.RandomState(7)
    offsets = rng.randn(layout.num_joints, dimensions) * 0.12
    phases = rng.uniform(0, 2 * np.pi, (layout.num_joints, dimensions))
    angle = 2 * np.pi * np.arange(frames)[:, None, None] / 40 + phases  # (T, V, C)
    bones = offsets + 0.05 * np.sin(angle)
    points = np.zeros((frames, layout.num_joints, dimensions))
    for joint in range(layout.num_joints):
        step = joint
        while layout.parents[step] != step:
            points[:, joint] += bones[:, step]
            step = layout.parents[step]
    if dimensions == 2:
        points = points * 300 + np.array([_IMAGE[1] / 2, _IMAGE[0] / 2])
    else:
        points[..., -1] += 3.0
    score = rng.uniform(0.5, 1.0, (1, frames, layout.num_joints)).astype(np.float32) if scored else None
    size = _IMAGE if dimensions == 2 else None
    return Clip(points[None].astype(np.float32), score, id="sample", image_size=size)


def pack_sample(
    clip: Clip, pipeline: Pipeline, network: Callable[[np.ndarray], np.ndarray]
) -> tuple[bytes, np.ndarray]:
    """Return the content of sample.npz and the network's input for the clip, (1, M, T, V, C).

    raw_keypoint (M, T, V, C), raw_score (M, T, V), image_size: what the pipeline in inference.yml starts from.
    input (1, M, T, V, C), output (1, classes): what the network takes and gives.
    """
    inputs = pipeline(clip, np.random.RandomState(0))[:1].astype(np.float32)
    arrays = {"raw_keypoint": clip.keypoint, "input": inputs, "output": network(inputs)}
    if clip.score is not None:
        arrays["raw_score"] = clip.score
    if clip.image_size is not None:
        arrays["image_size"] = np.array(clip.image_size)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue(), inputs
