"""Thin convolutions and poolings over time from shifted copies, on a CPU faster than Paddle's, which go entry by entry.

A (k x 1) convolution is one matrix product with k copies of its input, each shifted by whole frames, side by side on
the channel axis; so are the gradient of its input, with copies of the output's, and that of its weight. Where there is
one output channel it is the other way round: one product has the k results, which are shifted and added.
"""

from functools import lru_cache

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from paddleskel.nn.place import eager_float32_on_cpu

# taps times channels of a convolution, at most: beyond, the copies gain little and take memory
_MOST_ROWS = 256
# what the gradient of the maximum multiplies differences by, so that the smallest normal float32 comes above 1
_HUGE = 3e38


def pays(x: paddle.Tensor, weight: paddle.Tensor, stride: int) -> bool:
    """Whether `conv` can be used and is faster than Paddle's convolution."""
    inputs, taps = weight.shape[1:3]
    thin = taps * inputs <= _MOST_ROWS
    return thin and taps > 1 and taps % 2 == 1 and stride == 1 and eager_float32_on_cpu(x, weight)


def conv(x: paddle.Tensor, weight: paddle.Tensor, dilation: int = 1) -> paddle.Tensor:
    """A (k x 1) convolution, k odd, padded so that T stays: float32, on a CPU.

    Shape: (N, C_in, T, V), (C_out, C_in, k, 1) -> (N, C_out, T, V).
    """
    reach = dilation * (weight.shape[2] // 2)
    return _Conv.apply(x, weight, tuple(range(-reach, reach + 1, dilation)))


def conv_to_one(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    """A convolution along one axis to one channel, k odd, padded so that L stays.

    Shape: (N, C, L), (1, C, k), (1) -> (N, 1, L).
    """
    taps, length = weight.shape[2], x.shape[2]
    if not eager_float32_on_cpu(x, weight):
        return F.conv1d(x, weight, bias, padding=taps // 2)
    results = paddle.matmul(weight.squeeze(0), x, transpose_x=True)  # (N, k, L)
    # tap j has for place l what stands at l + j: with padded rows, one after the other, each read one place later
    beyond = paddle.zeros([len(x), taps, taps // 2])
    rows = paddle.concat([beyond, results, beyond], axis=2).flatten(1)
    rows = paddle.concat([rows, paddle.zeros([len(x), taps])], axis=1).reshape([len(x), taps, length + taps])
    return paddle.matmul(paddle.ones([1, taps]), rows)[:, :, :length] + bias


def max_pool(x: paddle.Tensor, kernel: int, stride: int) -> paddle.Tensor:
    """The largest of `kernel` frames around each, padded so that T shrinks by the stride alone; kernel odd.

    Shape: (N, C, T, V) -> (N, C, floor((T - 1) / stride) + 1, V).
    """
    if kernel == 3 and stride == 1 and eager_float32_on_cpu(x, x):
        return _MaxOfThree.apply(x)
    return F.max_pool2d(x, (kernel, 1), (stride, 1), (kernel // 2, 0))


def _shifted(x: paddle.Tensor, offsets: tuple[int, ...], outside: float = 0.0) -> paddle.Tensor:
    """(N, C, T, V) -> (N, C k, T, V): frame t + o in place of t, for each of k offsets o; `outside` beyond the clip."""
    n, channels, frames, joints = x.shape
    beyond = paddle.full([n, channels, 1, joints], outside, x.dtype)
    x = paddle.concat([x, beyond], axis=2).reshape([n * channels, frames + 1, joints])
    return paddle.gather(x, _places(frames, offsets), axis=1).reshape([n, -1, frames, joints])


@lru_cache(256)
def _places(frames: int, offsets: tuple[int, ...]) -> paddle.Tensor:
    """Which frame comes where; `frames` is the one beyond the clip."""
    wanted = [t for offset in offsets for t in range(offset, offset + frames)]
    return paddle.to_tensor([t if 0 <= t < frames else frames for t in wanted], "int32")


class _Conv(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, offsets):
        ctx.save_for_backward(x, weight)
        ctx.offsets, ctx.wanted = offsets, (not x.stop_gradient, not weight.stop_gradient)
        y = paddle.matmul(weight.reshape([len(weight), -1]), _shifted(x, offsets).flatten(2))
        return y.reshape([len(x), len(weight), *x.shape[2:]])

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensor()
        outputs, inputs, taps, _ = weight.shape
        gradient = _shifted(gradient, tuple(-offset for offset in ctx.offsets)).flatten(2)  # (N, C_out k, T V)
        of_x = of_weight = None
        if ctx.wanted[0]:
            across = weight.transpose([1, 0, 2, 3]).reshape([inputs, -1])
            of_x = paddle.matmul(across, gradient).reshape(x.shape)
        if ctx.wanted[1]:
            of_weight = paddle.matmul(gradient, x.flatten(2), transpose_y=True).sum(axis=0)
            of_weight = of_weight.reshape([outputs, taps, inputs, 1]).transpose([0, 2, 1, 3])
        return of_x, of_weight


class _MaxOfThree(PyLayer):
    """The gradient goes to the first of equal frames, as Paddle's does."""

    @staticmethod
    def forward(ctx, x):
        earlier, later = _shifted(x, (-1,), -float("inf")), _shifted(x, (1,), -float("inf"))
        y = paddle.maximum(paddle.maximum(earlier, x), later)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        x, y = ctx.saved_tensor()
        rest = gradient * _exceeds(y, _shifted(x, (-1,), -float("inf")))  # what does not go to the frame before
        of_later = rest * _exceeds(y, x)
        return rest - of_later + _shifted(gradient - rest, (1,)) + _shifted(of_later, (-1,))


def _exceeds(y: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
    """1 where y > x, 0 where they are equal; y >= x. Comparisons and selections take Paddle ten times as long."""
    return F.hardtanh((y - x) * _HUGE, 0.0, 1.0)
