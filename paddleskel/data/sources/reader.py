"""What every converter shares: its entry in the table of sources, its options, and the annotation it returns."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paddleskel.errors import UserError
from paddleskel.files import open_text

Annotation = dict[str, Any]  # see data/annotation.py; readers add "layout", the name of the joints' layout, if known


@dataclass
class ReadOptions:
    """How poses are read.

    Attributes:
        num_person: persons kept of each sequence.
        person: which: those that move most, are seen most confidently, or appear largest.
        link: follow people over time; without it they stay in the order in which each frame lists them, and the surest
            are kept where there are more than `num_person` (PYSKL's DecompressPose, with num_person = 10).
        image_size: (height, width) of the pictures, for formats that do not say.
        joints: how many joints a body has, for formats that do not say.
        last_is_score: the third of three numbers a joint is a confidence, not z, in arrays that do not say.
        workers: processes, where a source can use several.
        denoise, half: NTU's rules against bodies that are none, and storing float16, both as PYSKL does (see ntu.py).
        parts: folder for the finished parts of a long conversion (ntu), from which an interrupted one goes on.
        problems: what could not be read, "file: why"; readers of many files append here and go on.
    """

    num_person: int = 2
    person: Literal["motion", "score", "box"] = "motion"
    link: bool = True
    image_size: tuple[int, int] | None = None
    joints: int | None = None
    last_is_score: bool = False
    workers: int = 1
    denoise: bool = True
    half: bool = True
    parts: Path | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A pose format: how the command calls it, what it is, whether a path looks like it, and its reader."""

    name: str
    what: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], list[Annotation]]


def each_file(
    files: Iterable[Path], read: Callable[[Path], Annotation | list[Annotation]], options: ReadOptions
) -> list[Annotation]:
    """Read many files; one that cannot be read is noted in `options.problems` and left out."""
    found = []
    for file in files:
        try:
            content = read(file)
        except UserError as error:
            options.problems.append(str(error))
            continue
        found += content if isinstance(content, list) else [content]
    return found


def one_clip_a_file(
    clip: Callable[[Path, str, ReadOptions], Annotation], *suffixes: str
) -> Callable[[Path, ReadOptions], list[Annotation]]:
    """Return the reader of a format that keeps one clip in each file; `clip` reads a file, given its sample's id."""

    def read(path: Path, options: ReadOptions) -> list[Annotation]:
        files = files_in(path, *suffixes)
        return each_file(files, lambda file: clip(file, sample_name(file, path), options), options)

    return read


def files_in(path: Path, *suffixes: str) -> list[Path]:
    """Return the file itself, or the files with one of the suffixes in a folder and its subfolders, in order."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    return [path] if path.suffix.lower() in suffixes else []


def first_file(path: Path, *suffixes: str) -> Path | None:
    """Return the file itself, or some file with one of the suffixes in the folder, without listing all of it."""
    if not path.is_dir():
        return path if path.suffix.lower() in suffixes else None
    return next((file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file()), None)


def sample_name(file: Path, root: Path) -> str:
    """The id of a file below `root`: its path without the suffix; its stem where it is the root itself."""
    return file.stem if file == root else file.relative_to(root).with_suffix("").as_posix()


def natural(name: str) -> list:
    """Sorting key by which frame 10 comes after frame 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def json_head(path: Path, size: int = 8192) -> str:
    """The start of a JSON file, or of some JSON file in a folder, without white space, to tell formats apart.

    "" where there is none that can be read.
    """
    json_file = first_file(path, ".json")
    if json_file is None:
        return ""
    try:
        with json_file.open(encoding="utf-8") as file:
            return re.sub(r"\s", "", file.read(size))
    except (OSError, UnicodeDecodeError):
        return ""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: missing, no text, not JSON, or cut short.
    """
    try:
        with open_text(path) as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable JSON: {error}") from error


def numbers(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return `value` as float32 of the given shape (-1: any size in that place).

    Raises:
        UserError: not numbers, or another shape.
    """
    try:
        array = np.asarray(value, np.float32)
        return array.reshape(shape)
    except (TypeError, ValueError) as error:
        spoken = " x ".join("any" if size == -1 else str(size) for size in shape)
        raise UserError(f"{where}: expected {spoken} numbers: {error}") from error


def entries(content: Any, where: str) -> Iterator[dict]:
    """Yield the mappings of a JSON list; anything else in it is an error."""
    if not isinstance(content, list):
        raise UserError(f"{where}: expected a list, found {type(content).__name__}")
    for position, item in enumerate(content):
        if not isinstance(item, dict):
            raise UserError(f"{where}: entry {position} is a {type(item).__name__}, not a mapping")
        yield item


LAYOUT_OF_SIZE = {17: "coco", 18: "openpose", 25: "openpose25", 26: "halpe26", 133: "coco_wholebody"}


def layout_of_size(joints: int) -> dict[str, str]:
    """{"layout": name} where 2D estimators agree on what so many joints are, else nothing."""
    return {"layout": LAYOUT_OF_SIZE[joints]} if joints in LAYOUT_OF_SIZE else {}
