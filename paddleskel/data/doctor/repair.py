"""Mend what can be mended without guessing."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from paddleskel.data.annotation import AnnotationFile, parse_annotation
from paddleskel.data.doctor import finite, trimmed
from paddleskel.data.doctor.measures import measure
from paddleskel.data.doctor.pose_checks import OUTSIDE
from paddleskel.data.doctor.set_checks import split_pairs
from paddleskel.errors import UserError

Item = dict[str, Any]


def repair(file: AnnotationFile) -> tuple[dict[str, Any], list[str]]:
    """Return a file's content without what --fix mends, and what was done, in sentences.

    Values that are not finite become 0; total_frames, (width, height) sizes and confidences are put right; samples
    that hold nothing, cannot be read or have no label are left out, and so are exact copies; ids that stand for
    several samples are numbered; what is trained on and tested on stays in the test split only; labels are renumbered
    without gaps.
    """
    done: Counter[str] = Counter()
    items = [fixed for item in file.annotations if (fixed := _mend(item, done)) is not None]
    items = _without_copies(items, file.splits, done)
    items, splits = _number(items, file.splits, done)
    splits = _clean_splits(items, splits, done)
    names = file.class_names
    items, names = _renumber_labels(items, names, done)
    if any("keypoint_score" in item for item in items) and not all("keypoint_score" in item for item in items):
        without = sum("keypoint_score" not in item for item in items)
        done["given confidences of 1 where joints were found, as the other samples have confidences"] = without
        items = [_scored(item) for item in items]
    if not items:
        raise UserError(f"{file.path}: no sample is left after mending; nothing was written")
    content = {"split": splits, "annotations": items} | ({"class_names": names} if names else {})
    return content, [f"{count} {what}" for what, count in done.items() if count]


def _mend(item: Any, done: Counter) -> Item | None:
    """One sample put right, or None where it has to be left out."""
    if not isinstance(item, Mapping) or "keypoint" not in item:
        done["samples without keypoint left out"] += 1
        return None
    try:
        points = np.asarray(item["keypoint"])
        fixed = dict(item)
        if points.ndim == 4 and points.size:
            if np.asarray(trimmed(item).get("total_frames", 0)) != np.asarray(item.get("total_frames", 0)):
                done["total_frames set to the number of frames"] += 1
            fixed = trimmed(item)
            score = item.get("keypoint_score")
            arrays = [np.asarray(array) for array in (points, score) if array is not None]
            if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays):
                done["samples with NaN or infinite values set to 0 there"] += 1
            if points.dtype.kind == "f":
                fixed = finite(fixed)
            if score is not None and np.asarray(score).dtype.kind == "f":
                clipped = np.clip(fixed["keypoint_score"], 0, 1)
                done["samples with confidences brought into [0, 1]"] += int((clipped != fixed["keypoint_score"]).any())
                fixed["keypoint_score"] = clipped.astype(np.asarray(score).dtype)
        clip = parse_annotation(fixed, "")
    except (UserError, ValueError, TypeError):
        done["samples that cannot be read, or have no label, left out"] += 1
        return None
    measures = measure(clip)
    if not measures.people:
        done["samples that hold nobody left out"] += 1
        return None
    if measures.outside > OUTSIDE and measures.outside_swapped < OUTSIDE / 5:
        fixed["img_shape"] = fixed["original_shape"] = clip.image_size[::-1]
        done["sizes given as (width, height) turned into (height, width)"] += 1
    present = clip.keypoint.any(axis=(1, 2, 3))
    if not present.all():
        fixed["keypoint"] = np.asarray(fixed["keypoint"])[present]
        if fixed.get("keypoint_score") is not None:
            fixed["keypoint_score"] = np.asarray(fixed["keypoint_score"])[present]
        done["samples without places for people who are never there"] += 1
    if fixed.get("keypoint_score") is None:
        fixed.pop("keypoint_score", None)
    fixed["frame_dir"] = clip.id
    fixed.pop("filename", None)
    return fixed


def _content(item: Item) -> tuple:
    score = item.get("keypoint_score")
    points = np.asarray(item["keypoint"])
    return points.shape, points.tobytes(), None if score is None else np.asarray(score).tobytes()


def _without_copies(items: list[Item], splits: Mapping[str, list[str]], done: Counter) -> list[Item]:
    """Keep one of each group of identical samples: one that is tested on, where there is one."""
    tested = {name for pair in split_pairs(splits) for name in splits[pair[1]]}
    best: dict[tuple, Item] = {}
    for item in items:
        key = _content(item)
        if key not in best or (item["frame_dir"] in tested and best[key]["frame_dir"] not in tested):
            best[key] = item
    kept = {id(item) for item in best.values()}
    if len(kept) < len(items):
        done["exact copies of other samples left out"] = len(items) - len(kept)
    return [item for item in items if id(item) in kept]


def _number(items: list[Item], splits: Mapping[str, list[str]], done: Counter) -> tuple[list[Item], dict]:
    """Give samples of one id numbers; all of them stay in the splits of the id."""
    count = Counter(item["frame_dir"] for item in items)
    new_names: dict[str, list[str]] = {}
    changed = []
    for item in items:
        name = item["frame_dir"] or "sample"
        number = len(new_names.setdefault(item["frame_dir"], []))
        taken = name if count[item["frame_dir"]] == 1 and item["frame_dir"] else f"{name}_{number}"
        new_names[item["frame_dir"]].append(taken)
        changed.append({**item, "frame_dir": taken})
    renamed = sum(number for name, number in count.items() if number > 1 or not name)
    if renamed:
        done["samples given ids of their own"] = renamed
    return changed, {name: [new for old in ids for new in new_names.get(old, [old])] for name, ids in splits.items()}


def _clean_splits(items: list[Item], splits: Mapping[str, list[str]], done: Counter) -> dict[str, list[str]]:
    known = {item["frame_dir"] for item in items}
    clean = {split: [name for name in dict.fromkeys(ids) if name in known] for split, ids in splits.items()}
    ghosts = sum(len(ids) for ids in splits.values()) - sum(len(ids) for ids in clean.values())
    if ghosts:
        done["ids without a sample removed from splits"] = ghosts
    for train, test in split_pairs(clean):
        both = set(clean[train]) & set(clean[test])
        clean[train] = [name for name in clean[train] if name not in both]
        if both:
            done[f"samples of '{test}' removed from '{train}'"] = len(both)
    empty = [name for name, ids in clean.items() if not ids]
    if empty:
        done["splits without a sample removed"] = len(empty)
    return {name: ids for name, ids in clean.items() if ids}


def _renumber_labels(items: list[Item], names: list[str] | None, done: Counter) -> tuple[list[Item], list[str] | None]:
    """Labels 0, 1, ... in the old order; where there are class names the gaps stay, as the names say what they are."""
    labels = sorted({int(np.asarray(item["label"]).reshape(())) for item in items})
    if names is not None or labels == list(range(len(labels))):
        return items, names
    new = {label: number for number, label in enumerate(labels)}
    done[f"classes renumbered without gaps: {', '.join(f'{a} -> {b}' for a, b in new.items() if a != b)}"] = len(labels)
    return [{**item, "label": new[int(np.asarray(item["label"]).reshape(()))]} for item in items], names


def _scored(item: Item) -> Item:
    if "keypoint_score" in item:
        return item
    points = np.asarray(item["keypoint"])
    return {**item, "keypoint_score": points.any(axis=-1).astype(points.dtype)}
