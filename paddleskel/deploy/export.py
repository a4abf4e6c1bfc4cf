"""Write a trained network as static models, and prove that they compute the same."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

import paddleskel
from paddleskel.data.transforms import Pipeline, build_pipeline
from paddleskel.data.transforms.stream import parse_stream
from paddleskel.deploy.bundle import MODEL_SUFFIXES, Bundle, ModelFiles, Proof, sha256, write_bundle
from paddleskel.deploy.formats import DEFAULT_OPSET, why_no_onnx, write_onnx, write_paddle
from paddleskel.deploy.members import Graph, Member, build_graph, run_network
from paddleskel.deploy.precision import (
    PRECISIONS,
    VALIDATION,
    accuracy_table,
    calibration_inputs,
    judge,
    measure,
    read_clips,
    write_precision,
)
from paddleskel.deploy.proof import BATCHES, prove, table
from paddleskel.deploy.sample import make_sample, write_sample
from paddleskel.engine.settings import Settings, read_class_names
from paddleskel.errors import UserError
from paddleskel.files import make_folder

FORMATS = ("paddle", "pdmodel", "onnx")


@dataclass(frozen=True)
class ExportOptions:
    """What to write.

    formats: of FORMATS; None for paddle and, where this installation can, onnx. opset: of ONNX.
    with_softmax: end the graph in a softmax. with_streams: let it take joints and compute the stream itself.
    precisions: besides fp32, as ONNX; int8 is calibrated on the training split, and all are scored on the validation
        split.
    engines: those to prove it on; None for all that are installed.
    """

    formats: Sequence[str] | None = None
    opset: int = DEFAULT_OPSET
    with_softmax: bool = False
    with_streams: bool = False
    precisions: Sequence[str] = ()
    engines: Sequence[str] | None = None


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and lines to show about it."""

    bundle: Bundle
    lines: list[str]


def export(
    settings: Settings,
    members: Sequence[Member],
    folder: Path,
    name: str = "inference",
    options: ExportOptions = ExportOptions(),
) -> Exported:
    """Write `<name>.json` (Paddle 3) or `.pdmodel` (Paddle 2), `.pdiparams`, `.onnx`, `.yml` and a sample.

    Everything is written and proven in a temporary folder first, so a failed export leaves what was there.

    Args:
        members: one network, or several whose probabilities the model fuses (then it takes joints).

    Raises:
        UserError: weights of another network; a format that cannot be written; no engine that computes the same.
    """
    formats, lines = _choose_formats(options.formats)
    graph = build_graph(settings, members, options.with_streams, options.with_softmax)
    network = lambda batch: run_network(graph.network, batch)
    class_names = read_class_names(settings, graph.meta.get("class_names"))
    output = "probs" if options.with_softmax or len(members) > 1 else "logits"
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        stem = Path(temporary) / name
        models = _write_formats(graph, formats, stem, settings, class_names, output, options.opset)
        layout = settings.load_layout()
        pipeline = build_pipeline(graph.transforms, layout, settings.stream)
        sample = make_sample(graph, layout, pipeline, network)
        calibration = _calibration(settings, pipeline, options.precisions)
        models += _write_precisions(models, Path(temporary), options.precisions, calibration)
        noise = np.random.RandomState(0).randn(BATCHES[1], *graph.shape) * 0.5
        batches = [sample["input"], (sample["input"] + noise).astype(np.float32)]
        proof = _prove(network, models, Path(temporary), batches, calibration, options.engines)
        accuracies = []
        if options.precisions:
            part = "valid" if settings.DATASET.valid else "test"
            clips = read_clips(settings, part, VALIDATION)
            accuracies = measure(models, Path(temporary), proof, clips, pipeline)
            proof = judge(proof, accuracies)
        lines += table(proof) + (accuracy_table(accuracies) if accuracies else [])
        if not any(row.usable for row in proof):
            raise UserError("\n".join(["export: no engine computes what the trained network does:", *table(proof)]))
        sample_file = Path(temporary) / ("sample.npz" if name == "inference" else f"{name}_sample.npz")
        write_sample(sample_file, sample, models, proof)
        files = [Path(temporary) / file for model in models for file in model.files] + [sample_file]
        test = settings.DATASET.test
        bundle = Bundle(
            model_name=settings.model_name,
            layout=layout.to_dict(),
            stream="j" if graph.streams else settings.stream,
            num_classes=settings.num_classes,
            transforms=graph.transforms,
            models=models,
            proof=proof,
            output=output,
            in_graph_streams=graph.streams,
            class_names=class_names,
            num_clips=test.num_clips if test else 1,
            average_clips=settings.METRIC.average_clips,
            sample=sample_file.name,
            checksums={path.name: sha256(path) for path in files},
            versions={
                "paddleskel": paddleskel.__version__,
                "paddlepaddle": paddle.__version__,
                "numpy": np.__version__,
            },
            metrics=graph.meta.get("metrics", {}),
            accuracy=accuracies,
        )
        write_bundle(Path(temporary) / f"{name}.yml", bundle)
        _replace(folder, name, [*files, Path(temporary) / f"{name}.yml"])
    return Exported(bundle, lines)


