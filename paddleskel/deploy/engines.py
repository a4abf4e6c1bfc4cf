"""What runs an exported network."""

from pathlib import Path

import numpy as np
from paddle import inference

from paddleskel.errors import UserError
from paddleskel.runtime import available_cores


class PaddleEngine:
    """Paddle Inference.

    Args:
        model, params: files of one export.
        use_gpu: run on the first GPU.
        threads: CPU threads; default: all cores.
    """

    def __init__(
        self, model: Path, params: Path, use_gpu: bool = False, threads: int | None = None, gpu_memory: int = 1000
    ):
        config = inference.Config(str(model), str(params))
        config.disable_glog_info()
        if use_gpu:
            config.enable_use_gpu(gpu_memory, 0)
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(threads or available_cores())
            if hasattr(config, "disable_mkldnn"):
                config.disable_mkldnn()  # gives wrong numbers on Paddle 3's model format (3.3.1)
        config.delete_pass("seqpool_cvm_concat_fuse_pass")  # crashes on wide concatenations (2.6.2); of no use here
        try:
            self._predictor = inference.create_predictor(config)
        except (RuntimeError, ValueError, OSError) as error:
            last = str(error).strip().splitlines()[-1]
            raise UserError(f"{model}: Paddle Inference cannot load it: {last}") from error
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    @property
    def output_name(self) -> str:
        return self._predictor.get_output_names()[0]

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """(N, M, T, V, C) float32 -> (N, classes)."""
        self._input.reshape(inputs.shape)
        self._input.copy_from_cpu(np.ascontiguousarray(inputs))
        self._predictor.run()
        return self._output.copy_to_cpu()
