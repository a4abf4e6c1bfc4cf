"""Temporal convolutions: how a joint sees its own past and future."""

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from paddleskel.nn import shifts
from paddleskel.nn.activation import relu
from paddleskel.nn.conv import BiasedConv, ConvBN, Init, bias_init, temporal_conv
from paddleskel.nn.place import eager_float32_on_cpu

# ST-GCN++: four dilated 3x1 convolutions, a 3x1 max pooling, a plain 1x1 convolution.
DEFAULT_BRANCHES = ((3, 1), (3, 2), (3, 3), (3, 4), ("max", 3), "1x1")


class TemporalConv(nn.Sequential):
    """One (kernel x 1) convolution over time, BatchNorm, dropout; no activation.   (ST-GCN, section 3.2)

    Shape: (N, C, T, V) -> (N, C, floor((T - 1) / stride) + 1, V).
    """

    def __init__(self, channels: int, stride: int = 1, kernel: int = 9, dropout: float = 0.0, init: Init = "torch"):
        super().__init__(
            ("conv", temporal_conv(channels, channels, kernel, stride, init=init)), ("bn", nn.BatchNorm2D(channels))
        )
        if dropout:
            self.add_sublayer("dropout", nn.Dropout(dropout))


def branch_widths(channels: int, branches: int, mid: float | int | None = None) -> list[int]:
    """Split `channels` over branches; the first takes the remainder (ST-GCN++: 64 -> 14, 10, 10, 10, 10, 10).

    mid: width of the others, or as a fraction of `channels` the width of all; None shares evenly.
    """
    if isinstance(mid, float):
        return [int(channels * mid)] * branches
    mid = channels // branches if mid is None else mid
    return [channels - mid * (branches - 1)] + [mid] * (branches - 1)


