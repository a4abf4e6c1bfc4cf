"""Checks of the set: labels, samples that are the same, and splits."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from paddleskel.data.doctor.findings import Check, Context, Finding

RARE = 3  # samples a class needs
IMBALANCE = 20  # largest over smallest class


# ---- labels ----


def labels(context: Context) -> Iterator[Finding]:
    yield from context.some("no-label", lambda m: m.label < 0, "{n} of {all} samples have no label")
    count = Counter(item.label for item in context.measures if item.label >= 0)
    if not count:
        return
    limit = context.num_classes
    if limit is not None:
        yield from context.some(
            "label-range",
            lambda m: m.label >= limit,
            f"{{n}} of {{all}} samples have labels beyond {limit - 1}, as num_classes is {limit}",
        )
    names = context.class_names
    if names is not None and max(count) >= len(names):
        yield Finding("class-names", f"there are labels up to {max(count)}, but {len(names)} class names")
    if len(count) == 1 and len(context.measures) > 1:
        yield Finding("one-class", f"all samples have the label {next(iter(count))}")
        return
    missing = [label for label in range(max(count)) if label not in count]
    if missing and max(count) < 10 * len(count) + 1000:
        yield Finding(
            "label-gap",
            f"no sample has the labels {', '.join(map(str, missing[:10]))}"
            + (f" and {len(missing) - 10} more" if len(missing) > 10 else ""),
            tuple(map(str, missing)),
        )
    rare = [label for label, number in sorted(count.items()) if number < RARE]
    if rare:
        yield Finding(
            "few-samples",
            f"{len(rare)} of {len(count)} classes have fewer than {RARE} samples: {', '.join(map(str, rare[:10]))}",
            tuple(map(str, rare)),
        )
    if max(count.values()) > IMBALANCE * min(count.values()):
        yield Finding(
            "imbalance", f"the largest class has {max(count.values())} samples, the smallest {min(count.values())}"
        )


# ---- identity and splits ----


def duplicates(context: Context) -> Iterator[Finding]:
    twice = [name for name, number in Counter(context.all_ids).items() if number > 1]
    if twice:
        yield Finding("duplicate-id", f"{len(twice)} ids stand for several samples", tuple(twice))
    same: dict[bytes, list[str]] = defaultdict(list)
    for item in context.measures:
        if item.people:
            same[item.digest].append(item.id)
    groups = [names for names in same.values() if len(names) > 1]
    if not groups:
        return
    leaking, plain = [], []
    pairs = [(set(context.splits[a]), set(context.splits[b]), f"{a}/{b}") for a, b in split_pairs(context.splits)]
    for names in groups:
        crossing = any(any(n in a for n in names) and any(n in b for n in names) for a, b, _ in pairs)
        (leaking if crossing else plain).append(names)
    if leaking:
        first = " = ".join(leaking[0][:3])
        yield Finding(
            "leak",
            f"{len(leaking)} movements are, number for number, in a training split and in its test "
            f"split under different ids, such as {first}",
            _flat(leaking),
        )
    if plain:
        extra = sum(len(names) - 1 for names in plain)
        yield Finding(
            "duplicate-content",
            f"{extra} samples are, number for number, copies of others, such as {' = '.join(plain[0][:3])}",
            _flat(plain),
        )


def _flat(groups: list[list[str]]) -> tuple[str, ...]:
    return tuple(name for names in groups for name in names)


_ROLE = re.compile(r"^(?P<stem>.*?)[_-]?(?P<role>train|val|valid|test|eval)(?P<tail>\d*)$", re.IGNORECASE)


def split_pairs(splits: Sequence[str]) -> list[tuple[str, str]]:
    """(training split, test split) pairs by their names: train/val, xsub_train/xsub_val, train1/test1."""
    roles = {name: match for name in splits if (match := _ROLE.match(name))}
    key = lambda match: (match["stem"], match["tail"])
    return [
        (a, b)
        for a, one in roles.items()
        for b, other in roles.items()
        if one["role"].lower() == "train" and other["role"].lower() != "train" and key(one) == key(other)
    ]


def splits(context: Context) -> Iterator[Finding]:
    known = set(context.all_ids)
    label = {item.id: item.label for item in context.measures if item.label >= 0}
    for name, ids in context.splits.items():
        ghosts = [item for item in ids if item not in known]
        if ghosts:
            yield Finding(
                "split-unknown", f"split '{name}': {len(ghosts)} of {len(ids)} ids are not in the file", tuple(ghosts)
            )
        if len(ghosts) == len(ids):
            yield Finding("split-empty", f"split '{name}' has no sample", (name,))
    for train, test in split_pairs(context.splits):
        both = set(context.splits[train]) & set(context.splits[test])
        if both:
            yield Finding("split-overlap", f"{len(both)} samples are in '{train}' and in '{test}'", tuple(sorted(both)))
        trained = {label[name] for name in context.splits[train] if name in label}
        tested = {label[name] for name in context.splits[test] if name in label}
        for kind, lacking, here, there in (
            ("class-not-trained", tested - trained, test, train),
            ("class-not-tested", trained - tested, train, test),
        ):
            if trained and tested and lacking:
                names = tuple(map(str, sorted(lacking)))
                yield Finding(kind, f"classes {', '.join(names[:10])} are in '{here}' but not in '{there}'", names)
    if context.splits:
        used = {name for ids in context.splits.values() for name in ids}
        unused = [item.id for item in context.measures if item.id not in used]
        if unused:
            yield Finding(
                "no-split", f"{len(unused)} of {len(context.measures)} samples are in no split", tuple(unused)
            )


SET_CHECKS: tuple[Check, ...] = (labels, duplicates, splits)
