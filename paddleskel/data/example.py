"""A made-up skeleton sequence, for what needs one before there are data."""

import numpy as np

from paddleskel.data.clip import Clip
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
