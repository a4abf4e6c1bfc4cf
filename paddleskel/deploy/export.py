"""Write a trained network as static models, and prove that they compute the same."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

import paddleskel
from paddleskel.convert.weights import read_weights
from paddleskel.deploy.bundle import MODEL_SUFFIXES, Bundle, ModelFiles, sha256, write_bundle
from paddleskel.deploy.formats import DEFAULT_OPSET, why_no_onnx, write_onnx, write_paddle
from paddleskel.deploy.proof import BATCHES, prove, table
from paddleskel.engine.build import build_network
from paddleskel.engine.settings import Settings, read_class_names
from paddleskel.errors import UserError
from paddleskel.files import make_folder
from paddleskel.models.checkpoint import load_into
from paddleskel.models.recognizer import Recognizer
from paddleskel.skeleton.layout import load_layout

FORMATS = ("paddle", "onnx")


@dataclass(frozen=True)
class ExportOptions:
    """What to write.

    formats: "paddle" and "onnx"; None for those this installation can write. opset: of ONNX.
    engines: those to prove it on; None for all that are installed.
    """

    formats: Sequence[str] | None = None
    opset: int = DEFAULT_OPSET
    engines: Sequence[str] | None = None


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and lines to show about it."""

    bundle: Bundle
    lines: list[str]


def export(
    settings: Settings,
    weights: Path,
    folder: Path,
    name: str = "inference",
    options: ExportOptions = ExportOptions(),
) -> Exported:
    """Write `<name>.json` (Paddle 3) or `.pdmodel` (Paddle 2), `.pdiparams`, `.onnx` and `.yml`.

    Everything is written and proven in a temporary folder first, so a failed export leaves what was there.

    Raises:
        UserError: weights of another network; a format that cannot be written; no engine that computes the same.
    """
    formats, lines = _choose_formats(options.formats)
    model = build_network(settings)
    checkpoint, _ = read_weights(weights, model)
    load_into(model, checkpoint, weights)
    model.eval()
    shape = input_shape(settings, checkpoint.meta, model)
    class_names = read_class_names(settings, checkpoint.meta.get("class_names"))
    layout = load_layout(settings.layout)
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        stem = Path(temporary) / name
        models = [write_paddle(model, shape, settings.num_classes, stem)]
        if "onnx" in formats:
            metadata = {
                "model_name": settings.model_name,
                "stream": settings.stream if isinstance(settings.stream, str) else "+".join(settings.stream),
                "class_names": json.dumps(class_names, ensure_ascii=False),
                "joints": json.dumps(layout.joints),
                "input": "keypoint: (N, persons, frames, joints, channels), prepared as inference.yml says",
                "paddleskel": paddleskel.__version__,
            }
            models.append(write_onnx(models[0], Path(temporary), metadata, options.opset, "logits"))
        if "paddle" not in formats:
            for file in models.pop(0).files:
                (Path(temporary) / file).unlink()
        rng = np.random.RandomState(0)
        batches = [rng.randn(batch, *shape).astype(np.float32) for batch in BATCHES]
        proof = prove(models, Path(temporary), lambda inputs: run_network(model, inputs), batches, options.engines)
        lines += table(proof)
        if not any(row.usable for row in proof):
            raise UserError("\n".join(["export: no engine computes what the trained network does:", *table(proof)]))
        files = [path for path in sorted(Path(temporary).iterdir()) if path.is_file() and _belongs(path, models)]
        bundle = Bundle(
            model_name=settings.model_name,
            layout=layout.to_dict(),
            stream=settings.stream,
            num_classes=settings.num_classes,
            transforms=settings.PIPELINE,
            models=models,
            proof=proof,
            class_names=class_names,
            num_clips=settings.DATASET.test.num_clips if settings.DATASET.test else 1,
            average_clips=settings.METRIC.average_clips,
            checksums={path.name: sha256(path) for path in files},
            versions={
                "paddleskel": paddleskel.__version__,
                "paddlepaddle": paddle.__version__,
                "numpy": np.__version__,
            },
            metrics=checkpoint.meta.get("metrics", {}),
        )
        write_bundle(Path(temporary) / f"{name}.yml", bundle)
        _replace(folder, name, [*files, Path(temporary) / f"{name}.yml"])
    return Exported(bundle, lines)


def _choose_formats(wanted: Sequence[str] | None) -> tuple[tuple[str, ...], list[str]]:
    """Return the formats to write, and remarks."""
    missing = why_no_onnx() if wanted is None or "onnx" in wanted else None
    if wanted is None:
        return (("paddle",), [f"note: no ONNX file: {missing}"]) if missing else (FORMATS, [])
    for name in wanted:
        if name not in FORMATS:
            raise UserError(f"--format: unknown format '{name}' (known: {', '.join(FORMATS)})")
    if missing:
        raise UserError(f"--format onnx: {missing}")
    return tuple(wanted), []


def _belongs(path: Path, models: Sequence[ModelFiles]) -> bool:
    return any(path.name in model.files for model in models)


def _replace(folder: Path, name: str, files: Sequence[Path]) -> None:
    """Move an export into its folder; files of an earlier one that it does not replace would go stale beside it."""
    kept = {path.name for path in files}
    for suffix in (*MODEL_SUFFIXES, ".pdiparams", ".pdiparams.info"):
        if f"{name}{suffix}" not in kept:
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    for path in files:
        os.replace(path, folder / path.name)


def run_network(model: paddle.nn.Layer, inputs: np.ndarray) -> np.ndarray:
    """(N, M, T, V, C) float32 -> (N, classes) by the network itself."""
    with paddle.no_grad():
        return model(paddle.to_tensor(inputs)).numpy()


def input_shape(settings: Settings, meta: dict, model: Recognizer) -> list[int]:
    """Return (M, T, V, C): what training recorded, or for weights without a record what the config's pipeline makes."""
    if "input_shape" in meta:
        return list(meta["input_shape"])
    values = {spec["name"]: spec for spec in settings.PIPELINE}
    frames = values.get("UniformSample", {}).get("clip_len") or values.get("PadTo", {}).get("length")
    if frames is None:
        raise UserError(
            "PIPELINE: without UniformSample or PadTo the number of frames is not known; train with this config first"
        )
    persons = values["Pack"].get("num_person", 2)
    return [persons, frames, model.backbone.num_joints, model.backbone.in_channels]


def resolve(settings: Settings, weights: str | None) -> Path:
    """Return the weights to export: those given, or the best of the config's output folder."""
    path = Path(weights) if weights else settings.checkpoint("best")
    if not path.is_file():
        raise UserError(f"{path}: no such weights; train first, or name a file with -p")
    return path
