"""A trained network computed by an inference engine, which tests faster than the network itself on a CPU."""

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from paddleskel.deploy.engines import EngineKind, EngineOptions, engine_kind
from paddleskel.deploy.fold import fold
from paddleskel.deploy.formats import DEFAULT_OPSET, why_no_onnx, write_onnx, write_paddle
from paddleskel.deploy.proof import TOLERANCE
from paddleskel.errors import UserError
from paddleskel.runtime import cpuinfo, has_bfloat16

_CHECKED = 4  # clips
_POINTS = 4000  # joints x frames x persons an engine is given at a time: larger batches leave the cache, 20 % slower


def usable(engine: str, precision: str = "fp32") -> EngineKind:
    """Return an engine that can stand in for a network here.

    Args:
        precision: "fp32", or "bf16", which takes OpenVINO and a processor with units for it.

    Raises:
        UserError: it is unknown or not installed, or what brings a network to it is not installed, or the precision
            is not to be had.
    """
    kind = engine_kind(engine)
    if precision == "bf16" and engine != "openvino":
        raise UserError(f"--precision bf16: {engine} tests in fp32 alone; add --engine openvino")
    if precision == "bf16" and not has_bfloat16(cpuinfo()):
        raise UserError(
            "--precision bf16: this processor has no units for bfloat16, so it would gain nothing; leave it out"
        )
    if "onnx" in kind.formats and (reason := why_no_onnx()):
        raise UserError(f"--engine {engine}: takes the network as ONNX, but {reason}")
    return kind


@contextlib.contextmanager
def on_engine(
    network: nn.Layer, shape: list[int], num_classes: int, engine: str, options: EngineOptions | None = None
) -> Iterator[Callable[[paddle.Tensor], paddle.Tensor]]:
    """Yield the network's forward function on an engine: (N, M, T, V, C) -> (N, num_classes).

    Args:
        shape: (M, T, V, C). options: default: all CPU threads of this process.

    Raises:
        UserError: the engine is not `usable`, or the first clips it is given come out unlike the network's.
    """
    options = options or EngineOptions()
    kind = usable(engine, options.precision)
    checked, chunk = False, max(1, _POINTS // math.prod(shape[:3]))
    with tempfile.TemporaryDirectory() as folder:
        files = write_paddle(fold(network), shape, num_classes, Path(folder) / "inference")
        if "onnx" in kind.formats:
            files = write_onnx(files, Path(folder), {}, DEFAULT_OPSET, "logits")
        run = kind.make([Path(folder) / name for name in files.files], options)

        def forward(x: paddle.Tensor) -> paddle.Tensor:
            nonlocal checked
            clips = x.numpy()
            scores = np.concatenate([run(clips[i : i + chunk]) for i in range(0, len(clips), chunk)])
            if not checked:
                _compare(network(x[:_CHECKED]).numpy(), scores[:_CHECKED], engine, options.precision)
                checked = True
            return paddle.to_tensor(scores)

        yield forward


def _compare(expected: np.ndarray, scores: np.ndarray, engine: str, precision: str) -> None:
    difference = np.abs(expected - scores).max() / np.abs(expected).max()
    if not difference <= TOLERANCE[precision]:
        raise UserError(
            f"--engine {engine}: its scores differ from the network's by {difference:.1e} of the largest; "
            "test with another engine, or without --engine"
        )
