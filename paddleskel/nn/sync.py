"""BatchNorm whose statistics are those of the samples of all processes."""

import paddle
import paddle.distributed as dist
from paddle import nn
from paddle.autograd import PyLayer


class _SumOverProcesses(PyLayer):
    """y = sum over processes of x; the gradient of the summed loss sums likewise."""

    @staticmethod
    def forward(ctx, x):
        y = x.clone()
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


def _batch_norm_over_processes(layer: nn.Layer, x):
    """What a BatchNorm layer computes, with mean and variance over all processes while it trains."""
    if not layer.training:
        return type(layer).forward(layer, x)
    kind, x = x.dtype, x.astype("float32")
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    count = paddle.full([1], x.size / x.shape[1], "float32")
    sums = _SumOverProcesses.apply(paddle.concat([x.sum(axis=axes), count]))
    mean, count = sums[:-1] / sums[-1], sums[-1].detach()
    centred = x - mean.reshape(shape)
    variance = _SumOverProcesses.apply((centred * centred).sum(axis=axes)) / count
    with paddle.no_grad():  # the running variance is the biased one, as in Paddle's own layer
        keep = layer._momentum
        layer._mean.set_value(keep * layer._mean + (1 - keep) * mean)
        layer._variance.set_value(keep * layer._variance + (1 - keep) * variance)
    y = centred * (layer.weight / (variance + layer._epsilon).sqrt()).reshape(shape) + layer.bias.reshape(shape)
    return y.astype(kind)


def synchronize_batch_norm(model: nn.Layer) -> None:
    """Let the BatchNorms of a network take their statistics over all processes, without touching its parameters.

    On a GPU these are Paddle's SyncBatchNorm kernels; they have no CPU version, so there it is written out.
    """
    on_gpu = paddle.get_device().startswith("gpu")
    for layer in model.sublayers():
        if isinstance(layer, (nn.BatchNorm1D, nn.BatchNorm2D)):
            if on_gpu and isinstance(layer, nn.BatchNorm2D):
                layer.__class__ = nn.SyncBatchNorm
            else:
                layer.forward = lambda x, layer=layer: _batch_norm_over_processes(layer, x)
