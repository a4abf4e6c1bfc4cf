"""Exact metrics over samples, from scores and labels. Nothing here depends on batches or processes."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

MetricName = Literal["top_k_accuracy", "mean_class_accuracy", "macro_f1", "calibration", "shot_accuracy"]
NAMES: tuple[str, ...] = get_args(MetricName)


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Return the fraction of samples whose label is among the k highest scores; k beyond the classes counts all.

    scores: (N, classes). labels: (N,). Of equal scores the higher class index ranks first, as in a stable argsort.
    """
    return float((label_ranks(scores, labels) < k).mean()) if len(labels) else float("nan")


def label_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) place of each sample's label among its scores, 0 for the highest."""
    own = scores[np.arange(len(labels)), labels][:, None]
    later = np.arange(scores.shape[1])[None, :] > labels[:, None]
    return (scores > own).sum(axis=1) + ((scores == own) & later).sum(axis=1)


def predictions(scores: np.ndarray) -> np.ndarray:
    """(N,) class of the highest score; of equal ones the last, so that it is right exactly where top-1 counts it."""
    return scores.shape[1] - 1 - scores[:, ::-1].argmax(axis=1)


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(classes, classes) counts; rows are labels, columns predictions."""
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


class ClassScores(NamedTuple):
    """Numbers of every class, (classes,) each; NaN where there is nothing to divide by.

    samples: with this label. predicted: given this class. accuracy: right of `samples` (the recall).
    precision: right of `predicted`. f1: their harmonic mean, 0 where nothing is right, NaN where neither occurs.
    """

    samples: np.ndarray
    predicted: np.ndarray
    accuracy: np.ndarray
    precision: np.ndarray
    f1: np.ndarray


def class_scores(matrix: np.ndarray) -> ClassScores:
    """Return the numbers of each class from a confusion matrix."""
    right, samples, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)

    f1 = ratio(2 * right, samples + predicted)
    return ClassScores(samples, predicted, ratio(right, samples), ratio(right, predicted), f1)


def mean_class_accuracy(scores: np.ndarray, labels: np.ndarray, count_predicted: bool = False) -> float:
    """Return the mean over classes of the fraction of their samples that are right.

    Only classes that occur among the labels count. With `count_predicted`, as in PYSKL and MMAction2, a class that is
    only predicted counts too, as accuracy 0.
    """
    each = class_scores(confusion_matrix(predictions(scores), labels, scores.shape[1]))
    counted = each.samples > 0 if not count_predicted else (each.samples > 0) | (each.predicted > 0)
    return float(np.nan_to_num(each.accuracy[counted]).mean()) if counted.any() else float("nan")


def macro_f1(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean F1 over the classes that occur among labels or predictions."""
    f1 = class_scores(confusion_matrix(predictions(scores), labels, scores.shape[1])).f1
    return float(np.nanmean(f1)) if len(labels) else float("nan")


def reliability(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group samples by the probability of their predicted class into equal intervals (0, 1/bins], ...

    Returns:
        (bins,) each: number of samples, mean probability, fraction that is right; NaN for empty bins.
    """
    confidence = probs.max(axis=1).astype(np.float64)
    right = label_ranks(probs, labels) == 0
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, weights, bins) / count for weights in (confidence, right)]
    return count, means[0], means[1]


def calibration_error(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy.   (Guo et al. 2017, eq. 3)"""
    if not len(labels):
        return float("nan")
    count, confidence, accuracy = reliability(probs, labels, bins)
    return float(np.nansum(np.abs(confidence - accuracy) * count) / count.sum())


def shot_groups(train_counts: Sequence[int], shots: tuple[int, int] | None = None) -> dict[str, np.ndarray] | None:
    """Split classes by their number of training samples.

    Args:
        shots: (few, many): classes with fewer than `few` samples are few-shot, those with more than `many` many-shot.
            Default: the thirds of the range from the smallest to the largest class on a logarithmic scale; None is
            returned for counts within a factor of 3, which are hardly long-tailed.

    Returns:
        Class indices of "many", "medium" and "few"; any may be empty.
    """
    counts = np.asarray(train_counts)
    if shots is None:
        low, high = np.log(max(counts.min(), 1)), np.log(max(counts.max(), 1))
        if high - low < np.log(3):
            return None
        few, many = np.exp(low + (high - low) / 3), np.exp(low + 2 * (high - low) / 3)
    else:
        few, many = shots
    medium = (counts >= few) & (counts <= many)
    groups = {"many": counts > many, "medium": medium, "few": counts < few}
    return {name: np.flatnonzero(chosen) for name, chosen in groups.items()}


def shot_accuracy(scores: np.ndarray, labels: np.ndarray, groups: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean class accuracy over each group of classes, of those with samples; NaN for a group without any."""
    accuracy = class_scores(confusion_matrix(predictions(scores), labels, scores.shape[1])).accuracy
    means = {}
    for name, members in groups.items():
        known = accuracy[members][~np.isnan(accuracy[members])]
        means[name] = float(known.mean()) if len(known) else float("nan")
    return means


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], samples: int, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a statistic under drawing the samples anew.   (Efron 1979)

    Args:
        statistic: of the samples whose (samples,) indices it is given, with repetitions.
    """
    rng = np.random.RandomState(seed)
    values = [statistic(rng.randint(0, samples, samples)) for _ in range(resamples)]
    low, high = np.nanpercentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test of two classifiers on the same samples.   (McNemar 1947; binomial form)

    right_a, right_b: (N,) bool, whether each sample is right.

    Returns:
        Samples only a gets right, samples only b does, and how often chance splits them at least so unevenly.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    total, fewer = only_a + only_b, min(only_a, only_b)
    logs = [math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(fewer + 1)]
    tail = sum(math.exp(value - total * math.log(2)) for value in logs)
    return only_a, only_b, min(1.0, 2 * tail)


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
