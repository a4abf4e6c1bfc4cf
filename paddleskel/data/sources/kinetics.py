"""Kinetics-skeleton, as ST-GCN uses it: one JSON file a clip, 18 OpenPose joints, coordinates as fractions of the
picture.

    {"data": [{"frame_index": 1, "skeleton": [{"pose": [x, y, ...], "score": [c, ...]}]}], "label": "...",
     "label_index": 3}
"""

from pathlib import Path

import numpy as np

from paddleskel.data.sources.people import Frame, assemble, stack_people
from paddleskel.data.sources.reader import (
    Annotation,
    ReadOptions,
    Source,
    entries,
    json_head,
    numbers,
    one_clip_a_file,
    read_json,
)
from paddleskel.errors import UserError

PICTURE = (256, 340)  # height and width that fractions are multiplied by: the videos were scaled so


def _detect(path: Path) -> bool:
    head = json_head(path)
    return '"data":[' in head and ('"frame_index"' in head or '"skeleton"' in head or '"label_index"' in head)


def _clip(path: Path, name: str, options: ReadOptions) -> Annotation:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise UserError(f"{path}: no 'data', as ST-GCN's Kinetics-skeleton files have it")
    height, width = options.image_size or PICTURE
    found = {}
    for item in entries(content["data"], f"{path}: data"):
        index = item.get("frame_index")
        if not isinstance(index, int) or index < 0:
            raise UserError(f"{path}: frame_index {index!r} is not a whole number")
        found[index] = _frame(item.get("skeleton") or [], np.array([width, height]), f"{path}: frame {index}")
    first = min(found, default=0)
    frames = [found.get(index) for index in range(first, max(found, default=-1) + 1)]
    annotation = assemble(frames, name, options, str(path))
    annotation["img_shape"] = annotation["original_shape"] = (height, width)
    label = content.get("label_index")
    if isinstance(label, int) and label >= 0:
        annotation["label"] = label
    if isinstance(content.get("label"), str):
        annotation["label_name"] = content["label"]
    return annotation


def _frame(people: list, size: np.ndarray, where: str) -> Frame | None:
    points, scores = [], []
    for person in entries(people, where):
        scores.append(numbers(person.get("score"), (-1,), f"{where}: score"))
        points.append(numbers(person.get("pose"), (len(scores[-1]), 2), f"{where}: pose"))
    if not points:
        return None
    return Frame((stack_people(points, where) * size).astype(np.float32), np.stack(scores))


_read = one_clip_a_file(_clip, ".json")
KINETICS = Source("kinetics", "Kinetics-skeleton JSON files of ST-GCN", _detect, _read)
