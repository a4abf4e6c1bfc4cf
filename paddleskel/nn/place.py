"""Where layers take another way than Paddle's."""

import paddle


def eager_on_cpu(x: paddle.Tensor) -> bool:
    """Whether x is computed right now on a CPU: not on a GPU, and not as part of a graph that is being exported."""
    return paddle.in_dynamic_mode() and x.place.is_cpu_place()


def eager_float32_on_cpu(x: paddle.Tensor, weight: paddle.Tensor) -> bool:
    """The same, and with a weight, in float32."""
    return eager_on_cpu(x) and x.dtype == weight.dtype == paddle.float32
