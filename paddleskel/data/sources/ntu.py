"""Raw NTU RGB+D 60 and 120: Kinect `.skeleton` files in folders or in the zip archives they come in.

The rules by which bodies become persons are PYSKL's (tools/data/ntu_preproc.py): bodies seen in few frames or lying
flat are taken for furniture, the liveliest one comes first, and bodies that never overlap share a place.
"""

import hashlib
import itertools
import multiprocessing
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from paddleskel.data.safe_pickle import read_pickle
from paddleskel.data.sources.reader import Annotation, ReadOptions, Source
from paddleskel.data.trust import check_zip
from paddleskel.errors import UserError
from paddleskel.files import write_atomically

JOINTS = 25
MIN_FRAMES = 11  # a body seen in no more frames than this is noise where there are others
FLAT = 0.8  # a frame in which a body is wider than this times its height is a bad one
MAX_FLAT = 0.69754  # a body with this fraction of bad frames is noise
EMPTY = 1e-3  # sum of magnitudes below which a frame has nobody in it
LARGEST = 100_000_000  # bytes of a file; the real ones have some hundred thousand
PART = 2000  # files a part of a resumable conversion

NAME = re.compile(r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R\d{3}A(?P<action>\d{3})")
TRAIN_SUBJECTS = {
    *(1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38),  # of NTU 60; the rest joins in 120
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93),
    *(94, 95, 97, 98, 100, 103),
}
LAST_SETUP_OF_60 = "S017"


@dataclass
class Body:
    """One tracked body: its first frame, (T, 25, 3) joints, and how lively it is."""

    start: int
    points: np.ndarray | list = field(default_factory=list)
    motion: float = 0.0

    @property
    def end(self) -> int:
        return self.start + len(self.points)


# ---- one file ----


def parse_skeleton(text: str, where: str) -> list[Body]:
    """Parse a `.skeleton` file; frames without bodies do not count.

    Raises:
        UserError: not such a file, cut short, or longer than it says.
    """
    tokens = text.split()
    position, frame = 1, 0
    bodies: dict[str, Body] = {}

    def whole(place: int, what: str) -> int:
        if place >= len(tokens):
            raise UserError(f"{where}: ends in frame {frame + 1}; the file is cut short")
        if not tokens[place].isdecimal() or len(tokens[place]) > 30:
            raise UserError(f"{where}: {what} is {tokens[place][:20]!r}; this is no Kinect skeleton file")
        return int(tokens[place])

    for _ in range(whole(0, "the number of frames")):
        count = whole(position, "the number of bodies")
        position += 1
        for _ in range(count):
            identity = str(whole(position, "a body's id"))
            joints = whole(position + 10, "the number of joints")
            if joints != JOINTS:
                raise UserError(f"{where}: a body of {joints} joints in frame {frame + 1}; NTU's have {JOINTS}")
            position += 11
            values = tokens[position : position + 12 * JOINTS]
            if len(values) < 12 * JOINTS:
                raise UserError(f"{where}: ends in frame {frame + 1}; the file is cut short")
            try:
                points = np.array([values[0::12], values[1::12], values[2::12]]).astype(np.float32).T
            except ValueError as error:
                raise UserError(f"{where}: frame {frame + 1}: {error}; the file is damaged") from error
            if not np.isfinite(points).all():
                raise UserError(f"{where}: frame {frame + 1} has NaN or infinite coordinates")
            bodies.setdefault(identity, Body(frame)).points.append(points)
            position += 12 * JOINTS
        frame += count > 0
    if position < len(tokens):
        raise UserError(f"{where}: goes on after its last frame; the file is damaged")
    for body in bodies.values():
        body.points = np.stack(body.points)
        body.motion = _spread(body.points)
    return list(bodies.values())


def _spread(points: np.ndarray) -> float:
    """Sum over x, y, z of the variance over all joints and frames."""
    return float(points.reshape(-1, 3).var(axis=0).sum())


