"""Long convolutions over time through their spectrum: the same result with a third of the multiplications.

A convolution over time is a product at each frequency. Clips are short, so the Fourier transforms are products with
matrices, and all is real arithmetic:

    y = A ((G w) * (D x)),    D: (B r, T), G: (B r r, k), A: (T, B r)

where * is, in each of B blocks, the product of an (r C_out, r C_in) with an (r C_in, N V) matrix. A complex product is
either one block of four real ones (r = 2, B = L / 2) or, by Gauss, three blocks of one each (r = 1, B = 3 L / 2), which
is less to multiply and more to move. L, even, is T and half the kernel's reach at least, so that only frames nobody
asks for wrap around. The frequencies are the odd ones, (f + 1/2) / L: none of them is real, and all are treated alike.

With a stride of s, frames t s + p for p = 0 ... s - 1 are s inputs of T / s frames each, and so are the taps that meet
them: C_in becomes s C_in, T becomes T / s, and the stride is gone.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import paddle
from paddle.autograd import PyLayer

from paddleskel.nn import shifts
from paddleskel.nn.place import eager_float32_on_cpu
from paddleskel.nn.rows import gathered

# reading or writing a number takes as long as so many multiply-accumulates, measured: here and in Paddle's convolution,
_PASS = 64
_PASS_SHIFTED = 40  # and in one by shifts


class Spectrum:
    """The spectrum of a weight that stays as it is, computed once for all clips of a length in turn."""

    def __init__(self):
        self._kept = None, None  # together, as threads share it

    def of(self, weight: paddle.Tensor, case: "_Case") -> paddle.Tensor:
        key, spectrum = self._kept
        if key != (case.frames, case.r):
            spectrum = _of_weight(weight, case)
            self._kept = (case.frames, case.r), spectrum
        return spectrum


def conv(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    stride: int = 1,
    dilation: int = 1,
    spectrum: Spectrum | None = None,
) -> paddle.Tensor:
    """A (k x 1) convolution, k odd, padded so that T shrinks by the stride alone: float32, on a CPU.

    Shape: (N, C_in, T, V), (C_out, C_in, k, 1) -> (N, C_out, floor((T - 1) / stride) + 1, V).

    Args:
        spectrum: of this weight, if it stays as it is from call to call.
    """
    case = _Case.of(x, weight, stride, dilation)
    if missing := -x.shape[2] % stride:
        x = paddle.concat([x, paddle.zeros([*x.shape[:2], missing, x.shape[3]])], axis=2)
    return _SpectralConv.apply(x, weight, case, spectrum)


def pays(x: paddle.Tensor, weight: paddle.Tensor, stride: int, dilation: int) -> bool:
    """Whether `conv` can be used and is faster than a convolution of frames: by shifts, or Paddle's."""
    if not eager_float32_on_cpu(x, weight):
        return False
    outputs, inputs, taps, _ = weight.shape
    if taps < 5 or not taps % 2:
        return False
    case = _Case.of(x, weight, stride, dilation)
    of_an_input = _PASS_SHIFTED if shifts.pays(x, weight, stride) else _PASS
    direct = case.columns * case.frames * taps * inputs * (outputs + of_an_input)
    return case.cost(case.r) < direct


