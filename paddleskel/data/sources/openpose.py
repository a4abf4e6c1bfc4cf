"""OpenPose: a folder of JSON files, one a frame (`--write_json`), 18 or 25 body keypoints.

    folder/clip_000000000000_keypoints.json: {"people": [{"person_id": [-1], "pose_keypoints_2d": [x, y, c, ...]}]}

Frames of one folder whose names differ only in their number make one clip; subfolders are clips of their own.
"""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np

from paddleskel.data.sources.people import Frame, assemble, stack_people
from paddleskel.data.sources.reader import (
    Annotation,
    ReadOptions,
    Source,
    entries,
    json_head,
    natural,
    numbers,
    read_json,
)
from paddleskel.errors import UserError

_FRAME = re.compile(r"^(?P<clip>.*?)_?(?P<frame>\d+)(_keypoints)?$")


def _detect(path: Path) -> bool:
    return '"people":[' in json_head(path)


def _read(path: Path, options: ReadOptions) -> list[Annotation]:
    clips: dict[tuple[Path, str], list[Path]] = {}
    for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
        match = _FRAME.match(file.stem)
        clips.setdefault((file.parent, match["clip"] if match else file.stem), []).append(file)
    in_folder = Counter(folder for folder, _ in clips)
    annotations = []
    for (folder, clip), files in clips.items():
        inside = path.is_dir() and folder != path
        name = folder.relative_to(path).as_posix() if inside else clip or path.name
        if inside and in_folder[folder] > 1:
            name = f"{name}/{clip}"
        try:
            frames = [_frame(file) for file in sorted(files, key=lambda file: natural(file.stem))]
            annotations.append(assemble(frames, name, options, str(folder / clip)))
        except UserError as error:
            options.problems.append(str(error))
    return annotations


def _frame(path: Path) -> Frame | None:
    content = read_json(path)
    if not isinstance(content, dict) or "people" not in content:
        raise UserError(f"{path}: no 'people', as OpenPose writes it")
    people = []
    for person in entries(content["people"], f"{path}: people"):
        values = person.get("pose_keypoints_2d", person.get("pose_keypoints"))
        if values:
            people.append(numbers(values, (-1, 3), f"{path}: pose_keypoints_2d"))
    if not people:
        return None
    stacked = stack_people(people, str(path))
    return Frame(stacked[..., :2], stacked[..., 2])


def write_openpose(annotation: Annotation, folder: Path) -> None:
    """Write a 2D clip as OpenPose would have: one file a frame, people absent from a frame left out."""
    folder.mkdir(parents=True, exist_ok=True)
    points = np.asarray(annotation["keypoint"], np.float32)
    score = np.asarray(annotation.get("keypoint_score", points.any(axis=-1)), np.float32)
    for frame in range(points.shape[1]):
        values = np.concatenate([points[:, frame], score[:, frame, :, None]], axis=-1)
        people = [
            {"person_id": [-1], "pose_keypoints_2d": [round(float(v), 3) for v in person.ravel()]}
            for person in values
            if person.any()
        ]
        content = {"version": 1.3, "people": people}
        (folder / f"{folder.name}_{frame:012d}_keypoints.json").write_text(json.dumps(content), encoding="utf-8")


OPENPOSE = Source("openpose", "a folder of OpenPose JSON files, one a frame (18 or 25 joints)", _detect, _read)
