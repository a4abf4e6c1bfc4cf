"""Metrics by hand-made cases, and beside scikit-learn's where it is installed."""

import warnings

import numpy as np
import pytest

from paddleskel.metrics import (
    bootstrap_interval,
    calibration_error,
    class_scores,
    confusion_matrix,
    cross_entropy,
    macro_f1,
    mean_class_accuracy,
    predictions,
    reliability,
    shot_accuracy,
    shot_groups,
    softmax,
    top_k_accuracy,
)

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
LABELS = np.array([1, 1, 2, 2])


def test_top_k():
    assert [top_k_accuracy(SCORES, LABELS, k) for k in (1, 2, 3, 5)] == [0.5, 0.75, 1.0, 1.0]


def test_ties_rank_as_in_a_stable_argsort():
    scores = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    by_sort = [label in np.argsort(row, kind="stable")[-1:] for row, label in zip(scores, [0, 1])]
    assert top_k_accuracy(scores, np.array([0, 1])) == np.mean(by_sort) == 0.5


def test_mean_class_accuracy_counts_classes_with_samples():
    assert mean_class_accuracy(SCORES, LABELS) == 0.5  # classes 1 and 2: one of two each
    assert mean_class_accuracy(SCORES, LABELS, count_predicted=True) == pytest.approx(1 / 3)  # class 0 was predicted


def test_confusion_matrix():
    expected = [[0, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert confusion_matrix(SCORES.argmax(1), LABELS, 3).tolist() == expected


def test_cross_entropy_and_softmax_do_not_overflow():
    logits = np.array([[1000.0, 0.0], [0.0, 0.0]])
    assert cross_entropy(logits, np.array([1, 0])) == pytest.approx((1000 + np.log(2)) / 2)
    np.testing.assert_allclose(softmax(logits), [[1, 0], [0.5, 0.5]])


# ---- against scikit-learn, on random data ----


@pytest.fixture(params=[(1, 3), (7, 4), (64, 5), (1000, 60)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
def random_case(request):
    """Scores that favour their labels a little; with 60 classes some never occur among the labels."""
    samples, classes = request.param
    rng = np.random.RandomState(samples)
    labels = rng.randint(0, max(2, classes - 3), samples)
    logits = rng.randn(samples, classes) + 1.2 * np.eye(classes)[labels]
    return logits, softmax(logits), labels


def test_accuracies_equal_sklearns(random_case):
    sklearn = pytest.importorskip("sklearn.metrics")
    _, probs, labels = random_case
    classes = np.arange(probs.shape[1])
    for k in (1, 2, 3, 5):
        if k < len(classes):
            expected = sklearn.top_k_accuracy_score(labels, probs, k=k, labels=classes)
            assert top_k_accuracy(probs, labels, k) == pytest.approx(expected, abs=1e-12)
    guess = predictions(probs)
    matrix = confusion_matrix(guess, labels, len(classes))
    assert (matrix == sklearn.confusion_matrix(labels, guess, labels=classes)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are predicted but do not occur
        expected = sklearn.balanced_accuracy_score(labels, guess)
    assert mean_class_accuracy(probs, labels) == pytest.approx(expected, abs=1e-12)
    assert macro_f1(probs, labels) == pytest.approx(
        sklearn.f1_score(labels, guess, average="macro", zero_division=0), abs=1e-12
    )
    each = class_scores(matrix)
    precision, recall, f1, support = sklearn.precision_recall_fscore_support(
        labels, guess, labels=classes, zero_division=np.nan
    )
    assert (each.samples == support).all()
    np.testing.assert_allclose(each.accuracy, recall)
    np.testing.assert_allclose(each.precision, precision)
    np.testing.assert_allclose(each.f1, f1)
    union = sklearn.recall_score(labels, guess, average="macro", zero_division=0)
    assert mean_class_accuracy(probs, labels, count_predicted=True) == pytest.approx(union, abs=1e-12)


def test_calibration_equals_sklearns_curve(random_case):
    sklearn = pytest.importorskip("sklearn.calibration")
    _, probs, labels = random_case
    confidence, right = probs.max(axis=1), predictions(probs) == labels
    accuracy, mean = sklearn.calibration_curve(right, confidence, n_bins=15)
    count, ours_mean, ours_accuracy = reliability(probs, labels, 15)
    filled = count > 0
    np.testing.assert_allclose(ours_mean[filled], mean)
    np.testing.assert_allclose(ours_accuracy[filled], accuracy)
    expected = (np.abs(accuracy - mean) * count[filled]).sum() / len(labels)
    assert calibration_error(probs, labels) == pytest.approx(expected)


def test_cross_entropy_equals_sklearns(random_case):
    sklearn = pytest.importorskip("sklearn.metrics")
    logits, probs, labels = random_case
    assert cross_entropy(logits, labels) == pytest.approx(
        sklearn.log_loss(labels, probs, labels=np.arange(probs.shape[1]))
    )


# ---- by hand ----


def test_a_prediction_is_right_where_top_1_counts_it():
    scores = np.array([[0.5, 0.5, 0.0], [0.2, 0.4, 0.4], [1.0, 0.0, 0.0]])
    assert predictions(scores).tolist() == [1, 2, 0]
    for label in range(3):
        labels = np.full(3, label)
        assert top_k_accuracy(scores, labels) == (predictions(scores) == labels).mean()


def test_calibration_of_known_cases():
    sure = np.array([[1.0, 0.0]] * 4)
    assert calibration_error(sure, np.array([0, 0, 0, 1])) == pytest.approx(0.25)
    honest = np.array([[0.75, 0.25]] * 4)
    assert calibration_error(honest, np.array([0, 0, 0, 1])) == pytest.approx(0)


def test_shot_groups_come_from_the_training_counts():
    counts = [600, 300, 120, 60, 20, 6]
    groups = shot_groups(counts)  # logarithmic thirds of 6..600: 27.8 and 129.3
    assert {name: members.tolist() for name, members in groups.items()} == {
        "many": [0, 1], "medium": [2, 3], "few": [4, 5],
    }  # fmt: skip
    groups = shot_groups(counts, (20, 100))
    assert groups["few"].tolist() == [5]
    assert groups["many"].tolist() == [0, 1, 2]
    assert shot_groups([100, 90, 50]) is None
    assert shot_groups([50, 0])["few"].tolist() == [1]


def test_shot_accuracy_averages_over_classes():
    scores, labels = np.eye(4)[[0, 0, 0, 1, 2, 2]], np.array([0, 0, 1, 1, 2, 0])
    groups = {"many": np.array([0, 1]), "medium": np.array([2]), "few": np.array([3])}
    values = shot_accuracy(scores, labels, groups)
    assert values["many"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert values["medium"] == 1.0
    assert np.isnan(values["few"])  # no sample of class 3


def test_the_bootstrap_covers_the_binomial_interval():
    right = np.arange(400) < 320
    low, high = bootstrap_interval(lambda chosen: right[chosen].mean(), 400)
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert low == pytest.approx(0.8 - half, abs=0.008)
    assert high == pytest.approx(0.8 + half, abs=0.008)
    assert (low, high) == bootstrap_interval(lambda chosen: right[chosen].mean(), 400)
