"""Fold BatchNorms into the convolutions before them: the same function in fewer passes over the data.

    BN(W x) = s W x + t        s = gamma / sqrt(variance + epsilon),  t = beta - s mean

Folded in float64 and rounded once. Where something that does not commute with a scale stands between a convolution and
its BatchNorm (a max pooling, where s may be negative), the BatchNorm stays, as a scale and a shift of those channels.
"""

import copy

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddleskel.models.agcn import AdaptiveGraphConv
from paddleskel.models.ctrgcn import ChannelTopologyConv
from paddleskel.models.msg3d import ScaleConv, WindowConv
from paddleskel.nn.conv import BiasedConv, ConvBN
from paddleskel.nn.spatial import GraphConv
from paddleskel.nn.temporal import Branches, MultiBranchConv, MultiScaleConv, TemporalConv

_LANES = 16  # engines have faster kernels for input channels in multiples of a vector's width


def fold(network: nn.Layer) -> nn.Layer:
    """Return a copy of a trained network for inference, its BatchNorms folded. The network itself is not changed."""
    network = copy.deepcopy(network)
    _fold_children(network)
    network.eval()  # the new layers too
    return network


def _fold_children(layer: nn.Layer) -> None:
    """Replace or change the parts of a layer that can be folded, from the top, as an outer part knows more."""
    for name, child in list(layer.named_children()):
        handler = FOLDS.get(type(child))
        child = child if handler is None else handler(child)
        layer.add_sublayer(name, child)
        _fold_children(child)


