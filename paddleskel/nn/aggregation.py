"""What the joints hear from each other, weighed: the sums that graph convolutions share.

On a CPU, in float32, the largest tensors of these sums, K times the input or the output, are not kept for the gradient
but computed again where that is cheap.
"""

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from paddleskel.nn.conv import append_ones, gradients_of_1x1, sum_terms
from paddleskel.nn.place import eager_float32_on_cpu

# channels from which a 1x1 convolution is kept rather than computed again: the wider it is, the more that costs, while
# the memory it saves is the same in all stages of a network, as twice the channels come with half the frames
_WIDE = 128


def aggregate(
    x: paddle.Tensor, graphs: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None = None
) -> paddle.Tensor:
    """sum_k (W_k x + b_k) G_k, as one 1x1 convolution of the K inputs x G_k side by side.

    One more input channel, of ones, carries the bias: aggregated, it is the column sums of G_k, which b_k multiplies.

    Shape: (N, C_in, T, V), (1 or N, K, V, V), (C_out, K C_in, 1, 1), (C_out, K, 1, 1) -> (N, C_out, T, V).
    """
    if bias is not None:
        weight = paddle.concat([weight.reshape([*bias.shape[:2], -1]), bias.squeeze(3)], axis=2)
        weight = weight.reshape([len(weight), -1, 1, 1])
    if eager_float32_on_cpu(x, weight):
        return _Aggregate.apply(x, graphs, weight)
    return F.conv2d(_heard(_inputs(x, graphs, weight), graphs), weight)


def aggregate_by_channel(x: paddle.Tensor, graphs: paddle.Tensor, feature: nn.Layer) -> paddle.Tensor:
    """sum_k feature_k(x) G_k, with graphs of its own for every output channel.

    Shape: (N, C_in, T, V), (N, K, C_out, V, V) -> (N, C_out, T, V).

    Args:
        feature: 1x1 convolution to K C_out channels; in training a `BiasedConv`.
    """
    if feature.training and eager_float32_on_cpu(x, feature.weight):
        return _ByChannel.apply(x, graphs, feature.joined())
    return _sum_by_channel(feature(x), graphs)


def _sum_by_channel(features: paddle.Tensor, graphs: paddle.Tensor) -> paddle.Tensor:
    """(N, K C, T, V), (N, K, C, V, V) -> (N, C, T, V)."""
    subsets, channels, joints = graphs.shape[1:4]
    frames = features.shape[2]
    features = features.reshape([-1, subsets, channels, frames, joints])
    heard = paddle.matmul(features, graphs).reshape([-1, subsets, channels * frames * joints])
    return sum_terms(heard).reshape([-1, channels, frames, joints])


def _heard(x: paddle.Tensor, graphs: paddle.Tensor) -> paddle.Tensor:
    """(N, C, T, V), (1 or N, K, V, V) -> (N, K C, T, V)."""
    if not paddle.in_dynamic_mode() and graphs.shape[0] == 1:  # the product below would lose the open size of the batch
        return paddle.concat([F.linear(x, graph) for graph in paddle.unbind(graphs.squeeze(0))], axis=1)
    channels, frames, joints = x.shape[1:]
    heard = paddle.matmul(x.reshape([-1, 1, channels * frames, joints]), graphs)
    return heard.reshape([-1, graphs.shape[1] * channels, frames, joints])


def _inputs(x: paddle.Tensor, graphs: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """(N, C or C + 1, T, V), with ones where the weight carries a bias."""
    return x if weight.shape[1] == graphs.shape[1] * x.shape[1] else append_ones(x)


class _Aggregate(PyLayer):
    @staticmethod
    def forward(ctx, x, graphs, weight):
        ctx.save_for_backward(x, graphs, weight)
        ctx.wanted = [not tensor.stop_gradient for tensor in (x, graphs, weight)]
        return F.conv2d(_heard(_inputs(x, graphs, weight), graphs), weight)

    @staticmethod
    def backward(ctx, gradient):
        x, graphs, weight = ctx.saved_tensor()
        inputs = _inputs(x, graphs, weight)
        n, channels, frames, joints = inputs.shape
        subsets, outputs = graphs.shape[1], weight.shape[0]
        gradient = gradient.reshape([n, outputs, frames * joints])
        of_x = of_graphs = of_weight = None
        if ctx.wanted[0] or ctx.wanted[1]:
            of_heard = paddle.matmul(weight.reshape([outputs, -1]), gradient, transpose_x=True)
            of_heard = of_heard.reshape([n, subsets, channels * frames, joints])
            if ctx.wanted[1]:
                of_graphs = paddle.matmul(inputs.reshape([n, 1, channels * frames, joints]), of_heard, transpose_x=True)
                of_graphs = of_graphs.sum(axis=0, keepdim=True) if len(graphs) == 1 else of_graphs
            if ctx.wanted[0]:
                of_x = paddle.matmul(of_heard, graphs, transpose_y=True).reshape([n, subsets, -1])
                of_x = sum_terms(of_x).reshape(inputs.shape)[:, : x.shape[1]]
        if ctx.wanted[2]:
            heard = _heard(inputs, graphs).reshape([n, subsets * channels, -1])
            of_weight = paddle.matmul(gradient, heard, transpose_y=True).reshape([1, n, -1])
            of_weight = sum_terms(of_weight).reshape(weight.shape)
        return of_x, of_graphs, of_weight


class _ByChannel(PyLayer):
    @staticmethod
    def forward(ctx, x, graphs, weight):
        features = F.conv2d(append_ones(x), weight)
        ctx.save_for_backward(x, graphs, weight, *([features] if x.shape[1] >= _WIDE else []))
        ctx.wanted = [not tensor.stop_gradient for tensor in (x, graphs, weight)]
        return _sum_by_channel(features, graphs)

    @staticmethod
    def backward(ctx, gradient):
        x, graphs, weight, *kept = ctx.saved_tensor()
        n, _, frames, joints = x.shape
        gradient, with_ones = gradient.unsqueeze(1), append_ones(x)
        of_x = of_graphs = of_weight = None
        if ctx.wanted[1]:
            features = kept[0] if kept else F.conv2d(with_ones, weight)
            of_graphs = paddle.matmul(features.reshape([*graphs.shape[:3], frames, joints]), gradient, transpose_x=True)
        if ctx.wanted[0] or ctx.wanted[2]:
            of_features = paddle.matmul(gradient, graphs, transpose_y=True).reshape([n, -1, frames, joints])
            of_x, of_weight = gradients_of_1x1(with_ones, weight, of_features, (ctx.wanted[0], ctx.wanted[2]))
        return of_x, of_graphs, of_weight
