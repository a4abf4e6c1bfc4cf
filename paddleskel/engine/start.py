"""What a run says before its first step, and what it makes of where it comes from."""

import math
from typing import Any

import paddle
from paddle import nn

from paddleskel.config import dump_yaml
from paddleskel.engine import distributed
from paddleskel.engine.log import Log
from paddleskel.engine.mixed import has_gpu, precision_notes
from paddleskel.engine.progress import Progress, SavedRun
from paddleskel.engine.saving import changes
from paddleskel.engine.settings import OptimizerSettings, Settings
from paddleskel.errors import UserError
from paddleskel.runtime import cpu_threads

_ORDER = ("train_data", "batch", "steps", "config.seed", "config.DATASET.drop_last", "config.OPTIMIZER.accumulate")

_SHARE = 8  # clips: BatchNorm over fewer is another training


def kept_step(progress: Progress, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Let an epoch that was left in the middle begin anew if its steps are no longer the same ones."""
    if progress.step and any(line.startswith(_ORDER) for line in changes(old, new)):
        progress.step, progress.sums = 0, {}


def learning_rate_scale(rule: OptimizerSettings, whole_batch: int, log: Log) -> float:
    """Return the factor on the learning rate; remark on a batch the rate was not meant for.

    whole_batch: samples of all processes together in one pass.
    """
    batch = whole_batch * rule.accumulate
    if not rule.base_batch_size or batch == rule.base_batch_size:
        return 1.0
    scale = batch / rule.base_batch_size
    if rule.auto_scale_lr:
        log.line(f"learning rate scaled by {batch}/{rule.base_batch_size} = {scale:g} to go with the batch")
        return scale
    log.line(
        f"note: the learning rate is meant for batches of {rule.base_batch_size}, this run's have {batch}; "
        "--auto-scale-lr scales it"
    )
    return 1.0


def announce(log: Log, settings: Settings, config: dict, model: nn.Layer, samples: int, steps: int) -> None:
    """Say once what is going to happen."""
    for line in dump_yaml(config).splitlines():
        log.line(line)
    trained = sum(p.size for p in model.parameters() if not p.stop_gradient)
    processes = distributed.world_size()
    shared = f"{processes} processes of {settings.DATASET.batch_size} clips each, " if processes > 1 else ""
    log.line(
        f"{settings.model_name}: {trained:,} trained parameters, {samples} clips an epoch, {steps} steps an epoch, "
        f"{settings.epochs} epochs, {shared}seed {settings.seed}, {paddle.get_device()}, paddlepaddle "
        f"{paddle.__version__}, output in {settings.output}"
    )
    for line in precision_notes(settings):
        log.line(line)
    sharing = processes_that_pay(settings.DATASET.batch_size, cpu_threads())
    if sharing and processes == 1 and not has_gpu() and not settings.MODEL.recompute:
        log.line(
            f"note: {sharing} processes that share the cores and the batch usually train 1.1 to 1.5 times as fast: "
            f"tools/dist_train.sh CONFIG {sharing} -o DATASET.batch_size={settings.DATASET.batch_size // sharing} "
            "(docs/distributed.md says what changes)"
        )
    if processes > 1 and not settings.sync_bn:
        log.line("note: each process normalises over its own part of a batch; sync_bn: true normalises over all of it")


def processes_that_pay(batch: int, cores: int) -> int | None:
    """Return how many processes should share a batch on a CPU, each with `_SHARE` clips at least; None: one is best."""
    counts = [count for count in range(2, cores + 1) if batch % count == 0 and batch // count >= _SHARE]
    return max(counts, default=None)


def check_abilities(settings: Settings) -> None:
    """Raise a UserError for what the number of processes forbids."""
    if settings.MODEL.recompute and distributed.world_size() > 1:
        raise UserError(
            "MODEL.recompute: works in one process only, as Paddle's exchange takes each gradient to be ready once; "
            "train with one process, or with smaller batches in each (DATASET.batch_size)"
        )


def announce_start(log: Log, settings: Settings, start: SavedRun | None, setup: dict[str, Any]) -> None:
    """Say where the run starts, and line by line what has changed since the checkpoint."""
    if start is None:
        if (settings.output / "metrics.jsonl").exists():
            log.line(f"note: {settings.output} holds an earlier run, whose checkpoints this one replaces")
        return
    progress = start.progress
    inside = f" and {progress.step} steps" if progress.step else ""
    log.line(f"resuming after epoch {progress.epoch}{inside} from {start.path}")
    differences = changes(start.setup, setup)
    for line in differences:
        log.line(f"changed since the checkpoint: {line}")
    if any(line.startswith(_ORDER) for line in differences) and not progress.step:
        log.line("the steps of an epoch are no longer the same ones, so it begins at its first step")


def overfit_verdict(record: dict[str, float], num_classes: int) -> str:
    """Say whether a network could learn one batch by heart."""
    loss, guessing = record["train_loss"], math.log(num_classes)
    if loss < 0.1 * guessing:
        return f"one batch: learned, loss {loss:.4f} (guessing: {guessing:.4f}); network, loss and optimiser work"
    return (
        f"one batch: NOT learned, loss {loss:.4f} (guessing: {guessing:.4f}); train it longer (epochs, max_iters), "
        "look at the learning rate, the labels and what the pipeline makes of the samples"
    )
