"""What pose sequences need to become an annotation file: labels, splits, a frame rate."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.data.clip import interpolate
from paddleskel.errors import UserError
from paddleskel.files import open_text

Annotation = dict[str, Any]
Splits = dict[str, list[str]]


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file that are not blank."""
    with open_text(path) as lines:
        return [line.strip() for line in lines if line.strip()]


# ---- labels ----


def read_table(path: str | Path) -> dict[str, dict[str, str]]:
    """Read a CSV file with a header and a column `id`: {id, with and without a suffix: row}.

    Raises:
        UserError: no such file, no such column, or an id twice.
    """
    try:
        with open_text(path, newline="") as file:
            rows = [{key.strip().lower(): (value or "").strip() for key, value in row.items() if key}
                    for row in csv.DictReader(file)]  # fmt: skip
    except csv.Error as error:
        raise UserError(f"{path}: not a readable CSV file: {error}") from error
    table: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        if not row.get("id"):
            raise UserError(f"{path}: line {number} has no 'id'; the first line names the columns: id,label")
        if row["id"] in table:
            raise UserError(f"{path}: line {number}: '{row['id']}' stands in it twice")
        table[row["id"]] = row
    if not table:
        raise UserError(f"{path}: no rows; expected id,label and a row a sample")
    for name, row in list(table.items()):  # clip.json stands for clip, too
        table.setdefault(Path(name).with_suffix("").as_posix(), row)
    return table


def find_row(table: Mapping[str, dict[str, str]], name: str) -> dict[str, str] | None:
    """Return a sample's row: by its id, or by the last part of it."""
    return table.get(name) or table.get(name.rsplit("/", 1)[-1])


def set_labels(
    annotations: Sequence[Annotation],
    table: Mapping[str, dict[str, str]] | None = None,
    pattern: str | None = None,
    from_folder: bool = False,
    known_names: Sequence[str] | None = None,
) -> tuple[list[Annotation], list[str] | None, list[str]]:
    """Give every sample its label: from a table, from its id, from its folder, or its own.

    Args:
        table: rows with a column `label`, a number from 0 or a name.
        pattern: regular expression whose first group, searched in the id, is the label.
        from_folder: the first folder in the id is the label.
        known_names: class names in the order of their numbers; default: those found, sorted.

    Returns:
        The samples that have one, class names if labels are names, and the ids without a label.
    """
    found: list[tuple[Annotation, str | int]] = []
    without = []
    for item in annotations:
        label = _label_of(item, table, pattern, from_folder)
        if label in (None, ""):
            without.append(item["frame_dir"])
        else:
            found.append((item, label))
    texts = {str(label) for _, label in found}
    if all(text.isdigit() for text in texts) and not (known_names and texts & set(known_names)):
        labelled = [{**item, "label": int(label)} for item, label in found]
        own = {item["label"]: item["label_name"] for item in annotations if "label_name" in item and "label" in item}
        if known_names is None and own and sorted(own) == list(range(len(own))):
            known_names = [own[label] for label in sorted(own)]
        return labelled, list(known_names) if known_names else None, without
    names = list(known_names) if known_names else sorted(texts)
    unknown = sorted(texts - set(names))
    if unknown:
        raise UserError(f"label '{unknown[0]}' is not among the class names given ({', '.join(names[:8])}, ...)")
    return [{**item, "label": names.index(str(label))} for item, label in found], names, without


def _label_of(item: Annotation, table: Mapping | None, pattern: str | None, from_folder: bool) -> str | int | None:
    name = item["frame_dir"]
    if table is not None:
        row = find_row(table, name)
        return row.get("label") if row else None
    if pattern is not None:
        match = re.search(pattern, name)
        return (match[1] if match.re.groups else match[0]) if match else None
    if from_folder:
        return name.split("/")[0] if "/" in name else None
    return item.get("label", item.get("label_name"))


def map_labels(
    annotations: Sequence[Annotation], names: Sequence[str] | None, path: str | Path
) -> tuple[list[Annotation], list[str], int]:
    """Rename and join classes by a file with lines `old,new`; samples of classes that it does not name are left out.

    Returns:
        The samples kept, the new class names in the order in which the file first names them, and how many were left
        out.
    """
    pairs = [tuple(part.strip() for part in line.rsplit(",", 1)) for line in read_lines(path) if line[0] != "#"]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{path}: expected lines 'old,new', the name or number of a class and its new name")
    new_of, order = dict(pairs), list(dict.fromkeys(new for _, new in pairs))
    spoken = lambda label: names[label] if names and label < len(names) else str(label)
    kept = [
        {**item, "label": order.index(new)}
        for item in annotations
        if (new := new_of.get(spoken(item["label"]), new_of.get(str(item["label"])))) is not None
    ]
    if not kept:
        raise UserError(f"{path}: names no class of the data ({', '.join(names or [])})")
    return kept, order, len(annotations) - len(kept)


