"""Make annotation files: from a pose format, from other annotation files, or from nothing (toy data).

    python tools/prepare_data.py toy                                  # data/toy_2d.pkl and a sample to predict
    python tools/prepare_data.py toy --as openpose --out data/poses   # the same as a folder of pose files
    python tools/prepare_data.py openpose data/poses --labels data/poses.csv \\
        --image_size 1080 1920 -o data/mine.pkl
    python tools/prepare_data.py ntu nturgbd_skeletons_s001_to_s017.zip -o data/ntu60_3danno.pkl --workers 8
    python tools/prepare_data.py auto FOLDER -o data/mine.pkl         # find out what the files are
    python tools/prepare_data.py pickle data/mine.pkl --remap openpose -o data/mine_openpose.pkl
    python tools/prepare_data.py merge a.pkl b.pkl -o data/both.pkl
"""

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.data.annotation import read_annotations
from paddleskel.data.convert import Recipe, convert
from paddleskel.data.sources import SOURCES, ReadOptions
from paddleskel.data.sources.openpose import write_openpose
from paddleskel.data.sources.toy import make_toy
from paddleskel.data.store import Store, is_store
from paddleskel.data.store_files import stamp_of, store_annotations
from paddleskel.data.trust import TrustFlag
from paddleskel.data.writing import dump_portably, merge, write_annotations
from paddleskel.errors import UserError, exit_code
from paddleskel.files import atomic_file, make_folder, write_atomically
from paddleskel.skeleton.layout import load_layout
from paddleskel.skeleton.remap import remap_annotation


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    toy = commands.add_parser("toy", help="procedural human motion, 12 actions")
    toy.add_argument("--dimensions", choices=["2d", "3d"], default="2d", help="COCO-17 pixels or 25 joints in metres")
    toy.add_argument("--subjects", type=int, default=16, help="bodies; the last quarter validates")
    toy.add_argument("--repeats", type=int, default=5, help="clips of each action by each subject")
    toy.add_argument("--seed", type=int, default=0)
    toy.add_argument("--as", dest="form", choices=["pickle", "openpose"], default="pickle",
                     help="an annotation file, or a folder of OpenPose JSON with a labels CSV (2D)")  # fmt: skip
    toy.add_argument("-o", "--out", help="default: data/toy_<dimensions>.pkl")
    join = commands.add_parser("merge", help="join annotation files")
    join.add_argument("paths", nargs="+", metavar="FILE")
    join.add_argument("-o", "--out", required=True, metavar="FILE")
    store = commands.add_parser("store", help="turn an annotation file into a memory-mapped store")
    store.add_argument("path", metavar="FILE")
    store.add_argument("-o", "--out", metavar="FOLDER", help="default: FILE.store, where training looks for it")
    verify = commands.add_parser("verify", help="compare a store's files with their checksums")
    verify.add_argument("path", metavar="FOLDER")
    about = {"auto": "any of the formats below, found out from the files"} | {s.name: s.what for s in SOURCES.values()}
    for name, what in about.items():
        add_reading(commands.add_parser(name, help=what, description=f"Read {what}."))
    parser.add_argument("--trust", action=TrustFlag)
    return parser.parse_args(arguments)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The options that all pose formats share."""
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="files or folders")
    add("-o", "--out", required=True, metavar="FILE", help="the annotation file to write")
    add("--store", action="store_true", help="write its memory-mapped store too, FILE.store")
    group = parser.add_argument_group("labels").add_argument
    group("--labels", metavar="CSV", help="columns id and label (number or name), also subject and split")
    group("--label_pattern", metavar="REGEX", help="the label is its first group, searched in the id")
    group("--label_from_folder", action="store_true", help="the label is the first folder in the id")
    group("--class_names", metavar="FILE", help="class names in order, one a line")
    group("--label_map", metavar="FILE", help="lines old,new: rename and join classes, leave the others out")
    group = parser.add_argument_group("splits").add_argument
    group("--split", choices=["stratified", "subject", "none"], help="default: the format's own, else stratified")
    group("--split_list", nargs="+", metavar="NAME=FILE", help="a text file with one id a line for each split")
    group("--val_fraction", type=float, default=0.2, help="of each class, or of the subjects (default: 0.2)")
    group("--val_subjects", nargs="+", metavar="SUBJECT")
    group("--subject_pattern", metavar="REGEX", help="the subject is its first group, searched in the id")
    group("--seed", type=int, default=0)
    group("--dataset", choices=["ntu60", "ntu120"], help="ntu: whose splits (default: by the actions there are)")
    group = parser.add_argument_group("poses").add_argument
    group("--num_person", type=int, default=2, help="people kept of each clip (default: 2)")
    group("--person", choices=["motion", "score", "box"], default="motion", help="which: liveliest, surest, largest")
    group("--no_link", action="store_true", help="do not follow people over time: keep each frame's order")
    group("--image_size", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"), help="of the pictures, in pixels")
    group("--layout", metavar="NAME", help="what the joints are, where the format does not say: a name or YAML file")
    group("--remap", metavar="NAME", help="write the joints of this layout, matched by name")
    group("--last_is_score", action="store_true", help="arrays of x, y and confidence, not x, y and z")
    group("--fps", type=float, help="frames a second of the poses")
    group("--to_fps", type=float, help="frames a second to write")
    group("--dtype", choices=["float16", "float32"], help="default: float16 for ntu, as PYSKL, else float32")
    group("--no_denoise", action="store_true", help="ntu: keep bodies that PYSKL's rules take for noise")
    group("--workers", type=int, default=1, help="processes (ntu)")


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    if flags.source == "toy":
        write_toy(flags)
        return
    if flags.source == "merge":
        save(Path(flags.out), merge([read_annotations(path) for path in flags.paths]))
        return
    if flags.source == "verify":
        if not is_store(flags.path):
            raise UserError(f"{flags.path}: no store; name a folder that `prepare_data.py store FILE` wrote")
        store = Store(flags.path)
        store.verify()
        print(f"{flags.path}: {len(store)} samples, all checksums are right")
        return
    if flags.source == "store":
        write_its_store(flags.path, flags.out)
        return
    recipe = to_recipe(flags)
    save(Path(flags.out), convert(flags.paths, recipe))
    if flags.store:
        write_its_store(flags.out, None)
    shutil.rmtree(recipe.options.parts, ignore_errors=True)
    tell(recipe.notes, Path(flags.out))


def write_its_store(pickle_path: str, out: str | None) -> None:
    """Store an annotation file; without a folder, where training looks for its store."""
    place = Path(out or f"{pickle_path}.store")
    store_annotations(read_annotations(pickle_path), place, stamp_of(Path(pickle_path)))
    print(f"wrote {place}: {len(Store(place))} samples")


def to_recipe(flags: argparse.Namespace) -> Recipe:
    """The flags as settings of the conversion."""
    values = vars(flags)
    for name in ("num_person", "workers"):
        if values[name] < 1:
            raise UserError(f"--{name}: must be at least 1, not {values[name]}")
    if flags.image_size and min(flags.image_size) < 1:
        raise UserError("--image_size: height and width must be at least 1 pixel")
    options = ReadOptions(
        num_person=flags.num_person,
        person=flags.person,
        link=not flags.no_link,
        image_size=tuple(flags.image_size) if flags.image_size else None,
        last_is_score=flags.last_is_score,
        workers=flags.workers,
        denoise=not flags.no_denoise,
        half=flags.dtype != "float32",
        parts=Path(f"{flags.out}.parts"),
    )
    taken = {item.name: values[item.name] for item in dataclasses.fields(Recipe) if item.name in values}
    taken |= {"source": None if flags.source == "auto" else flags.source, "split_list": lists_of(flags.split_list)}
    return Recipe(**taken, options=options)


def lists_of(parts: list[str] | None) -> dict[str, str] | None:
    if parts and not all("=" in part for part in parts):
        raise UserError("--split_list: expected NAME=FILE, such as train=train.txt val=val.txt")
    return dict(part.split("=", 1) for part in parts) if parts else None


def save(out: Path, content: Mapping) -> None:
    write_annotations(out, content)
    sizes = ", ".join(f"{len(ids)} in '{name}'" for name, ids in content["split"].items()) or "no splits"
    classes = len({item.get("label") for item in content["annotations"]})
    joints, axes = content["annotations"][0]["keypoint"].shape[2:]
    print(f"wrote {out}: {len(content['annotations'])} clips ({sizes}), {classes} classes, {joints} joints in {axes}D")


def tell(notes: list[str], out: Path, most: int = 20) -> None:
    """Print the notes; more than `most` of them go to a file."""
    for note in notes[:most]:
        print(f"note: {note}", file=sys.stderr)
    if len(notes) > most:
        listing = out.with_suffix(".notes.txt")
        write_atomically(listing, "\n".join(notes) + "\n")
        print(f"note: and {len(notes) - most} more, all in {listing}", file=sys.stderr)


def write_toy(flags: argparse.Namespace) -> None:
    """Make the toy set: an annotation file with a sample to predict, or pose files with their labels."""
    content = make_toy(flags.dimensions, flags.subjects, flags.repeats, flags.seed)
    if flags.form == "openpose":
        write_pose_files(content, Path(flags.out or "data/toy_poses"), flags.dimensions)
        return
    out = Path(flags.out or f"data/toy_{flags.dimensions}.pkl")
    write_pickle(out, content)
    sample = out.with_name(f"{out.stem}_sample.pkl")
    unlabelled = {key: value for key, value in content["annotations"][-1].items() if key != "label"}
    write_pickle(sample, unlabelled)
    sizes = ", ".join(f"{len(ids)} in '{name}'" for name, ids in content["split"].items())
    print(f"wrote {out}: {len(content['annotations'])} clips ({sizes}), {len(content['class_names'])} actions")
    print(f"wrote {sample}: one clip without its label, to predict")


def write_pickle(path: Path, content: Mapping) -> None:
    with atomic_file(path) as file:
        dump_portably(content, file)


def write_pose_files(content: Mapping, folder: Path, dimensions: str) -> None:
    """A folder of OpenPose JSON files for each clip, and beside it a CSV with ids, labels and subjects."""
    if dimensions != "2d":
        raise UserError("--as openpose: OpenPose files are 2D; leave --dimensions out")
    rows = ["id,label,subject"]
    for item in content["annotations"]:
        clip = remap_annotation({**item, "layout": "coco"}, load_layout("openpose"), "toy")
        write_openpose(clip, make_folder(folder / item["frame_dir"]))
        rows.append(f"{item['frame_dir']},{content['class_names'][item['label']]},{item['frame_dir'][:4]}")
    table = folder.with_suffix(".csv")
    write_atomically(table, "\n".join(rows) + "\n")
    height, width = content["annotations"][0]["img_shape"]
    print(
        f"wrote {folder}: {len(rows) - 1} clips as OpenPose JSON, {table}: their labels; images are {height} x {width}"
    )


if __name__ == "__main__":
    sys.exit(main())
