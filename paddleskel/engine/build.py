"""From settings to the objects of a run: network, datasets, class names. Training and testing share it."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paddleskel.data.annotation import AnnotationFile, read_annotations
from paddleskel.data.clip import Clip
from paddleskel.data.dataset import SkeletonDataset, load_clips
from paddleskel.data.doctor.quick import quick_check, seen_in_training
from paddleskel.data.example import make_clip
from paddleskel.data.long_tail import class_counts, thin
from paddleskel.data.rebalance import SAMPLERS, RebalancedOrder
from paddleskel.data.store import Store, StoreClips, ids_of, is_store, labels_of, only, relabelled
from paddleskel.data.store_files import cached_steps, store_of
from paddleskel.data.transforms import Pipeline, build_pipeline
from paddleskel.engine.settings import EvalSplit, Settings, TrainSplit, read_class_names
from paddleskel.errors import UserError
from paddleskel.models.losses import Loss
from paddleskel.models.recognizer import Recognizer, build_model
from paddleskel.models.registry import LOSSES, MIXES

Part = Literal["train", "valid", "test"]


def build_network(settings: Settings) -> Recognizer:
    """Build the network of a config."""
    model = {"backbone": settings.MODEL.backbone, "head": settings.MODEL.head}
    return build_model(model, settings.load_layout(), settings.num_classes)


def part_of(settings: Settings, part: Part) -> TrainSplit | EvalSplit:
    """Return a section of DATASET; a missing one is an error that names it."""
    section = getattr(settings.DATASET, part)
    if section is None:
        raise UserError(f"DATASET.{part}: missing; this command needs it")
    return section


def part_name(settings: Settings, part: Part) -> dict[str, Any]:
    """Say which samples a section names: the file, without its folder, the split, and what else there is."""
    section = part_of(settings, part)
    name = {"file": Path(section.file).name, "split": section.split}
    unusual = {"match": section.match, "relabel": section.relabel}
    return name | {key: value for key, value in unusual.items() if value is not None}


def pipeline_of(settings: Settings, part: Part, transforms: Sequence[dict] | None = None) -> Pipeline:
    """Build the pipeline of a phase, of other transforms than the config's if they are given. Nothing is read."""
    clips = 1 if part == "train" else part_of(settings, part).num_clips
    transforms = transforms or settings.PIPELINE
    return build_pipeline(transforms, settings.load_layout(), settings.stream, part == "train", clips)


def takes_pixels(settings: Settings) -> bool:
    """Whether the pipeline needs each sample's img_shape, and so takes 2D coordinates for pixels."""
    steps = [step for step in settings.PIPELINE if step["name"] == "PreNormalize2D"]
    return any(step.get("mode", "fix") == "fix" and not step.get("image_size") for step in steps)


class Data:
    """The annotation files of a config, each read once."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._files: dict[str, AnnotationFile | Store] = {}
        self._clips: dict[Part, Sequence[Clip]] = {}

    def dataset(self, part: Part, transforms: Sequence[dict] | None = None) -> SkeletonDataset:
        """Read and check a split; return it behind the pipeline of its phase, or that of other transforms."""
        settings, pipeline = self.settings, pipeline_of(self.settings, part, transforms)
        clips = self._clips[part] = self._select(part)
        if settings.DATASET.cache_steps:
            if not isinstance(clips, StoreClips):
                raise UserError(
                    f"DATASET.cache_steps: {part_of(settings, part).file} is not read through a store (DATASET.store)"
                )
            steps, pipeline = pipeline.split()
            clips = StoreClips(cached_steps(clips.store, steps), clips.positions, clips.labels) if steps else clips
        return SkeletonDataset(clips, pipeline, settings.seed, settings.DATASET.train.repeat if part == "train" else 1)

    def _select(self, part: Part) -> Sequence[Clip]:
        """The samples of a section, checked."""
        section, settings = part_of(self.settings, part), self.settings
        clips = load_clips(self._open(section.file), section.split, settings.load_layout(), settings.num_classes)
        if section.relabel:
            clips = _mended(clips, section.relabel, part, settings.num_classes)
        if section.match is not None:
            clips = _matching(clips, section.match, part)
        if part == "train" and section.long_tail:
            clips = thin(clips, section.long_tail, settings.num_classes, section.split)
        return clips

    def clips(self, part: Part) -> Sequence[Clip]:
        """The samples of a split that has been read, as they are in their file."""
        return self._clips[part]

    def seen_in_training(self) -> list[str] | None:
        """The ids of test samples that are training samples number for number; None where those cannot be read."""
        try:
            return seen_in_training(self._select("train"), self._clips["test"])
        except UserError:
            return None

    def check(self, valid: bool) -> list[str]:
        """Give the training split, and the validation split if it has been read too, the doctor's short visit.

        Raises:
            UserError: data on which training would silently learn nothing.
        """
        if not self.settings.DATASET.check:
            return []
        return quick_check(self._clips["train"], self._clips["valid"] if valid else None, takes_pixels(self.settings))

    def _open(self, path: str) -> AnnotationFile | Store:
        """Open a file of the config once: a store, a pickle's store, or the pickle itself."""
        if path not in self._files:
            place = self.settings.DATASET.store
            if is_store(path):
                self._files[path] = Store(path)
            else:
                store = store_of(path, place if isinstance(place, str) else None) if place else None
                self._files[path] = store or read_annotations(path)
        return self._files[path]

    def class_names(self) -> list[str] | None:
        """The config's class names, or those of a file that has been read."""
        given = [file.class_names for file in self._files.values() if file.class_names]
        return read_class_names(self.settings, given[0] if given else None)


