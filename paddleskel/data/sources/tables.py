"""Pose sequences as plain arrays: .npy, .npz and .csv files, one a clip, and MediaPipe landmarks in the same forms.

.npy    (T, V, C), (M, T, V, C) or (T, V * C)
.npz    `keypoint` in one of these shapes, and `keypoint_score` (T, V) or (M, T, V) if there are confidences
.csv    a row a frame, columns x0, y0, z0, ... or nose_x, nose_y, ...; or a row a joint: frame, joint, x, y, z
.json   MediaPipe: a list of frames, each a list of {x, y, z, visibility}
"""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.data.npz import read_npy, read_npz
from paddleskel.data.sources.reader import (
    Annotation,
    ReadOptions,
    Source,
    first_file,
    json_head,
    one_clip_a_file,
    read_json,
)
from paddleskel.errors import UserError

_ARRAYS = (".npy", ".npz", ".csv")
MEDIAPIPE = {33: "mediapipe_pose", 21: "handmp"}  # joints: layout
_SCORES = ("score", "visibility", "confidence", "conf", "v", "c", "s")
_AXES = ("x", "y", "z", *_SCORES)
_NAMED = re.compile(rf"(?P<joint>.+)[_.](?P<axis>{'|'.join(_AXES)})")
_NUMBERED = re.compile(rf"(?P<axis>{'|'.join(_AXES)})_?(?P<joint>\d+)")


def _detect_files(path: Path) -> bool:
    file = first_file(path, *_ARRAYS)
    return file is not None and not _is_mediapipe(file)


def _detect_mediapipe(path: Path) -> bool:
    file = first_file(path, *_ARRAYS, ".json")
    return file is not None and _is_mediapipe(file)


def _is_mediapipe(file: Path) -> bool:
    if file.suffix == ".json":
        head = json_head(file)
        return "landmarks" in head or bool(re.match(r'\[(null,|\[\],)*\[+\{"x":', head))
    try:
        points, _, _ = _sequence(file, ReadOptions())
    except UserError:
        return False
    return points.shape[2] in MEDIAPIPE and points.shape[3] >= 3


def _clip(file: Path, name: str, options: ReadOptions) -> Annotation:
    points, score, names = _sequence(file, options)
    annotation: Annotation = {"frame_dir": name, "total_frames": points.shape[1], "keypoint": points}
    if score is not None:
        annotation["keypoint_score"] = score
    if names is not None:
        annotation["joints"] = names
    if options.image_size and points.shape[-1] == 2:
        annotation["img_shape"] = annotation["original_shape"] = options.image_size
    return annotation


def _mediapipe_clip(file: Path, name: str, options: ReadOptions) -> Annotation:
    annotation = _clip(file, name, options)
    landmarks = annotation["keypoint"].shape[2]
    if landmarks not in MEDIAPIPE:
        known = " or ".join(f"{joints} ({layout})" for joints, layout in MEDIAPIPE.items())
        raise UserError(f"{file}: {landmarks} landmarks; MediaPipe's have {known}")
    return annotation | {"layout": MEDIAPIPE[landmarks]}


def _sequence(file: Path, options: ReadOptions) -> tuple[np.ndarray, np.ndarray | None, list[str] | None]:
    """(M, T, V, C) points, (M, T, V) scores or None, joint names or None."""
    names = score = None
    if file.suffix == ".csv":
        points, score, names = _csv(file, options)
    elif file.suffix == ".json":
        points, score = _landmarks(read_json(file), str(file))
    else:
        points, score = _array(file, options)
    if not points.size:
        raise UserError(f"{file}: empty, shape {points.shape}")
    channels = points.shape[-1]
    if channels >= 3 and score is None and (options.last_is_score or channels > 3):
        score, points = points[..., 3 if channels > 3 else 2], points[..., : 3 if channels > 3 else 2]
    if points.shape[-1] not in (2, 3):
        raise UserError(f"{file}: {points.shape[-1]} coordinates a joint; expected 2 or 3")
    with np.errstate(over="ignore"):
        points = points.astype(np.float32)
        score = None if score is None else np.nan_to_num(score.astype(np.float32), posinf=0, neginf=0)
    bad = ~np.isfinite(points).all(axis=-1)
    if bad.any():  # estimators write NaN where they found nothing
        points[bad] = 0
    return points, score, names


