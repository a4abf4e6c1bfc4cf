"""A memory-mapped store: a folder of flat arrays that opens in milliseconds and that all workers share.

    index.json       format, shapes, types and checksums of the arrays, names of splits and classes, where it came from
    keypoint.bin     (rows, V, C): every person's frames of every sample, one after the other
    score.bin        (rows, V), if there are confidences
    samples.bin      (samples,): first row, persons, frames, label, image height and width
    ids.bin          (samples,) fixed-width UTF-8
    split_0.bin ...  positions of the samples in each split
    cache/<key>/     stores of the same samples after the first, deterministic steps of a pipeline

A store is written into a hidden folder beside its place and moved there when it is whole, so that an interrupted
conversion leaves nothing that could be mistaken for one.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddleskel.data.annotation import AnnotationFile
from paddleskel.data.clip import Clip
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import Layout

FORMAT = 1
_SAMPLE = np.dtype(
    [("row", "<i8"), ("persons", "<i4"), ("frames", "<i4"), ("label", "<i4"), ("height", "<i4"), ("width", "<i4")]
)


# ---- reading ----


class Store:
    """An open store. Arrays are mapped, not read; they are read-only.

    Attributes:
        splits: {name: positions}. class_names: or None. labels: (samples,) class indices, -1 where unknown.
    """

    def __init__(self, path: str | Path, name: str | None = None):
        """Open the store in a folder.

        Args:
            name: what messages call it; default: the path.

        Raises:
            UserError: no store there, another format, or files that are not as long as the index says.
        """
        self.path, self.name = str(path), name or str(path)
        self.index = _read_index(Path(path))
        self.class_names: list[str] | None = self.index["class_names"]
        self.splits = {name: self._map(file) for name, file in self.index["splits"].items()}
        self.labels = self._map("samples.bin")["label"]
        self._samples, self._ids = self._map("samples.bin"), self._map("ids.bin")
        self._keypoint = self._map("keypoint.bin")
        self._score = self._map("score.bin") if "score.bin" in self.index["files"] else None

    def _map(self, name: str) -> np.ndarray:
        about = self.index["files"][name]
        file = Path(self.path, name)
        fields = about["dtype"]
        shape = tuple(about["shape"])
        dtype = np.dtype(fields if isinstance(fields, str) else [tuple(field) for field in fields])
        expected = int(np.prod(shape)) * dtype.itemsize
        if not file.is_file() or file.stat().st_size != expected:
            raise UserError(f"{file}: missing or not {expected:,} bytes long; delete {self.path} and convert again")
        if not expected:
            return np.empty(shape, dtype)
        return np.asarray(np.memmap(file, dtype, "r", shape=shape))  # slicing a plain array is three times as fast

    def __reduce__(self):
        return Store, (self.path, self.name)  # a worker opens it anew instead of receiving its content

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def joints(self) -> int:
        return self._keypoint.shape[1]

    def id(self, position: int) -> str:
        return self._ids[position].decode()

    def clip(self, position: int) -> Clip:
        """Return a sample; its arrays are views of the files."""
        row, persons, frames, label, height, width = self._samples[position].item()
        rows, shape = slice(row, row + persons * frames), (persons, frames)
        return Clip(
            keypoint=self._keypoint[rows].reshape(*shape, *self._keypoint.shape[1:]),
            score=None if self._score is None else self._score[rows].reshape(*shape, -1),
            label=label,
            id=self._ids[position].decode(),
            image_size=(height, width) if height else None,
        )

    def annotations(self) -> AnnotationFile:
        """The content as an annotation file's; arrays are views of the files."""
        listed = []
        for position in range(len(self)):
            clip = self.clip(position)
            item = {"frame_dir": clip.id, "total_frames": clip.num_frames, "keypoint": clip.keypoint}
            item |= {"label": clip.label} if clip.label >= 0 else {}
            item |= {} if clip.score is None else {"keypoint_score": clip.score}
            item |= {} if clip.image_size is None else {"img_shape": clip.image_size}
            listed.append(item)
        splits = {name: [self.id(position) for position in places] for name, places in self.splits.items()}
        return AnnotationFile(self.name, listed, splits, self.class_names)

    def select(self, split: str | None, layout: Layout, num_classes: int | None) -> "StoreClips":
        """Return the samples of a split, or all; check joints and labels.

        Raises:
            UserError: unknown split, an empty one, another number of joints, a label that is not a class.
        """
        if split is not None and split not in self.splits:
            raise UserError(f"{self.name}: no split '{split}'; it has {', '.join(self.splits) or 'none'}")
        positions = np.arange(len(self)) if split is None else self.splits[split]
        if not len(positions):
            raise UserError(f"{self.name}: {f'split {split!r}' if split else 'the store'} holds no sample")
        if self.joints != layout.num_joints:
            raise UserError(
                f"{self.name}: keypoint has {self.joints} joints, but the layout '{layout.name}' has "
                f"{layout.num_joints}; set `layout` to the skeleton of this file"
            )
        labels = self.labels[positions]
        wrong = (labels < 0) | (labels >= (num_classes or np.inf))
        if wrong.any():
            first = int(wrong.argmax())
            where = f"{self.name}: sample '{self.id(positions[first])}'"
            if labels[first] < 0:
                raise UserError(f"{where}: no 'label'")
            raise UserError(
                f"{where}: label {labels[first]} is outside 0 to {num_classes - 1}, as num_classes is {num_classes}"
            )
        return StoreClips(self, positions)

    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises:
            UserError: the file that has changed.
        """
        for name, about in self.index["files"].items():
            digest = hashlib.sha256()
            with Path(self.path, name).open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
            if digest.hexdigest() != about["sha256"]:
                raise UserError(
                    f"{Path(self.path, name)}: its checksum is not the one in index.json, so the file has changed or "
                    f"the disk is failing; delete {self.path} and convert again"
                )


class StoreClips(Sequence):
    """Some of a store's samples, read when they are asked for.

    Args:
        labels: in place of those that the store has for them.
    """

    def __init__(self, store: Store, positions: np.ndarray, labels: np.ndarray | None = None):
        self.store, self.positions = store, positions
        self.labels = store.labels[positions] if labels is None else labels

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, item):
        if isinstance(item, slice):
            return StoreClips(self.store, self.positions[item], self.labels[item])
        clip, label = self.store.clip(self.positions[item]), int(self.labels[item])
        return clip if clip.label == label else clip.with_(label=label)

    @property
    def ids(self) -> list[str]:
        return [self.store.id(position) for position in self.positions]


def ids_of(clips: Sequence[Clip]) -> list[str]:
    """The ids of clips; a store's are known without reading the clips."""
    return clips.ids if isinstance(clips, StoreClips) else [clip.id for clip in clips]


