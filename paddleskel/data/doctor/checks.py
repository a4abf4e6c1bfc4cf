"""The checks: each looks at one side of the data and yields what it finds."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from paddleskel.data.doctor.findings import Context, Finding
from paddleskel.data.doctor.measures import Measures

Check = Callable[[Context], Iterator[Finding]]

MOST = 0.5  # fraction of frames that may be empty
OUTSIDE = 0.05  # fraction of joints that may lie beyond the picture
TELEPORT = 0.02  # fraction of steps that may be jumps
MANY = 4  # people beyond whom the choice matters
LONG = 10  # times the median length
PIXELS = 3.0  # largest magnitude of coordinates that are normalised already
METRES = (0.2, 10.0)  # size of a body
RARE = 3  # samples a class needs
IMBALANCE = 20  # largest over smallest class


def _names(found: Sequence[Measures]) -> tuple[str, ...]:
    return tuple(item.id for item in found)


def _some(context: Context, kind: str, test: Callable[[Measures], bool], text: str) -> Iterator[Finding]:
    """A finding for the samples that a test holds for; `{n}` and `{all}` in the text are their numbers."""
    found = [item for item in context.measures if test(item)]
    if found:
        yield Finding(kind, text.format(n=len(found), all=len(context.measures)), _names(found))


def _flat(groups: list[list[str]]) -> tuple[str, ...]:
    return tuple(name for names in groups for name in names)


# ---- content ----


def empty_samples(context: Context) -> Iterator[Finding]:
    yield from _some(context, "empty", lambda m: m.people == 0, "{n} of {all} samples hold nobody, only zeros")
    yield from _some(context, "one-frame", lambda m: m.seen_frames == 1, "{n} of {all} samples have one frame")
    yield from _some(
        context,
        "mostly-empty",
        lambda m: 1 < m.seen_frames < MOST * m.frames,
        "{n} of {all} samples have nobody in most of their frames",
    )
    yield from _some(
        context,
        "frozen",
        lambda m: m.seen_frames > 1 and not m.moves.any(),
        "in {n} of {all} samples no joint ever moves",
    )


def lengths(context: Context) -> Iterator[Finding]:
    if context.measures:
        usual = float(np.median([item.frames for item in context.measures]))
        yield from _some(
            context,
            "long-outliers",
            lambda m: m.frames > LONG * usual,
            f"{{n}} of {{all}} samples are more than {LONG} times as long as usual ({usual:g} frames)",
        )


def people(context: Context) -> Iterator[Finding]:
    yield from _some(
        context,
        "unused-person",
        lambda m: 0 < m.people < m.persons,
        "{n} of {all} samples have places for people who are never there",
    )
    yield from _some(
        context, "many-people", lambda m: m.people > MANY, f"{{n}} of {{all}} samples have more than {MANY} people"
    )


def joints(context: Context) -> Iterator[Finding]:
    """Joints that are dead or doubled in the whole file."""
    shapes = Counter((item.joints, item.axes) for item in context.measures)
    if len(shapes) > 1:
        spoken = ", ".join(f"{v} joints in {c}D ({n} samples)" for (v, c), n in shapes.most_common())
        rare = [item for item in context.measures if (item.joints, item.axes) != shapes.most_common(1)[0][0]]
        yield Finding("mixed-joints", f"samples of different joints: {spoken}", _names(rare))
        return
    lively = [item for item in context.measures if item.moves.any()]
    if len(shapes) == 0 or not lively:
        return
    count = next(iter(shapes))[0]
    layout = context.layout
    if layout is not None and count != layout.num_joints:
        yield Finding(
            "wrong-layout", f"the data have {count} joints, the layout '{layout.name}' has {layout.num_joints}"
        )
        layout = None
    spoken = lambda joint: f"{joint}" + (f" ({layout.joints[joint]})" if layout is not None else "")
    found = np.any([item.found for item in context.measures], axis=0)
    moves = np.any([item.moves for item in lively], axis=0)
    dead = np.flatnonzero(~(found & moves))
    if len(dead):
        listed = ", ".join(map(spoken, dead))
        yield Finding(
            "dead-joint", f"joint {listed}: never found or never moving, in any sample", tuple(map(spoken, dead))
        )
    pairs = Counter(tuple(pair) for item in lively for pair in item.twins.tolist())
    always = sorted(
        pair for pair, times in pairs.items() if times == len(lively) and not set(pair) & set(dead.tolist())
    )
    if always:
        listed = ", ".join(f"{spoken(a)} and {spoken(b)}" for a, b in always)
        yield Finding(
            "twin-joints", f"joints {listed} are always at the same place", tuple(f"{a}-{b}" for a, b in always)
        )


def teleports(context: Context) -> Iterator[Finding]:
    yield from _some(
        context,
        "teleport",
        lambda m: m.jumps[0] > TELEPORT and m.jumps[1] > 5,
        f"in {{n}} of {{all}} samples more than {TELEPORT:.0%} of the joints' steps jump by half a body",
    )


# ---- coordinates ----


def picture(context: Context) -> Iterator[Finding]:
    """2D data against the size of the picture."""
    flat = [item for item in context.measures if item.axes == 2 and item.people]
    if not flat or not context.image_sizes_needed:
        return
    largest = np.array([max(np.abs(item.low).max(), np.abs(item.high).max()) for item in flat])
    if np.median(largest) <= PIXELS:
        sized = [item for item in flat if item.image_size is not None]
        if sized:
            yield Finding(
                "not-pixels",
                f"coordinates reach {largest.max():.3g} only, so they are normalised already, "
                "but the samples have img_shape",
                _names(sized),
            )
        return
    without = [item for item in flat if item.image_size is None]
    if without:
        yield Finding("no-size", f"{len(without)} of {len(flat)} samples in pixels have no img_shape", _names(without))
    swapped = [item for item in flat if item.outside > OUTSIDE and item.outside_swapped < OUTSIDE / 5]
    if swapped:
        height, width = swapped[0].image_size
        yield Finding(
            "swapped-size",
            f"{len(swapped)} of {len(flat)} samples fit into a picture {width} high and "
            f"{height} wide, but img_shape says ({height}, {width}): is it (width, height)?",
            _names(swapped),
        )
    rest = [item for item in flat if item.outside > OUTSIDE and item.outside_swapped >= OUTSIDE / 5]
    if rest:
        worst = max(item.outside for item in rest)
        yield Finding(
            "outside",
            f"{len(rest)} of {len(flat)} samples have joints far beyond the picture, up to {worst:.0%} of them",
            _names(rest),
        )


def space(context: Context) -> Iterator[Finding]:
    """The units of 3D data, and whether they are 3D."""
    deep = [item for item in context.measures if item.axes == 3 and item.people]
    if not deep:
        return
    scored = [item for item in deep if item.depth_like_score]
    if len(scored) == len(deep) and max(item.high[:2].max() for item in deep) > PIXELS:
        yield Finding(
            "score-as-z",
            "the third coordinate lies in [0, 1] throughout, the others do not: a confidence?",
            _names(scored),
        )
        return
    size = float(np.median([item.size for item in deep]))
    if size and not METRES[0] <= size <= METRES[1]:
        unit = "millimetres" if 200 < size < 10000 else "centimetres" if 20 < size <= 200 else "no metres"
        yield Finding("not-metres", f"bodies are {size:.4g} units across: {unit}?", _names(deep))


def scores(context: Context) -> Iterator[Finding]:
    yield from _some(
        context,
        "score-range",
        lambda m: m.score is not None and (m.score[0] < 0 or m.score[1] > 1.01),
        "{n} of {all} samples have confidences outside [0, 1]",
    )
    without = [item for item in context.measures if item.score is None]
    if 0 < len(without) < len(context.measures):
        yield Finding(
            "mixed-scores",
            f"{len(without)} of {len(context.measures)} samples have no keypoint_score, the others have",
            _names(without),
        )


# ---- labels ----


def labels(context: Context) -> Iterator[Finding]:
    yield from _some(context, "no-label", lambda m: m.label < 0, "{n} of {all} samples have no label")
    count = Counter(item.label for item in context.measures if item.label >= 0)
    if not count:
        return
    limit = context.num_classes
    if limit is not None:
        yield from _some(
            context,
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


CHECKS: tuple[Check, ...] = (
    empty_samples,
    lengths,
    people,
    joints,
    teleports,
    picture,
    space,
    scores,
    labels,
    duplicates,
    splits,
)
