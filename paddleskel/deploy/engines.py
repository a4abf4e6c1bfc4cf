"""What runs an exported network: Paddle Inference, ONNX Runtime, OpenVINO.

Every engine is made from the files of one form of the network and called with (N, M, T, V, C) float32; it returns
(N, classes).
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import paddle
from paddle import inference

from paddleskel.errors import UserError
from paddleskel.registry import did_you_mean
from paddleskel.runtime import cpu_threads


@dataclass(frozen=True)
class EngineOptions:
    """How to run.

    use_gpu: on the first GPU. threads: CPU threads, by default OMP_NUM_THREADS or all cores. tensorrt: compile with
    TensorRT (needs use_gpu). precision: what to compute in.
    """

    use_gpu: bool = False
    threads: int | None = None
    tensorrt: bool = False
    precision: str = "fp32"
    gpu_memory: int = 1000

    @property
    def cores(self) -> int:
        return self.threads or cpu_threads()


class Engine(Protocol):
    def __call__(self, inputs: np.ndarray) -> np.ndarray: ...


class PaddleEngine:
    """Paddle Inference, of a .json or .pdmodel and its .pdiparams.

    Args:
        onednn: use oneDNN's kernels on the CPU. They are right for some models and wrong for others (3.3.1).
    """

    def __init__(self, files: Sequence[Path], options: EngineOptions, onednn: bool = False):
        model, params = map(str, files[:2])
        config = inference.Config(model, params)
        config.disable_glog_info()
        if options.use_gpu:
            config.enable_use_gpu(options.gpu_memory, 0)
            if options.tensorrt:
                _enable_tensorrt(config, options)
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(options.cores)
            if onednn:
                config.enable_mkldnn()
            elif hasattr(config, "disable_mkldnn"):
                config.disable_mkldnn()
        config.delete_pass("seqpool_cvm_concat_fuse_pass")  # crashes on wide concatenations (2.6.2); of no use here
        try:
            self._predictor = inference.create_predictor(config)
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(f"{model}: Paddle Inference cannot load it: {last_line(error)}") from error
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        self._input.reshape(inputs.shape)
        self._input.copy_from_cpu(np.ascontiguousarray(inputs))
        self._predictor.run()
        return self._output.copy_to_cpu()


def _enable_tensorrt(config, options: EngineOptions) -> None:
    kind = {"fp16": inference.PrecisionType.Half, "int8": inference.PrecisionType.Int8}
    config.enable_tensorrt_engine(
        workspace_size=1 << 30,
        max_batch_size=64,
        min_subgraph_size=3,
        precision_mode=kind.get(options.precision, inference.PrecisionType.Float32),
    )


class OnnxRuntimeEngine:
    """ONNX Runtime, of an .onnx file."""

    def __init__(self, files: Sequence[Path], options: EngineOptions):
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.cores
        settings.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        if options.use_gpu:
            wanted = ["TensorrtExecutionProvider"] if options.tensorrt else ["CUDAExecutionProvider"]
            providers = [name for name in wanted if name in onnxruntime.get_available_providers()] + providers
            if len(providers) == 1:
                raise UserError(f"onnxruntime: this build has no {wanted[0]}: pip install onnxruntime-gpu")
        try:
            self._session = onnxruntime.InferenceSession(str(files[0]), settings, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise UserError(f"{files[0]}: ONNX Runtime cannot load it: {last_line(error)}") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: np.ascontiguousarray(inputs)})[0]


class OpenVinoEngine:
    """OpenVINO, of an .onnx file."""

    def __init__(self, files: Sequence[Path], options: EngineOptions):
        import openvino

        # without a word about precision, processors with bfloat16 units compute in it
        kind = {"bf16": "bf16", "fp16": "f16"}.get(options.precision, "f32")
        settings = {"INFERENCE_PRECISION_HINT": kind, "PERFORMANCE_HINT": "LATENCY"}
        if not options.use_gpu:
            settings["INFERENCE_NUM_THREADS"] = options.cores
        try:
            device = "GPU" if options.use_gpu else "CPU"
            compiled = openvino.Core().compile_model(str(files[0]), device, settings)
        except RuntimeError as error:
            raise UserError(f"{files[0]}: OpenVINO cannot load it: {last_line(error)}") from error
        self._request, self._output = compiled.create_infer_request(), compiled.output(0)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        self._request.infer([np.ascontiguousarray(inputs)])
        return np.array(self._request.get_tensor(self._output).data)


def paddle_onednn(files: Sequence[Path], options: EngineOptions) -> PaddleEngine:
    return PaddleEngine(files, options, onednn=True)


@dataclass(frozen=True)
class EngineKind:
    """An engine's package, the formats it reads, and how to make it.

    isolate: try it in a process of its own, as it can take the process down.
    """

    make: Callable[[Sequence[Path], EngineOptions], Engine]
    package: str
    formats: tuple[str, ...]
    isolate: bool = False

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        if self.package == "paddlepaddle":
            return paddle.__version__
        try:
            return importlib.import_module(self.package).__version__
        except ImportError:
            return None


# in the order in which "auto" prefers them on a CPU, the fastest first
ENGINES = {
    "onnxruntime": EngineKind(OnnxRuntimeEngine, "onnxruntime", ("onnx",)),
    "openvino": EngineKind(OpenVinoEngine, "openvino", ("onnx",)),
    "paddle": EngineKind(PaddleEngine, "paddlepaddle", ("paddle", "pdmodel")),
    "paddle-onednn": EngineKind(paddle_onednn, "paddlepaddle", ("paddle", "pdmodel"), isolate=True),
}


def engine_kind(name: str) -> EngineKind:
    """Return an engine by name.

    Raises:
        UserError: there is none of this name, or it is not installed.
    """
    if name not in ENGINES:
        raise UserError(f"--engine: unknown engine '{name}'{did_you_mean(name, ['auto', *ENGINES])}")
    kind = ENGINES[name]
    if kind.version is None:
        raise UserError(f"--engine {name}: not installed: pip install {kind.package}")
    return kind


def last_line(error: Exception) -> str:
    """The last line of an exception's text, which is where engines say what is wrong."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
