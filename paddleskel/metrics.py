"""Exact metrics over samples, from scores and labels. Nothing here depends on batches."""

import numpy as np


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Return the fraction of samples whose label is among the k highest scores; k beyond the classes counts all.

    scores: (N, classes). labels: (N,). Of equal scores the higher class index ranks first, as in a stable argsort.
    """
    if not len(labels):
        return float("nan")
    own = scores[np.arange(len(labels)), labels][:, None]
    later = np.arange(scores.shape[1])[None, :] > labels[:, None]
    rank = (scores > own).sum(axis=1) + ((scores == own) & later).sum(axis=1)
    return float((rank < k).mean())


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(classes, classes) counts; rows are labels, columns predictions."""
    return np.bincount(labels * num_classes + predictions, minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_class_accuracy(scores: np.ndarray, labels: np.ndarray, count_predicted: bool = False) -> float:
    """Return the mean over classes of the fraction of their samples that are right.

    Only classes that occur among the labels count. With `count_predicted`, as in PYSKL and MMAction2, a class that is
    only predicted counts too, as accuracy 0.
    """
    matrix = confusion_matrix(scores.argmax(axis=1), labels, scores.shape[1])
    totals = matrix.sum(axis=1)
    counted = totals > 0 if not count_predicted else (totals > 0) | (matrix.sum(axis=0) > 0)
    accuracy = np.divide(np.diag(matrix), totals, out=np.zeros(len(totals)), where=totals > 0)
    return float(accuracy[counted].mean()) if counted.any() else float("nan")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax(logits)[label], in float64."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - own).mean())