def labels_of(clips: Sequence[Clip]) -> np.ndarray:
    """The labels of clips; a store's are known without reading the clips."""
    return clips.labels if isinstance(clips, StoreClips) else np.array([clip.label for clip in clips])


def only(clips: Sequence[Clip], ids: set[str]) -> Sequence[Clip]:
    """The clips with the given ids, in their order."""
    kept = [place for place, name in enumerate(ids_of(clips)) if name in ids]
    if isinstance(clips, StoreClips):
        return StoreClips(clips.store, clips.positions[kept], clips.labels[kept])
    return [clips[i] for i in kept]


def relabelled(clips: Sequence[Clip], labels: np.ndarray) -> Sequence[Clip]:
    """The clips with other labels, in their order."""
    if isinstance(clips, StoreClips):
        return StoreClips(clips.store, clips.positions, labels)
    return [clip.with_(label=int(label)) for clip, label in zip(clips, labels)]


def is_store(path: str | Path) -> bool:
    return Path(path, "index.json").is_file()


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads((path / "index.json").read_text(encoding="utf-8"))
        version = index["format"]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no store (no index.json in it)") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}/index.json: not readable; delete {path} and convert again") from error
    if version != FORMAT:
        raise UserError(f"{path}: a store of format {version}, this version reads {FORMAT}; delete and convert again")
    return index


# ---- writing ----


