"""Metrics by hand-made cases."""

import numpy as np
import pytest

from paddleskel.metrics import confusion_matrix, cross_entropy, mean_class_accuracy, softmax, top_k_accuracy

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