def _array(file: Path, options: ReadOptions) -> tuple[np.ndarray, np.ndarray | None]:
    if file.suffix == ".npz":
        content = read_npz(file)
        keys = [key for key in ("keypoint", "keypoints", "points", "arr_0") if key in content]
        if not keys:
            raise UserError(f"{file}: no 'keypoint' among its arrays ({', '.join(content)})")
        scores = [key for key in ("keypoint_score", "score", "scores") if key in content]
        points, score = content[keys[0]], content[scores[0]] if scores else None
    else:
        points, score = read_npy(file), None
    if points.dtype.kind not in "fiu":
        raise UserError(f"{file}: holds {points.dtype}, not numbers")
    if points.ndim == 2:
        points = _unflatten(points, options, str(file))
    if points.ndim not in (3, 4):
        raise UserError(f"{file}: shape {points.shape}; expected (T, V, C), (M, T, V, C) or (T, V * C)")
    points = points[None] if points.ndim == 3 else points
    if score is not None:
        score = score[None] if score.ndim == 2 else score
        if score.shape != points.shape[:3]:
            raise UserError(f"{file}: scores of shape {score.shape} for keypoints of shape {points.shape}")
    return points, score


def _unflatten(rows: np.ndarray, options: ReadOptions, where: str) -> np.ndarray:
    """(T, V * C) -> (T, V, C), by the number of joints wanted or one of MediaPipe's."""
    width = rows.shape[1]
    for joints in (options.joints,) if options.joints else MEDIAPIPE:
        if width % joints == 0 and 2 <= width // joints <= 4:
            return rows.reshape(len(rows), joints, -1)
    raise UserError(f"{where}: rows of {width} numbers; give the layout they belong to (--layout)")


def _csv(file: Path, options: ReadOptions) -> tuple[np.ndarray, np.ndarray | None, list[str] | None]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a readable CSV file: {error}") from error
    if not rows:
        raise UserError(f"{file}: empty")
    header = [name.strip().lower() for name in rows[0]]
    if not any(name and not _is_number(name) for name in header):
        return _unflatten(_numbers(rows, str(file)), options, str(file))[None], None, None
    if len(rows) == 1:
        raise UserError(f"{file}: a header without rows")
    values = _numbers(rows[1:], str(file), len(header))
    if {"x", "y"} <= set(header):
        return _long_csv(header, values, rows, str(file))
    columns: dict[str, dict[str, int]] = {}
    for column, name in enumerate(header):
        match = _NUMBERED.fullmatch(name) or _NAMED.fullmatch(name)
        if match:
            axis = "score" if match["axis"] in _SCORES else match["axis"]
            columns.setdefault(match["joint"], {})[axis] = column
    if not columns or any(set(joint) != set(next(iter(columns.values()))) for joint in columns.values()):
        raise UserError(f"{file}: expected columns such as x0, y0, x1, y1 or nose_x, nose_y, the same for every joint")
    axes = [axis for axis in ("x", "y", "z") if axis in next(iter(columns.values()))]
    if len(axes) < 2:
        raise UserError(f"{file}: no x and y columns")
    take = lambda axis: values[:, [joint[axis] for joint in columns.values()]]
    points = np.stack([take(axis) for axis in axes], axis=-1)[None]
    score = take("score")[None] if "score" in next(iter(columns.values())) else None
    names = None if all(joint.isdigit() for joint in columns) else list(columns)
    return points, score, names


