"""Where layers take another way than Paddle's."""

import paddle


def eager_on_cpu(x: paddle.Tensor) -> bool:
    """Whether x is computed right now on a CPU: not on a GPU, and not as part of a graph that is being exported."""
    return paddle.in_dynamic_mode() and x.place.is_cpu_place()
