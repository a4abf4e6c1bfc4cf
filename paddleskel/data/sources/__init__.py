"""Pose formats. `read_poses` reads any file or folder of one of them; `SOURCES` lists them."""

from collections.abc import Mapping
from pathlib import Path

from paddleskel.data.annotation import read_annotations
from paddleskel.data.sources.arrays import ARRAYS
from paddleskel.data.sources.coco_results import COCO_RESULTS
from paddleskel.data.sources.kinetics import KINETICS
from paddleskel.data.sources.kpfiles import KPFILES, expand
from paddleskel.data.sources.ntu import NTU
from paddleskel.data.sources.nw_ucla import NW_UCLA
from paddleskel.data.sources.openpose import OPENPOSE
from paddleskel.data.sources.paddledetection import PADDLEDETECTION
from paddleskel.data.sources.reader import Annotation, ReadOptions, Source, each_file, files_in
from paddleskel.data.sources.tables import FILES, MEDIAPIPE_SOURCE
from paddleskel.errors import UserError
from paddleskel.registry import did_you_mean
from paddleskel.skeleton.layout import Layout
from paddleskel.skeleton.remap import remap_annotation


def _read_pickles(path: Path, options: ReadOptions) -> list[Annotation]:
    return each_file(files_in(path, ".pkl", ".pickle"), lambda file: _pickle(file, options), options)


def _pickle(file: Path, options: ReadOptions) -> list[Annotation]:
    listed = read_annotations(file).annotations
    if listed and isinstance(listed[0], Mapping) and "raw_file" in listed[0] and "keypoint" not in listed[0]:
        return expand(file, listed, options)
    return [dict(item) if isinstance(item, Mapping) else item for item in listed]


PICKLES = Source("pickle", "annotation pickles (PYSKL, MMAction2, PaddleVideo)",
                 lambda path: bool(path.suffix in (".pkl", ".pickle") or any(path.glob("*.pkl"))),
                 _read_pickles)  # fmt: skip

# In the order they are tried: the more particular first.
SOURCES: dict[str, Source] = {
    source.name: source
    for source in (NTU, OPENPOSE, KINETICS, NW_UCLA, COCO_RESULTS, PADDLEDETECTION, ARRAYS, MEDIAPIPE_SOURCE, FILES)
    + (PICKLES, KPFILES)
}


def find_source(path: Path, name: str | None = None) -> Source:
    """Return the source of that name, or the first that the path looks like.

    Raises:
        UserError: no such file, an unknown name, or no known format.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if name is not None:
        if name not in SOURCES:
            raise UserError(f"unknown source '{name}'{did_you_mean(name, list(SOURCES))}")
        return SOURCES[name]
    for source in SOURCES.values():
        if source.detect(path):
            return source
    known = "; ".join(source.what for source in SOURCES.values())
    raise UserError(f"{path}: not a pose format that is known here. Known are: {known}")


def read_poses(
    path: str | Path,
    source: str | None = None,
    layout: Layout | None = None,
    options: ReadOptions | None = None,
) -> list[Annotation]:
    """Read the pose sequences in a file or folder of any known format.

    Args:
        source: the format, one of `SOURCES`; default: found out from the files.
        layout: the skeleton wanted. Where the format's own is another, joints are matched by name.
        options: persons, image size and so on; what could not be read is noted in `options.problems`.

    Returns:
        Annotations as in an annotation file (see data/annotation.py), without labels where the format has none; those
        of annotation pickles as they are, whatever is wrong with them.

    Raises:
        UserError: unknown format, nothing that could be read, or a layout whose joints the format lacks.
    """
    path, options = Path(path), options or ReadOptions()
    if layout is not None and options.joints is None:
        options.joints = layout.num_joints
    noted = len(options.problems)
    annotations = find_source(path, source).read(path, options)
    if not annotations:
        why = options.problems[noted:]
        more = f" (and {len(why) - 1} more problems)" if len(why) > 1 else ""
        raise UserError(f"{why[0]}{more}" if why else f"{path}: no pose sequence in it")
    if layout is not None:
        annotations = [
            remap_annotation(item, layout, str(path)) if isinstance(item, Mapping) else item for item in annotations
        ]
    return annotations


__all__ = ["SOURCES", "Annotation", "ReadOptions", "Source", "find_source", "read_poses"]
