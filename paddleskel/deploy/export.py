"""Write a trained network as static models, and prove that they compute the same."""

import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

import paddleskel
from paddleskel.convert.weights import read_weights
from paddleskel.data.example import make_clip
from paddleskel.data.transforms import Pipeline, build_pipeline
from paddleskel.data.transforms.stream import parse_stream
from paddleskel.deploy.bundle import MODEL_SUFFIXES, Bundle, ModelFiles, Proof, sha256, write_bundle
from paddleskel.deploy.engines import ENGINES
from paddleskel.deploy.fold import fold
from paddleskel.deploy.formats import DEFAULT_OPSET, why_no_onnx, write_onnx, write_paddle
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
from paddleskel.deploy.proof import BATCHES, prove, run_engine, table
from paddleskel.deploy.sample import pack_sample
from paddleskel.engine.build import build_network, expected_shape
from paddleskel.engine.settings import Settings, read_class_names
from paddleskel.ensemble import PRESETS
from paddleskel.errors import UserError
from paddleskel.files import make_folder
from paddleskel.models.checkpoint import load_into
from paddleskel.models.streams import Fused, Streams, coordinates, joints_pipeline, needs_following

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
class Member:
    """One trained network of a model: the stream it was trained on, its weights, and its share in a fusion."""

    stream: str | list[str]
    weights: Path
    share: float = 1.0


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and lines to show about it."""

    bundle: Bundle
    lines: list[str]


@dataclass(frozen=True)
class Graph:
    """The network that is exported, and what belongs to it."""

    network: paddle.nn.Layer
    folded: paddle.nn.Layer
    shape: list[int]  # (M, T, V, C)
    transforms: list[Any]
    dimensions: tuple[int, bool] | None
    streams: list[str] | None
    meta: dict[str, Any]


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
    graph = build_graph(settings, members, options)
    class_names = read_class_names(settings, graph.meta.get("class_names"))
    output = "probs" if options.with_softmax or len(members) > 1 else "logits"
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        stem = Path(temporary) / name
        models = _write_formats(graph, formats, stem, settings, class_names, output, options.opset)
        pipeline = build_pipeline(graph.transforms, settings.load_layout(), settings.stream)
        sample, inputs = _make_sample(graph, settings, pipeline)
        calibration = _calibration(settings, pipeline, options.precisions)
        models += _write_precisions(models, Path(temporary), options.precisions, calibration)
        noise = np.random.RandomState(0).randn(BATCHES[1], *graph.shape) * 0.5
        batches = [inputs, (inputs + noise).astype(np.float32)]
        proof = _prove(graph, models, Path(temporary), batches, calibration, options.engines)
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
        sample_file.write_bytes(_with_outputs(sample, inputs, models, proof, Path(temporary)))
        files = [Path(temporary) / file for model in models for file in model.files] + [sample_file]
        test = settings.DATASET.test
        bundle = Bundle(
            model_name=settings.model_name,
            layout=settings.load_layout().to_dict(),
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


def build_graph(settings: Settings, members: Sequence[Member], options: ExportOptions) -> Graph:
    """Load the members' weights and put together the network to export."""
    networks, metas = [], []
    for member in members:
        model = build_network(settings)
        checkpoint, _ = read_weights(member.weights, model)
        load_into(model, checkpoint, member.weights)
        _check_stream(member, checkpoint.meta)
        model.eval()
        networks.append(model)
        metas.append(checkpoint.meta)
    shape = list(metas[0].get("input_shape") or expected_shape(settings, networks[0]))
    streams = [parse_stream(member.stream) for member in members]
    transforms, names = settings.PIPELINE, None
    channels = shape[-1] // len(streams[0])
    dimensions = coordinates(transforms, channels)
    in_graph = [nn.Identity() for _ in members]
    if options.with_streams or len(members) > 1:
        if dimensions is None:
            raise UserError(
                "PIPELINE: without PreNormalize2D or PreNormalize3D it is not known whether the data have confidences, "
                "so the streams cannot be computed in the graph"
            )
        names = [name for group in streams for name in group]
        transforms, following = joints_pipeline(transforms, names), needs_following(names)
        layout = settings.load_layout()
        in_graph = [Streams(group, layout, dimensions[1], following) for group in streams]
        shape = [*shape[:-1], channels * (2 if following else 1)]
    shares, softmax = [member.share for member in members], options.with_softmax or len(members) > 1

    def put_together(parts: Sequence[nn.Layer]) -> nn.Layer:
        return Fused(parts, in_graph, shares, softmax) if softmax or names else parts[0]

    whole, folded = put_together(networks), put_together([fold(network) for network in networks])
    whole.eval()
    folded.eval()
    return Graph(whole, folded, shape, transforms, dimensions, names, metas[0])


