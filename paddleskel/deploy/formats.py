"""Write a network as a static model: Paddle 3's .json, Paddle 2's .pdmodel, ONNX."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.base.layer_helper import LayerHelper
from paddle.static import InputSpec

from paddleskel.deploy.bundle import ModelFiles, TensorSpec
from paddleskel.deploy.engines import last_line
from paddleskel.errors import UserError

DEFAULT_OPSET = 13
ONNX_INPUT = "keypoint"


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


def write_paddle(network: nn.Layer, shape: list[int], num_classes: int, stem: Path, old: bool = False) -> ModelFiles:
    """Write `<stem>.json`, or `.pdmodel` where this Paddle writes that or `old` asks for it, and `.pdiparams`.

    shape: (M, T, V, C); the batch is dynamic.
    """
    with _old_format() if old else contextlib.nullcontext():
        spec = InputSpec([None, *shape], "float32", name=ONNX_INPUT)
        paddle.jit.save(paddle.jit.to_static(Traced(network), input_spec=[spec], full_graph=True), str(stem))
    graphs = [stem.with_suffix(suffix) for suffix in (".json", ".pdmodel") if stem.with_suffix(suffix).is_file()]
    if not graphs:
        raise UserError("export: Paddle wrote no model file; nothing was changed")
    files = [graphs[0], stem.with_suffix(".pdiparams")]
    check_written(files)
    kind = "paddle" if graphs[0].suffix == ".json" else "pdmodel"
    names = [file.name for file in files]
    return ModelFiles(kind, names, TensorSpec(ONNX_INPUT, [-1, *shape]), TensorSpec("output", [-1, num_classes]))


@contextlib.contextmanager
def _old_format() -> Iterator[None]:
    """Let Paddle 3 write a .pdmodel.

    Some of its functions know only the new format, so for the time being they append the old one's operator.
    """
    operators = {
        "tanh": lambda x: _append("tanh", {"X": x}),
        "sigmoid": lambda x: _append("sigmoid", {"X": x}),
        "abs": lambda x: _append("abs", {"X": x}),
        "matmul": lambda x, y, transpose_x=False, transpose_y=False: _append(
            "matmul_v2", {"X": x, "Y": y}, {"trans_x": transpose_x, "trans_y": transpose_y}
        ),
    }
    real = {name: getattr(paddle._C_ops, name) for name in operators}
    try:
        for name, operator in operators.items():
            setattr(paddle._C_ops, name, operator)
        with paddle.pir_utils.DygraphOldIrGuard():
            yield
    finally:
        for name, function in real.items():
            setattr(paddle._C_ops, name, function)


def _append(kind: str, inputs: dict, attributes: dict | None = None):
    """Append an operator to the program under construction; return its output."""
    helper = LayerHelper(kind)
    output = helper.create_variable_for_type_inference(inputs["X"].dtype)
    helper.append_op(type=kind, inputs=inputs, outputs={"Out": output}, attrs=attributes or {})
    return output


def check_written(files: list[Path]) -> None:
    """Make sure that an exporter that reported success wrote something."""
    for file in files:
        if not file.is_file() or not file.stat().st_size:
            raise UserError(f"export: the exporter wrote no {file.name}, or an empty one; nothing was changed")


def why_no_onnx() -> str | None:
    """Say what keeps this installation from writing ONNX, or None."""
    for package in ("paddle2onnx", "onnx", "onnxruntime"):
        try:
            with _quiet():
                __import__(package)
        except Exception as error:  # a binary that does not fit the installed Paddle fails in many ways
            missing = isinstance(error, ModuleNotFoundError)
            said = f"not installed: pip install {package}" if missing else f"cannot be loaded: {last_line(error)}"
            return f"{package} {said}"
    return None


def write_onnx(model: ModelFiles, folder: Path, metadata: dict[str, str], opset: int, output: str) -> ModelFiles:
    """Convert a Paddle model in `folder` to `<stem>.onnx`: simplified, checked, with metadata.

    Args:
        metadata: properties to store. output: name of the output tensor.
    """
    import onnx
    import onnxruntime
    import paddle2onnx

    graph, params = (folder / name for name in model.files[:2])
    path, raw = graph.with_suffix(".onnx"), graph.with_suffix(".raw.onnx")
    try:
        with _quiet() as said:
            paddle2onnx.export(str(graph), str(params), str(raw), opset, enable_onnx_checker=True, optimize_tool="none")
    except Exception as error:  # the converter raises whatever its C++ side throws
        raise UserError(f"export: paddle2onnx cannot convert this network: {last_line(error)}; {said()}") from error
    check_written([raw])
    settings = onnxruntime.SessionOptions()
    # constants folded and duplicates gone, but no operation beyond the standard
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath, settings.log_severity_level = str(path), 3
    onnxruntime.InferenceSession(str(raw), settings, providers=["CPUExecutionProvider"])
    raw.unlink()
    network = onnx.load(path)
    _tidy(network, output)
    _name_shapes(network, model.input.shape[1:])
    for key, value in metadata.items():
        entry = network.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(network, full_check=True)
    onnx.save(network, path)
    output_spec = TensorSpec(output, model.output.shape)
    return ModelFiles("onnx", [path.name], model.input, output_spec)


def _tidy(network, output: str) -> None:
    """Give the tensors and the batch dimension names, and forget operator sets that are not used."""
    used = {node.domain for node in network.graph.node}
    kept = [entry for entry in network.opset_import if entry.domain in used]
    del network.opset_import[:]
    network.opset_import.extend(kept)
    network.producer_name = "paddleskel"
    network.graph.name = "paddleskel"
    del network.graph.value_info[:]
    old = network.graph.output[0].name
    for node in network.graph.node:
        node.output[:] = [output if name == old else name for name in node.output]
        node.input[:] = [output if name == old else name for name in node.input]
    network.graph.output[0].name = output
    for value in (network.graph.input[0], network.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"


def _name_shapes(network, shape: list[int]) -> None:
    """Note the shape of every tensor, the batch as "N", "2N" and so on, as seen in runs of one and of two samples.

    What follows a reshape to (-1, ...) has no known size otherwise, and engines then miss that two tensors are of equal
    shape and could be added in one pass.
    """
    import onnx
    import onnxruntime

    names = [name for node in network.graph.node for name in node.output if name]
    probe = onnx.ModelProto()
    probe.CopyFrom(network)
    known = {value.name for value in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    entry = network.graph.input[0].name
    one, two = (session.run(names, {entry: np.zeros((batch, *shape), np.float32)}) for batch in (1, 2))
    for name, first, second in zip(names, one, two):
        if first.dtype == np.float32 and name not in known:
            sizes = [a if a == b else "N" if a == 1 else f"{a}N" for a, b in zip(first.shape, second.shape)]
            network.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes))


@contextlib.contextmanager
def _quiet() -> Iterator:
    """Keep what a library prints, from C++ as well, off the user's terminal; yields a function that returns it."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    with open(os.devnull, "wb") as nowhere:
        text = io.StringIO()
        try:
            for number, _ in saved:
                os.dup2(nowhere.fileno(), number)
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                yield lambda: " ".join(text.getvalue().split())[-300:]
        finally:
            for number, copy in saved:
                os.dup2(copy, number)
                os.close(copy)
