"""Activations in the form that is fast on Paddle."""

import paddle
import paddle.nn.functional as F

from paddleskel.nn.place import eager_on_cpu


def relu(x: paddle.Tensor) -> paddle.Tensor:
    """max(x, 0), in place of x: x must be a result nobody else needs, such as a BatchNorm's or a sum.

    On a CPU this is a hardtanh without an upper end, whose gradient takes a third of the time of relu's and which lets
    NaN through, so that a diverged network shows. It keeps its input, and gives a gradient where that is positive: the
    output is positive in the same places, so the input is made to share its memory.
    """
    if not eager_on_cpu(x):
        return F.relu(x)
    y = F.hardtanh(x, 0.0, float("inf"))
    y._share_buffer_to(x)
    return y
