"""Annotation files: PYSKL's, MMAction2's and PaddleVideo's pickles, read safely and checked field by field.

Three forms are read: {"split": {name: [id, ...]}, "annotations": [annotation, ...]}, a bare list of annotations, and a
single annotation. An annotation is a mapping with

    frame_dir (or filename)  str          the sample's id
    keypoint                 (M, T, V, C) coordinates, any real type
    label                    int          class index from 0 (not needed for prediction)
    keypoint_score           (M, T, V)    optional confidences
    img_shape                (h, w)       pixels, height first; 2D only
    total_frames             int          optional; frames beyond it are padding
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.safe_pickle import read_pickle
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import Layout


@dataclass(frozen=True)
class AnnotationFile:
    """A parsed file: raw annotations, the ids of each split, and class names if the file has them."""

    path: str
    annotations: list[Mapping]
    splits: dict[str, list[str]] = field(default_factory=dict)
    class_names: list[str] | None = None

    def select(self, split: str | None) -> list[Mapping]:
        """Return the annotations of a split in the file's order; all of them for None.

        Raises:
            UserError: unknown split (the message lists those there are), or no sample in it.
        """
        if split is None:
            chosen = self.annotations
        elif split not in self.splits:
            known = f"it has {', '.join(self.splits)}" if self.splits else "the file has no splits"
            raise UserError(f"{self.path}: no split '{split}'; {known}")
        else:
            wanted = set(self.splits[split])
            chosen = [item for item in self.annotations if _sample_id(item) in wanted]
        if not chosen:
            raise UserError(f"{self.path}: {f'split {split!r}' if split else 'the file'} holds no sample")
        return chosen


def _sample_id(annotation: Any) -> str:
    name = annotation.get("frame_dir", annotation.get("filename", "")) if isinstance(annotation, Mapping) else ""
    return str(name)


def read_annotations(path: str | Path) -> AnnotationFile:
    """Read an annotation pickle in any of its three forms."""
    content = read_pickle(path)
    path = str(path)
    if isinstance(content, Mapping) and "annotations" in content:
        splits = content.get("split") or {}
        if not isinstance(splits, Mapping) or not all(hasattr(ids, "__iter__") for ids in splits.values()):
            raise UserError(f"{path}: 'split' must map each split's name to a list of sample ids")
        names = content.get("class_names")
        content, splits = content["annotations"], {str(name): [str(i) for i in ids] for name, ids in splits.items()}
        names = None if names is None else [str(name) for name in names]
    elif isinstance(content, Mapping) and "keypoint" in content:
        content, splits, names = [content], {}, None
    else:
        splits, names = {}, None
    if not isinstance(content, (list, tuple)):
        raise UserError(
            f"{path}: not an annotation file: expected a mapping with 'split' and 'annotations', a list of annotations "
            f"or one annotation with 'keypoint', found {_spoken(content)}"
        )
    return AnnotationFile(path, list(content), splits, names)


def _spoken(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a mapping with the keys {', '.join(map(str, list(content)[:6])) or '(none)'}"
    return f"a {type(content).__name__}"


def parse_annotation(
    annotation: Any, where: str, layout: Layout | None = None, num_classes: int | None = None, need_label: bool = True
) -> Clip:
    """Check one annotation and return it as a Clip (arrays are not copied).

    Args:
        where: file name for messages; the sample's id is added.
        layout: if given, the joints must be as many.
        num_classes: if given, the label must lie below it.
        need_label: whether a missing label is an error.
    """
    if not isinstance(annotation, Mapping):
        raise UserError(f"{where}: an annotation must be a mapping, found {_spoken(annotation)}")
    name = _sample_id(annotation)
    where = f"{where}: sample '{name or '(no frame_dir)'}'"
    if "keypoint" not in annotation:
        raise UserError(f"{where}: no 'keypoint'; found {', '.join(map(str, annotation)) or 'nothing'}")
    keypoint = _real_array(annotation["keypoint"], f"{where}: keypoint")
    if keypoint.ndim != 4:
        raise UserError(
            f"{where}: keypoint: expected (persons, frames, joints, coordinates), found shape {keypoint.shape}"
        )
    if layout is not None and keypoint.shape[2] != layout.num_joints:
        raise UserError(
            f"{where}: keypoint has {keypoint.shape[2]} joints, but the layout '{layout.name}' has "
            f"{layout.num_joints}; set `layout` to the skeleton of this file"
        )
    if keypoint.shape[3] not in (2, 3):
        raise UserError(f"{where}: keypoint has {keypoint.shape[3]} coordinates a joint; expected 2 or 3")
    frames = _frame_count(annotation, keypoint, where)
    score = annotation.get("keypoint_score")
    if score is not None:
        score = _real_array(score, f"{where}: keypoint_score")
        if score.shape != keypoint.shape[:3]:
            raise UserError(
                f"{where}: keypoint_score: expected shape {keypoint.shape[:3]} to go with keypoint, found {score.shape}"
            )
        score = score[:, :frames]
    return Clip(
        keypoint=keypoint[:, :frames],
        score=score,
        label=_label(annotation, where, num_classes, need_label),
        id=name,
        image_size=_image_size(annotation.get("img_shape"), where),
    )


def _real_array(value: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UserError(f"{where}: not an array of one shape (persons of different lengths?)") from error
    if array.dtype.kind not in "fiu":
        raise UserError(f"{where}: expected numbers, found {array.dtype}")
    if array.size == 0:
        raise UserError(f"{where}: empty, shape {array.shape}; leave the sample out of the file")
    if array.dtype.kind == "f" and not np.isfinite(array.sum(dtype=np.float64)):
        bad = array.size - np.count_nonzero(np.isfinite(array))
        raise UserError(
            f"{where}: {bad} of {array.size} values are NaN or infinite; replace them, by 0 where a joint was not seen"
        )
    return array if array.dtype in (np.float16, np.float32) else array.astype(np.float32)


def _frame_count(annotation: Mapping, keypoint: np.ndarray, where: str) -> int:
    total = annotation.get("total_frames")
    if total is None:
        return keypoint.shape[1]
    if not isinstance(total, (int, np.integer)) or not 0 < total <= keypoint.shape[1]:
        raise UserError(f"{where}: total_frames is {total!r}, but keypoint has {keypoint.shape[1]} frames")
    return int(total)


def _label(annotation: Mapping, where: str, num_classes: int | None, need_label: bool) -> int:
    label = annotation.get("label")
    if label is None:
        if need_label:
            raise UserError(f"{where}: no 'label'")
        return -1
    try:
        label = np.asarray(label)
    except ValueError:  # parts of different lengths
        label = np.empty(0)
    if label.size != 1 or label.dtype.kind not in "iu":
        raise UserError(f"{where}: label: expected one whole number, found {annotation['label']!r}")
    label = int(label.reshape(()))
    if label < 0 or (num_classes is not None and label >= num_classes):
        allowed = f"0 to {num_classes - 1}, as num_classes is {num_classes}" if num_classes else "0 and up"
        raise UserError(f"{where}: label {label} is outside {allowed}")
    return label


def _image_size(value: Any, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        size = np.asarray(value)
    except ValueError:  # parts of different lengths
        size = np.empty(0)
    if size.shape != (2,) or size.dtype.kind not in "fiu" or not (size > 0).all():
        raise UserError(f"{where}: img_shape: expected (height, width), found {value!r}")
    return int(size[0]), int(size[1])
