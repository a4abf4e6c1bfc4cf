"""Temporal convolutions: how a joint sees its own past and future."""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddleskel.nn.conv import ConvBN, Init, temporal_conv

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


class MultiBranchConv(nn.Layer):
    """Parallel views of time - dilated convolutions, pooling, a shortcut - mixed by a 1x1 convolution.

    The multi-branch temporal unit of ST-GCN++ (section 3.2).

    Every branch opens with a 1x1 convolution, all but "1x1" followed by BatchNorm and ReLU; here the openings are one
    convolution and one BatchNorm over all branches.

        x -> 1x1 -> BN -> relu -> conv (k x 1, dilation d)   for each branch (k, d)
          -> 1x1 -> BN -> relu -> max pooling (k x 1)        for each ("max", k)
          -> 1x1                                             for each "1x1"
        concat -> BN -> relu -> 1x1 -> BN -> dropout

    Shape: (N, C, T, V) -> (N, C, floor((T - 1) / stride) + 1, V).

    Args:
        branches: (kernel, dilation), ("max", kernel) or "1x1" each.
        mid_channels: width of the branches, see `branch_widths`.
        init: of the 1x1 convolutions; branch_init: of the dilated ones.
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
    ):
        super().__init__()
        self.stride = stride
        self.branches = [branch if branch == "1x1" else tuple(branch) for branch in branches]
        self.widths = branch_widths(channels, len(branches), mid_channels)
        # the plain branches come last in the opening, so that BatchNorm and ReLU take one contiguous part
        self.order = sorted(range(len(branches)), key=lambda i: self.branches[i] == "1x1")
        self.normed = sum(width for width, branch in zip(self.widths, self.branches) if branch != "1x1")
        total = sum(self.widths)
        self.open = temporal_conv(channels, total, init=init)
        self.open_bn = nn.BatchNorm2D(self.normed)
        self.convs = nn.LayerList(
            temporal_conv(width, width, branch[0], stride, branch[1], init=branch_init)
            for width, branch in zip(self.widths, self.branches)
            if branch != "1x1" and branch[0] != "max"
        )
        self.mix_bn = nn.BatchNorm2D(total)
        self.mix = ConvBN(total, channels, init=init)
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(self, x):
        opened = self.open(x)
        plain = None
        if self.normed < opened.shape[1]:
            opened, plain = paddle.split(opened, [self.normed, opened.shape[1] - self.normed], axis=1)
        opened = F.relu(self.open_bn(opened))
        views = self._views(opened, plain)
        y = self.mix(F.relu(self.mix_bn(paddle.concat(views, axis=1))))
        return y if self.dropout is None else self.dropout(y)

    def _views(self, opened, plain) -> list:
        """Run each branch on its share of the channels; return the results in the branches' order."""
        widths = [self.widths[i] for i in self.order]
        normed = [i for i in self.order if self.branches[i] != "1x1"]
        shares = paddle.split(opened, widths[: len(normed)], axis=1) if len(normed) > 1 else [opened]
        if plain is not None:
            # every stride-th frame; pooling does it because the gradient of a strided slice is slow
            plain = F.max_pool2d(plain, 1, (self.stride, 1)) if self.stride > 1 else plain
            rest = widths[len(normed) :]
            shares += paddle.split(plain, rest, axis=1) if len(rest) > 1 else [plain]
        convs, views = iter(self.convs), [None] * len(self.branches)
        for i, share in zip(self.order, shares):
            branch = self.branches[i]
            if branch == "1x1":
                views[i] = share
            elif branch[0] == "max":
                views[i] = F.max_pool2d(share, (branch[1], 1), (self.stride, 1), (1, 0))
            else:
                views[i] = next(convs)(share)
        return views
