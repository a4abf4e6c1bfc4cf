"""Long-tailed training sets: fewer and fewer samples from the first class to the last.   (BRL, section 4.1)"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.store import ids_of, labels_of, only
from paddleskel.errors import UserError

_NTU_ID = re.compile(r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R\d{3}A\d{3}")
Order = Literal["subject", "camera", "setup", "id"]


@dataclass(frozen=True)
class LongTail:
    """DATASET.train.long_tail: thin a training split out.

    Attributes:
        imbalance_factor: largest over smallest class. max_per_class: size of the largest.
        order: how the ids are sorted before they are drawn; default: subject, camera or setup for cross-subject,
            cross-view and cross-setup splits of NTU's samples, by id otherwise.
        list: a text file with one sample id a line, in place of drawing.
    """

    imbalance_factor: float = 100.0
    max_per_class: int = 600
    order: Order | None = None
    seed: int = 0
    list: str | None = None

    def __post_init__(self):
        if self.imbalance_factor < 1 or self.max_per_class < 1:
            raise ValueError("imbalance_factor and max_per_class must be at least 1")


def class_sizes(num_classes: int, imbalance_factor: float, max_per_class: int) -> list[int]:
    """Return int(max f^(c / (C - 1))) for each class c, f = 1 / imbalance_factor."""
    fraction = 1 / imbalance_factor
    return [int(max_per_class * fraction ** (c / (num_classes - 1))) for c in range(num_classes)]


def class_counts(labels: Sequence[int], num_classes: int) -> list[int]:
    """Samples of each class."""
    return np.bincount(np.asarray(labels, np.int64), minlength=num_classes).tolist()


def draw(ids: Sequence[str], labels: Sequence[int], sizes: Sequence[int], order: Order, seed: int = 0) -> list[str]:
    """Return the ids of a long-tailed set, class by class.

    The ids are sorted by (order, id); one legacy generator shuffles each class in turn, and its first ones are taken.
    With the defaults this gives BRL's lists for NTU120 id by id.
    """
    rng = np.random.RandomState(seed)
    ranked = sorted(range(len(ids)), key=lambda i: (_key(ids[i], order), ids[i]))
    chosen = []
    for label, size in enumerate(sizes):
        members = [ids[i] for i in ranked if labels[i] == label]
        rng.shuffle(members)
        chosen += members[:size]
    return chosen


def _key(name: str, order: Order) -> int:
    if order == "id":
        return 0
    match = _NTU_ID.search(name)
    if match is None:
        raise UserError(f"long_tail: sample '{name}' has no NTU id (SsssCcccPpppRrrrAaaa) to order by; set `order: id`")
    return int(match[order])


def thin(clips: Sequence[Clip], settings: LongTail, num_classes: int, split: str | None) -> Sequence[Clip]:
    """Return the clips of a long-tailed training set, in their order.

    Raises:
        UserError: a list that cannot be read or names none of the clips.
    """
    if settings.list is not None:
        try:
            wanted = set(Path(settings.list).read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"DATASET.train.long_tail.list: {settings.list}: cannot be read: {error}") from error
    else:
        by_split = {"xsub": "subject", "xview": "camera", "xset": "setup"}
        ids = ids_of(clips)
        of_ntu = all(map(_NTU_ID.search, ids))
        order = settings.order or (by_split.get((split or "").split("_")[0], "id") if of_ntu else "id")
        sizes = class_sizes(num_classes, settings.imbalance_factor, settings.max_per_class)
        wanted = set(draw(ids, labels_of(clips).tolist(), sizes, order, settings.seed))
    kept = only(clips, wanted)
    if not kept:
        raise UserError(f"DATASET.train.long_tail.list: {settings.list} names no sample of the split")
    return kept
