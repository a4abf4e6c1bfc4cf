"""The schema of a training config: sections, keys, types and defaults. Components bring their own from their
constructors.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from paddleskel.config import load_config
from paddleskel.data.long_tail import LongTail
from paddleskel.data.rebalance import SAMPLERS
from paddleskel.data.transforms import TRANSFORMS
from paddleskel.data.transforms.pipeline import CONTEXT
from paddleskel.data.transforms.stream import parse_stream
from paddleskel.engine.optim import SCHEDULES
from paddleskel.errors import UserError
from paddleskel.metrics import NAMES as METRIC_NAMES
from paddleskel.metrics import MetricName
from paddleskel.models.registry import BACKBONES, HEADS, LOSSES, MIXES
from paddleskel.registry import ComponentOf, check_arguments, split_spec
from paddleskel.skeleton.layout import Layout, load_layout


@dataclass(frozen=True)
class TeacherSettings:
    """MODEL.teacher: trained networks, of any streams, whose fused probabilities are learnt beside the labels.

    weights: .pdparams files of this project. weigh: of each in their fusion, equal by default. share: of the teacher in
        the loss. temperature: that softens the probabilities.
    """

    weights: list[str]
    weigh: list[float] | None = None
    share: float = 0.5
    temperature: float = 2.0

    def __post_init__(self):
        if not self.weights:
            raise ValueError("weights: names no file")
        if self.weigh is not None and (
            len(self.weigh) != len(self.weights) or min(self.weigh) < 0 or not sum(self.weigh)
        ):
            raise ValueError(f"weigh: expected {len(self.weights)} numbers from 0 up, not all 0")
        if not 0 < self.share <= 1:
            raise ValueError(f"share: must lie in (0, 1], not {self.share}")
        if self.temperature <= 0:
            raise ValueError(f"temperature: must be positive, not {self.temperature}")


@dataclass(frozen=True)
class ModelSettings:
    """MODEL: the network, its loss, and what it learns from besides the labels.

    backbone: its in_channels are 3 for each stream where they are not given.
    recompute: in training, keep the inputs of the network's blocks alone and compute the rest again for the gradient.
    """

    backbone: Annotated[dict, ComponentOf(BACKBONES, ("layout",))]
    head: Annotated[dict, ComponentOf(HEADS, ("in_channels", "num_classes"))]
    loss: Annotated[dict, ComponentOf(LOSSES, ("class_counts",))]
    teacher: TeacherSettings | None = None
    recompute: bool = False


@dataclass(frozen=True)
class TrainSplit:
    """DATASET.train.

    file: annotation pickle. split: its name in the file, null for all. match: regular expression; only samples in whose
        name it is found. relabel: regular expression -> class index of the samples in whose names it is found, in place
        of a wrong one. repeat: passes an epoch. long_tail: thin it out.
    sampler: draw the classes in other shares than they have. mix: mix the samples of a batch.
    """

    file: str
    split: str | None = None
    match: str | None = None
    relabel: dict[str, int] | None = None
    repeat: int = 1
    long_tail: LongTail | None = None
    sampler: Annotated[dict, ComponentOf(SAMPLERS)] | None = None
    mix: Annotated[dict, ComponentOf(MIXES, ("layout", "class_counts"))] | None = None

    def __post_init__(self):
        _check_patterns(self.match, self.relabel)


@dataclass(frozen=True)
class EvalSplit:
    """DATASET.valid and DATASET.test.

    file, split, match, relabel: as in training. num_clips: clips sampled from each sequence, whose scores are averaged.
    """

    file: str
    split: str | None = None
    match: str | None = None
    relabel: dict[str, int] | None = None
    num_clips: int = 1

    def __post_init__(self):
        _check_patterns(self.match, self.relabel)


def _check_patterns(match: str | None, relabel: Mapping[str, int] | None) -> None:
    for key, pattern in [("match", match or ""), *(("relabel", pattern) for pattern in relabel or ())]:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{key}: {pattern!r} is not a regular expression: {error}") from error


@dataclass(frozen=True)
class DatasetSettings:
    """DATASET. Batch sizes are per process; `valid_batch_size` and `test_batch_size` default to `batch_size` clips.

    store: read annotation pickles through a memory-mapped store that is made once: beside the pickle (true), in the
        folder given, or not at all (false).
    cache_steps: keep the results of the PIPELINE's first steps, those that draw nothing, in the store.
    check: look through the training data before training, and stop where it would be in vain.
    worker_timeout: seconds after which a data worker that gives no batch is replaced.
    """

    train: TrainSplit
    valid: EvalSplit | None = None
    test: EvalSplit | None = None
    batch_size: int = 16
    valid_batch_size: int | None = None
    test_batch_size: int | None = None
    num_workers: int = 2
    worker_timeout: float = 300.0
    drop_last: bool = False
    store: bool | str = True
    cache_steps: bool = False
    check: bool = True

    def __post_init__(self):
        for key in ("batch_size", "valid_batch_size", "test_batch_size"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 1, not {getattr(self, key)}")
        if self.num_workers < 0:
            raise ValueError(f"num_workers: must not be negative, not {self.num_workers}")
        if self.worker_timeout <= 0:
            raise ValueError(f"worker_timeout: must be positive, not {self.worker_timeout}")


@dataclass(frozen=True)
class OptimizerSettings:
    """OPTIMIZER.

    weight_decay: added to the gradient of every parameter. grad_clip: largest global gradient norm. accumulate: batches
        whose gradients are averaged into one step. base_batch_size: the batch the learning rate is meant for; with
        auto_scale_lr the rate is multiplied by the real batch over it. ema: decay, such as 0.999, of a moving average
        of the weights over the steps, which is validated and saved in their place.
    """

    learning_rate: Annotated[dict, ComponentOf(SCHEDULES, ("epochs", "steps_per_epoch"))]
    name: Literal["Momentum"] = "Momentum"
    momentum: float = 0.9
    use_nesterov: bool = True
    weight_decay: float = 5e-4
    grad_clip: float | None = None
    accumulate: int = 1
    base_batch_size: int | None = None
    auto_scale_lr: bool = False
    ema: float | None = None

    def __post_init__(self):
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema: a decay must lie between 0 and 1, not {self.ema}")
        if self.accumulate < 1:
            raise ValueError(f"accumulate: must be at least 1, not {self.accumulate}")
        if self.auto_scale_lr and not self.base_batch_size:
            raise ValueError("auto_scale_lr needs base_batch_size, the batch the learning rate is meant for")


@dataclass(frozen=True)
class MetricSettings:
    """METRIC.

    average_clips: average the clips' probabilities ("prob") or logits ("score"). count_predicted: let classes that are
    only predicted count in mean_class_accuracy, as 0, as in PYSKL and MMAction2. shots: [few, many], training samples
    below which a class is few-shot and above which it is many-shot; default: thirds of their logarithmic range.
    """

    names: list[MetricName] = field(default_factory=lambda: list(METRIC_NAMES))
    topk: list[int] = field(default_factory=lambda: [1, 5])
    average_clips: Literal["prob", "score"] = "prob"
    count_predicted: bool = False
    shots: tuple[int, int] | None = None

    def __post_init__(self):
        if any(k < 1 for k in self.topk):
            raise ValueError(f"topk: must be at least 1, not {min(self.topk)}")
        if self.shots and not 0 < self.shots[0] <= self.shots[1]:
            raise ValueError(f"shots: expected [few, many] with 0 < few <= many, not {list(self.shots)}")


@dataclass(frozen=True)
class Settings:
    """A whole config. See docs in configs/_base_ for each key's use.

    output_dir: default output/<model_name>, with the stream appended where it is not j.
    val_interval, save_interval: epochs between validations and between numbered checkpoints (the last epoch always is
        one).
    class_names: a list, or the path of a text file with one name a line; default: the annotation file's own.
    amp: mixed precision, O1 or O2. amp_dtype: its half type. Only GPUs have it; on a CPU the run is in float32.
    sync_bn: with several processes, BatchNorm statistics over the batches of all.
    keep: how many numbered checkpoints to keep, the newest; default: all.
    save_minutes: save the state of the run so often within an epoch too; null: only at its end.
    on_save_error: what a full disk or a lost folder does, "continue" (try again with the next save) or "stop".
    on_nonfinite: what a loss or gradient that is NaN or infinite does, "stop" or "skip" the step.
    check_every_step: look at a step's loss and gradients before it changes the parameters, which waits for the device;
        without it they are looked at once a `log_interval`. Default: on a CPU, and where steps are skipped.
    early_stop: end after so many epochs without a better validation score.
    preempt_file: end, with the state saved, as soon as this file exists.
    overfit_one_batch: train on the first batch alone, max_iters (or 100) steps an epoch.
    """

    model_name: str
    layout: str | dict
    num_classes: int
    MODEL: ModelSettings
    DATASET: DatasetSettings
    PIPELINE: list[Annotated[dict, ComponentOf(TRANSFORMS, CONTEXT)]]
    OPTIMIZER: OptimizerSettings
    METRIC: MetricSettings = field(default_factory=MetricSettings)
    stream: str | list[str] = "j"
    class_names: str | list[str] | None = None
    epochs: int = 16
    seed: int = 1234
    deterministic: bool = False
    amp: Literal["O1", "O2"] | None = None
    amp_dtype: Literal["float16", "bfloat16"] = "float16"
    sync_bn: bool = False
    keep: int | None = None
    save_minutes: float | None = 10.0
    on_save_error: Literal["continue", "stop"] = "continue"
    on_nonfinite: Literal["stop", "skip"] = "stop"
    check_every_step: bool | None = None
    early_stop: int | None = None
    preempt_file: str | None = None
    overfit_one_batch: bool = False
    log_interval: int = 10
    save_interval: int = 1
    val_interval: int = 1
    max_iters: int | None = None
    output_dir: str | None = None

    def __post_init__(self):
        for key in ("epochs", "log_interval", "save_interval", "val_interval", "max_iters", "keep", "early_stop"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 1, not {getattr(self, key)}")
        if self.on_nonfinite == "skip" and self.check_every_step is False:
            raise ValueError("check_every_step: only a step that is looked at can be skipped; leave this out")
        if self.save_minutes is not None and self.save_minutes < 0:
            raise ValueError(f"save_minutes: must not be negative, not {self.save_minutes}")
        if self.num_classes < 2:
            raise ValueError(f"num_classes: must be at least 2, not {self.num_classes}")
        parse_stream(self.stream)

    @property
    def output(self) -> Path:
        """The output folder."""
        if self.output_dir is not None:
            return Path(self.output_dir)
        stream = "+".join(parse_stream(self.stream))
        return Path("output") / (self.model_name if stream == "j" else f"{self.model_name}_{stream}")

    def checkpoint(self, which: str) -> Path:
        """Path of the checkpoint "best", "last" or "epoch_00001"."""
        return self.output / f"{self.model_name}_{which}.pdparams"

    def load_layout(self) -> Layout:
        return load_layout(self.layout)


def parse_settings(values: Mapping, source: str) -> Settings:
    """Check a config's plain values against the schema; a mistake names `source` and the path in it."""
    try:
        settings = Settings(**check_arguments(Settings, values, "config", label="a config"))
    except (UserError, ValueError) as error:
        raise UserError(f"{source}: {str(error).removeprefix('config.')}") from error
    try:
        layout = settings.load_layout().to_dict() if isinstance(settings.layout, dict) else settings.layout
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    return replace(settings, layout=layout, MODEL=_with_channels(settings.MODEL, len(parse_stream(settings.stream))))


def _with_channels(model: ModelSettings, streams: int) -> ModelSettings:
    """Give the backbone 3 channels for each of several streams, unless the config says how many."""
    name, arguments = split_spec(model.backbone, "MODEL.backbone")
    if streams == 1 or "in_channels" in arguments:
        return model
    return replace(model, backbone={"name": name, **arguments, "in_channels": 3 * streams})


def load_settings(path: str, overrides: Sequence[str] = ()) -> tuple[Settings, dict]:
    """Read a config file; return its settings and its resolved plain values."""
    values = load_config(path, overrides)
    return parse_settings(values, str(path)), values


def read_class_names(settings: Settings, from_file: list[str] | None) -> list[str] | None:
    """Return the class names of a config, or those of its annotation file; their number is checked."""
    names: Any = settings.class_names if settings.class_names is not None else from_file
    if isinstance(names, str):
        try:
            names = [line.strip() for line in Path(names).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"class_names: {settings.class_names}: cannot be read: {error}") from error
    if names is not None and len(names) != settings.num_classes:
        raise UserError(f"class_names: {len(names)} names for {settings.num_classes} classes")
    return names
