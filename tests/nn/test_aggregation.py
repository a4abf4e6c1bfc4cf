"""The sum over neighbourhoods: value and gradients as Paddle derives them, and less kept."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddleskel.nn import aggregation
from paddleskel.nn.aggregation import aggregate, aggregate_by_channel
from paddleskel.nn.conv import BiasedConv
from paddleskel.nn.rows import reorder
from paddleskel.nn.temporal import fold_global_joint


def plain(x, graphs, weight, bias=None):
    """One neighbourhood after the other."""
    total = 0
    for k, part in enumerate(paddle.split(weight, graphs.shape[1], axis=1)):
        features = F.conv2d(x, part, None if bias is None else bias[:, k].flatten())
        total = total + paddle.matmul(features, graphs[:, k : k + 1])
    return total


def results(function, shapes, frozen=()):
    random = np.random.RandomState(0)
    tensors = [paddle.to_tensor(random.randn(*shape).astype(np.float32)) for shape in shapes]
    for number, tensor in enumerate(tensors):
        tensor.stop_gradient = number in frozen
    y = function(*tensors)
    (y * paddle.to_tensor(random.randn(*y.shape).astype(np.float32))).sum().backward()
    return [y.numpy(), *(None if tensor.grad is None else tensor.grad.numpy() for tensor in tensors)]


def assert_close(found, expected):
    """Value and gradients, None where a tensor is frozen."""
    for ours, theirs in zip(found, expected, strict=True):
        if theirs is None:
            assert ours is None
        else:
            np.testing.assert_allclose(ours, theirs, atol=3e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("graphs", [1, "one a sample"])
@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (0, 1)])
@pytest.mark.parametrize("biased", [False, True])
def test_value_and_gradients(biased, samples, graphs, frozen):
    shapes = [(samples, 4, 6, 5), (graphs if graphs == 1 else samples, 3, 5, 5), (7, 12, 1, 1), (7, 3, 1, 1)]
    shapes = shapes if biased else shapes[:3]
    assert_close(results(aggregate, shapes, frozen), results(plain, shapes, frozen))


@pytest.mark.parametrize("frozen", [(), (0,), (1, 2), (2,)])
def test_value_and_gradients_of_a_1x1_convolution_with_a_bias(frozen):
    layer = BiasedConv(4, 7)

    def conv(x, weight, bias):
        layer.weight, layer.bias = weight, bias
        return layer(x)

    del layer.weight, layer.bias  # tensors take their place
    shapes = [(3, 4, 6, 5), (7, 4, 1, 1), (7, 1, 1, 1)]
    expected = results(lambda x, weight, bias: F.conv2d(x, weight, bias.flatten()), shapes, frozen)
    assert_close(results(conv, shapes, frozen), expected)


@pytest.mark.parametrize("frozen", [(), (0,), (1,)])
def test_value_and_gradients_of_the_global_joint_given_back(frozen):
    plain = lambda x, coefficients: x[..., :5] + x[..., 5:] * coefficients
    shapes = [(3, 4, 6, 6), (1, 5)]
    assert_close(results(fold_global_joint, shapes, frozen), results(plain, shapes, frozen))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2, 3), (0, 1)])
@pytest.mark.parametrize("wide", [1, 128])
def test_value_and_gradients_with_a_graph_for_every_channel(wide, samples, frozen, monkeypatch):
    monkeypatch.setattr(aggregation, "_WIDE", wide)  # features kept, and computed again
    feature = BiasedConv(4, 3 * 7)

    def by_channel(x, graphs, weight, bias):
        feature.weight, feature.bias = weight, bias
        return aggregate_by_channel(x, graphs, feature)

    def plain(x, graphs, weight, bias):
        features = F.conv2d(x, weight, bias.flatten()).reshape([-1, 3, 7, 6, 5])
        return sum(paddle.matmul(features[:, k], graphs[:, k]) for k in range(3))

    del feature.weight, feature.bias  # tensors take their place
    shapes = [(samples, 4, 6, 5), (samples, 3, 7, 5, 5), (21, 4, 1, 1), (21, 1, 1, 1)]
    expected = results(plain, shapes, frozen)
    assert_close(results(by_channel, shapes, frozen), expected)
    feature.eval()
    assert_close(results(by_channel, shapes, frozen), expected)


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1), (1, 2, 0)])
def test_reorder_is_a_transposition(order):
    """Value and gradient; 1, 2, 0 is not its own inverse."""
    shapes = [(2, 3, 4, 5)]
    for ours, theirs in zip(
        results(lambda x: reorder(x, order), shapes), results(lambda x: x.transpose([*order, 3]), shapes)
    ):
        np.testing.assert_array_equal(ours, theirs)