def _matching(clips: Sequence[Clip], pattern: str, part: Part) -> Sequence[Clip]:
    """The clips in whose names a pattern is found."""
    return only(clips, _found(pattern, ids_of(clips), f"DATASET.{part}.match"))


def _mended(clips: Sequence[Clip], rules: Mapping[str, int], part: Part, num_classes: int) -> Sequence[Clip]:
    """The clips, those in whose names a pattern is found with its class."""
    labels, names, where = labels_of(clips).copy(), ids_of(clips), f"DATASET.{part}.relabel"
    for pattern, label in rules.items():
        if not 0 <= label < num_classes:
            raise UserError(
                f"{where}.{pattern}: {label} is outside 0 to {num_classes - 1}, as num_classes is {num_classes}"
            )
        found = _found(pattern, names, where)
        labels[[name in found for name in names]] = label
    return relabelled(clips, labels)


def _found(pattern: str, names: list[str], where: str) -> set[str]:
    """The names in which a pattern is found, one at least."""
    found = {name for name in names if re.search(pattern, name)}
    if not found:
        raise UserError(f"{where}: '{pattern}' is found in none of the {len(names)} names, such as '{names[0]}'")
    return found


def expected_shape(settings: Settings, model: Recognizer) -> tuple[int, ...]:
    """Return (M, T, V, C), what the pipeline makes of a sequence, without reading any data.

    Raises:
        UserError: neither 3D poses nor 2D ones, with confidences or without, fit the network; sequences of different
            lengths stay so.
    """
    layout, pipeline = settings.load_layout(), pipeline_of(settings, "train")
    made: dict[int, None] = {}
    for dimensions, scored in ((3, False), (2, True), (2, False), (3, True)):
        clips = [make_clip(layout, dimensions, scored, frames) for frames in (8, 9)]
        try:
            (_, *shape), (_, *other) = (pipeline(clip, np.random.RandomState(0)).shape for clip in clips)
        except (UserError, ValueError):  # 2D poses in a 3D pipeline, or the reverse
            continue
        if shape[-1] != model.backbone.in_channels:
            made[shape[-1]] = None
        elif shape != other:
            raise UserError(
                "PIPELINE: no step gives all clips the same number of frames; add one that does, such as UniformSample"
            )
        else:
            return tuple(shape)
    raise UserError(
        f"MODEL.backbone.in_channels is {model.backbone.in_channels}, but the pipeline makes "
        f"{' or '.join(map(str, made)) or 'no'} channels"
    )


def rebalanced(settings: Settings, dataset: SkeletonDataset) -> RebalancedOrder | None:
    """What draws the samples of a training epoch where DATASET.train.sampler is set."""
    section = settings.DATASET.train
    if section.sampler is None:
        return None
    labels = [clip.label for clip in dataset.clips]
    sampler = SAMPLERS.build(section.sampler, "DATASET.train.sampler")
    multiples = sampler(np.array(class_counts(labels, settings.num_classes)))
    return RebalancedOrder(labels, section.repeat * multiples)


def build_criterion(settings: Settings, counts: Sequence[int], log: Callable[[str], None]) -> Loss:
    """Build the loss; remark on a second stage that the run does not reach."""
    criterion = LOSSES.build(settings.MODEL.loss, "MODEL.loss", class_counts=counts)
    start = getattr(criterion, "start_epoch", 0)
    if start >= settings.epochs:
        log(
            f"note: MODEL.loss.start_epoch is {start}, counted from 0, but training ends after {settings.epochs} epochs"
        )
    return criterion


def build_mix(settings: Settings, counts: Sequence[int]) -> Callable | None:
    """Build what mixes the samples of a training batch, if anything does."""
    spec = settings.DATASET.train.mix
    if spec is None:
        return None
    return MIXES.build(spec, "DATASET.train.mix", layout=settings.load_layout(), class_counts=counts)


def fingerprint(clips: Sequence[Clip]) -> dict[str, Any]:
    """Say which samples these are: how many samples and frames, and a hash of ids, labels and lengths in order."""
    rows = [(clip.id, clip.label, clip.num_frames) for clip in clips]
    text = "\n".join(f"{name} {label} {frames}" for name, label, frames in rows)
    total = sum(frames for *_, frames in rows)
    return {"samples": len(rows), "frames": total, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def check_fit(model: Recognizer, dataset: SkeletonDataset, settings: Settings) -> tuple[int, ...]:
    """Put one sample through the pipeline and compare it with the network; return its shape (M, T, V, C)."""
    _, persons, frames, joints, channels = dataset[0][0].shape
    backbone = model.backbone
    if channels != backbone.in_channels:
        raise UserError(
            f"MODEL.backbone.in_channels is {backbone.in_channels}, but sample '{dataset.clips[0].id}' leaves the "
            f"pipeline with {channels} channels (stream {settings.stream}); set it to {channels}"
        )
    expected = getattr(backbone, "num_person", None)
    if expected is not None and persons != expected:
        raise UserError(
            f"MODEL.backbone.num_person is {expected}, but Pack keeps {persons} persons; set both to the same"
        )
    return persons, frames, joints, channels
