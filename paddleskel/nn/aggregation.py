"""What the joints hear from each other, weighed: the sum that all graph convolutions share."""

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from paddleskel.nn.place import eager_on_cpu


def aggregate(x: paddle.Tensor, graphs: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """sum_k W_k x G_k, as one 1x1 convolution of the K inputs x G_k side by side.

    On a CPU, in float32, these K inputs are not kept for the gradient but computed again: they would be the largest
    thing a block keeps, and take less than a tenth of its time.

    Shape: (N, C_in, T, V), (1 or N, K, V, V), (C_out, K C_in, 1, 1) -> (N, C_out, T, V).
    """
    if eager_on_cpu(x) and x.dtype == weight.dtype == paddle.float32:
        with paddle.amp.auto_cast(enable=False):
            return _Aggregate.apply(x, graphs, weight)
    return F.conv2d(_heard(x, graphs), weight)


def _heard(x: paddle.Tensor, graphs: paddle.Tensor) -> paddle.Tensor:
    """(N, C, T, V), (1 or N, K, V, V) -> (N, K C, T, V)."""
    if not paddle.in_dynamic_mode() and graphs.shape[0] == 1:  # the product below would lose the open size of the batch
        return paddle.concat([F.linear(x, graph) for graph in paddle.unbind(graphs.squeeze(0))], axis=1)
    channels, frames, joints = x.shape[1:]
    heard = paddle.matmul(x.reshape([-1, 1, channels * frames, joints]), graphs)
    return heard.reshape([-1, graphs.shape[1] * channels, frames, joints])


class _Aggregate(PyLayer):
    @staticmethod
    def forward(ctx, x, graphs, weight):
        ctx.save_for_backward(x, graphs, weight)
        ctx.wanted = [not tensor.stop_gradient for tensor in (x, graphs, weight)]
        return F.conv2d(_heard(x, graphs), weight)

    @staticmethod
    def backward(ctx, gradient):
        x, graphs, weight = ctx.saved_tensor()
        n, channels, frames, joints = x.shape
        subsets, outputs = graphs.shape[1], weight.shape[0]
        gradient = gradient.reshape([n, outputs, frames * joints])
        of_x = of_graphs = of_weight = None
        if ctx.wanted[0] or ctx.wanted[1]:
            of_heard = paddle.matmul(weight.reshape([outputs, -1]), gradient, transpose_x=True)
            of_heard = of_heard.reshape([n, subsets, channels * frames, joints])
            if ctx.wanted[1]:
                of_graphs = paddle.matmul(x.reshape([n, 1, channels * frames, joints]), of_heard, transpose_x=True)
                of_graphs = of_graphs.sum(axis=0, keepdim=True) if len(graphs) == 1 else of_graphs
            if ctx.wanted[0]:
                of_x = paddle.matmul(of_heard, graphs, transpose_y=True).reshape([n, subsets, -1])
                of_x = paddle.matmul(paddle.ones([1, subsets]), of_x).reshape(x.shape)  # a sum over k, but faster
        if ctx.wanted[2]:
            heard = _heard(x, graphs).reshape([n, subsets * channels, -1])
            of_weight = paddle.matmul(gradient, heard, transpose_y=True).sum(axis=0).reshape(weight.shape)
        return of_x, of_graphs, of_weight