def to_persons(bodies: Sequence[Body], denoise: bool = True) -> np.ndarray:
    """Choose and place bodies: (M, T, 25, 3) float32 with M = 1 or 2."""
    bodies = sorted(bodies, key=lambda body: -body.motion)
    if denoise and len(bodies) > 1:
        bodies = _without_noise(bodies)
    if len(bodies) == 1:
        return np.asarray(bodies[0].points)[None]
    points = np.zeros((2, max(body.end for body in bodies), JOINTS, 3), np.float32)
    spans = [(bodies[0].start, bodies[0].end), (0, 0)]
    points[0, bodies[0].start : bodies[0].end] = bodies[0].points
    for body in bodies[1:]:
        for place, (start, end) in enumerate(spans):
            if max(start, body.start) >= min(end, body.end):  # no frame in common
                points[place, body.start : body.end] = body.points
                spans[place] = min(start, body.start), max(end, body.end)
                break
    filled = np.flatnonzero(np.abs(points).sum(axis=(0, 2, 3)) >= EMPTY)
    if len(filled):
        points = points[:, filled[0] : filled[-1] + 1]
    if np.abs(points[0, 0, 1]).sum() < EMPTY < np.abs(points[1, 0, 1]).sum():
        points = points[::-1]
    return points


def _without_noise(bodies: list[Body]) -> list[Body]:
    """Drop bodies that are short-lived or flat; where that would leave nobody, keep the liveliest."""
    kept = [body for body in bodies if len(body.points) > MIN_FRAMES]
    if len(kept) > 1:
        upright = []
        for body in kept:
            width, height = np.moveaxis(np.ptp(body.points, axis=1)[:, :2], 1, 0)
            good = width <= FLAT * height
            if good.all():
                upright.append(body)
            elif 1 - good.mean() < MAX_FLAT:
                upright.append(Body(body.start, body.points, min(body.motion, _spread(body.points[good]))))
        kept = sorted(upright, key=lambda body: -body.motion)
    return kept or bodies[:1]


def convert(name: str, text: str, where: str, denoise: bool = True, half: bool = True) -> Annotation:
    """Return the annotation of one file; its coordinates are float16 as PYSKL stores them, or float32."""
    bodies = parse_skeleton(text, where)
    if not bodies:
        raise UserError(f"{where}: nobody in any frame")
    keypoint = to_persons(bodies, denoise).astype(np.float16 if half else np.float32)
    annotation = {"frame_dir": name, "total_frames": keypoint.shape[1], "keypoint": keypoint, "layout": "nturgb+d"}
    match = NAME.fullmatch(name)
    return annotation | ({"label": int(match["action"]) - 1} if match else {})


# ---- many files ----


def _detect(path: Path) -> bool:
    return any(True for _ in _members(path, []))


def _members(path: Path, problems: list[str]) -> Iterable[tuple[str, str | None]]:
    """(file, member of it where it is an archive) for every skeleton file below a path."""
    if path.is_dir():
        for file in path.rglob("*"):
            if file.suffix.lower() in (".skeleton", ".zip"):
                yield from _members(file, problems)
    elif path.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                check_zip(archive, path)
                names = [name for name in archive.namelist() if name.endswith(".skeleton")]
        except (zipfile.BadZipFile, OSError) as error:
            problems.append(f"{path}: not a readable zip archive ({error}); download it again")
            return
        yield from ((str(path), name) for name in names)
    elif path.suffix.lower() == ".skeleton":
        yield str(path), None


@cache
def missing_ids() -> frozenset[str]:
    """The 535 samples whose skeletons the data set's authors say are missing or incomplete."""
    return frozenset(f"{take}A{int(action):03d}" for take, *actions in _table("missing") for action in actions)


def sample_ids(which: str) -> list[str]:
    """The names of all samples but the missing ones, sorted: 56,578 of "ntu60", 113,945 of "ntu120"."""
    names = []
    for setup, *performers in _table("performers"):
        first = 1 if setup <= LAST_SETUP_OF_60 else 61
        if first == 1 or which == "ntu120":
            ranges = (1, 2, 3), map(int, performers), (1, 2), range(first, first + 60)
            names += [f"{setup}C{c:03d}P{p:03d}R{r:03d}A{a:03d}" for c, p, r, a in itertools.product(*ranges)]
    return [name for name in names if name not in missing_ids()]


