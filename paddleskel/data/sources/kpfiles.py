"""PYSKL's Kinetics-400: an annotation pickle without poses, and kpfiles with all skeletons of a clip in one array.

An annotation has `raw_file` (its kpfile), `frame_inds` (n,) and `box_score` (n,); a kpfile is a pickle
{frame_dir: {"keypoint": (n, V, 3)}}, x, y and confidence. Kpfiles are looked for where `raw_file` says, below the
pickle's folder, and in a folder `kpfiles` beside it, by their names.
"""

from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.data.annotation import read_annotations
from paddleskel.data.safe_pickle import read_pickle
from paddleskel.data.sources.people import Frame, assemble
from paddleskel.data.sources.reader import Annotation, ReadOptions, Source
from paddleskel.errors import UserError


def _detect(path: Path) -> bool:
    """Never by itself: telling would mean reading a large pickle; `read_poses` asks again once one has been read."""
    return False


def _read(path: Path, options: ReadOptions) -> list[Annotation]:
    return expand(path, read_annotations(path).annotations, options)


def expand(path: Path, listed: list[Any], options: ReadOptions) -> list[Annotation]:
    """Fill in the poses of annotations that refer to kpfiles."""
    annotations, by_file = [], {}
    for item in listed:
        by_file.setdefault(str(item.get("raw_file", "")), []).append(item)
    for raw_file, items in by_file.items():  # each kpfile is read once
        try:
            kpfile = read_pickle(_find(path, raw_file))
        except UserError as error:
            options.problems.append(f"{error} ({len(items)} clips)")
            continue
        for item in items:
            try:
                annotations.append(_clip(item, kpfile, options, f"{path}: sample '{item.get('frame_dir')}'"))
            except UserError as error:
                options.problems.append(str(error))
    return annotations


def _find(path: Path, raw_file: str) -> Path:
    name = Path(raw_file)
    for place in (name, path.parent / name, path.parent / name.name, path.parent / "kpfiles" / name.name):
        if raw_file and place.is_file():
            return place
    raise UserError(f"{path}: its kpfile '{raw_file}' is not there; put the kpfiles into {path.parent / 'kpfiles'}")


def _clip(item: dict, kpfile: Any, options: ReadOptions, where: str) -> Annotation:
    name = item.get("frame_dir")
    content = kpfile.get(name) if isinstance(kpfile, dict) else None
    points = content.get("keypoint") if isinstance(content, dict) else content
    points, frames = np.asarray(points), np.asarray(item.get("frame_inds"))
    if points.ndim != 3 or points.shape[-1] != 3 or frames.shape != points.shape[:1]:
        raise UserError(f"{where}: expected (n, joints, 3) skeletons and n frame_inds, found {points.shape} and "
                        f"{frames.shape}")  # fmt: skip
    boxes = np.asarray(item.get("box_score", np.ones(len(points))), np.float32)
    found: list[Frame | None] = []
    for frame in np.unique(frames):  # frames without anybody are left out, as PYSKL's DecompressPose does
        chosen = frames == frame
        found.append(Frame(points[chosen][..., :2].astype(np.float32), points[chosen][..., 2], None, boxes[chosen]))
    annotation = assemble(found, str(name), options, where)
    size = item.get("img_shape")
    if size is not None:
        annotation["img_shape"] = annotation["original_shape"] = tuple(int(value) for value in size)
    if item.get("label") is not None:
        annotation["label"] = int(item["label"])
    return annotation


KPFILES = Source("kpfiles", "PYSKL's k400 annotation pickle with its kpfiles", _detect, _read)