def _write_formats(
    graph: Graph,
    formats: Sequence[str],
    stem: Path,
    settings: Settings,
    class_names: list[str] | None,
    output: str,
    opset: int,
) -> list[ModelFiles]:
    """Write the forms of the network into the stem's folder."""
    models = [write_paddle(graph.folded, graph.shape, settings.num_classes, stem)]
    if "onnx" in formats:
        metadata = {
            "model_name": settings.model_name,
            "stream": "+".join(parse_stream(settings.stream)),
            "class_names": json.dumps(class_names, ensure_ascii=False),
            "joints": json.dumps(settings.load_layout().joints),
            "input": "keypoint: (N, persons, frames, joints, channels), prepared as inference.yml says",
            "paddleskel": paddleskel.__version__,
        }
        models.append(write_onnx(models[0], stem.parent, metadata, opset, output))
    if not {"paddle", models[0].format} & set(formats):  # "paddle" is whatever this Paddle writes
        for file in models.pop(0).files:
            (stem.parent / file).unlink()
    if "pdmodel" in formats and all(model.format != "pdmodel" for model in models):
        # Paddle's two formats order the parameters differently, so one of them needs another name
        beside = "paddle" in formats
        old = stem.with_name(f"{stem.name}_v2") if beside else stem
        models.append(write_paddle(graph.folded, graph.shape, settings.num_classes, old, old=True))
    return models


def _calibration(settings: Settings, pipeline: Pipeline, precisions: Sequence[str]) -> list[np.ndarray]:
    """Training clips as the network takes them, if int8 is wanted."""
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown:
        raise UserError(f"--precision: unknown precision '{unknown[0]}' (known: {', '.join(PRECISIONS)})")
    return calibration_inputs(settings, pipeline) if "int8" in precisions else []


def _write_precisions(
    models: Sequence[ModelFiles], folder: Path, precisions: Sequence[str], calibration: Sequence[np.ndarray]
) -> list[ModelFiles]:
    """Write the precisions besides fp32."""
    wanted = [name for name in dict.fromkeys(precisions) if name != "fp32"]
    exact = [model for model in models if model.format == "onnx"]
    if wanted and not exact:
        raise UserError(f"--precision {wanted[0]}: is written as ONNX; add onnx to --format")
    return [write_precision(exact[0], folder, name, calibration) for name in wanted]


def _prove(
    network: Callable[[np.ndarray], np.ndarray],
    models: Sequence[ModelFiles],
    folder: Path,
    batches: Sequence[np.ndarray],
    calibration: Sequence[np.ndarray],
    engines: Sequence[str] | None,
) -> list[Proof]:
    """int8 is compared on clips like those it was calibrated on; any other clips need not stay within its range."""
    rows = prove([model for model in models if model.precision != "int8"], folder, network, batches, engines)
    quantized = [model for model in models if model.precision == "int8"]
    if quantized:
        places = np.arange(sum(BATCHES)) % len(calibration)
        known = np.concatenate([calibration[place] for place in places])
        rows += prove(quantized, folder, network, [known[: BATCHES[0]], known[BATCHES[0] :]], engines)
    return rows


def _choose_formats(wanted: Sequence[str] | None) -> tuple[tuple[str, ...], list[str]]:
    """Return the formats to write, and remarks."""
    missing = why_no_onnx() if wanted is None or "onnx" in wanted else None
    if wanted is None:
        return (("paddle",), [f"note: no ONNX file: {missing}"]) if missing else (("paddle", "onnx"), [])
    for name in wanted:
        if name not in FORMATS:
            raise UserError(f"--format: unknown format '{name}' (known: {', '.join(FORMATS)})")
    if missing:
        raise UserError(f"--format onnx: {missing}")
    return tuple(wanted), []


def _replace(folder: Path, name: str, files: Sequence[Path]) -> None:
    """Move an export into its folder; files of an earlier one that it does not replace would go stale beside it."""
    kept = {path.name for path in files}
    for stem in (name, f"{name}_v2"):
        for suffix in (*MODEL_SUFFIXES, ".pdiparams", ".pdiparams.info"):
            if f"{stem}{suffix}" not in kept:
                (folder / f"{stem}{suffix}").unlink(missing_ok=True)
    for precision in PRECISIONS:
        if f"{name}_{precision}.onnx" not in kept:
            (folder / f"{name}_{precision}.onnx").unlink(missing_ok=True)
    for path in files:
        os.replace(path, folder / path.name)
