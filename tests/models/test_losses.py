"""Losses and mixes against their formulas, and against the published weights."""

import numpy as np
import paddle
import pytest

from paddleskel.data.long_tail import class_sizes
from paddleskel.errors import UserError
from paddleskel.models.losses import action_aware_weights, class_weights
from paddleskel.models.registry import LOSSES, MIXES
from paddleskel.skeleton.layout import load_layout

COUNTS = class_sizes(60, 100, 600)
RNG = np.random.RandomState(0)
LOGITS = RNG.randn(8, 60).astype(np.float32)
LABELS = RNG.randint(0, 60, 8)


def log_softmax(logits):
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def own(logits, labels=LABELS):
    """Cross entropy of each sample."""
    return -log_softmax(logits)[np.arange(len(labels)), labels]


def weighted(losses, weights, labels=LABELS):
    return (losses * weights[labels]).sum() / weights[labels].sum()


def value(spec, epoch=0, logits=LOGITS, labels=LABELS, counts=COUNTS):
    loss = LOSSES.build(spec, "loss", class_counts=counts)
    loss.set_epoch(epoch)
    return float(loss(paddle.to_tensor(logits), paddle.to_tensor(labels)))


def test_action_aware_weights_are_the_published_ones():
    weights = action_aware_weights(COUNTS)
    expected = [0.04095, 0.05419, 0.1689, 0.53512, 2.09812, 4.07567, 4.07567]
    np.testing.assert_allclose(weights[[0, 1, 10, 30, 50, 58, 59]], expected, atol=5e-6)
    assert weights.sum() == pytest.approx(60)
    flipped = action_aware_weights(COUNTS, flipped=True)
    np.testing.assert_allclose(flipped[[0, 1, 30, 59]], [1.00787, 1.007097, 0.998748, 0.997891], atol=5e-6)


def test_class_balanced_weights_are_the_published_ones():
    weights = class_weights(COUNTS, "effective", 0.999)
    np.testing.assert_allclose(weights[[0, 1, 30, 58, 59]], [0.05785, 0.06136, 0.47103, 4.36264, 4.36264], atol=5e-6)
    np.testing.assert_allclose(class_weights([4, 1], "inverse"), [0.4, 1.6])
    np.testing.assert_allclose(class_weights([4, 1], "square_root"), [2 / 3, 4 / 3])
    assert np.isfinite(class_weights([4, 0], "inverse")).all()


def test_plain_and_smoothed_cross_entropy():
    assert value("CrossEntropyLoss") == pytest.approx(own(LOGITS).mean(), rel=1e-5)
    smoothed = 0.9 * own(LOGITS) - 0.1 * log_softmax(LOGITS).mean(1)
    assert value({"name": "CrossEntropyLoss", "label_smoothing": 0.1}) == pytest.approx(smoothed.mean(), rel=1e-5)


def test_weighted_cross_entropy_divides_by_the_weights():
    inverse = class_weights(COUNTS, "inverse")
    spec = {"name": "CrossEntropyLoss", "class_weight": "inverse", "start_epoch": 3}
    assert value(spec, 2) == pytest.approx(own(LOGITS).mean(), rel=1e-5)
    assert value(spec, 3) == pytest.approx(weighted(own(LOGITS), inverse), rel=1e-5)
    given = {"name": "CrossEntropyLoss", "class_weight": inverse.tolist()}
    assert value(given) == pytest.approx(weighted(own(LOGITS), inverse), rel=1e-5)
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(LOGITS), torch.tensor(LABELS), weight=torch.tensor(inverse, dtype=torch.float32)
    )
    assert value(spec, 3) == pytest.approx(float(theirs), rel=1e-5)


def test_brls_two_stages_and_their_published_alternation():
    plain, aware = own(LOGITS).mean(), weighted(own(LOGITS), action_aware_weights(COUNTS))
    flipped = weighted(own(LOGITS), action_aware_weights(COUNTS, True))
    spec = {"name": "ActionAwareLoss"}
    assert [value(spec, epoch) for epoch in (0, 18)] == pytest.approx([plain] * 2, rel=1e-5)
    assert [value(spec, epoch) for epoch in range(19, 24)] == pytest.approx([aware] * 5, rel=1e-5)
    spec["published_alternation"] = True
    expected = [plain, aware, flipped, aware, flipped, aware]
    assert [value(spec, epoch) for epoch in range(18, 24)] == pytest.approx(expected, rel=1e-5)


def test_class_balanced_loss():
    spec = {"name": "ClassBalancedLoss", "start_epoch": 19}
    assert value(spec, 18) == pytest.approx(own(LOGITS).mean(), rel=1e-5)
    weights = class_weights(COUNTS, "effective", 0.999)
    assert value(spec, 19) == pytest.approx(weighted(own(LOGITS), weights), rel=1e-5)


def test_focal_loss():
    probability = np.exp(-own(LOGITS))
    assert value("FocalLoss") == pytest.approx(((1 - probability) ** 2 * own(LOGITS)).mean(), rel=1e-5)
    assert value({"name": "FocalLoss", "start_epoch": 1}) == pytest.approx(own(LOGITS).mean(), rel=1e-5)


