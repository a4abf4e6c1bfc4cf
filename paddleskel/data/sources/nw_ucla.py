"""Northwestern-UCLA as JSON files, one a clip (a01_s01_e00_v01.json), 20 joints in metres.

{"file_name": "a01_s01_e00_v01", "skeletons": [[[x, y, z], ...20], ...frames], "label": 1}
"""

import re
from pathlib import Path

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

_NAME = re.compile(r"a(?P<action>\d+)_s(?P<subject>\d+)_e\d+_v(?P<camera>\d+)")


def _detect(path: Path) -> bool:
    return '"skeletons":[' in json_head(path)


def _clip(path: Path, name: str, _: ReadOptions) -> Annotation:
    content = read_json(path)
    if not isinstance(content, dict) or "skeletons" not in content:
        raise UserError(f"{path}: no 'skeletons', as the JSON files of NW-UCLA have it")
    points = numbers(content["skeletons"], (-1, 20, 3), f"{path}: skeletons")
    if not len(points):
        raise UserError(f"{path}: no frames")
    name = str(content.get("file_name", name))
    annotation = {"frame_dir": name, "total_frames": len(points), "keypoint": points[None], "layout": "nw_ucla"}
    label = content.get("label")
    if isinstance(label, int) and label >= 1:
        annotation["label"] = label - 1
    return annotation


def splits(names: list[str]) -> dict[str, list[str]]:
    """Cameras 1 and 2 train, camera 3 tests."""
    cameras = {name: int(match["camera"]) for name in names if (match := _NAME.search(name))}
    return {
        "xview_train": [name for name, camera in cameras.items() if camera != 3],
        "xview_val": [name for name, camera in cameras.items() if camera == 3],
    }


_read = one_clip_a_file(_clip, ".json")
NW_UCLA = Source("nw_ucla", "Northwestern-UCLA JSON files", _detect, _read)
