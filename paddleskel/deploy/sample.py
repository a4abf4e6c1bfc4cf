"""A skeleton sequence with the output it must give, so that a port to another language can check itself."""

import io
from collections.abc import Callable

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms import Pipeline


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