def _long_csv(header: list[str], values: np.ndarray, rows: list[list[str]], where: str):
    """A row a joint: frame, joint (or landmark, index, id), x, y, z, confidence."""
    find = lambda names: next((header.index(name) for name in names if name in header), None)
    frame = find(("frame", "frame_id", "time"))
    joint = find(("joint", "landmark", "landmark_id", "index", "id", "name"))
    if frame is None or joint is None:
        raise UserError(f"{where}: columns x and y need columns 'frame' and 'joint' beside them")
    frames = {value: place for place, value in enumerate(np.unique(values[:, frame]))}
    labels = [row[joint].strip() for row in rows[1:]]
    joints = sorted(set(labels), key=int) if all(label.isdigit() for label in labels) else list(dict.fromkeys(labels))
    if all(label.isdigit() for label in joints):
        joints = [str(number) for number in range(int(joints[-1]) + 1)]
    axes = [header.index(axis) for axis in ("x", "y", "z") if axis in header]
    scored = find(_SCORES)
    points = np.zeros((1, len(frames), len(joints), len(axes)))
    score = None if scored is None else np.zeros(points.shape[:3])
    place = {label: number for number, label in enumerate(joints)}
    for row, label in zip(values, labels):
        points[0, frames[row[frame]], place[label]] = row[axes]
        if score is not None:
            score[0, frames[row[frame]], place[label]] = row[scored]
    return points, score, None if joints[0].isdigit() else [joint.lower() for joint in joints]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(rows: list[list[str]], where: str, width: int | None = None) -> np.ndarray:
    """(rows, columns); an empty cell is NaN, a text (a joint's name) too."""
    width = width or len(rows[0])
    table = np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        if len(row) != width:
            raise UserError(f"{where}: row {number + 1} has {len(row)} cells, the first {width}")
        table[number] = [float(cell) if _is_number(cell) else np.nan for cell in row]
    return table


def _landmarks(content: Any, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """MediaPipe's results as JSON: frames of landmarks, or of several people's."""
    if isinstance(content, dict):
        content = content.get("frames", content.get("landmarks"))
    if not isinstance(content, list):
        raise UserError(f"{where}: expected a list of frames")
    frames = [_people(frame, f"{where}: frame {number}") for number, frame in enumerate(content)]
    sizes = {len(person) for frame in frames for person in frame}
    if len(sizes) != 1:
        raise UserError(f"{where}: frames with {sorted(sizes) or 'no'} landmarks")
    persons = max(len(frame) for frame in frames)
    values = np.zeros((persons, len(frames), sizes.pop(), 4))
    for time, frame in enumerate(frames):
        for person, landmarks in enumerate(frame):
            for joint, landmark in enumerate(landmarks):
                values[person, time, joint] = _landmark(landmark, f"{where}: frame {time}")
    scored = any(isinstance(one, dict) and "visibility" in one for frame in frames for who in frame for one in who)
    return values[..., :3], values[..., 3] if scored else None


def _people(frame: Any, where: str) -> list[list]:
    if isinstance(frame, dict):
        keys = [key for key in frame if "landmarks" in key and frame[key]]
        world = [key for key in keys if "world" in key]
        frame = frame[(world or keys)[0]] if keys else []
    if frame is None:
        return []
    if not isinstance(frame, list):
        raise UserError(f"{where}: expected a list of landmarks")
    if frame and isinstance(frame[0], list) and frame[0] and isinstance(frame[0][0], (dict, list)):
        return frame
    return [frame] if frame else []


def _landmark(landmark: Any, where: str) -> list[float]:
    try:
        if isinstance(landmark, dict):
            return [float(landmark[axis]) for axis in "xyz"] + [float(landmark.get("visibility") or 0)]
        return [float(value) for value in landmark[:3]] + [1.0]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: a landmark needs numbers x, y and z ({error})") from error


_read_files = one_clip_a_file(_clip, *_ARRAYS)
_read_mediapipe = one_clip_a_file(_mediapipe_clip, *_ARRAYS, ".json")
FILES = Source("files", "plain .npy, .npz or .csv files, one a clip", _detect_files, _read_files)
MEDIAPIPE_SOURCE = Source("mediapipe", "MediaPipe landmarks (pose 33, hand 21)", _detect_mediapipe, _read_mediapipe)