def test_balanced_softmax_and_logit_adjustment():
    counts = np.array(COUNTS)
    assert value("BalancedSoftmaxLoss") == pytest.approx(own(LOGITS + np.log(counts)).mean(), rel=1e-5)
    adjusted = {"name": "LogitAdjustedLoss", "tau": 1.5}
    assert value(adjusted) == pytest.approx(own(LOGITS + 1.5 * np.log(counts / counts.sum())).mean(), rel=1e-5)


def test_ldam_takes_its_margin_off_the_label():
    margins = np.array(COUNTS) ** -0.25
    margins *= 0.5 / margins.max()
    shifted = LOGITS.astype(np.float64).copy()
    shifted[np.arange(8), LABELS] -= 30 * margins[LABELS]
    assert value("LDAMLoss") == pytest.approx(own(shifted).mean(), rel=1e-4)
    weights = class_weights(COUNTS, "effective", 0.9999)
    assert value("LDAMLoss", 19) == pytest.approx(weighted(own(shifted), weights), rel=1e-4)
    small = LOGITS / 10  # Paddle's cross entropy ends at 64
    shifted[:] = 30 * small
    shifted[np.arange(8), LABELS] -= 30 * margins[LABELS]
    spec = {"name": "LDAMLoss", "multiply": True, "beta": None}
    assert value(spec, 20, logits=small) == pytest.approx(own(shifted).mean(), rel=1e-4)


def test_a_cosine_head_sees_angles_only():
    from paddleskel.models.head import GCNHead

    head = GCNHead(6, 4, cosine_scale=30.0)
    features = paddle.to_tensor(RNG.rand(4, 6, 5, 3).astype(np.float32))
    inputs = paddle.ones([2, 2, 5, 3, 3])
    logits = head(features, inputs).numpy()
    np.testing.assert_allclose(head(10 * features, inputs).numpy(), logits, atol=1e-4)
    assert np.abs(logits).max() <= 30
    pooled, weight = features.numpy().mean((2, 3)).reshape(2, 2, 6).mean(1), head.fc.weight.numpy()
    cosine = pooled @ weight / np.linalg.norm(pooled, axis=1)[:, None] / np.linalg.norm(weight, axis=0)
    np.testing.assert_allclose(logits, 30 * cosine, rtol=1e-4, atol=1e-4)


def test_equalisation_leaves_tail_classes_alone():
    counts = [90, 60, 30, 9, 6, 3]  # the tail: smaller than 6
    logits, labels = LOGITS[:, :6], np.array([0, 1, 2, 3, 4, 5, 5, 0])
    every = {"name": "EqualizationLoss", "gamma": 1.0}
    kept = np.ones((8, 6), bool)
    kept[:, 5] = labels == 5
    expected = own(np.where(kept, logits, -1e7), labels).mean()
    assert value(every, logits=logits, labels=labels, counts=counts) == pytest.approx(expected, rel=1e-5)
    none = {"name": "EqualizationLoss", "gamma": 0.0}
    assert value(none, logits=logits, labels=labels, counts=counts) == pytest.approx(
        own(logits, labels).mean(), rel=1e-5
    )
    kept[:] = np.arange(6) == 5  # BRL's: tail and label stay
    kept[np.arange(8), labels] = True
    brl = {"name": "EqualizationLoss", "gamma": 0.0, "variant": "brl"}
    expected = own(np.where(kept, logits, -1e7), labels).mean()
    assert value(brl, logits=logits, labels=labels, counts=counts) == pytest.approx(expected, rel=1e-5)


