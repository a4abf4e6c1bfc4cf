"""Mixing the samples of a training batch: what the network sees belongs to two classes, each with a share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import paddle

from paddleskel.errors import UserError
from paddleskel.models.registry import MIXES
from paddleskel.registry import did_you_mean
from paddleskel.skeleton.layout import Layout


@dataclass(frozen=True)
class Mixed:
    """A mixed batch.

    Attributes:
        inputs: (N, M, T, V, C). labels, others: (N,) of the two classes. shares: (N,) of the first, float32.
    """

    inputs: paddle.Tensor
    labels: paddle.Tensor
    others: paddle.Tensor
    shares: paddle.Tensor


@MIXES
class Mixup:
    """Blend every sample with a random other one.   (Zhang et al. 2018, eq. 1)

    Args:
        alpha: shares are drawn from Beta(alpha, alpha), one a batch.
    """

    def __init__(self, alpha: float = 0.2):
        if alpha <= 0:
            raise ValueError(f"alpha must be positive, not {alpha}")
        self.alpha = alpha

    def __call__(self, inputs: paddle.Tensor, labels: paddle.Tensor, rng: np.random.RandomState) -> Mixed:
        share = float(rng.beta(self.alpha, self.alpha))
        partner = paddle.to_tensor(rng.permutation(len(labels)))
        blended = inputs * share + paddle.gather(inputs, partner) * (1 - share)
        return Mixed(blended, labels, paddle.gather(labels, partner), paddle.full([len(labels)], share))


@MIXES
class PartMixup:
    """Give a few samples some body parts, such as the legs, of another sample.   (BRL, "rebalanced partial mix-up")

    Of a batch of N, int(N * ratio) samples are mixed, each with a random one that is not. The label's share is `share`,
    but nothing if the class is more than `imbalance` times as large as the partner's, and everything if it is as much
    smaller: the rarer class gets the label.

    Args:
        parts: body parts and joints of the layout that come from the partner.
        imbalance: null always takes `share` (BRL's base variant).
        permuted: as BRL's code has it, the sample's own joints first and the partner's behind them, whatever their
            places in the layout. Networks see another skeleton then.
    """

    def __init__(
        self,
        layout: Layout,
        class_counts: list[int],
        parts: list[str],
        ratio: float = 1 / 16,
        share: float = 0.64,
        imbalance: float | None = 3.0,
        permuted: bool = False,
    ):
        if not 0 < ratio <= 0.5:
            raise ValueError(f"ratio must lie in (0, 0.5], not {ratio}")
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie in [0, 1], not {share}")
        theirs = _joints_of(layout, parts)
        own = [joint for joint in range(layout.num_joints) if joint not in theirs]
        if not own or not theirs:
            raise ValueError("parts must be some of the joints, not all of them")
        self.own, self.theirs = paddle.to_tensor(own), paddle.to_tensor(theirs)
        self.order = None if permuted else paddle.to_tensor(np.argsort(own + theirs))
        self.counts, self.ratio, self.share, self.imbalance = class_counts, ratio, share, imbalance

    def __call__(self, inputs: paddle.Tensor, labels: paddle.Tensor, rng: np.random.RandomState) -> Mixed:
        total = len(labels)
        order = rng.permutation(total)
        chosen, rest = order[: int(total * self.ratio)], order[int(total * self.ratio) :]
        shares, partner = np.ones(total, np.float32), np.arange(total)
        if len(chosen):
            partner[chosen] = rng.choice(rest, len(chosen))
            classes = labels.numpy()
            shares[chosen] = [self._share(classes[i], classes[partner[i]]) for i in chosen]
            rows = paddle.to_tensor(chosen)
            inputs = paddle.scatter(inputs, rows, self._join(inputs, rows, paddle.to_tensor(partner[chosen])))
        others = paddle.gather(labels, paddle.to_tensor(partner))
        return Mixed(inputs, labels, others, paddle.to_tensor(shares))

    def _join(self, inputs: paddle.Tensor, rows: paddle.Tensor, partners: paddle.Tensor) -> paddle.Tensor:
        own = paddle.index_select(paddle.gather(inputs, rows), self.own, axis=3)
        theirs = paddle.index_select(paddle.gather(inputs, partners), self.theirs, axis=3)
        joined = paddle.concat([own, theirs], axis=3)
        return joined if self.order is None else paddle.index_select(joined, self.order, axis=3)

    def _share(self, label: int, other: int) -> float:
        if self.imbalance is not None:
            mine, theirs = self.counts[label], self.counts[other]
            if mine > self.imbalance * theirs:
                return 0.0
            if theirs > self.imbalance * mine:
                return 1.0
        return self.share


def _joints_of(layout: Layout, names: Sequence[str]) -> list[int]:
    """The joints of body parts and single joints, in the layout's order."""
    found: set[int] = set()
    for name in names:
        if name in layout.parts:
            found |= set(layout.parts[name])
        elif name in layout.joints:
            found.add(layout.joints.index(name))
        else:
            near = did_you_mean(name, [*layout.parts, *layout.joints])
            raise UserError(f"parts: the layout '{layout.name}' has no part or joint '{name}'{near}")
    return sorted(found)
