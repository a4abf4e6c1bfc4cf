"""What prediction reads: any pose file or folder, patterns, lists of files, and JSON lines.

An item is read only when its turn comes, so that a list of millions of files needs no more memory than one.
"""

import glob
import io
import json
import sys
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from paddleskel.data.annotation import parse_annotation
from paddleskel.data.clip import Clip
from paddleskel.data.sources import ReadOptions, read_poses
from paddleskel.data.sources.reader import read_json
from paddleskel.data.trust import allowance
from paddleskel.errors import UserError
from paddleskel.files import open_text
from paddleskel.skeleton.layout import Layout

_ARRAYS = ("keypoint", "keypoint_score")
_FIELDS = (*_ARRAYS, "img_shape", "total_frames", "frame_dir", "label")


# numpy reads an array's header with ast.literal_eval, which Python 3.11 gets wrong in threads now and then (gh-106905)
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Item:
    """One sample: where it came from, the position of that in the list of inputs, and the clip or what is wrong.

    alone: it is known to be the only one of its source.
    """

    source: str
    position: int
    clip: Clip | None
    error: str | None = None
    alone: bool = False


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    Attributes:
        layout: the skeleton of the model. num_person: persons it looks at.
        ids: keep to these samples. image_size: (height, width) for formats that do not say.
        keep_going: turn what cannot be read into items with an error.
    """

    layout: Layout
    num_person: int = 2
    source: str | None = None
    ids: Sequence[str] | None = None
    image_size: tuple[int, int] | None = None
    keep_going: bool = False
    problems: list[str] = field(default_factory=list)


def list_inputs(paths: Iterable[str]) -> Iterator[str]:
    """Yield inputs: "-" as it is, the files a pattern matches, the lines of `@list.txt`, other paths as they are."""
    for path in paths:
        if path.startswith("@"):
            with open_text(path[1:]) as lines:
                listed = 0
                for line in filter(None, map(str.strip, lines)):
                    listed += 1
                    yield line
            if not listed:
                raise UserError(f"{path[1:]}: lists no file; expected a path on each line")
        elif glob.has_magic(path) and not Path(path).exists():
            matches = sorted(glob.glob(path, recursive=True))
            if not matches:
                raise UserError(f"{path}: matches no file")
            yield from matches
        else:
            yield path


def read_items(inputs: Iterable[str], reading: Reading, shard: tuple[int, int] = (1, 1)) -> Iterator[Item]:
    """Yield the samples of inputs in order.

    Args:
        shard: (I, N) takes every N-th input from the I-th on; of a single input, every N-th sample.

    Raises:
        UserError: the first input that cannot be read, unless `reading.keep_going`.
    """
    first, count = shard
    single, rest = _whether_single(iter(inputs))
    for position, source in enumerate(rest):
        if not single and position % count != first - 1:
            continue
        items = _read_one(source, position, reading)
        for number, item in enumerate(items):
            if not single or number % count == first - 1:
                yield item


def _whether_single(inputs: Iterator[str]) -> tuple[bool, Iterator[str]]:
    """Whether there is one input only, and an iterator that still gives them all."""
    seen = [item for _, item in zip(range(2), inputs)]

    def again() -> Iterator[str]:
        yield from seen
        yield from inputs

    return len(seen) < 2, again()


def _read_one(source: str, position: int, reading: Reading) -> Iterator[Item]:
    """Yield the samples of one input."""
    try:
        if source == "-":
            annotations = read_annotation_lines(sys.stdin, "standard input", reading.keep_going)
        else:
            annotations = read_file(Path(source), reading)
        where = "standard input" if source == "-" else source
        found, alone, number = False, isinstance(annotations, list) and len(annotations) == 1, -1
        for number, annotation in enumerate(annotations):
            if isinstance(annotation, UserError):
                yield Item(source, position, None, str(annotation))
                continue
            name = annotation.get("frame_dir", annotation.get("filename")) if isinstance(annotation, Mapping) else None
            if reading.ids and name not in reading.ids:
                continue
            found = True
            try:
                clip = parse_annotation(annotation, where, reading.layout, need_label=False)
            except UserError as error:
                if not reading.keep_going:
                    raise
                yield Item(source, position, None, str(error))
                continue
            yield Item(source, position, clip.with_(id=clip.id or f"{number}"), alone=alone)
        if number < 0:
            raise UserError(f"{where}: holds no pose sequence")
        if reading.ids and not found:
            raise UserError(f"{source}: holds none of the samples {', '.join(reading.ids)}")
    except UserError as error:
        if not reading.keep_going:
            raise
        yield Item(source, position, None, str(error))


def read_file(path: Path, reading: Reading) -> Iterable[Any]:
    """Return the annotations in a file or folder of any known format."""
    if path.suffix == ".npz" and path.is_file() and (annotation := _read_npz(path)) is not None:
        return [annotation]
    if path.suffix in (".jsonl", ".ndjson"):
        return _json_lines_of(path, reading.keep_going)
    if path.suffix == ".json" and (annotations := _read_annotation_json(path)) is not None:
        return annotations
    options = ReadOptions(num_person=reading.num_person, image_size=reading.image_size)
    annotations = read_poses(path, reading.source, reading.layout, options)
    reading.problems.extend(options.problems)
    return annotations


def _read_npz(path: Path) -> dict[str, Any] | None:
    """An annotation stored with np.savez(keypoint=..., keypoint_score=..., img_shape=...); None for other files."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    return annotation_from_npz(content, str(path))


