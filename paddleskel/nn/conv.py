"""Convolutions over time and channels, with the initialisations of the published code, and means that are fast.

A convolution that a BatchNorm follows at once has no bias here: BatchNorm subtracts it again, and on a CPU the addition
costs as much as the convolution.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from paddleskel.nn import shifts, spectral
from paddleskel.nn.place import eager_float32_on_cpu, eager_on_cpu

# "torch": PyTorch's default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)). "kaiming": N(0, sqrt(2/fan_out)), "kaiming_fan_in"
# with fan_in in its place.
Init = Literal["torch", "kaiming", "kaiming_fan_in"]


def weight_init(init: Init, fan_in: int, fan_out: int) -> nn.initializer.Initializer:
    """Return the initialiser of a convolution's weight; fans count channels times kernel size."""
    if init == "torch":
        bound = 1 / math.sqrt(fan_in)
        return nn.initializer.Uniform(-bound, bound)
    return nn.initializer.Normal(0.0, math.sqrt(2 / (fan_out if init == "kaiming" else fan_in)))


def bias_init(init: Init, fan_in: int) -> nn.initializer.Initializer:
    """Return the initialiser of a convolution's bias: torch draws it like the weight, Kaiming starts at zero."""
    return weight_init("torch", fan_in, 1) if init == "torch" else nn.initializer.Constant(0.0)


def _over_time(x, weight, stride: int, dilation: int, spectrum: spectral.Spectrum | None = None):
    """A (k x 1) convolution, padded so that T shrinks by the stride alone where k is odd, in the fastest form."""
    if spectral.pays(x, weight, stride, dilation):
        return spectral.conv(x, weight, stride, dilation, spectrum)
    if shifts.pays(x, weight, stride):
        return shifts.conv(x, weight, dilation)
    padding = dilation * (weight.shape[2] - 1) // 2
    return F.conv2d(x, weight, None, (stride, 1), (padding, 0), (dilation, 1))


class _TemporalConv2D(nn.Conv2D):
    """A (k x 1) convolution without bias."""

    spectrum: spectral.Spectrum | None = None

    def fix(self) -> None:
        """See `fixed_weights`."""
        self.spectrum = spectral.Spectrum()

    def release(self) -> None:
        self.spectrum = None

    def forward(self, x):
        return _over_time(x, self.weight, self._stride[0], self._dilation[0], self.spectrum)


@contextlib.contextmanager
def fixed_weights(network: nn.Layer) -> Iterator[None]:
    """While this lasts no weight of the network changes, and what its convolutions make of them is made once."""
    kinds = _TemporalConv2D, BiasedConv
    convs = [layer for layer in network.sublayers(include_self=True) if isinstance(layer, kinds)]
    try:
        with paddle.no_grad():
            for conv in convs:
                conv.fix()
        yield
    finally:
        for conv in convs:
            conv.release()