def _table(name: str) -> list[list[str]]:
    lines = Path(__file__).with_name(f"ntu_{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


def _read(path: Path, options: ReadOptions) -> list[Annotation]:
    """Read all skeleton files below a path, in the order of their names; each name once."""
    members = sorted(_members(path, options.problems), key=str)
    listed = {Path(member or file).stem: (file, member) for file, member in members}
    names = sorted(name for name in listed if name not in missing_ids())
    left_out = len(listed) - len(names)
    if left_out:
        options.problems.append(f"{path}: {left_out} samples left out that NTU's authors list as incomplete")
    annotations = []
    bar = tqdm(total=len(names), unit="file", disable=len(names) < 500)
    for start in range(0, len(names), PART):
        jobs = [(name, *listed[name], options.denoise, options.half) for name in names[start : start + PART]]
        key = hashlib.sha256(repr(jobs).encode()).hexdigest()[:16]
        part = options.parts / f"{key}.pkl" if options.parts else None
        if part and part.is_file():
            results = read_pickle(part)
        else:
            results = _run(jobs, options.workers)
            if part and not any(isinstance(result, str) for result in results):  # those may be mended meanwhile
                write_atomically(part, pickle.dumps(results, protocol=4))
        for result in results:
            (options.problems if isinstance(result, str) else annotations).append(result)
        bar.update(len(jobs))
    bar.close()
    return annotations


def _run(jobs: list[tuple], workers: int) -> list[Annotation | str]:
    if workers <= 1 or len(jobs) < 2 * workers:
        return [_job(job) for job in jobs]
    with multiprocessing.Pool(workers) as pool:
        return pool.map(_job, jobs, chunksize=16)


def _job(job: tuple[str, str, str | None, bool, bool]) -> Annotation | str:
    """Convert one file; what is wrong with it, as a sentence, where it cannot be."""
    name, file, member, denoise, half = job
    where = f"{file}/{member}" if member else file
    try:
        size = _archive(file).getinfo(member).file_size if member else Path(file).stat().st_size
        if size > LARGEST:
            return f"{where}: {size:,} bytes are too many for a skeleton file; it was not read"
        content = _archive(file).read(member) if member else Path(file).read_bytes()
        return convert(name, content.decode("ascii"), where, denoise, half)
    except UserError as error:
        return str(error)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, UnicodeDecodeError, EOFError) as error:
        return f"{where}: cannot be read: {error}"


@cache
def _archive(file: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(file)


# ---- protocols ----


def protocol(annotations: Sequence[Annotation]) -> str:
    """ "ntu120" where there is an action beyond the 60th, else "ntu60"."""
    return "ntu120" if any(int(_parts(item)["action"]) > 60 for item in annotations) else "ntu60"


def splits(annotations: Sequence[Annotation], which: str) -> dict[str, list[str]]:
    """Cross-subject, and cross-view (60: camera 1 tests) or cross-setup (120: even setups train)."""
    second = "xview" if which == "ntu60" else "xset"
    lists: dict[str, list[str]] = {f"{kind}_{part}": [] for kind in ("xsub", second) for part in ("train", "val")}
    for item in annotations:
        part = _parts(item)
        lists["xsub_train" if int(part["subject"]) in TRAIN_SUBJECTS else "xsub_val"].append(item["frame_dir"])
        trains = int(part["camera"]) != 1 if which == "ntu60" else int(part["setup"]) % 2 == 0
        lists[f"{second}_train" if trains else f"{second}_val"].append(item["frame_dir"])
    return lists


def _parts(item: Annotation) -> re.Match:
    match = NAME.fullmatch(item["frame_dir"])
    if match is None:
        raise UserError(f"sample '{item['frame_dir']}' has no NTU name (SsssCcccPpppRrrrAaaa), so it has no split")
    return match


def compare_samples(annotations: Sequence[Annotation], which: str) -> list[str]:
    """Say what is missing to the published data set; nothing if it is complete.

    Raises:
        UserError: as many samples as the data set has, or more, but not all of them are its own.
    """
    expected, names = set(sample_ids(which)), {item["frame_dir"] for item in annotations}
    foreign, missing = sorted(names - expected), sorted(expected - names)
    if foreign and len(names) >= len(expected):
        raise UserError(f"{which} does not have {len(foreign):,} of these samples, such as {foreign[0]}; are files of "
                        "another data set among them?")  # fmt: skip
    if not missing:
        return []
    listed = ", ".join(missing[:8]) + (f" and {len(missing) - 8:,} more" if len(missing) > 8 else "")
    return [f"{which}: {len(expected) - len(missing):,} of {len(expected):,} samples; missing: {listed}"]


NTU = Source("ntu", "raw NTU RGB+D .skeleton files, in folders or zip archives", _detect, _read)
