"""From pose sequences to an annotation file: labels, splits, frame rates, merging, writing."""

import csv
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddleskel.data.annotation import AnnotationFile
from paddleskel.data.clip import interpolate
from paddleskel.errors import UserError
from paddleskel.files import atomic_file, open_text

Annotation = dict[str, Any]
Splits = dict[str, list[str]]

# What an annotation keeps when it is written; readers' notes to the steps in this file are left out.
_KEPT = ("frame_dir", "label", "total_frames", "keypoint", "keypoint_score", "img_shape", "original_shape")


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


# ---- files ----


def merge(files: Sequence[AnnotationFile]) -> dict[str, Any]:
    """Join annotation files into one file's content.

    Splits of one name are joined. Where the files have class names, classes are matched by them; otherwise labels mean
    the same in all of them. An id that stands in two files gets its file's name in front.

    Raises:
        UserError: different numbers of joints or coordinates, or class names in some files only.
    """
    named = [file for file in files if file.class_names]
    if named and len(named) < len(files):
        bare = next(file for file in files if not file.class_names)
        raise UserError(f"{bare.path}: has no class names, {named[0].path} has: their labels cannot be compared")
    names = list(dict.fromkeys(name for file in named for name in file.class_names))
    count = Counter(_id(item) for file in files for item in file.annotations)
    annotations, splits, shapes = [], {}, {}
    for file in files:
        stem = Path(file.path).stem
        renamed = {name: f"{stem}/{name}" if count[name] > 1 else name for name in map(_id, file.annotations)}
        for item in file.annotations:
            shape = np.shape(item["keypoint"])[2:]
            shapes.setdefault(shape, file.path)
            if len(shapes) > 1:
                (first, one), (second, other) = list(shapes.items())[:2]
                raise UserError(f"{one} has joints x coordinates {first}, {other} {second}; they need --remap first")
            label = item.get("label")
            if named and label is not None:
                label = names.index(file.class_names[int(label)])
            changed = {**item, "frame_dir": renamed[_id(item)]}
            annotations.append(changed if label is None else {**changed, "label": label})
        for split, ids in file.splits.items():
            splits.setdefault(split, []).extend(renamed.get(name, name) for name in ids)
    twice = [name for name, times in Counter(map(_id, annotations)).items() if times > 1]
    if twice:
        raise UserError(f"merge: '{twice[0]}' stands in one file twice, or two files have the same name")
    return {"split": splits, "annotations": annotations} | ({"class_names": names} if named else {})


def _id(item: Annotation) -> str:
    return str(item.get("frame_dir", item.get("filename", "")))


def write_annotations(path: Path, content: Mapping[str, Any]) -> None:
    """Write an annotation file.

    Raises:
        UserError: an id that stands in it twice, or a place that cannot be written to.
    """
    count = Counter(_id(item) for item in content["annotations"])
    twice = [name for name, times in count.items() if times > 1]
    if twice:
        raise UserError(f"{path}: {len(twice)} ids stand for several samples, such as '{twice[0]}'; not written")
    kept = [{key: _plain(item[key]) for key in _KEPT if key in item} for item in content["annotations"]]
    with atomic_file(path) as file:
        dump_portably({**content, "annotations": kept}, file)


def dump_portably(content: Any, file: BinaryIO) -> None:
    """Pickle arrays and plain values so that any numpy reads them: numpy 2 renamed the functions that a pickle names,
    and numpy before 1.26, which the toolboxes of old need, does not know their new names.
    """
    functions = [np.zeros(1).__reduce__()[0], np.int64(0).__reduce__()[0]]
    names = [function.__module__ for function in functions]
    try:
        for function, name in zip(functions, names):
            function.__module__ = name.replace("numpy._core", "numpy.core")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # numpy 2 on being asked for the old names
            pickle.dump(content, file, protocol=4)
    finally:
        for function, name in zip(functions, names):
            function.__module__ = name


def _plain(value: Any) -> Any:
    """Arrays as plain arrays: those read from a pickle are of a class of the reader's."""
    return np.asarray(value) if isinstance(value, np.ndarray) else value
