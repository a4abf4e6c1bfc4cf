"""Long convolutions over time through their spectrum: the same result with a third of the multiplications.

A convolution over time is a product at each frequency. Clips are short, so the Fourier transform is a product with a
matrix, and the three real products that make a complex one (Gauss) are three rows of it. With * for the product of a
(C_out, C_in) with a (C_in, N V) matrix, one for each of P rows,

    y = A ((G w) * (D x)),    D: (P, T), G: (P, k), A: (T_out, P), P = 3/2 L

takes P such products where the convolution takes k T_out. L, even, is at least T + dilation (k - 1) / 2, so that only
frames nobody asks for wrap around. The frequencies are the odd ones, (f + 1/2) / L: none of them is real, and all are
treated alike.
"""

from functools import lru_cache

import numpy as np
import paddle
from paddle.autograd import PyLayer

from paddleskel.nn.rows import gathered


def conv(x: paddle.Tensor, weight: paddle.Tensor, stride: int = 1, dilation: int = 1) -> paddle.Tensor:
    """A (k x 1) convolution, k odd, padded so that T shrinks by the stride alone: float32, on a CPU.

    Shape: (N, C_in, T, V), (C_out, C_in, k, 1) -> (N, C_out, floor((T - 1) / stride) + 1, V).
    """
    with paddle.amp.auto_cast(enable=False):
        return _SpectralConv.apply(x, weight, _matrices(x.shape[2], weight.shape[2], stride, dilation))


def pays(x: paddle.Tensor, weight: paddle.Tensor, stride: int, dilation: int) -> bool:
    """Whether `conv` can be used and is faster than Paddle's convolution, from the multiplications of both.

    The two constants were measured: unfolding an input for one tap takes as long as 64 multiplications, and those of
    `conv`, on smaller matrices, take 1.5 times as long each.
    """
    if not (paddle.in_dynamic_mode() and x.place.is_cpu_place() and x.dtype == weight.dtype == paddle.float32):
        return False
    (n, _, frames, joints), (outputs, inputs, taps, _) = x.shape, weight.shape
    if taps < 5 or not taps % 2:
        return False
    columns, frames_out, products = n * joints, (frames - 1) // stride + 1, _products(frames, taps, dilation)
    direct = columns * frames_out * taps * inputs * (outputs + 64)
    transforms = columns * (frames * inputs + frames_out * outputs) + taps * inputs * outputs
    return 1.5 * products * (columns * inputs * outputs + transforms) < direct


class _SpectralConv(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, matrices):
        ctx.save_for_backward(x, weight)
        ctx.matrices, ctx.wanted = matrices, [not x.stop_gradient, not weight.stop_gradient]
        decompose, spread, compose = matrices
        n, joints = x.shape[0], x.shape[3]
        product = paddle.matmul(_of_weight(spread, weight), _of_frames(decompose, x))
        product = paddle.matmul(compose, product.reshape([compose.shape[1], -1]))
        return _turn(product.reshape([compose.shape[0], weight.shape[0], n, joints]))

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensor()
        decompose, spread, compose = ctx.matrices
        n, inputs, frames, joints = x.shape
        products = spread.shape[0]
        gradient = _of_frames(compose.t(), gradient)
        of_x = of_weight = None
        if ctx.wanted[1]:
            of_weight = paddle.matmul(gradient, _of_frames(decompose, x), transpose_y=True)
            of_weight = paddle.matmul(of_weight.reshape([products, -1]), spread, transpose_x=True).reshape(weight.shape)
        if ctx.wanted[0]:
            of_x = paddle.matmul(_of_weight(spread, weight), gradient, transpose_x=True).reshape([products, -1])
            of_x = _turn(paddle.matmul(decompose, of_x, transpose_x=True).reshape([frames, inputs, n, joints]))
        return of_x, of_weight


def _of_frames(matrix: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
    """(P, T), (N, C, T, V) -> (P, C, N V)."""
    n, channels, frames, joints = x.shape
    return paddle.matmul(matrix, _turn(x).reshape([frames, -1])).reshape([-1, channels, n * joints])


def _of_weight(spread: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """(P, k), (C_out, C_in, k, 1) -> (P, C_out, C_in)."""
    outputs, inputs, taps, _ = weight.shape
    weight = weight.reshape([outputs * inputs, taps])
    return paddle.matmul(spread, weight, transpose_y=True).reshape([-1, outputs, inputs])


def _turn(x: paddle.Tensor) -> paddle.Tensor:
    """(a, b, c, V) -> (c, b, a, V)."""
    return gathered(x, (2, 1, 0))


def _products(frames: int, taps: int, dilation: int) -> int:
    length = frames + dilation * (taps - 1) // 2
    return 3 * ((length + 1) // 2)


@lru_cache(64)
def _matrices(frames: int, taps: int, stride: int, dilation: int) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """D (P, T), G (P, k) and A (T_out, P), computed in float64."""
    products = _products(frames, taps, dilation)
    length, frequencies = 2 * products // 3, np.arange(products // 3) + 0.5
    wave = lambda times: np.exp(-2j * np.pi * np.outer(frequencies, times) / length)
    signal = wave(np.arange(frames))
    kernel = wave(dilation * ((taps - 1) // 2 - np.arange(taps)))
    # (a + ib)(c + id): with p = c (a + b), q = a (d - c), r = b (c + d) it is p - r + i (p + q)
    decompose = np.stack([signal.real + signal.imag, signal.real, signal.imag], axis=1)
    spread = np.stack([kernel.real, kernel.imag - kernel.real, kernel.real + kernel.imag], axis=1)
    back = 2 / length * wave(np.arange(0, frames, stride))
    compose = np.stack([back.real + back.imag, back.imag, -back.real], axis=1)
    tensor = lambda matrix: paddle.to_tensor(np.ascontiguousarray(matrix.astype(np.float32)))
    return (
        tensor(decompose.reshape(products, frames)),
        tensor(spread.reshape(products, taps)),
        tensor(compose.reshape(products, -1).T),
    )
