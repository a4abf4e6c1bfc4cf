"""A test's results class by class: the confusion matrix, its tables, and which classes belong together."""

import csv
import io
from dataclasses import dataclass

import numpy as np

from paddleskel import metrics
from paddleskel.results import Results


@dataclass(frozen=True)
class Breakdown:
    """Attributes:
    matrix: (classes, classes) counts, rows are labels. scores: of each class.
    names: of all classes. train_counts: training samples of each, if known.
    """

    matrix: np.ndarray
    scores: metrics.ClassScores
    names: list[str]
    train_counts: list[int] | None

    @staticmethod
    def of(results: Results, kind: str = "prob") -> "Breakdown":
        """Count the predictions by probabilities ("prob") or logits ("score")."""
        guess = metrics.predictions(results.scores(kind))
        matrix = metrics.confusion_matrix(guess, results.labels, results.num_classes)
        names = [results.name_of(label) for label in range(results.num_classes)]
        return Breakdown(matrix, metrics.class_scores(matrix), names, results.train_counts)

    def mostly_taken_for(self, label: int) -> tuple[str, int]:
        """Return the wrong class that a class is given most often, and how often; ("", 0) if never."""
        row = self.matrix[label].copy()
        row[label] = 0
        other = int(row.argmax())
        return (self.names[other], int(row[other])) if row[other] else ("", 0)

    def pairs(self, count: int) -> list[dict]:
        """The `count` most frequent confusions: label, predicted, count, share of the class, and the reverse count."""
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong.ravel(), kind="stable")[:count]
        found = []
        for label, predicted in zip(*np.unravel_index(order, wrong.shape)):
            if wrong[label, predicted]:
                share = wrong[label, predicted] / self.scores.samples[label]
                back = int(self.matrix[predicted, label])
                found.append(
                    {
                        "label": int(label),
                        "predicted": int(predicted),
                        "count": int(wrong[label, predicted]),
                        "share": share,
                        "back": back,
                    }
                )
        return found

    def confusion_csv(self) -> str:
        """The matrix as CSV: a row a label, a column a prediction."""
        rows = [["label \\ prediction", *self.names]]
        rows += [[name, *row] for name, row in zip(self.names, self.matrix.tolist())]
        return _csv(rows)

    def per_class_csv(self) -> str:
        """A row a class. Empty cells where there is nothing to divide by, or the training counts are not known."""
        head = ["class", "name", "train_samples", "samples", "predicted", "accuracy", "precision", "f1"]
        rows = [[*head, "mostly_taken_for", "times"]]
        for label, name in enumerate(self.names):
            ratios = [getattr(self.scores, key)[label] for key in ("accuracy", "precision", "f1")]
            train = "" if self.train_counts is None else self.train_counts[label]
            counts = [train, int(self.scores.samples[label]), int(self.scores.predicted[label])]
            said = ["" if np.isnan(value) else f"{value:.6g}" for value in ratios]
            rows.append([label, name, *counts, *said, *self.mostly_taken_for(label)])
        return _csv(rows)


def confusion_order(matrix: np.ndarray) -> list[int]:
    """Order classes so that those confused with each other stand together: leaves of average-linkage clustering.

    The similarity of two classes is the mean of the parts of each that are taken for the other.
    """
    rows = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, rows, out=np.zeros(matrix.shape), where=rows > 0)
    similarity = (share + share.T) / 2
    np.fill_diagonal(similarity, -1)
    groups = {label: [label] for label in range(len(matrix))}
    while len(groups) > 1:
        alive = np.array(list(groups))
        part = similarity[np.ix_(alive, alive)]
        a, b = alive[list(np.unravel_index(part.argmax(), part.shape))]
        sizes = len(groups[a]), len(groups[b])
        mean = (sizes[0] * similarity[a] + sizes[1] * similarity[b]) / sum(sizes)
        similarity[a], similarity[:, a] = mean, mean
        similarity[a, a] = -1
        groups[a] += groups.pop(b)
    return next(iter(groups.values()))


def _csv(rows: list) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
