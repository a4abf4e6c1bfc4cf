"""The convolution through the spectrum: Paddle's in value and gradient."""

import numpy as np
import paddle
import pytest
from convolutions import direct, results

from paddleskel.nn import spectral
from paddleskel.nn.conv import BiasedConv, fixed_weights, temporal_conv


def tensors(inputs, outputs, frames, taps, batch=3, joints=5):
    random = np.random.RandomState(0)
    x = random.randn(batch, inputs, frames, joints).astype(np.float32)
    weight = (random.randn(outputs, inputs, taps, 1) / np.sqrt(taps * inputs)).astype(np.float32)
    return paddle.to_tensor(x, stop_gradient=False), paddle.to_tensor(weight, stop_gradient=False)


@pytest.mark.parametrize(
    ("inputs", "outputs", "frames", "taps", "stride", "dilation"),
    [
        (4, 4, 25, 9, 1, 1),
        (4, 6, 50, 9, 2, 1),
        (6, 4, 51, 9, 2, 1),
        (4, 4, 20, 5, 1, 2),
        (4, 4, 21, 5, 3, 2),
        (4, 4, 13, 3, 1, 4),
        (4, 4, 22, 7, 3, 1),
        (4, 4, 3, 9, 1, 1),
        (4, 4, 1, 9, 2, 1),
        (4, 4, 300, 9, 1, 1),
    ],
)
@pytest.mark.parametrize("r", [1, 2])
@pytest.mark.parametrize("span", [None, 8, 14])
def test_value_and_gradients_are_those_of_conv2d(r, span, inputs, outputs, frames, taps, stride, dilation, monkeypatch):
    plan = lambda case: spectral._Plan(case, r, span or case.frames)
    monkeypatch.setattr(spectral, "_plan", plan)
    x, weight = tensors(inputs, outputs, frames, taps)
    by = lambda function: lambda x, weight: function(x, weight, stride, dilation)
    for ours, theirs in zip(results(by(spectral.conv), x, weight), results(by(direct), x, weight)):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=3e-6 * np.abs(theirs).max())


@pytest.mark.parametrize(("frames", "several"), [(25, False), (61, True), (62, True), (100, True), (301, True)])
def test_long_clips_are_cut_in_spans(frames, several):
    pair = tensors(16, 16, frames, 9)
    assert (spectral._plan(spectral._Case.of(*pair, 1, 1)).spans.count > 1) == several
    for ours, theirs in zip(results(spectral.conv, *pair), results(direct, *pair)):
        np.testing.assert_allclose(ours, theirs, atol=3e-6 * np.abs(theirs).max())


def test_wide_spectra_are_made_again_for_the_gradient(monkeypatch):
    kept = results(spectral.conv, *tensors(8, 4, 25, 9))
    monkeypatch.setattr(spectral, "_WIDE", 8)
    for again, once in zip(results(spectral.conv, *tensors(8, 4, 25, 9)), kept, strict=True):
        np.testing.assert_array_equal(again, once)


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_input_or_weight_gets_no_gradient(frozen):
    whole = results(spectral.conv, *tensors(4, 4, 25, 9))
    pair = tensors(4, 4, 25, 9)
    pair[frozen].stop_gradient = True
    part = results(spectral.conv, *pair)
    assert part[1 + frozen] is None
    np.testing.assert_array_equal(part[2 - frozen], whole[2 - frozen])


def test_it_is_used_where_it_saves_time():
    # the 9 x 1 convolutions of ST-GCN: 64, 128, 256 channels, 100, 50, 25 frames, or three times as many
    for channels, frames in ((64, 100), (128, 50), (256, 25), (64, 300), (128, 150), (256, 75)):
        assert spectral.pays(*tensors(channels, channels, frames, 9, 32, 17), 1, 1)
    assert not spectral.pays(*tensors(64, 64, 25, 3, 32, 17), 1, 1)  # few taps
    assert not spectral.pays(*tensors(256, 256, 50, 9, 1, 17), 2, 1)  # few samples: the weight's transform costs more
    x, weight = tensors(256, 256, 25, 9, 32, 17)
    assert not spectral.pays(x.astype("float64"), weight.astype("float64"), 1, 1)


def test_the_layer_gives_the_same_either_way(monkeypatch):
    layer = temporal_conv(64, 64, 9, stride=2)
    x = tensors(64, 64, 20, 9, 32, 17)[0]
    assert spectral.pays(x, layer.weight, 2, 1)
    ours = layer(x).numpy()
    monkeypatch.setattr(spectral, "pays", lambda *_: False)
    theirs = layer(x).numpy()
    assert (ours != theirs).any()
    np.testing.assert_allclose(ours, theirs, atol=3e-6 * np.abs(theirs).max())


def test_the_bias_joins_a_fixed_weight_once():
    conv, x = BiasedConv(4, 6, 3), paddle.randn([2, 4, 7, 5])
    names = list(conv.state_dict())
    with paddle.no_grad():
        before = conv(x).numpy()
        with fixed_weights(conv):
            assert conv.joined() is conv.joined()
            assert list(conv.state_dict()) == names
            np.testing.assert_array_equal(conv(x).numpy(), before)
        conv.bias.set_value(conv.bias + 1)  # it may change again
        np.testing.assert_allclose(conv(x).numpy(), before + 1, atol=1e-5)


def test_the_spectrum_of_a_fixed_weight_is_made_once_for_clips_of_a_length(monkeypatch):
    made, of_weight = [], spectral._of_weight
    monkeypatch.setattr(spectral, "_of_weight", lambda *arguments: made.append(1) or of_weight(*arguments))
    net = paddle.nn.Sequential(temporal_conv(64, 64, 9), temporal_conv(64, 64, 9, stride=2))
    clips, longer = (tensors(64, 64, frames, 9, 8, 17)[0] for frames in (20, 30))
    with paddle.no_grad():
        before = net(clips).numpy()
        del made[:]
        with fixed_weights(net):
            np.testing.assert_array_equal(net(clips).numpy(), before)
            np.testing.assert_array_equal(net(clips).numpy(), before)
            assert len(made) == 2
            of_longer = net(longer).numpy()
            assert len(made) == 4
            np.testing.assert_array_equal(net(longer).numpy(), of_longer)
            np.testing.assert_array_equal(net(clips).numpy(), before)
            assert len(made) == 6  # one length is kept
        net[0].weight.set_value(net[0].weight * 2)  # weights may change again
        np.testing.assert_array_equal(net(clips).numpy(), 2 * before)
        np.testing.assert_array_equal(net(longer).numpy(), 2 * of_longer)