class Branches(nn.Layer):
    """Parallel views of time, side by side on the channel axis.

    Every branch opens with a 1x1 convolution, all but "1x1" followed by BatchNorm and ReLU; here the openings are one
    convolution and one BatchNorm over all branches.

        x -> 1x1 -> BN -> relu -> conv (k x 1, dilation d)   for each branch (k, d)
          -> 1x1 -> BN -> relu -> max pooling (k x 1)        for each ("max", k)
          -> 1x1                                             for each "1x1"

    A BatchNorm over all branches is meant to follow; where something comes between, the branches need their biases.

    Shape: (N, C, T, V) -> (N, sum(widths), floor((T - 1) / stride) + 1, V).

    Args:
        branches: (kernel, dilation), ("max", kernel) or "1x1" each.
        widths: channels of each branch.
        init: of the 1x1 convolutions; branch_init: of the dilated ones.
        biased: give the last convolution of each branch a bias.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        branches: Sequence,
        widths: Sequence[int],
        init: Init = "torch",
        branch_init: Init = "torch",
        biased: bool = False,
    ):
        super().__init__()
        self.stride, self.widths = stride, list(widths)
        self.kinds = [branch if branch == "1x1" else tuple(branch) for branch in branches]
        # the plain branches come last in the opening, so that BatchNorm and ReLU take one contiguous part
        self.order = sorted(range(len(self.kinds)), key=lambda i: self.kinds[i] == "1x1")
        self.normed = [i for i in self.order if self.kinds[i] != "1x1"]
        self.open = temporal_conv(channels, sum(widths), init=init)
        if init == "kaiming":  # the fan of each branch is its own width
            std = np.sqrt(2 / np.repeat([self.widths[i] for i in self.order], [self.widths[i] for i in self.order]))
            noise = paddle.randn(self.open.weight.shape)
            self.open.weight.set_value(noise * paddle.to_tensor(std.astype(np.float32)).reshape([-1, 1, 1, 1]))
        self.open_bn = nn.BatchNorm2D(sum(widths[i] for i in self.normed))
        make = BiasedConv if biased else temporal_conv
        self.convs = nn.LayerList(
            make(width, width, kind[0], stride, kind[1], init=branch_init)
            for width, kind in zip(widths, self.kinds)
            if kind != "1x1" and kind[0] != "max"
        )
        self.plain_bias = None
        plain = sum(widths[i] for i in self.order[len(self.normed) :])
        if biased and plain:
            self.plain_bias = self.create_parameter([1, plain, 1, 1], default_initializer=bias_init(init, channels))

    def forward(self, x):
        opened, plain = self.open(x), None
        width = sum(self.widths[i] for i in self.normed)
        if width < sum(self.widths):
            opened, plain = paddle.split(opened, [width, sum(self.widths) - width], axis=1)
            # every stride-th frame; pooling does it because the gradient of a strided slice is slow
            plain = F.max_pool2d(plain, 1, (self.stride, 1)) if self.stride > 1 else plain
            # (C, 1, 1): with (1, C, 1, 1) Paddle's sum takes ten times as long on a CPU
            plain = plain if self.plain_bias is None else plain + self.plain_bias.squeeze(0)
        # split, then relu: what a convolution keeps for its gradient serves the relu before it too
        shares = [relu(share) for share in _split(self.open_bn(opened), [self.widths[i] for i in self.normed])]
        if plain is not None:
            shares += _split(plain, [self.widths[i] for i in self.order[len(self.normed) :]])
        convs, views = iter(self.convs), [None] * len(self.kinds)
        for i, share in zip(self.order, shares):
            kind = self.kinds[i]
            if kind == "1x1":
                views[i] = share
            elif kind[0] == "max":
                views[i] = shifts.max_pool(share, kind[1], self.stride)
            else:
                views[i] = next(convs)(share)
        return paddle.concat(views, axis=1)


def _split(x, widths: Sequence[int]) -> list:
    return paddle.split(x, widths, axis=1) if len(widths) > 1 else [x]


class MultiBranchConv(nn.Layer):
    """Branches mixed by a 1x1 convolution: branches -> BN -> relu -> 1x1 -> BN -> dropout.

    The temporal unit of ST-GCN++ (section 3.2). With `joint_coefficients` it is DG-STGCN's (section 3.3): the mean of
    all joints runs along as one more joint, and is given back to each joint times a trained coefficient.

    Shape: (N, C, T, V) -> (N, C, floor((T - 1) / stride) + 1, V).

    Args:
        branches: see `Branches`. mid_channels: their width, see `branch_widths`.
        joint_coefficients: number of coefficients, at least V; 0 for none. (The published networks have 25 for any V.)
    """

    def __init__(
        self,
        channels: int,
        stride: int = 1,
        branches: Sequence = DEFAULT_BRANCHES,
        mid_channels: int | float | None = None,
        dropout: float = 0.0,
        init: Init = "torch",
        branch_init: Init = "torch",
        joint_coefficients: int = 0,
    ):
        super().__init__()
        widths = branch_widths(channels, len(branches), mid_channels)
        # the fold of the global joint weighs a bias differently for each joint, so BatchNorm does not remove it there
        self.branches = Branches(channels, stride, branches, widths, init, branch_init, biased=joint_coefficients > 0)
        self.bn = nn.BatchNorm2D(sum(widths))
        self.mix = ConvBN(sum(widths), channels, init=init)
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.add_coeff = None
        if joint_coefficients:
            self.add_coeff = self.create_parameter(
                [joint_coefficients], default_initializer=nn.initializer.Constant(0.0)
            )

    def forward(self, x):
        y = self.branches(x) if self.add_coeff is None else self._with_global_joint(x)
        y = self.mix(relu(self.bn(y)))
        return y if self.dropout is None else self.dropout(y)

    def _with_global_joint(self, x):
        """Append the mean joint and fold it back; both are products with a (V, V + 1) or (V + 1, V) matrix."""
        joints = x.shape[3]
        mean = paddle.full([joints, 1], 1 / joints, dtype=x.dtype)
        y = self.branches(F.linear(x, paddle.concat([paddle.eye(joints, dtype=x.dtype), mean], axis=1)))
        return fold_global_joint(y, self.add_coeff[:joints].astype(x.dtype).unsqueeze(0))


def fold_global_joint(x: paddle.Tensor, coefficients: paddle.Tensor) -> paddle.Tensor:
    """The last joint times each joint's coefficient, added to the others; for the gradient a CPU keeps that one alone.

    Shape: (N, C, T, V + 1), (1, V) -> (N, C, T, V).
    """
    if paddle.is_grad_enabled() and eager_float32_on_cpu(x, coefficients):
        return _FoldGlobalJoint.apply(x, coefficients)
    return F.linear(x, _folding(coefficients))


def _folding(coefficients):
    """(1, V) -> (V + 1, V): what `fold_global_joint` multiplies by."""
    return paddle.concat([paddle.eye(coefficients.shape[1], dtype=coefficients.dtype), coefficients])


class _FoldGlobalJoint(PyLayer):
    @staticmethod
    def forward(ctx, x, coefficients):
        fold = _folding(coefficients)
        last = None if coefficients.stop_gradient else paddle.matmul(x, paddle.eye(len(fold))[:, -1:])
        ctx.save_for_backward(None if x.stop_gradient else fold, last)
        return paddle.matmul(x, fold)

    @staticmethod
    def backward(ctx, gradient):
        fold, last = ctx.saved_tensor()
        of_x = of_coefficients = None
        if fold is not None:
            of_x = paddle.matmul(gradient, fold, transpose_y=True)
        if last is not None:
            of_coefficients = paddle.matmul(last.reshape([1, -1]), gradient.reshape([-1, gradient.shape[3]]))
        return of_x, of_coefficients


class MultiScaleConv(nn.Layer):
    """Branches side by side: branches -> BN -> + residual -> relu -> dropout.   (MS-G3D, 3.3; CTR-GCN, 3.3)

    The published code normalises each branch by itself, which is one BatchNorm over all of them.

    Shape: (N, C_in, T, V) -> (N, C_out, floor((T - 1) / stride) + 1, V).

    Args:
        dilations: of the (kernel x 1) branches; a max pooling and a plain branch join them.
        residual: add the input, through a 1x1 convolution and BatchNorm where its shape differs.
        activation: apply the last ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        dilations: Sequence[int] = (1, 2, 3, 4),
        residual: bool = True,
        dropout: float = 0.0,
        activation: bool = True,
        init: Init = "torch",
        residual_init: Init = "torch",
    ):
        super().__init__()
        kinds = [(kernel, dilation) for dilation in dilations] + [("max", 3), "1x1"]
        width = out_channels // len(kinds)
        widths = [width] * (len(kinds) - 1) + [out_channels - width * (len(kinds) - 1)]
        self.branches = Branches(in_channels, stride, kinds, widths, init, init)
        self.bn = nn.BatchNorm2D(out_channels)
        self.has_residual = residual
        same = in_channels == out_channels and stride == 1
        self.residual = None
        if residual and not same:
            self.residual = ConvBN(in_channels, out_channels, stride=stride, init=residual_init)
        self.activation = activation
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(self, x):
        y = self.bn(self.branches(x))
        if self.has_residual:
            y = y + (x if self.residual is None else self.residual(x))
        y = relu(y) if self.activation else y
        return y if self.dropout is None else self.dropout(y)