class _Column:
    """One array being written, with its checksum."""

    def __init__(self, folder: Path, name: str):
        self.name, self.rows, self.digest = name, 0, hashlib.sha256()
        self.file: BinaryIO = (folder / name).open("wb")

    def add(self, array: np.ndarray) -> None:
        content = np.ascontiguousarray(array).tobytes()
        self.file.write(content)
        self.digest.update(content)
        self.rows += len(array)

    def close(self, dtype: np.dtype, tail: tuple[int, ...]) -> dict[str, Any]:
        """Flush to disk; return the entry in the index."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        spoken = [list(field) for field in dtype.descr] if dtype.names else dtype.str
        return {"dtype": spoken, "shape": [self.rows, *tail], "sha256": self.digest.hexdigest()}


def write_store(
    path: Path,
    clips: Iterable[Clip],
    splits: Mapping[str, Sequence[str]],
    class_names: Sequence[str] | None,
    dtype: np.dtype,
    source: Mapping[str, Any] | None = None,
) -> None:
    """Write a store.

    Args:
        dtype: of coordinates and confidences.
        source: what it was made from, kept in the index.

    Raises:
        UserError: no sample, samples of different joints, confidences for some samples only, a place that cannot be
            written to.
    """
    if path.exists() and not is_store(path) and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: is there already and is no store; choose another place or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    try:
        index = _write_columns(folder, clips, splits, np.dtype(dtype))
        index |= {"class_names": list(class_names) if class_names else None, "source": dict(source or {})}
        (folder / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        folder.chmod(0o777 & ~_umask())
        _move_into_place(folder, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_columns(folder: Path, clips: Iterable[Clip], splits: Mapping, dtype: np.dtype) -> dict[str, Any]:
    keypoint, score = _Column(folder, "keypoint.bin"), None
    samples, ids, shape = [], [], ()
    for clip in clips:
        persons, frames, *joints = clip.keypoint.shape
        if not samples:
            shape, score = tuple(joints), None if clip.score is None else _Column(folder, "score.bin")
        if tuple(joints) != shape:
            raise UserError(f"sample '{clip.id}' has joints x coordinates {tuple(joints)}, those before it {shape}")
        if (clip.score is None) != (score is None):
            raise UserError(f"sample '{clip.id}': some samples have confidences and some have none")
        height, width = clip.image_size or (0, 0)
        samples.append((keypoint.rows, persons, frames, clip.label, height, width))
        ids.append(clip.id.encode())
        keypoint.add(clip.keypoint.reshape(-1, *shape).astype(dtype, copy=False))
        if score is not None:
            score.add(clip.score.reshape(-1, shape[0]).astype(dtype, copy=False))
    if not samples:
        raise UserError("no sample to store")
    files = {"keypoint.bin": keypoint.close(dtype, shape)}
    if score is not None:
        files["score.bin"] = score.close(dtype, shape[:1])
    named = {}
    arrays = {"samples.bin": np.array(samples, _SAMPLE), "ids.bin": np.array(ids)}
    for number, (split, members) in enumerate(splits.items()):
        wanted = {name.encode() for name in members}
        named[split] = f"split_{number}.bin"
        arrays[named[split]] = np.array([place for place, name in enumerate(ids) if name in wanted], np.int32)
    for name, array in arrays.items():
        column = _Column(folder, name)
        column.add(array)
        files[name] = column.close(array.dtype, ())
    return {"format": FORMAT, "splits": named, "files": files}


def _move_into_place(folder: Path, path: Path) -> None:
    """Rename the finished folder; a store that stands there is replaced, or stays if it is whole and the same. Several
    processes may do this at once, with the same store.
    """
    if _same_store(folder, path):
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    try:
        if is_store(path):
            with contextlib.suppress(FileNotFoundError):  # another process has just taken it away
                os.replace(path, old / "store")
        os.replace(folder, path)
    except OSError:
        if not _same_store(folder, path):  # which another process has just put there
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _same_store(one: Path, other: Path) -> bool:
    """Whether two folders hold whole stores of the same content, by their checksums and sizes."""
    try:
        files = [
            {file.name: file.stat().st_size for file in place.iterdir() if file.is_file()} for place in (one, other)
        ]
        return files[0] == files[1] and (one / "index.json").read_bytes() == (other / "index.json").read_bytes()
    except OSError:
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