# ---- splits ----


def stratified(annotations: Sequence[Annotation], val_fraction: float = 0.2, seed: int = 0) -> Splits:
    """Draw the same fraction of every class for validation, at least one sample of those with two or more."""
    rng = np.random.RandomState(seed)
    chosen: set[str] = set()
    for label in sorted({item["label"] for item in annotations}):
        members = sorted(item["frame_dir"] for item in annotations if item["label"] == label)
        count = max(1, round(val_fraction * len(members))) if len(members) > 1 else 0
        chosen |= set(rng.permutation(members)[:count].tolist())
    return _two_splits(annotations, chosen)


def by_subject(
    annotations: Sequence[Annotation],
    subject_of: Mapping[str, str],
    val_subjects: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Keep each subject's samples together: the subjects given, or a drawn fraction of them, validate."""
    subjects = sorted(set(subject_of.values()))
    if val_subjects is None:
        count = max(1, round(val_fraction * len(subjects)))
        val_subjects = np.random.RandomState(seed).permutation(subjects)[:count].tolist()
    unknown = [subject for subject in val_subjects if subject not in subjects]
    if unknown:
        raise UserError(f"--val_subjects: no sample of subject '{unknown[0]}'; there are {', '.join(subjects[:20])}")
    if len(set(val_subjects)) == len(subjects):
        raise UserError(f"--split subject: all {len(subjects)} subjects would validate, and none train")
    return _two_splits(annotations, {name for name, subject in subject_of.items() if subject in set(val_subjects)})


def _two_splits(annotations: Sequence[Annotation], validating: set[str]) -> Splits:
    names = [item["frame_dir"] for item in annotations]
    return {
        "train": [name for name in names if name not in validating],
        "val": [name for name in names if name in validating],
    }


def find_subjects(
    annotations: Sequence[Annotation], table: Mapping[str, dict[str, str]] | None, pattern: str | None
) -> dict[str, str]:
    """{id: subject} from a table's column `subject` or a pattern searched in the ids.

    Raises:
        UserError: a sample whose subject is not known.
    """
    subjects = {}
    for item in annotations:
        name = item["frame_dir"]
        row = find_row(table, name) if table is not None else None
        subject = (row or {}).get("subject")
        if not subject and pattern is not None and (match := re.search(pattern, name)):
            subject = match[1] if match.re.groups else match[0]
        if not subject:
            raise UserError(
                f"--split subject: sample '{name}' has no subject; give --subject_pattern, a regular expression for "
                "ids, or a column 'subject' in --labels"
            )
        subjects[name] = subject
    return subjects


def from_lists(annotations: Sequence[Annotation], lists: Mapping[str, str]) -> tuple[Splits, dict[str, int]]:
    """Splits from text files with one id a line; {split: ids that are not among the samples} comes with them."""
    names = {item["frame_dir"]: item["frame_dir"] for item in annotations}
    names |= {name.rsplit("/", 1)[-1]: name for name in names}
    splits, lacking = {}, {}
    for split, path in lists.items():
        ids = read_lines(path)
        splits[split] = [names[name] for name in ids if name in names]
        lacking[split] = len(ids) - len(splits[split])
        if not splits[split]:
            raise UserError(f"{path}: none of its {len(ids)} ids is among the samples")
    return splits, lacking


def native_splits(annotations: Sequence[Annotation], table: Mapping[str, dict[str, str]] | None) -> Splits:
    """The splits that a table's column `split` or the format itself gives."""
    splits: Splits = {}
    for item in annotations:
        row = find_row(table, item["frame_dir"]) if table is not None else None
        split = (row or {}).get("split") or item.get("split")
        if split:
            splits.setdefault(str(split), []).append(item["frame_dir"])
    return splits


# ---- time ----


def resample(annotation: Annotation, fps: float, to_fps: float) -> Annotation:
    """Change the frame rate: joints seen on both sides are interpolated, others taken from the nearer frame.

    Raises:
        UserError: a rate that is not positive.
    """
    if not (0 < fps < np.inf and 0 < to_fps < np.inf):
        raise UserError(f"--fps, --to_fps: frame rates must be positive, not {fps:g} and {to_fps:g}")
    points = np.asarray(annotation["keypoint"])
    total = points.shape[1]
    times = np.arange(max(1, round(total * to_fps / fps))) * fps / to_fps
    times = np.minimum(times, total - 1)
    changed = {**annotation, "keypoint": interpolate(points, times).astype(points.dtype), "total_frames": len(times)}
    if annotation.get("keypoint_score") is not None:
        score = np.asarray(annotation["keypoint_score"])
        changed["keypoint_score"] = interpolate(score[..., None], times)[..., 0].astype(score.dtype)
    return changed