def annotation_from_npz(content: bytes, where: str) -> dict[str, Any] | None:
    """Return the annotation in the bytes of an npz file, None if it has no array `keypoint`.

    Raises:
        UserError: not an npz file of plain arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > allowance(len(content)):
            raise UserError(f"{where}: refused: {len(content)} bytes that unpack to {unpacked}")
        with _ONE_AT_A_TIME, np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            if "keypoint" not in arrays.files:
                return None
            annotation = {name: arrays[name] for name in _FIELDS if name in arrays.files}
    except UserError:
        raise
    except Exception as error:  # a damaged zip, a pickled array, a wrong header: numpy raises many kinds
        raise UserError(f"{where}: not a readable .npz file of plain arrays: {error}") from error
    for name in set(annotation) - set(_ARRAYS):
        annotation[name] = annotation[name].tolist()
    return _with_person_axis(annotation)


def _read_annotation_json(path: Path) -> list[Any] | None:
    """The annotations in a JSON file that has any; None for other pose formats."""
    try:
        content = read_json(path)
    except UserError:
        return None  # read_poses says what is wrong
    if isinstance(content, Mapping) and isinstance(content.get("annotations"), list) and "images" not in content:
        content = content["annotations"]
    listed = content if isinstance(content, list) else [content]
    if not listed or not isinstance(listed[0], Mapping) or "keypoint" not in listed[0]:
        return None
    return [annotation_from_json(item, f"{path}") for item in listed]


def _json_lines_of(path: Path, keep_going: bool) -> Iterator[Any]:
    with open_text(path) as lines:
        yield from read_annotation_lines(lines, str(path), keep_going)


def read_annotation_lines(lines: TextIO, where: str, keep_going: bool = False) -> Iterator[Any]:
    """Yield the annotation of each line; with keep_going, a UserError in place of a line that has none."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            try:
                content = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}, line {number}: not JSON: {error}") from error
            annotation = annotation_from_json(content, f"{where}, line {number}")
            yield {"frame_dir": f"line {number}", **annotation}
        except UserError as error:
            if not keep_going:
                raise
            yield error


def annotation_from_json(content: Any, where: str) -> dict[str, Any]:
    """Return an annotation whose arrays are nested lists as one with arrays.

    Raises:
        UserError: not a mapping with `keypoint`, or lists that are no array.
    """
    if not isinstance(content, Mapping) or "keypoint" not in content:
        raise UserError(f'{where}: expected an object with "keypoint": persons x frames x joints x coordinates')
    annotation = {name: content[name] for name in _FIELDS if content.get(name) is not None}
    for name in _ARRAYS:
        if name in annotation:
            try:
                annotation[name] = np.asarray(annotation[name], np.float32)
            except (TypeError, ValueError) as error:
                raise UserError(f"{where}: {name}: lists of unequal length, or something that is no number") from error
    return _with_person_axis(annotation)


def _with_person_axis(annotation: dict[str, Any]) -> dict[str, Any]:
    """Take (frames, joints, coordinates) for one person's."""
    if np.ndim(annotation["keypoint"]) == 3:
        annotation["keypoint"] = annotation["keypoint"][None]
        if np.ndim(annotation.get("keypoint_score")) == 2:
            annotation["keypoint_score"] = annotation["keypoint_score"][None]
    return annotation