class _Case(NamedTuple):
    """What the transforms depend on, and what a convolution costs. frames: of the output; columns: N V."""

    inputs: int
    outputs: int
    taps: int
    frames: int
    columns: int
    stride: int
    dilation: int

    @classmethod
    def of(cls, x, weight, stride: int, dilation: int) -> "_Case":
        (n, _, frames, joints), (outputs, inputs, taps, _) = x.shape, weight.shape
        return cls(inputs, outputs, taps, -(-frames // stride), n * joints, stride, dilation)

    @property
    def length(self) -> int:
        """L."""
        reach = self.dilation * (self.taps - 1) // 2
        length = self.frames + -(-reach // self.stride)
        return length + length % 2

    def cost(self, r: int) -> float:
        """In multiply-accumulates, for blocks of r."""
        rows, inputs = self.length * (1.5 if r == 1 else 1), self.stride * self.inputs
        a_column = (self.frames + _PASS) * (inputs + self.outputs) + r * inputs * self.outputs
        return rows * (self.columns * a_column + r * inputs * self.outputs * (self.taps + _PASS))

    @property
    def r(self) -> int:
        """The cheaper form of a block."""
        return min((1, 2), key=self.cost)

    def matrices(self) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        return _matrices(self.frames, self.taps, self.stride, self.dilation, self.length, self.r)


class _SpectralConv(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, case, spectrum):
        ctx.save_for_backward(x, weight)
        ctx.case, ctx.wanted = case, (not x.stop_gradient, not weight.stop_gradient)
        decompose, _, compose = case.matrices()
        of_weight = _of_weight(weight, case) if spectrum is None else spectrum.of(weight, case)
        y = paddle.matmul(of_weight, _of_frames(decompose, x, case.stride, case.r))
        y = paddle.matmul(compose, y.reshape([compose.shape[1], -1]))
        return gathered(y.reshape([case.frames, case.outputs, x.shape[0], x.shape[3]]), (2, 1, 0))

    @staticmethod
    def backward(ctx, gradient):
        (x, weight), case = ctx.saved_tensor(), ctx.case
        decompose, spread, compose = case.matrices()
        gradient = _of_frames(compose.t(), gradient, 1, case.r)
        of_x = of_weight = None
        if ctx.wanted[1]:
            of_weight = paddle.matmul(gradient, _of_frames(decompose, x, case.stride, case.r), transpose_y=True)
            of_weight = of_weight.reshape([-1, case.r, case.outputs, case.r, case.stride, case.inputs])
            of_weight = gathered(of_weight, (0, 1, 3, 4, 2)).reshape([spread.shape[0], -1])
            of_weight = paddle.matmul(of_weight, spread, transpose_x=True).reshape(weight.shape)
        if ctx.wanted[0]:
            of_x = paddle.matmul(_of_weight(weight, case), gradient, transpose_x=True)
            of_x = paddle.matmul(decompose, of_x.reshape([decompose.shape[0], -1]), transpose_x=True)
            of_x = of_x.reshape([case.frames, case.stride, case.inputs, x.shape[0], x.shape[3]])
            of_x = gathered(of_x, (3, 2, 0, 1)).reshape(x.shape)
        return of_x, of_weight


def _of_frames(matrix: paddle.Tensor, x: paddle.Tensor, stride: int, r: int) -> paddle.Tensor:
    """(B r, T / s), (N, C, T, V) -> (B, r s C, N V)."""
    n, channels, frames, joints = x.shape
    x = gathered(x.reshape([n, channels, frames // stride, stride, joints]), (2, 3, 1, 0))
    return paddle.matmul(matrix, x.reshape([frames // stride, -1])).reshape([-1, r * stride * channels, n * joints])


def _of_weight(weight: paddle.Tensor, case: _Case) -> paddle.Tensor:
    """(C_out, C_in, k, 1) -> (B, r C_out, r s C_in)."""
    r, outputs, inputs = case.r, case.outputs, case.inputs
    _, spread, _ = case.matrices()
    blocks = paddle.matmul(spread, weight.reshape([-1, case.taps]), transpose_y=True)
    blocks = gathered(blocks.reshape([-1, r, r, case.stride, outputs, inputs]), (0, 1, 4, 2, 3))
    return blocks.reshape([-1, r * outputs, r * case.stride * inputs])


@lru_cache(64)
def _matrices(frames: int, taps: int, stride: int, dilation: int, length: int, r: int) -> tuple[paddle.Tensor, ...]:
    """D, G and A, computed in float64."""
    frequencies = np.arange(length // 2) + 0.5
    wave = lambda times: np.exp(-2j * np.pi * np.outer(frequencies, times) / length)
    offsets = dilation * (np.arange(taps) - (taps - 1) // 2)
    signal, kernel, back = wave(np.arange(frames)), wave(-(offsets // stride)), 2 / length * wave(np.arange(frames))
    if r == 1:  # (a + ib)(c + id): with p = c (a + b), q = a (d - c), r = b (c + d) it is p - r + i (p + q)
        decompose = [signal.real + signal.imag, signal.real, signal.imag]
        spread = [kernel.real, kernel.imag - kernel.real, kernel.real + kernel.imag]
        compose = [back.real + back.imag, back.imag, -back.real]
    else:
        decompose, compose = [signal.real, signal.imag], [back.real, back.imag]
        spread = [kernel.real, -kernel.imag, kernel.imag, kernel.real]
    meets = offsets % stride == np.arange(stride)[:, None]  # (s, k)
    rows = lambda parts, columns: np.stack(parts, axis=1).reshape(-1, columns)
    spread = (np.stack(spread, axis=1)[:, :, None] * meets).reshape(-1, taps)
    tensor = lambda matrix: paddle.to_tensor(np.ascontiguousarray(matrix.astype(np.float32)))
    return tensor(rows(decompose, frames)), tensor(spread), tensor(rows(compose, frames).T)
