"""Convolutions and poolings by shifted copies: Paddle's in value and gradient."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from convolutions import direct, results

from paddleskel.nn import shifts, spectral
from paddleskel.nn.conv import BiasedConv, temporal_conv


def tensor(*shape):
    values = np.random.RandomState(sum(shape)).randn(*shape).astype(np.float32)
    return paddle.to_tensor(values, stop_gradient=False)


@pytest.mark.parametrize(
    ("inputs", "outputs", "frames", "taps", "dilation"),
    [(4, 6, 20, 3, 1), (6, 4, 21, 3, 4), (5, 5, 16, 5, 2), (3, 3, 3, 3, 4), (3, 2, 1, 3, 1), (2, 2, 4, 9, 1)],
)
def test_a_convolution_is_that_of_paddle(inputs, outputs, frames, taps, dilation):
    pair = tensor(3, inputs, frames, 5), tensor(outputs, inputs, taps, 1)
    ours = results(lambda x, weight: shifts.conv(x, weight, dilation), *pair)
    for mine, theirs in zip(ours, results(lambda x, weight: direct(x, weight, 1, dilation), *pair)):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=2e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_input_or_weight_gets_no_gradient(frozen):
    whole = results(shifts.conv, tensor(2, 4, 10, 5), tensor(4, 4, 3, 1))
    pair = tensor(2, 4, 10, 5), tensor(4, 4, 3, 1)
    pair[frozen].stop_gradient = True
    part = results(shifts.conv, *pair)
    assert part[1 + frozen] is None
    np.testing.assert_array_equal(part[2 - frozen], whole[2 - frozen])


def test_where_it_is_used():
    x, weight = tensor(2, 4, 10, 5), tensor(4, 4, 3, 1)
    assert shifts.pays(x, weight, 1)
    assert not shifts.pays(x, weight, 2)  # what a stride skips would be multiplied
    assert not shifts.pays(x, tensor(4, 4, 1, 1), 1)  # nothing to shift
    assert not shifts.pays(x, tensor(4, 4, 4, 1), 1)  # no middle
    assert not shifts.pays(tensor(2, 64, 10, 5), tensor(64, 64, 5, 1), 1)  # its copies would take memory
    assert not shifts.pays(x.astype("float64"), weight.astype("float64"), 1)


@pytest.mark.parametrize("layer", [temporal_conv, BiasedConv])
def test_a_layer_gives_the_same_either_way(layer, monkeypatch):
    calls, conv = [], shifts.conv
    monkeypatch.setattr(shifts, "conv", lambda *arguments: calls.append(1) or conv(*arguments))
    x, net = tensor(2, 4, 12, 5), layer(4, 6, 3, 1, 2)
    ours = results(net, x)
    assert calls
    monkeypatch.setattr(shifts, "pays", lambda *_: False)
    for mine, theirs in zip(ours, results(net, x)):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_few_channels_go_by_shifts_and_many_through_the_spectrum():
    assert not spectral.pays(tensor(32, 4, 100, 17), tensor(4, 4, 5, 1), 1, 1)
    assert spectral.pays(tensor(32, 32, 50, 17), tensor(32, 32, 5, 1), 1, 1)


@pytest.mark.parametrize(("length", "taps"), [(17, 17), (30, 9), (3, 9), (1, 3), (6, 1)])
def test_a_convolution_to_one_channel_is_that_of_paddle(length, taps):
    three = tensor(4, 6, length), tensor(1, 6, taps), tensor(1)
    ours = results(shifts.conv_to_one, *three)
    for mine, theirs in zip(ours, results(lambda *three: F.conv1d(*three, padding=taps // 2), *three)):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=2e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("frames", [1, 2, 3, 20])
def test_the_maximum_is_that_of_paddle(frames):
    x = tensor(3, 4, frames, 5)
    for mine, theirs in zip(
        results(lambda x: shifts.max_pool(x, 3, 1), x), results(lambda x: F.max_pool2d(x, (3, 1), 1, (1, 0)), x)
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_of_equal_frames_the_first_has_the_gradient():
    x = paddle.to_tensor(np.random.RandomState(0).randint(-2, 2, (2, 3, 30, 4)).astype(np.float32), stop_gradient=False)
    x = paddle.where(x < 0, x * 1e-30, x).detach()  # two of them differ by less than a sum could tell
    x.stop_gradient = False
    for mine, theirs in zip(
        results(lambda x: shifts.max_pool(x, 3, 1), x), results(lambda x: F.max_pool2d(x, (3, 1), 1, (1, 0)), x)
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1), (5, 2)])
def test_other_maxima_keep_their_frames(kernel, stride):
    y = shifts.max_pool(tensor(2, 3, 11, 4), kernel, stride)
    assert y.shape == [2, 3, 10 // stride + 1, 4]
