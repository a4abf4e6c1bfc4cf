"""Stores of annotation files and of pipeline steps: made when they are first needed, made again when outdated."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.data.annotation import AnnotationFile, parse_annotation, read_annotations
from paddleskel.data.clip import Clip
from paddleskel.data.store import FORMAT, Store, is_store, write_store
from paddleskel.errors import UserError
from paddleskel.files import make_folder


def store_annotations(file: AnnotationFile, path: Path, source: Mapping[str, Any] | None = None) -> None:
    """Write an annotation file's samples as a store."""
    points = (item.get("keypoint") if isinstance(item, Mapping) else None for item in file.annotations)
    half = all(getattr(array, "dtype", None) == np.float16 for array in points)
    clips = (parse_annotation(item, file.path, need_label=False) for item in file.annotations)
    write_store(path, clips, file.splits, file.class_names, np.dtype(np.float16 if half else np.float32), source)


def stamp_of(pickle_path: Path) -> dict[str, Any]:
    """By what a store knows that it was made from a file as it is now."""
    stat = pickle_path.stat()
    return {"file": pickle_path.name, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def store_of(pickle_path: str | Path, folder: str | None = None, say: Callable[[str], None] = print) -> Store | None:
    """Return the store of an annotation pickle, converting it where there is none or an outdated one.

    Args:
        folder: where to keep stores; default: beside the pickle, or in ~/.cache/paddleskel where that cannot be written
            to.

    Returns:
        None where the file cannot be stored as it is (a malformed sample, confidences in some samples only) or there
        is no place for it; reading it directly will say what is wrong with the samples in use.
    """
    pickle_path = Path(pickle_path)
    if not pickle_path.is_file():
        return None
    stamp = stamp_of(pickle_path)
    key = hashlib.sha256(str(pickle_path.resolve()).encode()).hexdigest()[:12]
    beside = pickle_path.with_name(f"{pickle_path.name}.store")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "paddleskel")
    elsewhere = f"{pickle_path.name}.{key}.store"
    places = [Path(folder, elsewhere)] if folder else [beside, cache / elsewhere]
    for place in places:
        store = current_store(place, stamp, str(pickle_path))
        if store is not None:
            return store
    file = read_annotations(pickle_path)
    for place in places:
        if place.parent.is_dir() and not place.parent.stat().st_mode & 0o222:
            continue  # marked read-only, which root could ignore
        try:
            make_folder(place.parent)
        except UserError:
            continue
        try:
            store_annotations(file, place, stamp)
        except UserError:
            return None
        say(f"{pickle_path} is now also in {place}, a store that later runs read instead (DATASET.store)")
        return Store(place, str(pickle_path))
    return None


def current_store(place: Path, stamp: Mapping[str, Any], name: str) -> Store | None:
    """The store at a place, if it is whole and was made from the pickle as it is."""
    if not is_store(place):
        return None
    try:
        store = Store(place, name)
    except UserError:
        return None
    return store if store.index["source"] == stamp else None


def cached_steps(store: Store, steps: Sequence[Callable], say: Callable[[str], None] = print) -> Store:
    """Return a store of the same samples after some transforms that draw nothing; made once, kept inside the store.

    Args:
        steps: transforms, Clip and generator -> Clip; their names and attributes and the store's checksums are the key.
    """
    sums = {name: about["sha256"] for name, about in store.index["files"].items()}
    recipe = [[type(step).__name__, vars(step)] for step in steps]
    text = json.dumps([FORMAT, sums, recipe], sort_keys=True, default=lambda value: np.asarray(value).tolist())
    place = Path(store.path, "cache", hashlib.sha256(text.encode()).hexdigest()[:16])
    if is_store(place):
        return Store(place, store.name)

    def result(position: int) -> Clip:
        clip = store.clip(position)
        for step in steps:
            clip = step(clip, None)
        return clip

    clips = (result(position) for position in range(len(store)))
    write_store(place, clips, {}, store.class_names, np.dtype(np.float32), {"steps": [name for name, _ in recipe]})
    say(f"the first {len(steps)} steps of the pipeline are kept in {place} (DATASET.cache_steps)")
    return Store(place, store.name)
