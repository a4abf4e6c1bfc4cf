"""PaddleDetection and PP-Human keypoint JSON (det_keypoint_unite_*_results.json), one file a clip.

    [[image, [[xmin, ymin, xmax, ymax], ...], [[[[x, y, c], ...], ...], [[person score], ...]]], ...]

Frames without detections are empty lists or are left out; where the images are numbers they keep their place.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.data.sources.people import Frame, assemble, stack_people
from paddleskel.data.sources.reader import (
    Annotation,
    ReadOptions,
    Source,
    json_head,
    numbers,
    one_clip_a_file,
    read_json,
)
from paddleskel.errors import UserError


def _detect(path: Path) -> bool:
    return bool(re.match(r'\[\[(\d|")', json_head(path)))


def _clip(path: Path, name: str, options: ReadOptions) -> Annotation:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(item, list) and len(item) == 3 for item in content):
        raise UserError(f"{path}: expected a list of [image, boxes, [keypoints, scores]]")
    images = [item[0] for item in content]
    numbered = all(isinstance(image, int) for image in images) and len(set(images)) == len(images)
    places = [image - min(images) for image in images] if numbered else range(len(images))
    frames: list[Frame | None] = [None] * (max(places, default=-1) + 1)
    for place, item in zip(places, content):
        frames[place] = _frame(item, f"{path}: image {item[0]}")
    return assemble(frames, name, options, str(path))


def _frame(item: list, where: str) -> Frame | None:
    result: Any = item[2]
    if not isinstance(result, list) or len(result) != 2:
        raise UserError(f"{where}: expected [keypoints, scores]")
    if not result[0]:
        return None
    points = [numbers(person, (-1, 3), f"{where}: keypoints") for person in result[0]]
    stacked = stack_people(points, where)
    scores = numbers(result[1], (-1,), f"{where}: scores") if result[1] else np.ones(len(stacked))
    if len(scores) != len(stacked):
        raise UserError(f"{where}: {len(stacked)} people, but {len(scores)} scores")
    return Frame(stacked[..., :2], stacked[..., 2], None, scores)


_read = one_clip_a_file(_clip, ".json")
PADDLEDETECTION = Source("paddledetection", "PaddleDetection or PP-Human keypoint JSON", _detect, _read)