def test_two_labels_count_by_their_shares():
    others, shares = RNG.randint(0, 60, 8), np.array([1, 1, 0.64, 0, 1, 0.3, 1, 1], np.float32)
    for spec, weights in (("CrossEntropyLoss", np.ones(60)), ("ActionAwareLoss", action_aware_weights(COUNTS))):
        loss = LOSSES.build(spec, "loss", class_counts=COUNTS)
        loss.set_epoch(19)
        mixed = loss(*map(paddle.to_tensor, (LOGITS, LABELS, others, shares)))
        parts = [(shares, LABELS), (1 - shares, others)]
        top = sum((share * weights[labels] * own(LOGITS, labels)).sum() for share, labels in parts)
        bottom = sum((share * weights[labels]).sum() for share, labels in parts)
        assert float(mixed) == pytest.approx(top / bottom, rel=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "CrossEntropyLoss", "class_weight": [1.0, 2.0]}, "2 weights for 60 classes"),
        ({"name": "CrossEntropyLoss", "class_weight": "inverted"}, "loss.class_weight"),
        ({"name": "ClassBalancedLoss", "beta": 1.0}, r"beta must lie in \[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        LOSSES.build(spec, "loss", class_counts=COUNTS)


@pytest.mark.parametrize("name", [name for name in LOSSES.names() if name != "Loss"])
def test_every_loss_falls_when_the_label_rises(name):
    for epoch in (0, 20):
        loss = LOSSES.build(name, "loss", class_counts=COUNTS)
        loss.set_epoch(epoch)
        logits = paddle.to_tensor(LOGITS, stop_gradient=False)
        loss(logits, paddle.to_tensor(LABELS)).backward()
        gradient = logits.grad.numpy()
        assert np.isfinite(gradient).all()
        assert (gradient[np.arange(8), LABELS] < 0).all()


# ---- mixes ----

KINECT = load_layout("nturgb+d")
LEGS = ["spine_base", "left_leg", "right_leg"]
LOWER = [0, *range(12, 20)]
UPPER = [joint for joint in range(25) if joint not in LOWER]


def batch(size=16):
    """Every value says its sample and its joint: 100 n + v."""
    values = 100 * np.arange(size)[:, None] + np.arange(25)
    whole = np.broadcast_to(values[:, None, None, :, None], (size, 2, 4, 25, 3)).astype(np.float32)
    return paddle.to_tensor(whole.copy())


def mix(labels, counts, size=16, seed=0, **arguments):
    spec = {"name": "PartMixup", "parts": LEGS, **arguments}
    mixer = MIXES.build(spec, "mix", layout=KINECT, class_counts=counts)
    return mixer(batch(size), paddle.to_tensor(labels), np.random.RandomState(seed))


def test_part_mixup_takes_the_legs_of_another_sample():
    labels = np.arange(16)
    mixed = mix(labels, [10] * 16)
    assert mixed.inputs.shape == [16, 2, 4, 25, 3]
    sample, joint = np.divmod(mixed.inputs.numpy()[:, 1, 2, :, 1].astype(int), 100)
    assert (joint == np.arange(25)).all()  # every joint keeps its place
    others = mixed.others.numpy()
    changed = np.flatnonzero(others != labels)
    assert len(changed) == 1  # one of sixteen
    i = changed[0]
    assert (sample[i][LOWER] == others[i]).all()
    assert (sample[i][UPPER] == i).all()
    assert (np.delete(sample, i, 0) == np.delete(np.arange(16), i)[:, None]).all()
    shares = mixed.shares.numpy()
    assert shares[i] == pytest.approx(0.64)
    assert (np.delete(shares, i) == 1).all()


def test_part_mixup_as_published_permutes_the_joints():
    mixed = mix(np.arange(16), [10] * 16, permuted=True)
    i = int(np.flatnonzero(mixed.others.numpy() != np.arange(16))[0])
    sample, joint = np.divmod(mixed.inputs.numpy()[i, 0, 0, :, 0].astype(int), 100)
    assert joint.tolist() == UPPER + LOWER
    assert (sample[:16] == i).all()
    assert (sample[16:] == int(mixed.others[i])).all()


@pytest.mark.parametrize(("mine", "theirs", "share"), [(31, 10, 0), (30, 10, 0.64), (10, 30, 0.64), (10, 31, 1)])
def test_the_rarer_class_gets_the_label(mine, theirs, share):
    for seed in range(4):
        labels = np.array([0] * 8 + [1] * 8)
        for count in ([mine, theirs], [theirs, mine]):
            mixed = mix(labels, count, seed=seed)
            for i in np.flatnonzero(mixed.others.numpy() != labels):
                expected = share if count[labels[i]] == mine else {0: 1, 1: 0}.get(share, share)
                assert mixed.shares.numpy()[i] == pytest.approx(expected)
    base = mix(np.array([0] * 8 + [1] * 8), [1000, 1], imbalance=None)
    assert set(base.shares.numpy().round(2).tolist()) <= {1.0, np.float32(0.64).round(2).item()}


def test_small_batches_stay_as_they_are():
    mixed = mix(np.arange(15), [10] * 15, size=15)
    assert np.array_equal(mixed.inputs.numpy(), batch(15).numpy())
    assert (mixed.shares.numpy() == 1).all()
    assert mix(np.arange(64), [10] * 64, size=64).shares.numpy().tolist().count(np.float32(0.64)) == 4


def test_mixup_blends_everything():
    mixer = MIXES.build({"name": "Mixup", "alpha": 1.0}, "mix", layout=KINECT, class_counts=[1])
    inputs, labels = batch(4), np.arange(4)
    mixed = mixer(inputs, paddle.to_tensor(labels), np.random.RandomState(0))
    share = float(mixed.shares[0])
    expected = share * inputs.numpy() + (1 - share) * inputs.numpy()[mixed.others.numpy()]
    np.testing.assert_allclose(mixed.inputs.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parts": ["left_legs"]}, "did you mean 'left_leg'"),
        ({"parts": []}, "some of the joints"),
        ({"parts": list(KINECT.parts)}, "some of the joints"),
        ({"ratio": 0.0}, "ratio must lie"),
        ({"share": 2.0}, "share must lie"),
    ],
)
def test_impossible_mixes_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        mix(np.arange(4), [1] * 4, size=4, **arguments)