def scale_and_shift(bn: nn.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return a BatchNorm's s and t: (C,) float64 each."""
    scale = _array(bn.weight) / np.sqrt(_array(bn._variance) + bn._epsilon)
    return scale, _array(bn.bias) - scale * _array(bn._mean)


def _array(tensor: paddle.Tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float64)


def _scaled(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Multiply the output channels, the first axis."""
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))


def _set(tensor: paddle.Tensor, value: np.ndarray) -> None:
    tensor.set_value(paddle.to_tensor(value.astype(np.float32)))


def conv_with_bias(weight: np.ndarray, bias: np.ndarray, stride, padding, dilation) -> nn.Conv2D:
    """weight: (C_out, C_in, k, l). bias: (C_out,)."""
    outputs, inputs, *kernel = weight.shape
    conv = nn.Conv2D(inputs, outputs, kernel, stride, padding, dilation)
    _set(conv.weight, weight)
    _set(conv.bias, bias)
    return conv


class Shift(nn.Layer):
    """Add one number a channel: what is left of a BatchNorm whose scale went into the weights."""

    def __init__(self, shift: np.ndarray):
        super().__init__()
        self.register_buffer("shift", paddle.to_tensor(shift.astype(np.float32).reshape(1, -1, 1, 1)))

    def forward(self, x):
        return x + self.shift


class Affine(Shift):
    """Scale and shift each channel."""

    def __init__(self, scale: np.ndarray, shift: np.ndarray):
        super().__init__(shift)
        self.register_buffer("scale", paddle.to_tensor(scale.astype(np.float32).reshape(1, -1, 1, 1)))

    def forward(self, x):
        return x * self.scale + self.shift


def _fold_conv_bn(layer: ConvBN | TemporalConv) -> nn.Conv2D:
    """Convolution and BatchNorm; a dropout after them does nothing at inference."""
    conv, (scale, shift) = layer.conv, scale_and_shift(layer.bn)
    return conv_with_bias(_scaled(_array(conv.weight), scale), shift, conv._stride, conv._padding, conv._dilation)


def _fold_biased(layer: BiasedConv) -> nn.Conv2D:
    return conv_with_bias(
        _array(layer.weight), _array(layer.bias).reshape(-1), layer.stride, layer.padding, layer.dilation
    )


class FoldedGraphConv(nn.Layer):
    """`GraphConv` with its graph computed once."""

    def __init__(self, layer: GraphConv):
        super().__init__()
        scale, shift = scale_and_shift(layer.bn)
        graph, weight = _array(layer.adjacency()), _array(layer.weight)
        subsets = len(graph)
        self.graphs = [f"graph_{k}" for k in range(subsets)]
        for name, subset in zip(self.graphs, graph):
            self.register_buffer(name, paddle.to_tensor(subset.astype(np.float32)))
        self.biased = layer.bias is not None
        if self.biased:
            weight = np.concatenate([weight, _array(layer.bias)], axis=1)
            sums = graph.sum(axis=1).reshape(1, subsets, 1, -1)
            spare = -weight.shape[1] % _LANES
            weight = np.pad(weight, ((0, 0), (0, spare), (0, 0), (0, 0)))
            sums = np.pad(sums, ((0, 0), (0, spare), (0, 0), (0, 0)))
            self.register_buffer("column_sums", paddle.to_tensor(sums.astype(np.float32)))
        self.conv = conv_with_bias(_scaled(weight, scale), shift, 1, 0, 1)
        self.with_res, self.down = layer.with_res, layer.down

    def forward(self, x):
        heard = [F.linear(x, getattr(self, name)) for name in self.graphs]
        if self.biased:
            heard.append(paddle.full_like(x[:, :1], 1.0) * self.column_sums)
        y = self.conv(paddle.concat(heard, axis=1))
        if self.with_res:
            y = y + (x if self.down is None else self.down(x))
        return F.relu(y)


def _leave_shift(weight: paddle.Tensor, bn: nn.Layer) -> Shift:
    """Put a BatchNorm's scale into the weight before it, in place; return what is left of it."""
    scale, shift = scale_and_shift(bn)
    _set(weight, _scaled(_array(weight), scale))
    return Shift(shift)


def _fold_adaptive(layer: AdaptiveGraphConv) -> nn.Layer:
    """The weights are the layer's own parameters, so it stays and its BatchNorm becomes a shift."""
    layer.bn = _leave_shift(layer.weight, layer.bn)
    return layer


def _fold_scales(layer: ScaleConv) -> nn.Layer:
    """As above, in its `mlp`, whose two parts it uses by themselves."""
    conv, bn = layer.mlp.conv, layer.mlp.bn
    layer.mlp = nn.Sequential(("conv", conv), ("bn", _leave_shift(conv.weight, bn)))
    return layer


def _fold_window(layer: WindowConv) -> nn.Layer:
    layer.bn = _leave_shift(layer.merge.weight, layer.bn)
    return layer


def _fold_topology(layer: ChannelTopologyConv) -> nn.Layer:
    """The scale goes through the sum over subsets into the features, the shift into the residual's convolution."""
    if layer.down is None:
        return layer
    scale, shift = scale_and_shift(layer.bn)
    repeated = np.tile(scale, layer.subsets)
    _set(layer.feature.weight, _scaled(_array(layer.feature.weight), repeated))
    _set(layer.feature.bias, _scaled(_array(layer.feature.bias), repeated))
    layer.down = _fold_conv_bn(layer.down)
    _set(layer.down.bias, _array(layer.down.bias) + shift)
    layer.bn = nn.Identity()
    return layer


class FoldedBranches(nn.Layer):
    """`Branches` with the BatchNorms inside and after them in the convolutions.

    Args:
        after: the BatchNorm that follows, if one does at once.
        relu: whether a ReLU follows that, which is done here too.
    """

    def __init__(self, branches: Branches, after: nn.Layer | None = None, relu: bool = False):
        super().__init__()
        self.stride, self.kinds, self.relu = branches.stride, branches.kinds, relu
        self.order, self.normed = branches.order, branches.normed
        self.widths = [branches.widths[i] for i in branches.order]
        total = sum(branches.widths)
        scale, shift = scale_and_shift(after) if after is not None else (np.ones(total), np.zeros(total))
        ends = np.cumsum(branches.widths)
        scales = [scale[end - width : end] for end, width in zip(ends, branches.widths)]
        shifts = [shift[end - width : end] for end, width in zip(ends, branches.widths)]
        self.open = _opening(branches, scales, shifts)
        self.ends = nn.LayerList()
        convs = iter(branches.convs)
        for i, kind in enumerate(self.kinds):
            if kind == "1x1":  # all its arithmetic is in the opening
                self.ends.append(nn.MaxPool2D(1, (self.stride, 1)) if self.stride > 1 else nn.Identity())
            elif kind[0] == "max":
                pool = nn.MaxPool2D((kind[1], 1), (self.stride, 1), (1, 0))
                self.ends.append(pool if after is None else nn.Sequential(pool, Affine(scales[i], shifts[i])))
            else:
                self.ends.append(_branch(next(convs), scales[i], shifts[i]))

    def forward(self, x):
        opened = self.open(x)
        if self.relu:  # the plain branch has nothing but its pooling after it, which commutes with the ReLU
            shares = paddle.split(F.relu(opened), self.widths, axis=1)
        else:
            count = len(self.normed)
            normed, plain = sum(self.widths[:count]), self.widths[count:]
            parts = paddle.split(opened, [normed, *plain], axis=1) if plain else [opened]
            opened = F.relu(parts[0])
            shares = paddle.split(opened, self.widths[:count], axis=1) if count > 1 else [opened]
            shares = [*shares, *parts[1:]]
        views = [None] * len(self.kinds)
        for i, share in zip(self.order, shares):
            view = self.ends[i](share)
            views[i] = F.relu(view) if self.relu and self.kinds[i] != "1x1" else view
        return paddle.concat(views, axis=1)


def _opening(branches: Branches, scales: list[np.ndarray], shifts: list[np.ndarray]) -> nn.Conv2D:
    """All branches' 1x1 convolutions, with the BatchNorm that follows some and what comes after the others."""
    plain = branches.order[len(branches.normed) :]
    scale, shift = scale_and_shift(branches.open_bn)
    plain_bias = np.zeros(sum(branches.widths[i] for i in plain))
    if branches.plain_bias is not None:
        plain_bias = _array(branches.plain_bias).reshape(-1)
    if plain:
        plain_scale = np.concatenate([scales[i] for i in plain])
        scale = np.concatenate([scale, plain_scale])
        shift = np.concatenate([shift, plain_scale * plain_bias + np.concatenate([shifts[i] for i in plain])])
    return conv_with_bias(_scaled(_array(branches.open.weight), scale), shift, 1, 0, 1)


def _branch(conv: nn.Conv2D | BiasedConv, scale: np.ndarray, shift: np.ndarray) -> nn.Conv2D:
    if isinstance(conv, BiasedConv):
        conv = _fold_biased(conv)
        shift = shift + scale * _array(conv.bias)
    return conv_with_bias(_scaled(_array(conv.weight), scale), shift, conv._stride, conv._padding, conv._dilation)


class FoldedMultiBranch(nn.Layer):
    """`MultiBranchConv` without a global joint."""

    def __init__(self, layer: MultiBranchConv):
        super().__init__()
        self.branches = FoldedBranches(layer.branches, layer.bn, relu=True)
        self.mix = _fold_conv_bn(layer.mix)

    def forward(self, x):
        return self.mix(self.branches(x))


def _fold_multi_branch(layer: MultiBranchConv) -> nn.Layer:
    if layer.add_coeff is None:
        return FoldedMultiBranch(layer)
    layer.branches = FoldedBranches(layer.branches)  # the fold of the global joint stands before the BatchNorm
    return layer


def _fold_multi_scale(layer: MultiScaleConv) -> nn.Layer:
    layer.branches, layer.bn = FoldedBranches(layer.branches, layer.bn), nn.Identity()
    return layer


FOLDS = {
    ConvBN: _fold_conv_bn,
    TemporalConv: _fold_conv_bn,
    BiasedConv: _fold_biased,
    GraphConv: FoldedGraphConv,
    AdaptiveGraphConv: _fold_adaptive,
    ChannelTopologyConv: _fold_topology,
    ScaleConv: _fold_scales,
    WindowConv: _fold_window,
    MultiBranchConv: _fold_multi_branch,
    MultiScaleConv: _fold_multi_scale,
}
