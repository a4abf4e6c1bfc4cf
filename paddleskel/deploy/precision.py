"""Smaller number formats: half precision, and INT8 by post-training quantisation; what they cost in accuracy.

int8: the convolutions' weights (a scale a channel) and inputs (a scale a tensor, from calibration on training clips)
    become 8-bit integers; the rest stays float32. fp16: everything is float16 but input and output. bf16: weights are
    stored as bfloat16, and OpenVINO computes in it where the processor can.
"""

import logging
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms import Pipeline
from paddleskel.deploy.bundle import Accuracy, ModelFiles, Proof
from paddleskel.deploy.engines import ENGINES, EngineOptions
from paddleskel.engine.build import Data
from paddleskel.engine.settings import Settings
from paddleskel.errors import UserError

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
ALLOWED_LOSS = 0.01  # of top-1, against fp32 on the same engine
CALIBRATION, VALIDATION = 128, 1000  # clips at most
_SMALL = 64  # arrays of fewer numbers stay float32: they cost nothing and matter


def read_clips(settings: Settings, part: str, most: int, needed_for: str | None = None) -> list[Clip]:
    """Return clips of a split, evenly chosen where it has more than `most`; none where it cannot be read.

    Raises:
        UserError: it cannot be read, and `needed_for` says what cannot do without.
    """
    try:
        clips = Data(settings).dataset(part).clips
    except UserError as error:
        if needed_for:
            raise UserError(f"{needed_for}: {error}") from error
        return []
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int))
    return [clips[int(place)] for place in chosen]


def calibration_inputs(settings: Settings, pipeline: Pipeline) -> list[np.ndarray]:
    """(1, M, T, V, C) each: training clips as the network takes them."""
    clips = read_clips(settings, "train", CALIBRATION, "--precision int8: the calibration needs training clips")
    return [pipeline(clip, np.random.RandomState(0))[:1] for clip in clips]


def write_precision(model: ModelFiles, folder: Path, precision: str, inputs: Sequence[np.ndarray]) -> ModelFiles:
    """Convert `<stem>.onnx` to `<stem>_<precision>.onnx`.

    inputs: to calibrate int8 on.
    """
    import onnx

    source = folder / model.files[0]
    path = source.with_name(f"{source.stem}_{precision}.onnx")
    if precision == "int8":
        _quantize(source, path, inputs, model.input.name)
    else:
        network = onnx.load(source)
        network = _to_float16(network) if precision == "fp16" else _store_bfloat16(network)
        onnx.checker.check_model(network)
        onnx.save(network, path)
    return replace(model, files=[path.name], precision=precision)


def _quantize(source: Path, path: Path, inputs: Sequence[np.ndarray], name: str) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left: Iterator[np.ndarray] = iter(inputs)

        def get_next(self):
            batch = next(self.left, None)
            return None if batch is None else {name: batch}

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it asks for a preparation that write_onnx has done
    try:
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "quantized.onnx"
            quantize_static(
                str(source),
                str(raw),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            path.write_bytes(raw.read_bytes())
    finally:
        logging.disable(disabled)


def _to_float16(network):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    network = convert_float_to_float16(network, keep_io_types=True)
    nodes = list(network.graph.node)  # its casts stand at the end, the standard wants them before their use
    maker = {output: place for place, node in enumerate(nodes) for output in node.output}
    needs = {place: {maker[name] for name in node.input if name in maker} for place, node in enumerate(nodes)}
    del network.graph.node[:]
    network.graph.node.extend(nodes[place] for place in TopologicalSorter(needs).static_order())
    return network


def _store_bfloat16(network):
    """Every large array of weights as bfloat16, with a cast back, which engines do once when they load it."""
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = network.graph, []
    for array in graph.initializer:
        if array.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(array)
        if values.size < _SMALL:
            continue
        bits = values.astype(np.float32).view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
        stored = TensorProto(name=f"{array.name}.bf16", data_type=TensorProto.BFLOAT16, dims=array.dims)
        stored.raw_data = rounded.astype("<u2").tobytes()
        casts.append((stored, helper.make_node("Cast", [stored.name], [array.name], to=TensorProto.FLOAT)))
    kept = [array for array in graph.initializer if not any(cast.output[0] == array.name for _, cast in casts)]
    nodes = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*kept, *(stored for stored, _ in casts)])
    graph.node.extend([*(cast for _, cast in casts), *nodes])
    return network


def measure(
    models: Sequence[ModelFiles], folder: Path, proof: Sequence[Proof], clips: Sequence[Clip], pipeline: Pipeline
) -> list[Accuracy]:
    """Return top-1, latency and size of every form of the network on every engine that computes it.

    clips: labelled; without any there is no top-1. Latency is of one clip, the engines taking turns.
    """
    labels = np.array([clip.label for clip in clips])
    inputs = [pipeline(clip, np.random.RandomState(0))[:1] for clip in clips]
    pairs = []
    for model in models:
        for name in dict.fromkeys(row.engine for row in proof):
            rows = [row for row in proof if (row.format, row.precision, row.engine) == _key(model, name)]
            if rows and all(row.usable for row in rows):
                files = [folder / file for file in model.files]
                pairs.append((model, name, ENGINES[name].make(files, EngineOptions(precision=model.precision))))
    times: list[list[float]] = [[] for _ in pairs]
    one = inputs[0] if inputs else np.zeros((1, *models[0].input.shape[1:]), np.float32)
    for turn in range(18):
        for (_, _, engine), seconds in zip(pairs, times):
            start = time.perf_counter()
            engine(one)
            if turn > 2:
                seconds.append(time.perf_counter() - start)
    found = []
    for (model, name, engine), seconds in zip(pairs, times):
        top1 = None
        if len(inputs):
            outputs = [engine(np.concatenate(inputs[i : i + 16])) for i in range(0, len(inputs), 16)]
            top1 = float((np.concatenate(outputs).argmax(axis=1) == labels).mean())
        size = sum((folder / file).stat().st_size for file in model.files)
        milliseconds = statistics.median(seconds) * 1000
        found.append(Accuracy(model.format, model.precision, name, top1, len(inputs), round(milliseconds, 3), size))
    return found


def _key(model: ModelFiles, engine: str) -> tuple[str, str, str]:
    return model.format, model.precision, engine


def judge(proof: Sequence[Proof], accuracies: Sequence[Accuracy]) -> list[Proof]:
    """Mark the engines unusable on which a precision loses more than ALLOWED_LOSS of top-1."""
    exact = [row.top1 for row in accuracies if row.precision == "fp32" and row.top1 is not None]
    best = max(exact, default=None)
    losing = {
        (row.format, row.precision, row.engine): best - row.top1
        for row in accuracies
        if best is not None and row.top1 is not None and best - row.top1 > ALLOWED_LOSS + 1e-9
    }
    return [
        replace(row, usable=False, note=f"loses {losing[key]:.1%} of top-1")
        if (key := (row.format, row.precision, row.engine)) in losing
        else row
        for row in proof
    ]


def accuracy_table(rows: Sequence[Accuracy]) -> list[str]:
    lines = [f"{'format':8} {'precision':9} {'engine':14} {'top-1':>7} {'of':>5} {'ms a clip':>9} {'MiB':>7}"]
    for row in rows:
        top1 = "-" if row.top1 is None else f"{row.top1:.4f}"
        lines.append(
            f"{row.format:8} {row.precision:9} {row.engine:14} {top1:>7} {row.samples:5} {row.milliseconds:9.2f} "
            f"{row.size / 2**20:7.3f}"
        )
    return lines
