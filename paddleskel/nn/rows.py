"""Axes in another order, by moving rows of joints: on a CPU several times as fast as Paddle's transposition."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import paddle
from paddle.autograd import PyLayer

from paddleskel.nn.place import eager_on_cpu


def reorder(x: paddle.Tensor, order: Sequence[int]) -> paddle.Tensor:
    """x.transpose([*order, last]): the axes before the last in another order, contiguous in memory."""
    if not eager_on_cpu(x):
        return x.transpose([*order, len(order)])
    return _Reorder.apply(x, tuple(order))


def gathered(x: paddle.Tensor, order: tuple[int, ...]) -> paddle.Tensor:
    """`reorder` on a CPU, without a gradient."""
    *leading, joints = x.shape
    shape, places = [*(leading[axis] for axis in order), joints], _places(tuple(leading), order)
    return (x if places is None else paddle.gather(x.reshape([-1, joints]), places)).reshape(shape)


class _Reorder(PyLayer):
    @staticmethod
    def forward(ctx, x, order):
        ctx.back = tuple(int(axis) for axis in np.argsort(order))
        return gathered(x, order)

    @staticmethod
    def backward(ctx, gradient):
        return gathered(gradient, ctx.back)


@lru_cache(32)
def _places(shape: tuple[int, ...], order: tuple[int, ...]) -> paddle.Tensor | None:
    """Which row comes where; None where all stay in their places, since the axes that change theirs are of size 1."""
    moving = [axis for axis in order if shape[axis] > 1]
    if moving == sorted(moving):
        return None
    rows = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    return paddle.to_tensor(np.ascontiguousarray(rows.transpose(order)).ravel())