def temporal_conv(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, dilation: int = 1, init: Init = "torch"
) -> nn.Conv2D:
    """A (kernel x 1) convolution over time without bias, padded so that T shrinks by the stride alone.

    Shape: (N, C_in, T, V) -> (N, C_out, floor((T - 1) / stride) + 1, V).
    """
    return _TemporalConv2D(
        in_channels,
        out_channels,
        (kernel, 1),
        stride=(stride, 1),
        padding=(dilation * (kernel - 1) // 2, 0),
        dilation=(dilation, 1),
        weight_attr=paddle.ParamAttr(initializer=weight_init(init, in_channels * kernel, out_channels * kernel)),
        bias_attr=False,
    )


class ConvBN(nn.Sequential):
    """A temporal convolution (1 x 1 by default) and BatchNorm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        init: Init = "torch",
    ):
        super().__init__(
            ("conv", temporal_conv(in_channels, out_channels, kernel, stride, dilation, init)),
            ("bn", nn.BatchNorm2D(out_channels)),
        )


class ConvToOne(nn.Conv1D):
    """A convolution along one axis to one channel, padded so that L stays; the kernel is odd.

    Shape: (N, C, L) -> (N, 1, L).
    """

    def __init__(self, channels: int, kernel: int, weight_attr: paddle.ParamAttr):
        super().__init__(channels, 1, kernel, padding=kernel // 2, weight_attr=weight_attr)

    def forward(self, x):
        return shifts.conv_to_one(x, self.weight, self.bias)


class BiasedConv(nn.Layer):
    """A (kernel x 1) convolution with a bias that no BatchNorm removes.

    The bias comes in through one more input channel of ones and the middle of its kernel, which is several times
    cheaper than adding it afterwards.

    Shape: (N, C_in, T, V) -> (N, C_out, floor((T - 1) / stride) + 1, V).

    Args:
        groups_out: how many published convolutions this one stands for; it matters to the initialisation by fan_out.
    """

    # what `joined` gives while the weights are fixed; in a tuple, as a layer takes a tensor for a buffer
    fixed: tuple[paddle.Tensor, ...] = ()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        init: Init = "torch",
        groups_out: int = 1,
    ):
        super().__init__()
        self.stride, self.dilation, self.padding = (stride, 1), (dilation, 1), (dilation * (kernel - 1) // 2, 0)
        fan_in, fan_out = in_channels * kernel, out_channels * kernel // groups_out
        self.weight = self.create_parameter(
            [out_channels, in_channels, kernel, 1], default_initializer=weight_init(init, fan_in, fan_out)
        )
        self.bias = self.create_parameter([out_channels, 1, 1, 1], default_initializer=bias_init(init, fan_in))

    def fix(self) -> None:
        """See `fixed_weights`."""
        self.fixed = (self.joined(),)

    def release(self) -> None:
        self.fixed = ()

    def joined(self):
        """The weight with the bias as one more input channel: (C_out, C_in + 1, kernel, 1)."""
        if self.fixed:
            return self.fixed[0]
        bias = self.bias
        if side := self.weight.shape[2] // 2:
            zeros = paddle.zeros([bias.shape[0], 1, side, 1], bias.dtype)
            bias = paddle.concat([zeros, bias, zeros], axis=2)
        return paddle.concat([self.weight, bias], axis=1)

    def forward(self, x):
        weight, stride = self.joined(), self.stride[0]
        if weight.shape[2] == stride == 1 and eager_float32_on_cpu(x, weight):
            return _Biased1x1.apply(x, weight)
        return _over_time(append_ones(x), weight, stride, self.dilation[0])


class _Biased1x1(PyLayer):
    """A 1x1 convolution of x and a channel of ones; x is not kept a second time, with the ones."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        ctx.wanted = not x.stop_gradient, not weight.stop_gradient
        return F.conv2d(append_ones(x), weight)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensor()
        return gradients_of_1x1(append_ones(x), weight, gradient, ctx.wanted)


def gradients_of_1x1(with_ones, weight, gradient, wanted: tuple[bool, bool]):
    """The gradients of x and of the weight of a 1x1 convolution whose last input channel is of ones.

    Shape: (N, C_in + 1, T, V), (C_out, C_in + 1, 1, 1), (N, C_out, T, V) -> (N, C_in, T, V), (C_out, C_in + 1, 1, 1).

    Args:
        wanted: whether each of them is, else it is None.
    """
    n, inputs, frames, joints = with_ones.shape
    gradient = gradient.flatten(2)
    of_x = of_weight = None
    if wanted[0]:
        of_x = paddle.matmul(weight[:, :-1].reshape([-1, inputs - 1]), gradient, transpose_x=True)
        of_x = of_x.reshape([n, inputs - 1, frames, joints])
    if wanted[1]:
        of_weight = paddle.matmul(gradient, with_ones.flatten(2), transpose_y=True).reshape([1, n, -1])
        of_weight = sum_terms(of_weight).reshape(weight.shape)
    return of_x, of_weight


def append_ones(x):
    """(N, C, T, V) -> (N, C + 1, T, V): one more channel, of ones, that carries a bias into a convolution."""
    return paddle.concat([x, paddle.full_like(x[:, :1], 1.0)], axis=1)


def mean_over_frames(x):
    """(N, C, T, V) -> (N, C, 1, V). A matrix product, because the gradient of mean() is many times slower on a CPU."""
    frames = x.shape[2]
    return paddle.matmul(paddle.full([1, frames], 1 / frames, dtype=x.dtype), x)


def sum_terms(terms: paddle.Tensor) -> paddle.Tensor:
    """(N, K, L) -> (N, 1, L). On a CPU a product is several times faster than a sum, which keeps less on a GPU."""
    if paddle.in_dynamic_mode() and not eager_on_cpu(terms):
        return terms.sum(axis=1, keepdim=True)
    return paddle.matmul(paddle.ones([1, terms.shape[1]], terms.dtype), terms)
