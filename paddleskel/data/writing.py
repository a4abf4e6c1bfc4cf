"""Annotation files: joined, and written so that every toolbox reads them."""

import pickle
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddleskel.data.annotation import AnnotationFile
from paddleskel.data.doctor import read_sample
from paddleskel.errors import UserError
from paddleskel.files import atomic_file

# What an annotation keeps when it is written; readers' notes to the steps before are left out.
_KEPT = ("frame_dir", "label", "total_frames", "keypoint", "keypoint_score", "img_shape", "original_shape")


def merge(files: Sequence[AnnotationFile]) -> dict[str, Any]:
    """Join annotation files into one file's content.

    Splits of one name are joined. Where the files have class names, classes are matched by them; otherwise labels mean
    the same in all of them. An id that stands in two files gets its file's name in front.

    Raises:
        UserError: a sample that cannot be read, different numbers of joints or coordinates, or class names in some
            files only.
    """
    for file in files:
        _check_samples(file)
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


def _check_samples(file: AnnotationFile) -> None:
    """What `tools/check_data.py --fix` mends may stand in it; what cannot be read at all may not."""
    for item in file.annotations:
        clip, problem = read_sample(item)
        if clip is None:
            name = _id(item) if isinstance(item, Mapping) else ""
            raise UserError(
                f"{file.path}: sample '{name}': {problem[1]}; leave it out first (tools/check_data.py --fix)"
            )
        if file.class_names and clip.label >= len(file.class_names):
            count = len(file.class_names)
            raise UserError(f"{file.path}: sample '{clip.id}': label {clip.label}, but there are {count} class names")


def _id(item: Mapping[str, Any]) -> str:
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
