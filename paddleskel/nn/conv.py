"""Convolutions over time and channels, with the initialisations of the published code.

A convolution that a BatchNorm follows at once has no bias here: BatchNorm subtracts it again, and on a CPU the addition
costs as much as the convolution.
"""

import math
from typing import Literal

import paddle
from paddle import nn

# "torch": PyTorch's default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)). "kaiming": N(0, sqrt(2/fan_out)), for fan_in see
# below.
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


def temporal_conv(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, dilation: int = 1, init: Init = "torch"
) -> nn.Conv2D:
    """A (kernel x 1) convolution over time without bias, padded so that T shrinks by the stride alone.

    Shape: (N, C_in, T, V) -> (N, C_out, floor((T - 1) / stride) + 1, V).
    """
    return nn.Conv2D(
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
