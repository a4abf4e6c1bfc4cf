"""Write a trained network as a static model, and prove that it computes the same."""

import os
import tempfile
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

import paddleskel
from paddleskel.convert.weights import read_weights
from paddleskel.deploy.bundle import MODEL_SUFFIXES, Bundle, TensorSpec, sha256, write_bundle
from paddleskel.deploy.engines import PaddleEngine
from paddleskel.engine.build import build_network
from paddleskel.engine.settings import Settings, read_class_names
from paddleskel.errors import UserError
from paddleskel.files import make_folder
from paddleskel.models.checkpoint import load_into
from paddleskel.models.recognizer import Recognizer
from paddleskel.skeleton.layout import load_layout

TOLERANCE = 1e-4  # of the largest logit
_BATCHES = (1, 3)


def export(settings: Settings, weights: Path, folder: Path, name: str = "inference") -> float:
    """Write `<name>.json` (Paddle 3) or `.pdmodel` (Paddle 2), `.pdiparams` and `.yml`; return the largest difference.

    Everything is written and checked in a temporary folder first, so a failed export leaves what was there.

    Raises:
        UserError: weights of another network, or an exported model that is empty or computes something else.
    """
    model = build_network(settings)
    checkpoint, _ = read_weights(weights, model)
    load_into(model, checkpoint, weights)
    model.eval()
    shape = input_shape(settings, checkpoint.meta, model)
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        stem = Path(temporary) / name
        spec = InputSpec([None, *shape], "float32", name="keypoint")
        paddle.jit.save(paddle.jit.to_static(Traced(model), input_spec=[spec], full_graph=True), str(stem))
        files = sorted(path for path in Path(temporary).iterdir() if path.is_file())
        engine, difference = prove(model, files, stem, shape)
        bundle = Bundle(
            model_name=settings.model_name,
            layout=load_layout(settings.layout).to_dict(),
            stream=settings.stream,
            num_classes=settings.num_classes,
            transforms=settings.PIPELINE,
            input=TensorSpec("keypoint", [-1, *shape], "float32"),
            output=TensorSpec(engine.output_name, [-1, settings.num_classes], "float32"),
            class_names=read_class_names(settings, checkpoint.meta.get("class_names")),
            num_clips=settings.DATASET.test.num_clips if settings.DATASET.test else 1,
            average_clips=settings.METRIC.average_clips,
            files={path.name: sha256(path) for path in files},
            versions={
                "paddleskel": paddleskel.__version__,
                "paddlepaddle": paddle.__version__,
                "numpy": np.__version__,
            },
            metrics=checkpoint.meta.get("metrics", {}),
        )
        write_bundle(Path(temporary) / f"{name}.yml", bundle)
        for suffix in (
            *MODEL_SUFFIXES,
            ".pdiparams.info",
        ):  # files of Paddle's other format would go stale beside the new ones
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
        for path in Path(temporary).iterdir():
            os.replace(path, folder / path.name)
    return difference


class Traced(nn.Layer):
    """A network whose Python code Paddle runs once to see its operations, instead of translating it.

    None of our control flow depends on data, so what is seen is all there is.
    """

    def __init__(self, network: nn.Layer):
        super().__init__()
        self.network = network

    def forward(self, x):
        return _call(self.network, x)


@paddle.jit.not_to_static
def _call(network: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    return network(x)


def input_shape(settings: Settings, meta: dict, model: Recognizer) -> list[int]:
    """Return (M, T, V, C): what training recorded, or for weights without a record what the config's pipeline makes."""
    if "input_shape" in meta:
        return list(meta["input_shape"])
    values = {spec["name"]: spec for spec in settings.PIPELINE}
    if "clip_len" not in values.get("UniformSample", {}):
        raise UserError(
            "PIPELINE: without UniformSample the number of frames is not known; train with this config first"
        )
    persons = values["Pack"].get("num_person", 2)
    return [persons, values["UniformSample"]["clip_len"], model.backbone.num_joints, model.backbone.in_channels]


def prove(model: Recognizer, files: list[Path], stem: Path, shape: list[int]) -> tuple[PaddleEngine, float]:
    """Run the exported model beside the trained one on two batch sizes; return its engine and the largest
    difference.
    """
    written = [stem.with_suffix(suffix) for suffix in MODEL_SUFFIXES if stem.with_suffix(suffix) in files]
    params = stem.with_suffix(".pdiparams")
    for file in (*written, params):
        if not file.is_file() or not file.stat().st_size:
            raise UserError(f"export: Paddle wrote no {file.name}, or an empty one; nothing was changed")
    if not written:
        raise UserError("export: Paddle wrote no model file; nothing was changed")
    engine, worst = PaddleEngine(written[0], params), 0.0
    rng = np.random.RandomState(0)
    for batch in _BATCHES:
        inputs = rng.randn(batch, *shape).astype(np.float32)
        with paddle.no_grad():
            expected = model(paddle.to_tensor(inputs)).numpy()
        got = engine(inputs)
        same_shape = got.shape == expected.shape
        difference = float(np.abs(got - expected).max() / np.abs(expected).max()) if same_shape else float("inf")
        worst = max(worst, difference)
    if not worst <= TOLERANCE:
        raise UserError(
            f"export: the exported model differs from the trained one by {worst:.2g} of the largest logit "
            f"(allowed: {TOLERANCE:g}); nothing was changed"
        )
    return engine, worst


def resolve(settings: Settings, weights: str | None) -> Path:
    """Return the weights to export: those given, or the best of the config's output folder."""
    path = Path(weights) if weights else settings.checkpoint("best")
    if not path.is_file():
        raise UserError(f"{path}: no such weights; train first, or name a file with -p")
    return path
