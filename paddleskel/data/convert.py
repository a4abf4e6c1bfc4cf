"""The whole way from pose files to the content of an annotation file: read, label, resample, remap, split."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from paddleskel.data import prepare
from paddleskel.data.annotation import read_annotations
from paddleskel.data.doctor import read_sample
from paddleskel.data.prepare import Annotation, Splits
from paddleskel.data.sources import ReadOptions, find_source, ntu, nw_ucla, read_poses
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import load_layout
from paddleskel.skeleton.remap import apply_mapping, joints_of, match_joints


@dataclass
class Recipe:
    """What to make of the poses in some files; see `python tools/prepare_data.py auto --help` for each field.

    Attributes:
        source: a name in SOURCES; None finds it out.
        split_list: {split: text file of ids}.
        notes: what is worth saying afterwards.
    """

    source: str | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    labels: str | None = None
    label_pattern: str | None = None
    label_from_folder: bool = False
    class_names: str | None = None
    label_map: str | None = None
    split: Literal["stratified", "subject", "none"] | None = None
    split_list: dict[str, str] | None = None
    val_fraction: float = 0.2
    val_subjects: list[str] | None = None
    subject_pattern: str | None = None
    seed: int = 0
    dataset: Literal["ntu60", "ntu120"] | None = None
    layout: str | None = None
    remap: str | None = None
    fps: float | None = None
    to_fps: float | None = None
    dtype: Literal["float16", "float32"] | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self):
        if (self.to_fps is None) != (self.fps is None):
            raise UserError("--fps and --to_fps go together: the rate of the poses and the rate to write")
        for flag, pattern in (("label_pattern", self.label_pattern), ("subject_pattern", self.subject_pattern)):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise UserError(f"--{flag} {pattern}: not a regular expression: {error}") from error
        if not 0 < self.val_fraction < 1:
            raise UserError(f"--val_fraction: must lie between 0 and 1, not {self.val_fraction:g}")


def convert(paths: Sequence[str], recipe: Recipe) -> dict[str, Any]:
    """Return the content of an annotation file for the poses in `paths`; remarks are added to `recipe.notes`.

    Raises:
        UserError: nothing readable, samples without labels, joints that do not go together, impossible splits.
    """
    if recipe.layout:
        recipe.options.joints = load_layout(recipe.layout).num_joints
    annotations, kinds = [], set()
    for path in paths:
        kinds.add(find_source(Path(path), recipe.source).name)
        annotations += _readable(read_poses(path, recipe.source, None, recipe.options), path, recipe.options.problems)
    if not annotations:
        raise UserError(f"{recipe.options.problems[0]}; no sample is left")
    recipe.notes += recipe.options.problems
    file = read_annotations(paths[0]) if kinds == {"pickle"} and Path(paths[0]).is_file() and len(paths) == 1 else None
    table = prepare.read_table(recipe.labels) if recipe.labels else None
    annotations, class_names = _label(annotations, recipe, table, file.class_names if file else None)
    if recipe.to_fps is not None:
        annotations = [prepare.resample(item, recipe.fps, recipe.to_fps) for item in annotations]
    annotations = _lay_out(annotations, recipe)
    if recipe.dtype:
        annotations = [{**item, "keypoint": item["keypoint"].astype(recipe.dtype)} for item in annotations]
    if kinds == {"ntu"} and recipe.dataset == "ntu60":
        annotations = [item for item in annotations if item["label"] < 60]
    splits = _split(annotations, recipe, kinds, table, file.splits if file else {})
    content = {"split": splits, "annotations": annotations}
    return content | ({"class_names": class_names} if class_names else {})


def _readable(annotations: list[Any], path: str, problems: list[str]) -> list[Annotation]:
    """The samples whose poses can be read, their ids as text; what is wrong with the others is noted.

    Labels are not looked at, nor is what `tools/check_data.py --fix` mends.
    """
    kept = []
    for number, item in enumerate(annotations):
        fields = dict(item) if isinstance(item, Mapping) else {}
        clip, problem = read_sample({**fields, "label": None} if fields else item)
        if clip is None:
            problems.append(f"{path}: sample '{fields.get('frame_dir', number)}' left out: {problem[1]}")
        else:
            kept.append({**fields, "frame_dir": clip.id or str(number)})
    return kept


def _label(
    annotations: list[Annotation], recipe: Recipe, table: dict | None, names: list[str] | None
) -> tuple[list[Annotation], list[str] | None]:
    if recipe.class_names:
        names = prepare.read_lines(recipe.class_names)
        if not names:
            raise UserError(f"{recipe.class_names}: holds no class names; expected one on each line")
    labelled, names, without = prepare.set_labels(
        annotations, table, recipe.label_pattern, recipe.label_from_folder, names
    )
    if not labelled:
        raise UserError(
            f"none of the {len(without)} samples has a label: give --labels FILE.csv (columns id,label), "
            f"--label_pattern or --label_from_folder; their ids look like '{without[0]}'"
        )
    highest = max(item["label"] for item in labelled)
    if recipe.class_names and highest >= len(names):
        raise UserError(f"{recipe.class_names}: {len(names)} class names, but the labels go from 0 to {highest}")
    if without:
        recipe.notes.append(f"{len(without)} samples without a label left out, such as '{without[0]}'")
    if recipe.label_map:
        labelled, names, left = prepare.map_labels(labelled, names, recipe.label_map)
        if left:
            recipe.notes.append(f"{left} samples of classes that {recipe.label_map} does not name left out")
    return labelled, names


def _lay_out(annotations: list[Annotation], recipe: Recipe) -> list[Annotation]:
    """Check that all samples have the same joints; remap them if wanted."""
    sizes = Counter(item["keypoint"].shape[2:] for item in annotations)
    if len(sizes) > 1:
        found = ", ".join(f"{joints} x {axes} ({count} samples)" for (joints, axes), count in sizes.items())
        raise UserError(f"samples of different joints x coordinates: {found}; convert them one kind at a time")
    joints = next(iter(sizes))[0]
    if recipe.layout:
        layout = load_layout(recipe.layout)
        if joints != layout.num_joints:
            raise UserError(f"--layout {recipe.layout}: the samples have {joints} joints, it has {layout.num_joints}")
        annotations = [{**item, "joints": layout.joints} for item in annotations]
    if not recipe.remap:
        return annotations
    known, target = joints_of(annotations[0]), load_layout(recipe.remap)
    if known is None:
        raise UserError("--remap: the samples do not say what their joints are; give --layout")
    mapping = match_joints(known[1], target.joints)
    if len(mapping.missing) == target.num_joints:
        raise UserError(f"--remap: {known[0]} and {target.name} have no joint in common")
    recipe.notes.append(mapping.report(recipe.layout or known[0], target.name))
    return [apply_mapping(item, mapping, target) for item in annotations]


def _split(
    annotations: list[Annotation], recipe: Recipe, kinds: set[str], table: dict | None, of_file: Splits
) -> Splits:
    """The splits asked for, or else the file's or the format's own, or else stratified ones."""
    names = {item["frame_dir"] for item in annotations}
    if recipe.split_list:
        splits, lacking = prepare.from_lists(annotations, recipe.split_list)
        recipe.notes += [f"split '{split}': {count} ids of {recipe.split_list[split]} are not among the samples"
                         for split, count in lacking.items() if count]  # fmt: skip
        return splits
    if recipe.split == "none":
        return {}
    if recipe.split == "subject" or (recipe.split is None and recipe.val_subjects):
        subjects = prepare.find_subjects(annotations, table, recipe.subject_pattern)
        return prepare.by_subject(annotations, subjects, recipe.val_subjects, recipe.val_fraction, recipe.seed)
    if recipe.split is None and kinds == {"ntu"} and all(ntu.NAME.fullmatch(name) for name in names):
        which = recipe.dataset or ntu.protocol(annotations)
        recipe.notes += ntu.compare_samples(annotations, which)
        return ntu.splits(annotations, which)
    if recipe.split is None:
        own = of_file or prepare.native_splits(annotations, table)
        own = own or (nw_ucla.splits([item["frame_dir"] for item in annotations]) if kinds == {"nw_ucla"} else {})
        kept = {split: [name for name in ids if name in names] for split, ids in own.items()}
        if any(kept.values()):
            return kept
    return prepare.stratified(annotations, recipe.val_fraction, recipe.seed)
