"""Long convolutions over time through their spectrum: the same result with a third of the multiplications.

A convolution over time is a product at each frequency. Clips are short, so the Fourier transforms are products with
matrices, and all is real arithmetic:

    y = A ((G w) * (D x)),    D: (B r, W), G: (B r r, k), A: (M, B r)

where * is, in each of B blocks, the product of an (r C_out, r C_in) with an (r C_in, columns) matrix. A complex product
is either one block of four real ones (r = 2, B = L / 2) or, by Gauss, three blocks of one each (r = 1, B = 3 L / 2),
which is less to multiply and more to move. The frequencies are the odd ones, (f + 1/2) / L: none of them is real, and
all are treated alike.

The output is made in spans of M frames, each from a window of W frames of the input; spans and samples are the columns.
One span of all T frames needs the fewest frequencies: M = W = T, and L, even, is T and half the kernel's reach at
least, so that only frames nobody asks for wrap around. Transforms of long clips cost more than that saves: they are cut
in spans whose windows are longer by the kernel's reach, and L = W.

With a stride of s, frames t s + p for p = 0 ... s - 1 are s inputs of T / s frames each, and so are the taps that meet
them: C_in becomes s C_in, T becomes T / s, and the stride is gone.

Both sides have a channel more than is wanted, for which the weight's spectrum has zeros. Channels are powers of two;
rows of a matrix that lie a multiple of 4 KiB apart take each other's place in the cache: transforms would take twice as
long.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from paddleskel.nn.place import eager_float32_on_cpu
from paddleskel.nn.rows import gathered

# What a training step takes, measured and fitted; a multiply-accumulate of the product in blocks is the unit.
_TRANSFORM = 0.7  # one of a transform of frames
_SPECTRUM, _WEIGHT = 27, 49  # reading and writing a number of the frames' spectrum, and of the weight's
_WINDOW, _OVERLAP = 22, 20  # moving a number to its window, and adding what windows share
_DIRECT = 30  # reading and writing an input of a tap in a convolution of frames, by shifts or Paddle's

_SHORTEST = 8  # frames of a span
# channels from which the spectrum of the frames is computed again for the gradient: the more channels, the smaller its
# part of the work, while with half the frames of twice the channels it takes as much memory or more
_WIDE = 256


class Spectrum:
    """The spectrum of a weight that stays as it is, computed once for all clips of a length in turn."""

    def __init__(self):
        self._kept = None, None  # together, as threads share it

    def of(self, weight: paddle.Tensor, plan: "_Plan") -> paddle.Tensor:
        key, spectrum = self._kept
        if key != (plan.length, plan.r):
            spectrum = _of_weight(weight, plan)
            self._kept = (plan.length, plan.r), spectrum
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
    return _SpectralConv.apply(x, weight, _plan(_Case.of(x, weight, stride, dilation)), spectrum)


def pays(x: paddle.Tensor, weight: paddle.Tensor, stride: int, dilation: int) -> bool:
    """Whether `conv` can be used and is faster than a convolution of frames."""
    if not eager_float32_on_cpu(x, weight):
        return False
    outputs, inputs, taps, _ = weight.shape
    if taps < 5 or not taps % 2:
        return False
    case = _Case.of(x, weight, stride, dilation)
    direct = case.samples * case.joints * case.frames * taps * inputs * (outputs + _DIRECT)
    return _plan(case).cost < direct


class _Case(NamedTuple):
    """A convolution. frames: of the output."""

    samples: int
    inputs: int
    outputs: int
    frames: int
    joints: int
    taps: int
    stride: int
    dilation: int

    @classmethod
    def of(cls, x, weight, stride: int, dilation: int) -> "_Case":
        (n, _, frames, joints), (outputs, inputs, taps, _) = x.shape, weight.shape
        return cls(n, inputs, outputs, -(-frames // stride), joints, taps, stride, dilation)

    @property
    def reach(self) -> int:
        """Of the kernel to either side, in frames of the output."""
        return -(-(self.dilation * (self.taps - 1) // 2) // self.stride)


class _Spans(NamedTuple):
    """`count` spans of M frames, each in a window that has `margin` frames more before it and after it."""

    frames: int
    count: int
    margin: int

    @property
    def window(self) -> int:
        """W."""
        return self.frames + 2 * self.margin


class _Plan(NamedTuple):
    """How a convolution is computed: in blocks of r, and in spans of so many frames."""

    case: _Case
    r: int
    span: int

    @property
    def spans(self) -> _Spans:
        count = -(-self.case.frames // self.span)
        return _Spans(self.span, count, self.case.reach if count > 1 else 0)

    @property
    def length(self) -> int:
        """L."""
        length = self.spans.window if self.spans.count > 1 else self.span + self.case.reach
        return length + length % 2

    @property
    def cost(self) -> float:
        """In the unit above."""
        case, spans, rows = self.case, self.spans, self.length * (1.5 if self.r == 1 else 1)
        inputs, outputs, columns = case.stride * case.inputs, case.outputs, case.samples * spans.count * case.joints
        frames = spans.window * inputs + self.span * outputs
        product = self.r * inputs * outputs
        a_row = _TRANSFORM * frames + _SPECTRUM * (inputs + outputs) + product
        overlap = _OVERLAP * self.span * inputs if spans.margin else 0
        return columns * (rows * a_row + _WINDOW * frames + overlap) + rows * product * _WEIGHT

    def matrices(self) -> tuple[paddle.Tensor, ...]:
        """D, G, A, and the transpose of D, with a row of zeros below where windows overlap."""
        return _matrices(self.spans, self.length, self.case.taps, self.case.stride, self.case.dilation, self.r)


@lru_cache(1024)
def _plan(case: _Case) -> _Plan:
    """The cheapest."""
    spans = {case.frames}
    for count in range(2, case.frames // _SHORTEST + 1):
        span = -(-case.frames // count)
        spans.add(span + span % 2)  # L is even
    spans = [span for span in spans if span == case.frames or span >= 2 * case.reach]  # no frame is in three windows
    return min((_Plan(case, r, span) for r in (1, 2) for span in spans), key=lambda plan: plan.cost)


class _SpectralConv(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, plan, spectrum):
        case, spans, (decompose, _, compose, _) = plan.case, plan.spans, plan.matrices()
        of_weight = _of_weight(weight, plan) if spectrum is None else spectrum.of(weight, plan)
        of_frames = _of_frames(decompose, x, plan.r, case.stride, spans)
        ctx.plan, ctx.frames, ctx.again = plan, x.shape[2], case.inputs >= _WIDE
        kept = x if ctx.again else of_frames
        ctx.save_for_backward(None if x.stop_gradient else of_weight, None if weight.stop_gradient else kept)
        y = paddle.matmul(of_weight, of_frames)
        y = paddle.matmul(compose, y.reshape([compose.shape[1], -1])).reshape([-1, case.joints])
        shape = case.samples, case.outputs, case.frames
        return paddle.gather(y, _in_spans(*shape, 1, spans._replace(margin=0))).reshape([*shape, case.joints])

    @staticmethod
    def backward(ctx, gradient):
        (of_weight, kept), plan, case, spans = ctx.saved_tensor(), ctx.plan, ctx.plan.case, ctx.plan.spans
        decompose, spread, compose, recompose = plan.matrices()
        gradient = _of_frames(compose.t(), gradient, plan.r, 1, spans._replace(margin=0))
        for_x = for_weight = None
        if kept is not None:
            of_frames = _of_frames(decompose, kept, plan.r, case.stride, spans) if ctx.again else kept
            for_weight = paddle.matmul(gradient, of_frames, transpose_y=True)
            for_weight = for_weight.reshape([-1, plan.r, case.outputs + 1, plan.r, case.stride, case.inputs + 1])
            for_weight = gathered(for_weight, (0, 1, 3, 4, 2)).reshape([spread.shape[0], -1])
            for_weight = paddle.matmul(for_weight, spread, transpose_x=True)
            for_weight = for_weight.reshape([case.outputs + 1, case.inputs + 1, -1, 1])[:-1, :-1]
        if of_weight is not None:
            rows = paddle.matmul(of_weight, gradient, transpose_x=True)
            rows = paddle.matmul(recompose, rows.reshape([recompose.shape[1], -1])).reshape([-1, case.joints])
            place = case.samples, case.inputs, ctx.frames, case.stride, spans
            for_x = paddle.gather(rows, _in_spans(*place))
            if spans.margin:
                for_x = for_x + paddle.gather(rows, _in_neighbours(*place))
            for_x = for_x.reshape([*place[:3], case.joints])
        return for_x, for_weight


def _of_frames(matrix: paddle.Tensor, x: paddle.Tensor, r: int, stride: int, spans: _Spans) -> paddle.Tensor:
    """(B r, W), (N, C, T, V) -> (B, r s (C + 1), columns)."""
    n, channels, frames, joints = x.shape
    places, inside = _in_windows(n, channels, frames, stride, spans)
    x = x.reshape([-1, joints])
    x = x if inside else paddle.concat([x, paddle.zeros([1, joints])])
    x = paddle.matmul(matrix, paddle.gather(x, places).reshape([spans.window, -1]))
    return x.reshape([-1, r * stride * (channels + 1), spans.count * n * joints])


def _of_weight(weight: paddle.Tensor, plan: _Plan) -> paddle.Tensor:
    """(C_out, C_in, k, 1) -> (B, r (C_out + 1), r s (C_in + 1))."""
    r, (_, inputs, outputs, _, _, taps, stride, _), (_, spread, _, _) = plan.r, plan.case, plan.matrices()
    weight = F.pad(weight.squeeze(3), [0, 1, 0, 1, 0, 0])
    blocks = paddle.matmul(spread, weight.reshape([-1, taps]), transpose_y=True)
    blocks = gathered(blocks.reshape([-1, r, r, stride, outputs + 1, inputs + 1]), (0, 1, 4, 2, 3))
    return blocks.reshape([-1, r * (outputs + 1), r * stride * (inputs + 1)])


@lru_cache(64)
def _in_windows(n: int, channels: int, frames: int, stride: int, spans: _Spans) -> tuple[paddle.Tensor, bool]:
    """Which row of (N, C, T) comes where in (W, s, C + 1, spans, N), and whether there is one for every place.

    Where there is none it is the row after the last, of zeros. The channel too many is the last one again.
    """
    i, phase, c, window, sample = np.ogrid[: spans.window, :stride, : channels + 1, : spans.count, :n]
    c = c.clip(max=channels - 1)
    t = (window * spans.frames - spans.margin + i) * stride + phase
    inside = (t >= 0) & (t < frames)
    rows = np.where(inside, (sample * channels + c) * frames + t, n * channels * frames)
    return _rows(rows), bool(inside.all())


@lru_cache(64)
def _in_spans(n: int, channels: int, frames: int, stride: int, spans: _Spans) -> paddle.Tensor:
    """Which row of (W, s, C + 1, spans, N) comes where in (N, C, T): the frame in the window of its span."""
    sample, c, t = np.ogrid[:n, :channels, :frames]
    window, i = np.divmod(t // stride, spans.frames)
    i = i + spans.margin
    return _rows((((i * stride + t % stride) * (channels + 1) + c) * spans.count + window) * n + sample)


@lru_cache(64)
def _in_neighbours(n: int, channels: int, frames: int, stride: int, spans: _Spans) -> paddle.Tensor:
    """Which row of (W + 1, s, C + 1, spans, N) comes where in (N, C, T): the frame in the window before or after.

    Where it is in neither that is a row of frame W, of zeros.
    """
    sample, c, t = np.ogrid[:n, :channels, :frames]
    window, i = np.divmod(t // stride, spans.frames)
    earlier = (i < spans.margin) & (window > 0)
    later = (i >= spans.frames - spans.margin) & (window < spans.count - 1)
    i = i + spans.margin + np.where(earlier, spans.frames, np.where(later, -spans.frames, 0))
    i, window = np.where(earlier | later, i, spans.window), window - earlier + later
    return _rows((((i * stride + t % stride) * (channels + 1) + c) * spans.count + window) * n + sample)


def _rows(places: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(places.astype(np.int32).ravel())


@lru_cache(64)
def _matrices(spans: _Spans, length: int, taps: int, stride: int, dilation: int, r: int) -> tuple[paddle.Tensor, ...]:
    """Computed in float64."""
    frequencies = np.arange(length // 2) + 0.5
    wave = lambda times: np.exp(-2j * np.pi * np.outer(frequencies, times) / length)
    offsets = dilation * (np.arange(taps) - (taps - 1) // 2)
    signal, kernel = wave(np.arange(spans.window)), wave(-(offsets // stride))
    back = 2 / length * wave(spans.margin + np.arange(spans.frames))
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
    decompose, compose = rows(decompose, spans.window), rows(compose, spans.frames).T
    recompose = np.pad(decompose.T, ((0, 1 if spans.margin else 0), (0, 0)))
    tensor = lambda matrix: paddle.to_tensor(np.ascontiguousarray(matrix.astype(np.float32)))
    return tensor(decompose), tensor(spread), tensor(compose), tensor(recompose)
