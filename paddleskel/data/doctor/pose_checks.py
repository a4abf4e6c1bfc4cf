"""Checks of the poses themselves: what the samples hold, and their coordinates."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from paddleskel.data.doctor.findings import Check, Context, Finding, names_of

MOST = 0.5  # fraction of frames that may be empty
OUTSIDE = 0.05  # fraction of joints that may lie beyond the picture
TELEPORT = 0.02  # fraction of steps that may be jumps
MANY = 4  # people beyond whom the choice matters
LONG = 10  # times the median length
PIXELS = 3.0  # largest magnitude of coordinates that are normalised already
METRES = (0.2, 10.0)  # size of a body


# ---- content ----


def empty_samples(context: Context) -> Iterator[Finding]:
    yield from context.some("empty", lambda m: m.people == 0, "{n} of {all} samples hold nobody, only zeros")
    yield from context.some("one-frame", lambda m: m.seen_frames == 1, "{n} of {all} samples have one frame")
    yield from context.some(
        "mostly-empty",
        lambda m: 1 < m.seen_frames < MOST * m.frames,
        "{n} of {all} samples have nobody in most of their frames",
    )
    yield from context.some(
        "frozen",
        lambda m: m.seen_frames > 1 and not m.moves.any(),
        "in {n} of {all} samples no joint ever moves",
    )


def lengths(context: Context) -> Iterator[Finding]:
    if context.measures:
        usual = float(np.median([item.frames for item in context.measures]))
        yield from context.some(
            "long-outliers",
            lambda m: m.frames > LONG * usual,
            f"{{n}} of {{all}} samples are more than {LONG} times as long as usual ({usual:g} frames)",
        )


def people(context: Context) -> Iterator[Finding]:
    yield from context.some(
        "unused-person",
        lambda m: 0 < m.people < m.persons,
        "{n} of {all} samples have places for people who are never there",
    )
    yield from context.some(
        "many-people", lambda m: m.people > MANY, f"{{n}} of {{all}} samples have more than {MANY} people"
    )


def joints(context: Context) -> Iterator[Finding]:
    """Joints that are dead or doubled in the whole file."""
    shapes = Counter((item.joints, item.axes) for item in context.measures)
    if len(shapes) > 1:
        spoken = ", ".join(f"{v} joints in {c}D ({n} samples)" for (v, c), n in shapes.most_common())
        rare = [item for item in context.measures if (item.joints, item.axes) != shapes.most_common(1)[0][0]]
        yield Finding("mixed-joints", f"samples of different joints: {spoken}", names_of(rare))
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
    yield from context.some(
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
                names_of(sized),
            )
        return
    without = [item for item in flat if item.image_size is None]
    if without:
        yield Finding(
            "no-size", f"{len(without)} of {len(flat)} samples in pixels have no img_shape", names_of(without)
        )
    swapped = [item for item in flat if item.outside > OUTSIDE and item.outside_swapped < OUTSIDE / 5]
    if swapped:
        height, width = swapped[0].image_size
        yield Finding(
            "swapped-size",
            f"{len(swapped)} of {len(flat)} samples fit into a picture {width} high and "
            f"{height} wide, but img_shape says ({height}, {width}): is it (width, height)?",
            names_of(swapped),
        )
    rest = [item for item in flat if item.outside > OUTSIDE and item.outside_swapped >= OUTSIDE / 5]
    if rest:
        worst = max(item.outside for item in rest)
        yield Finding(
            "outside",
            f"{len(rest)} of {len(flat)} samples have joints far beyond the picture, up to {worst:.0%} of them",
            names_of(rest),
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
            names_of(scored),
        )
        return
    size = float(np.median([item.size for item in deep]))
    if size and not METRES[0] <= size <= METRES[1]:
        unit = "millimetres" if 200 < size < 10000 else "centimetres" if 20 < size <= 200 else "no metres"
        yield Finding("not-metres", f"bodies are {size:.4g} units across: {unit}?", names_of(deep))


def scores(context: Context) -> Iterator[Finding]:
    yield from context.some(
        "score-range",
        lambda m: m.score is not None and (m.score[0] < 0 or m.score[1] > 1.01),
        "{n} of {all} samples have confidences outside [0, 1]",
    )
    without = [item for item in context.measures if item.score is None]
    if 0 < len(without) < len(context.measures):
        yield Finding(
            "mixed-scores",
            f"{len(without)} of {len(context.measures)} samples have no keypoint_score, the others have",
            names_of(without),
        )


POSE_CHECKS: tuple[Check, ...] = (empty_samples, lengths, people, joints, teleports, picture, space, scores)