def _check_stream(member: Member, meta: dict[str, Any]) -> None:
    """Weights that say what they were trained on must not be given for another stream."""
    trained = meta.get("config", {}).get("stream")
    if trained is not None and parse_stream(trained) != parse_stream(member.stream):
        wanted, trained = "+".join(parse_stream(member.stream)), "+".join(parse_stream(trained))
        raise UserError(f"{member.weights}: trained on the stream {trained}, given for {wanted}; set stream={trained}")


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
    graph: Graph,
    models: Sequence[ModelFiles],
    folder: Path,
    batches: Sequence[np.ndarray],
    calibration: Sequence[np.ndarray],
    engines: Sequence[str] | None,
) -> list[Proof]:
    """int8 is compared on clips like those it was calibrated on; any other clips need not stay within its range."""
    network = lambda batch: run_network(graph.network, batch)
    rows = prove([model for model in models if model.precision != "int8"], folder, network, batches, engines)
    quantized = [model for model in models if model.precision == "int8"]
    if quantized:
        places = np.arange(sum(BATCHES)) % len(calibration)
        known = np.concatenate([calibration[place] for place in places])
        rows += prove(quantized, folder, network, [known[: BATCHES[0]], known[BATCHES[0] :]], engines)
    return rows


def _make_sample(graph: Graph, settings: Settings, pipeline: Pipeline) -> tuple[bytes, np.ndarray]:
    dimensions, scored = graph.dimensions or (3, False)
    frames = graph.shape[1] * 3 // 4  # shorter than PadTo's length where that is the sampling
    clip = make_clip(settings.load_layout(), dimensions, scored, max(2, frames))
    content, inputs = pack_sample(clip, pipeline, lambda batch: run_network(graph.network, batch))
    if list(inputs.shape[1:]) != graph.shape:
        raise UserError(
            f"PIPELINE: makes inputs of shape {list(inputs.shape[1:])}, but the weights were trained on {graph.shape} "
            "(persons, frames, joints, channels); export with the config they were trained with"
        )
    return content, inputs


def _with_outputs(
    sample: bytes, inputs: np.ndarray, models: Sequence[ModelFiles], proof: Sequence[Proof], folder: Path
) -> bytes:
    """Add to a sample what the quantised network gives for it, `output_int8`; it is not among its usual inputs."""
    usable = {row.engine for row in proof if row.precision == "int8" and row.usable}
    quantized = [model for model in models if model.precision == "int8"]
    if not quantized or not usable:
        return sample
    engine = next(name for name in ENGINES if name in usable)
    (output,) = run_engine(engine, [folder / file for file in quantized[0].files], [inputs], "int8")
    with np.load(io.BytesIO(sample)) as arrays:
        content = {**arrays, "output_int8": output}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)
    return buffer.getvalue()


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


def run_network(model: paddle.nn.Layer, inputs: np.ndarray) -> np.ndarray:
    """(N, M, T, V, C) float32 -> (N, classes) by the network itself."""
    with paddle.no_grad():
        return model(paddle.to_tensor(inputs)).numpy()


def find_members(
    settings: Settings, weights: str | None, ensemble: Sequence[str], streams: Sequence[str], shares: Sequence[float]
) -> list[Member]:
    """Return the networks to export.

    Args:
        weights: of a single network; default: the best of the config's output folder.
        ensemble: STREAM=FILE each. streams: names, for the best weights of each stream's own output folder.
        shares: one for each of these; default: the published weights of their fusion, or equal ones.
    """
    if not ensemble and not streams:
        return [Member(settings.stream, _existing(Path(weights) if weights else settings.checkpoint("best")))]
    pairs = [(name, str(replace(settings, stream=name).checkpoint("best"))) for name in streams]
    for text in ensemble:
        name, equals, path = text.partition("=")
        if not equals:
            raise UserError(
                f"--ensemble {text}: expected STREAM=FILE, as in --ensemble j=joint.pdparams b=bone.pdparams"
            )
        pairs.append((name, path))
    names = [name for name, _ in pairs]
    published = next((preset for preset in PRESETS.values() if sorted(preset) == sorted(names)), {})
    shares = list(shares) or [published.get(name, 1.0) for name in names]
    if len(shares) != len(pairs) or any(share < 0 for share in shares) or not sum(shares):
        raise UserError(f"--ensemble_weights: expected {len(pairs)} numbers from 0 up, not all 0")
    return [Member(name, _existing(Path(path)), share) for (name, path), share in zip(pairs, shares)]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such weights; train first, or name a file with -p")
    return path
