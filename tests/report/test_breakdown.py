"""The numbers of a report, class by class."""

import csv

import numpy as np
import pytest

from paddleskel.metrics import mcnemar, softmax
from paddleskel.report.breakdown import Breakdown, confusion_order
from paddleskel.report.page import choose_samples
from paddleskel.results import Results

# rows are labels
MATRIX = np.array([[8, 2, 0, 0], [5, 5, 0, 0], [0, 0, 9, 1], [0, 0, 0, 0]])


def results_of(matrix, names=None, counts=None):
    """Results whose confusion matrix is `matrix`; a prediction's probability is 0.7."""
    labels, guess = (np.repeat(axis, matrix.ravel()) for axis in np.indices(matrix.shape).reshape(2, -1))
    probs = np.full((len(labels), len(matrix)), 0.3 / (len(matrix) - 1), np.float32)
    probs[np.arange(len(labels)), guess] = 0.7
    ids = [f"s{i}" for i in range(len(labels))]
    return Results(ids, labels, np.log(probs), probs, names, counts)


def test_pairs_and_tables():
    breakdown = Breakdown.of(results_of(MATRIX, ["a", "b", "c", "d, e"], [100, 10, 5, 1]))
    assert (breakdown.matrix == MATRIX).all()
    pairs = breakdown.pairs(5)
    assert [(pair["label"], pair["predicted"], pair["count"], pair["back"]) for pair in pairs] == [
        (1, 0, 5, 2), (0, 1, 2, 5), (2, 3, 1, 0),
    ]  # fmt: skip
    assert pairs[0]["share"] == 0.5
    rows = list(csv.reader(breakdown.confusion_csv().splitlines()))
    assert rows[0] == ["label \\ prediction", "a", "b", "c", "d, e"]
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == MATRIX.tolist()
    rows = list(csv.DictReader(breakdown.per_class_csv().splitlines()))
    assert rows[0]["accuracy"] == "0.8"
    assert float(rows[0]["precision"]) == pytest.approx(8 / 13, abs=1e-5)
    assert rows[0]["train_samples"] == "100"
    assert (rows[1]["mostly_taken_for"], rows[1]["times"]) == ("a", "5")
    assert (rows[3]["samples"], rows[3]["accuracy"], rows[3]["precision"]) == ("0", "", "0")


def test_confused_classes_stand_together():
    matrix = np.eye(6, dtype=int) * 10
    for a, b in ((0, 3), (1, 5), (2, 4)):
        matrix[a, b] = matrix[b, a] = 4
    matrix[0, 1] = matrix[3, 5] = 1
    order = confusion_order(matrix)
    assert sorted(order) == list(range(6))
    place = {label: i for i, label in enumerate(order)}
    assert all(abs(place[a] - place[b]) == 1 for a, b in ((0, 3), (1, 5), (2, 4)))
    assert abs(np.mean([place[0], place[3]]) - np.mean([place[1], place[5]])) == 2
    assert confusion_order(np.zeros((3, 3), int)) == [0, 1, 2]


def test_the_worst_and_the_most_uncertain_are_chosen():
    logits = np.zeros((6, 3))
    logits[[0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 2]] = [9, 0.1, 6, 4, 3, 0.2]
    labels = np.array([0, 1, 0, 1, 1, 2])  # 2 and 3 are wrong, 2 more surely
    chosen = choose_samples(Results(list("abcdef"), labels, logits, softmax(logits)), count=2)
    assert chosen == {"worst": [2, 3], "uncertain": [1, 5]}
    right = choose_samples(Results(list("ab"), labels[:2], logits[:2], softmax(logits[:2])))
    assert right == {"worst": [], "uncertain": [1, 0]}


def test_mcnemar_is_the_binomial_test():
    right = lambda text: np.array([letter == "1" for letter in text])
    assert mcnemar(right("1111100000"), right("1111100000")) == (0, 0, 1.0)
    only_a, only_b, p = mcnemar(right("1110000000"), right("0001111111"))
    assert (only_a, only_b) == (3, 7)
    assert p == pytest.approx(2 * (1 + 10 + 45 + 120) / 2**10)
    big = mcnemar(np.arange(5000) < 2400, np.arange(5000) >= 2400)
    assert big[2] == pytest.approx(0.00487, rel=0.02)  # 2400 against 2600
    scipy = pytest.importorskip("scipy.stats")
    assert big[2] == pytest.approx(scipy.binomtest(2400, 5000).pvalue, rel=1e-6)
