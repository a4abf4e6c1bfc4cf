"""Lists of people in pictures: AlphaPose and Halpe results, COCO results, and COCO annotation files.

    [{"image_id": "12.jpg", "keypoints": [x, y, c, ...], "score": 2.9, "idx": 1, "box": [...]}, ...]
    {"images": [{"id": 7, "file_name": "12.jpg", "height": h, "width": w}], "annotations": [{"image_id": 7, ...}]}

The pictures of one file are the frames of one clip, in the order of their names; the last number in a name is the
frame, so that frames without anybody keep their place.
"""

import re
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
    one_clip_a_file,
    read_json,
)
from paddleskel.errors import UserError


def _detect(path: Path) -> bool:
    head = json_head(path)
    listed = head.startswith("[{") and '"keypoints"' in head and '"image_id"' in head
    return listed or (head.startswith("{") and '"images":[' in head)


def _clip(path: Path, name: str, options: ReadOptions) -> Annotation:
    content = read_json(path)
    pictures, size = {}, options.image_size
    if isinstance(content, dict):
        for picture in entries(content.get("images"), f"{path}: images"):
            pictures[picture.get("id")] = str(picture.get("file_name", picture.get("id")))
            if size is None and "height" in picture and "width" in picture:
                size = (int(picture["height"]), int(picture["width"]))
        content = content.get("annotations")
    people: dict[str, list[dict]] = {name: [] for name in pictures.values()}
    for position, person in enumerate(entries(content, f"{path}: results")):
        if "image_id" not in person or "keypoints" not in person:
            raise UserError(f"{path}: result {position} has no 'image_id' or no 'keypoints'")
        picture = str(pictures.get(person["image_id"], person["image_id"]))
        people.setdefault(picture, []).append(person)
    order = _frame_numbers(sorted(people, key=natural))
    frames: list[Frame | None] = [None] * (max(order.values(), default=-1) + 1)
    for picture, found in people.items():
        frames[order[picture]] = _frame(found, f"{path}: picture {picture}") if found else None
    annotation = assemble(frames, name, options, str(path))
    return annotation | ({"img_shape": size, "original_shape": size} if size else {})


def _frame_numbers(pictures: list[str]) -> dict[str, int]:
    """{picture: frame from 0}: by the last number in each name if those are distinct and dense, else by order."""
    found = [re.findall(r"\d+", Path(picture).stem) for picture in pictures]
    numbers_ = [int(match[-1]) for match in found if match]
    if len(set(numbers_)) == len(pictures) and (not pictures or max(numbers_) - min(numbers_) < 4 * len(pictures) + 60):
        first = 0 if min(numbers_, default=0) <= 1 else min(numbers_)
        shift = 1 if min(numbers_, default=0) == 1 else first
        return {picture: number - shift for picture, number in zip(pictures, numbers_)}
    return {picture: position for position, picture in enumerate(pictures)}


def _frame(people: list[dict], where: str) -> Frame:
    points = [numbers(person["keypoints"], (-1, 3), f"{where}: keypoints") for person in people]
    identities = [person.get("track_id", person.get("idx")) for person in people]
    tracks = None if any(isinstance(i, (list, type(None))) for i in identities) else identities
    stacked = stack_people(points, where)
    score = stacked[..., 2]
    if score.max() > 1 and set(np.unique(score)) <= {0, 1, 2}:  # COCO's visibility: not there, hidden, seen
        score = score / 2
    box_score = np.array([float(person.get("score", 1.0)) for person in people])
    return Frame(stacked[..., :2], score, tracks, box_score)


_read = one_clip_a_file(_clip, ".json")
COCO_RESULTS = Source("coco", "AlphaPose, Halpe or COCO-style JSON: a list of people with image_id", _detect, _read)
