"""Samplers for unequal classes: how often each class is drawn in an epoch, from the counts of the data in use.

A sampler turns class counts into multiples: how many times an average sample of each class is taken in an epoch. An
epoch takes every sample floor(multiple) times, and a random part of its class once more (PYSKL's class_prob).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from paddleskel.errors import UserError
from paddleskel.registry import Registry

SAMPLERS = Registry("sampler")


class Sampler(Protocol):
    """(classes,) counts -> (classes,) multiples."""

    def __call__(self, counts: np.ndarray) -> np.ndarray: ...


def _shares_to_multiples(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Multiples by which the classes come to stand in the ratio of `shares`, in an epoch of the same length."""
    present = counts > 0
    shares = np.where(present, shares, 0.0)
    return np.divide(counts.sum() * shares / shares.sum(), counts, out=np.zeros(len(counts)), where=present)


@SAMPLERS
class ClassBalanced:
    """Every class equally often."""

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        return _shares_to_multiples(np.ones(len(counts)), counts)


@SAMPLERS
class SquareRoot:
    """Each class in proportion to the square root of its size.   (Kang et al. 2020, eq. 1, q = 1/2)"""

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        return _shares_to_multiples(np.sqrt(counts), counts)


@SAMPLERS
class EffectiveNumber:
    """Each sample in inverse proportion to its class's effective number (1 - beta^n) / (1 - beta).   (Cui et al. 2019)

    Args:
        beta: 0 samples as the data are, 1 balances the classes.
    """

    def __init__(self, beta: float = 0.999):
        if not 0 <= beta < 1:
            raise ValueError(f"beta must lie in [0, 1), not {beta}")
        self.beta = beta

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        weights = (1 - self.beta) / (1 - self.beta ** np.maximum(counts, 1))
        return _shares_to_multiples(weights * counts, counts)


@SAMPLERS
class ClassProb:
    """Multiples given one by one, as PYSKL's class_prob; without them, BRL's.

    Args:
        class_prob: a multiple a class. Default: the last third of the classes (from 2 * (C // 3) on) is brought to the
            size of the largest class, the others stay as they are.
    """

    def __init__(self, class_prob: list[float] | None = None):
        if class_prob and min(class_prob) < 0:
            raise ValueError("class_prob: multiples are not negative")
        self.class_prob = class_prob

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        if not self.class_prob:
            tail = np.arange(len(counts)) >= 2 * (len(counts) // 3)
            return np.where(tail, counts.max() / np.maximum(counts, 1), 1.0)
        if len(self.class_prob) != len(counts):
            raise UserError(
                f"DATASET.train.sampler.class_prob: {len(self.class_prob)} multiples for {len(counts)} classes"
            )
        return np.asarray(self.class_prob, float)


class RebalancedOrder:
    """Draws the samples of an epoch.

    Args:
        labels: (N,) of the training samples.
        multiples: (classes,) of a sampler, times the passes an epoch.
    """

    def __init__(self, labels: Sequence[int], multiples: np.ndarray):
        labels = np.asarray(labels)
        self.total = len(labels)
        self.members = [np.flatnonzero(labels == label) for label in range(len(multiples))]
        multiples = np.asarray(multiples)
        self.copies = np.floor(multiples).astype(int)
        sizes = np.array([len(members) for members in self.members])
        self.rest = ((multiples - self.copies) * sizes).astype(int)
        self.length = int((self.copies * sizes + self.rest).sum())
        if self.length == 0:
            raise UserError("DATASET.train.sampler: leaves no sample")

    def __len__(self) -> int:
        return self.length

    def __call__(self, rng: np.random.RandomState) -> np.ndarray:
        """(len,) positions in random order. A sample's copies are apart by `total`, so that each is augmented anew."""
        chosen = []
        for members, copies, rest in zip(self.members, self.copies, self.rest):
            chosen += [members + copy * self.total for copy in range(copies)]
            chosen.append(rng.permutation(members)[:rest] + copies * self.total)
        return rng.permutation(np.concatenate(chosen))
