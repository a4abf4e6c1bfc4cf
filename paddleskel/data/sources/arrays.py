"""Data sets as one array: (N, C, T, V, M) with label pickles (ST-GCN, 2s-AGCN, NVIDIA TAO, PaddleVideo), or an npz with
training and test arrays (CTR-GCN).

    train_data.npy or train_data_joint.npy with train_label.pkl (names, labels), train_label.npy or a plain list
    NTU60_CS.npz: x_train (N, T, M * V * C), y_train (N, classes) one-hot, x_test, y_test

An array named train, val or test becomes a split of that name. Frames after the last one with somebody in it, and
people who are never there, are padding and are left out.
"""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.data.npz import check_npz, npz_names, read_npy
from paddleskel.data.safe_pickle import explain, read_pickle
from paddleskel.data.sources.reader import Annotation, ReadOptions, Source
from paddleskel.errors import UserError

_SPLITS = {"train": "train", "val": "val", "valid": "val", "eval": "val", "test": "test"}
_KNOWN_JOINTS = (25, 18, 17, 20)


def _detect(path: Path) -> bool:
    files = sorted(path.glob("*.np[yz]")) if path.is_dir() else [path]
    return any(_shape(file) is not None for file in files)


def _shape(file: Path) -> tuple | None:
    """A description of the file if it is one of ours, else None; reads no data."""
    with contextlib.suppress(UserError):
        if file.suffix == ".npy":
            shape = read_npy(file, mapped=True).shape
            return shape if len(shape) == 5 else None
        if file.suffix == ".npz":
            return tuple(key for key in npz_names(file) if key.startswith("x_")) or None
    return None


def _read(path: Path, options: ReadOptions) -> list[Annotation]:
    annotations = []
    for file in sorted(path.glob("*.np[yz]")) if path.is_dir() else [path]:
        if file.suffix == ".npz":
            annotations += _read_npz(file, options)
        elif _shape(file) is not None:
            annotations += _read_npy(file, options)
        elif not path.is_dir():
            raise UserError(f"{path}: expected an array of shape (N, C, T, V, M) or an npz with x_train and y_train")
    return annotations


def _read_npy(file: Path, options: ReadOptions) -> list[Annotation]:
    data = read_npy(file, mapped=True)
    names, labels = _labels(file, len(data))
    split = _split_of(file.stem)
    return [
        item
        for number in range(len(data))
        if (item := _clip(np.moveaxis(data[number], 0, -1).transpose(2, 0, 1, 3), options, f"{file}: {names[number]}"))
        if (item := item | {"frame_dir": names[number]} | labels(number) | ({"split": split} if split else {}))
    ]


def _labels(file: Path, count: int):
    """Sample names, and a function from a number to {"label": ...}."""
    stem = re.sub(r"data", "label", file.stem)
    folder = file.parent
    tries = [folder / f"{base}{suffix}" for base in (stem, stem.split("_label")[0] + "_label")
             for suffix in (".pkl", ".npy")]  # fmt: skip
    found = next((place for place in tries if place.is_file() and place != file), None)
    default = [f"{file.stem}_{number:06d}" for number in range(count)]
    if found is None:
        return default, lambda number: {}
    content: Any = read_pickle(found) if found.suffix == ".pkl" else read_npy(found)
    names = default
    if isinstance(content, (tuple, list)) and len(content) == 2 and isinstance(content[0], (list, tuple)):
        names, content = [Path(str(name)).stem for name in content[0]], content[1]
    with explain(found, "file of labels"):
        labels = np.asarray(content).ravel()
    if len(labels) != count or len(names) != count or labels.dtype.kind not in "iuf":
        raise UserError(f"{found}: {len(labels)} labels for the {count} samples of {file.name}")
    return names, lambda number: {"label": int(labels[number])}


def _read_npz(file: Path, options: ReadOptions) -> list[Annotation]:
    annotations = []
    check_npz(file)
    with explain(file, "archive of arrays (.npz)"), np.load(file, allow_pickle=False) as content:
        for key in [key for key in content.files if key.startswith("x_")]:
            data, labels = _array(content, key), _array(content, "y_" + key[2:])
            if labels is not None:
                labels = labels.argmax(axis=1) if labels.ndim == 2 else labels.ravel()
                if len(labels) != len(data):
                    raise UserError(f"{file}: {len(data)} samples in {key}, but {len(labels)} labels")
            for number, sample in enumerate(data):
                name = f"{key[2:]}_{number:06d}"
                points = _persons_first(sample, options, f"{file}: {key}")
                item = _clip(points, options, f"{file}: {name}")
                if item:
                    label = {} if labels is None else {"label": int(labels[number])}
                    annotations.append(item | {"frame_dir": name, "split": _SPLITS.get(key[2:], key[2:])} | label)
    if not annotations:
        raise UserError(f"{file}: no x_train or x_test with samples in it")
    return annotations


def _array(content: Mapping, key: str) -> np.ndarray | None:
    array = content.get(key)
    if array is not None and not isinstance(array, np.ndarray):
        raise ValueError(f"{key} is no array")
    return array


def _persons_first(sample: np.ndarray, options: ReadOptions, where: str) -> np.ndarray:
    """(C, T, V, M) or (T, M * V * C) -> (M, T, V, C)."""
    if sample.ndim == 4:
        return sample.transpose(3, 1, 2, 0)
    if sample.ndim != 2:
        raise UserError(f"{where}: samples of shape {sample.shape}; expected (T, M * V * C) or (C, T, V, M)")
    width = sample.shape[1]
    for joints in (options.joints,) if options.joints else _KNOWN_JOINTS:
        for persons in (2, 1):
            if width == persons * joints * 3:
                return sample.reshape(len(sample), persons, joints, 3).swapaxes(0, 1)
    raise UserError(f"{where}: rows of {width} numbers; give the layout they belong to (--layout)")


def _clip(points: np.ndarray, options: ReadOptions, where: str) -> Annotation | None:
    """(M, T, V, C) without padding; None, noted, where there is nobody."""
    points = np.asarray(points, np.float32)
    present = points.any(axis=(2, 3))
    if not np.isfinite(points).all():
        options.problems.append(f"{where}: NaN or infinite values were set to 0")
        points = np.nan_to_num(points, nan=0, posinf=0, neginf=0)
        present = points.any(axis=(2, 3))
    if not present.any():
        options.problems.append(f"{where}: nobody in any frame; left out")
        return None
    length = int(np.flatnonzero(present.any(axis=0))[-1]) + 1
    points = points[present.any(axis=1), :length]
    item: Annotation = {"total_frames": length, "keypoint": np.ascontiguousarray(points)}
    if points.shape[-1] == 3 and options.last_is_score:
        item["keypoint"], item["keypoint_score"] = points[..., :2].copy(), points[..., 2].copy()
    return item


def _split_of(stem: str) -> str | None:
    return next((name for word, name in _SPLITS.items() if re.match(rf"{word}(_|$)", stem)), None)


ARRAYS = Source("arrays", "arrays (N, C, T, V, M) with label files, or npz with x_train and y_train", _detect, _read)
