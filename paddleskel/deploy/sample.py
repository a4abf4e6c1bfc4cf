"""The sample beside a model: a made-up sequence with the output it must give, so that a port to another language can
check itself.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from paddleskel.data.example import make_clip
from paddleskel.data.transforms import Pipeline
from paddleskel.deploy.bundle import ModelFiles, Proof
from paddleskel.deploy.engines import ENGINES
from paddleskel.deploy.members import Graph
from paddleskel.deploy.proof import run_engine
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import Layout


def make_sample(
    graph: Graph, layout: Layout, pipeline: Pipeline, network: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the arrays of sample.npz.

    raw_keypoint (M, T, V, C), raw_score (M, T, V), image_size: what the pipeline in inference.yml starts from.
    input (1, M, T, V, C), output (1, classes): what the network takes and gives.

    Raises:
        UserError: the pipeline makes inputs of another shape than the network was trained on.
    """
    dimensions, scored = graph.dimensions or (3, False)
    frames = max(2, graph.shape[1] * 3 // 4)  # shorter than PadTo's length where that is the sampling
    clip = make_clip(layout, dimensions, scored, frames)
    inputs = pipeline(clip, np.random.RandomState(0))[:1].astype(np.float32)
    if list(inputs.shape[1:]) != graph.shape:
        raise UserError(
            f"PIPELINE: makes inputs of shape {list(inputs.shape[1:])}, but the weights were trained on {graph.shape} "
            "(persons, frames, joints, channels); export with the config they were trained with"
        )
    arrays = {"raw_keypoint": clip.keypoint, "input": inputs, "output": network(inputs)}
    if clip.score is not None:
        arrays["raw_score"] = clip.score
    if clip.image_size is not None:
        arrays["image_size"] = np.array(clip.image_size)
    return arrays


def write_sample(
    path: Path, sample: dict[str, np.ndarray], models: Sequence[ModelFiles], proof: Sequence[Proof]
) -> None:
    """Write sample.npz beside the models, with what the quantised network gives for it, `output_int8`, if there is one.

    That is not among its usual inputs.
    """
    usable = {row.engine for row in proof if row.precision == "int8" and row.usable}
    quantized = [model for model in models if model.precision == "int8"]
    if quantized and usable:
        engine = next(name for name in ENGINES if name in usable)
        files = [path.parent / file for file in quantized[0].files]
        (sample["output_int8"],) = run_engine(engine, files, [sample["input"]], "int8")
    np.savez_compressed(path, **sample)
