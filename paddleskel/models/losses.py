"""Losses on logits, most of them for long-tailed classes: their counts are those of the training set in use."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddleskel.models.registry import LOSSES

Weighting = Literal["inverse", "square_root", "effective"]


class Loss(nn.Layer):
    """A weighted mean over samples: sum of w l over sum of w. Losses of several stages look at `epoch`, from 0."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins."""
        self.epoch = epoch

    def each(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """(N, classes) logits, (N,) labels -> (N,) losses."""
        return F.cross_entropy(logits, labels, reduction="none").flatten()

    def class_weights(self) -> np.ndarray | None:
        """(classes,) weights of the samples by class in this epoch; None for all alike."""
        return None

    def forward(
        self,
        logits: paddle.Tensor,
        labels: paddle.Tensor,
        others: paddle.Tensor | None = None,
        shares: paddle.Tensor | None = None,
    ) -> paddle.Tensor:
        """(N, classes) logits, (N,) labels -> scalar.

        Args:
            others: (N,) second labels of mixed samples; each counts with 1 - share, the first with its (N,) share.
        """
        if others is None:
            return self._mean(self.each(logits, labels), self._weights(labels))
        losses = paddle.concat([self.each(logits, labels), self.each(logits, others)])
        weights = paddle.concat([self._weights(labels) * shares, self._weights(others) * (1 - shares)])
        return self._mean(losses, weights)

    def _weights(self, labels: paddle.Tensor) -> paddle.Tensor:
        weights = self.class_weights()
        if weights is None:
            return paddle.ones([len(labels)])
        return paddle.gather(paddle.to_tensor(weights, dtype="float32"), labels)

    @staticmethod
    def _mean(losses: paddle.Tensor, weights: paddle.Tensor) -> paddle.Tensor:
        return (losses * weights).sum() / weights.sum()


def class_weights(counts: Sequence[int], rule: Weighting, beta: float = 0.999) -> np.ndarray:
    """(classes,) weights with mean 1: 1 / n, 1 / sqrt(n), or 1 over the effective number (1 - beta^n) / (1 - beta).

    A class without training samples counts as one with a single sample.
    """
    counts = np.maximum(np.asarray(counts, np.float64), 1)
    raw = {"inverse": 1 / counts, "square_root": counts**-0.5, "effective": (1 - beta) / (1 - beta**counts)}[rule]
    return raw * len(counts) / raw.sum()


def action_aware_weights(counts: Sequence[int], flipped: bool = False) -> np.ndarray:
    """BRL's weights: effective numbers with a beta of each class's own, from 0.99 (smallest) to 0.9999 (largest).

    Args:
        flipped: with 1 - beta in place of beta, as the published code has it in every second epoch.
    """
    counts = np.maximum(np.asarray(counts, np.float64), 1)
    spread = max(counts.max() - counts.min(), 1)
    beta = 0.99 + 0.0099 * (counts - counts.min()) / spread
    beta = 1 - beta if flipped else beta
    raw = (1 - beta) / (1 - beta**counts)
    return raw * len(counts) / raw.sum()


def log_prior(counts: Sequence[int]) -> np.ndarray:
    """(classes,) log of each class's share of the training samples; a class without any counts as one sample."""
    counts = np.maximum(np.asarray(counts, np.float64), 1)
    return np.log(counts / counts.sum()).astype(np.float32)


@LOSSES
class CrossEntropyLoss(Loss):
    """Softmax cross entropy.

    Args:
        label_smoothing: share of the target that is spread evenly over all classes.
        class_weight: weights of the classes: a list, or from their counts by a rule of `class_weights`.
        start_epoch: first epoch, from 0, in which the classes are weighted.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weight: Weighting | list[float] | None = None,
        start_epoch: int = 0,
        class_counts: list[int] | None = None,
    ):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), not {label_smoothing}")
        if isinstance(class_weight, list) and class_counts and len(class_weight) != len(class_counts):
            raise ValueError(f"class_weight has {len(class_weight)} weights for {len(class_counts)} classes")
        if isinstance(class_weight, list) and (min(class_weight) < 0 or not any(class_weight)):
            raise ValueError("class_weight: weights are not negative, and not all 0")
        self.label_smoothing, self.start_epoch = label_smoothing, start_epoch
        self.weights = class_weights(class_counts, class_weight) if isinstance(class_weight, str) else class_weight

    def class_weights(self) -> np.ndarray | None:
        return np.asarray(self.weights) if self.weights is not None and self.epoch >= self.start_epoch else None

    def each(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        if not self.label_smoothing:
            return super().each(logits, labels)
        targets = F.label_smooth(F.one_hot(labels, logits.shape[-1]), epsilon=self.label_smoothing)
        return F.cross_entropy(logits, targets, soft_label=True, reduction="none").flatten()


@LOSSES
class FocalLoss(Loss):
    """(1 - p)^gamma times cross entropy, p the probability of the label.   (Lin et al. 2017, eq. 4)

    Args:
        start_epoch: first epoch, from 0, in which it is focal; plain cross entropy before.
    """

    def __init__(self, gamma: float = 2.0, start_epoch: int = 0):
        super().__init__()
        self.gamma, self.start_epoch = gamma, start_epoch

    def each(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        losses = super().each(logits, labels)
        if self.epoch < self.start_epoch:
            return losses
        return (1 - paddle.exp(-losses)) ** self.gamma * losses


@LOSSES
class ClassBalancedLoss(Loss):
    """Cross entropy, classes weighted by 1 over their effective number.   (Cui et al. 2019, eq. 12)

    Args:
        start_epoch: first epoch, from 0, in which they are weighted (BRL's two-stage form: 19).
    """

    def __init__(self, class_counts: list[int], beta: float = 0.999, start_epoch: int = 0):
        super().__init__()
        if not 0 <= beta < 1:
            raise ValueError(f"beta must lie in [0, 1), not {beta}")
        self.weights, self.start_epoch = class_weights(class_counts, "effective", beta), start_epoch

    def class_weights(self) -> np.ndarray | None:
        return self.weights if self.epoch >= self.start_epoch else None


@LOSSES
class ActionAwareLoss(Loss):
    """BRL's two stages: plain cross entropy, then classes weighted by `action_aware_weights`.   (BRL, section 3.3)

    Args:
        start_epoch: first epoch, from 0, of the second stage.
        published_alternation: do as the published code, which exchanges beta and 1 - beta in every second epoch of the
            second stage, so that the weights there are nearly even.
    """

    def __init__(self, class_counts: list[int], start_epoch: int = 19, published_alternation: bool = False):
        super().__init__()
        self.start_epoch, self.published_alternation = start_epoch, published_alternation
        self.weights = action_aware_weights(class_counts)
        self.flipped = action_aware_weights(class_counts, flipped=True)

    def class_weights(self) -> np.ndarray | None:
        if self.epoch < self.start_epoch:
            return None
        return self.flipped if self.published_alternation and (self.epoch - self.start_epoch) % 2 else self.weights


@LOSSES
class LDAMLoss(Loss):
    """A margin off the label's logit, larger for smaller classes; re-weighting deferred.   (Cao et al. 2019, eq. 10)

    The margins are meant for cosines: use it with `MODEL.head.cosine_scale` equal to `scale`, as the paper does.

    Args:
        max_margin: of the smallest class, in cosines; margins go with n^(-1/4).
        scale: of the head's logits over cosines.
        multiply: multiply the logits by `scale` here, for a plain head (BRL's code).
        start_epoch: first epoch, from 0, in which classes are weighted by their effective numbers.
        beta: of those; null never weights.
    """

    def __init__(
        self,
        class_counts: list[int],
        max_margin: float = 0.5,
        scale: float = 30.0,
        start_epoch: int = 19,
        beta: float | None = 0.9999,
        multiply: bool = False,
    ):
        super().__init__()
        margins = np.maximum(np.asarray(class_counts, np.float64), 1) ** -0.25
        self.margins = paddle.to_tensor((margins * max_margin / margins.max()).astype(np.float32))
        self.weights = None if beta is None else class_weights(class_counts, "effective", beta)
        self.scale, self.factor, self.start_epoch = scale, scale if multiply else 1.0, start_epoch

    def class_weights(self) -> np.ndarray | None:
        return self.weights if self.epoch >= self.start_epoch else None

    def each(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        margins = F.one_hot(labels, logits.shape[-1]) * self.margins
        return super().each(self.factor * logits - self.scale * margins, labels)


@LOSSES
class LogitAdjustedLoss(Loss):
    """Cross entropy of logits + tau log p, p the classes' shares of the training set.   (Menon et al. 2021, eq. 10)

    With tau 1 this is the balanced softmax (Ren et al. 2020, eq. 4), registered as BalancedSoftmaxLoss.
    """

    def __init__(self, class_counts: list[int], tau: float = 1.0):
        super().__init__()
        self.shift = paddle.to_tensor(tau * log_prior(class_counts))

    def each(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return super().each(logits + self.shift, labels)


LOSSES.add("BalancedSoftmaxLoss", LogitAdjustedLoss, tau=1.0)


@LOSSES
class EqualizationLoss(Loss):
    """Cross entropy in which tail classes are mostly left alone when they are not the label.   (Tan et al. 2020, eq. 6)

    The tail are the classes smaller than the one at two thirds of the ranking.

    Args:
        gamma: probability with which a tail class is left out of the softmax of a sample that is not its own.
        start_epoch: first epoch, from 0, in which any is.
        variant: "paper"; or "brl", whose code does the opposite: tail classes, the label and a random `gamma` (there
            0.00176) of the others stay, and all the rest is left out.
    """

    def __init__(
        self,
        class_counts: list[int],
        gamma: float = 0.9,
        start_epoch: int = 0,
        variant: Literal["paper", "brl"] = "paper",
    ):
        super().__init__()
        ranked = sorted(class_counts, reverse=True)
        tail = np.asarray(class_counts) < ranked[2 * (len(ranked) // 3)]
        self.tail = paddle.to_tensor(tail.astype(np.float32))
        self.gamma, self.start_epoch, self.variant = gamma, start_epoch, variant

    def each(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        if self.epoch >= self.start_epoch:
            drawn = (paddle.rand(logits.shape) < self.gamma).astype("float32")
            if self.variant == "paper":
                kept = 1 - drawn * self.tail
            else:
                kept = paddle.maximum(drawn, self.tail.expand_as(drawn))
            kept = paddle.maximum(kept, F.one_hot(labels, logits.shape[-1]))
            logits = logits - 1e7 * (1 - kept)
        return super().each(logits, labels)
