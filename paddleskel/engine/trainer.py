"""Training: one function that reads from top to bottom, and the epoch it repeats."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

import paddleskel
from paddleskel.config import dump_yaml
from paddleskel.convert.weights import read_weights
from paddleskel.data.long_tail import class_counts
from paddleskel.data.sampler import BatchSampler
from paddleskel.engine.build import Data, build_network, check_fit, fingerprint, part_name, part_of, pipeline_of
from paddleskel.engine.evaluator import amp_dtype, evaluate, make_loader
from paddleskel.engine.log import EpochProgress, Log, Scalars
from paddleskel.engine.optim import SCHEDULES, build_optimizer
from paddleskel.engine.progress import load_progress, save_progress
from paddleskel.engine.settings import OptimizerSettings, Settings
from paddleskel.errors import UserError
from paddleskel.files import make_folder, write_atomically
from paddleskel.metrics import cross_entropy, top_k_accuracy
from paddleskel.models.checkpoint import load_into, read_checkpoint, save_checkpoint
from paddleskel.models.registry import LOSSES
from paddleskel.runtime import make_deterministic, seed_everything


def train(
    settings: Settings,
    config: dict,
    validate: bool = False,
    resume: str | None = None,
    weights: str | None = None,
    on_step: Callable[[], None] | None = None,
) -> None:
    """Train the network of a config and write its checkpoints, log, metrics and curves.

    Args:
        config: the resolved plain values behind `settings`, saved beside and inside the checkpoints.
        validate: score the validation split after every `val_interval` epochs and keep the best checkpoint by top-1.
        resume: "auto" continues from the last checkpoint in the output folder if there is one; a path continues from
            it.
        weights: start from these parameters instead of random ones.
        on_step: called after every step (profiling).
    """
    seed_everything(settings.seed)
    if settings.deterministic:
        make_deterministic()
    model = build_network(settings)
    criterion = LOSSES.build(settings.MODEL.loss, "MODEL.loss")
    for part in ("train", "valid") if validate else ("train",):
        pipeline_of(settings, part)  # a mistake in it shows before data are read
    notes: list[str] = []
    if weights:
        checkpoint, notes = read_weights(weights, model, fresh_head=True)
        load_into(model, checkpoint, weights)
    start = _find_start(settings, resume)
    folder = make_folder(settings.output)
    log = Log(folder / "train.log")
    for note in notes:
        log.line(note)

    data = Data(settings)
    train_set = data.dataset("train")
    shape = check_fit(model, train_set, settings)
    sizes = settings.DATASET
    sampler = BatchSampler(len(train_set), sizes.batch_size, True, settings.seed, sizes.drop_last)
    if not len(sampler):
        raise UserError(
            f"DATASET.drop_last: {len(train_set)} training samples do not fill one batch of {sizes.batch_size}; "
            "lower DATASET.batch_size or keep the last batch"
        )
    loader = make_loader(train_set, sampler, sizes.num_workers)
    valid_loader = make_eval_loader(settings, data, "valid") if validate else None

    steps = min(len(sampler), settings.max_iters or len(sampler))
    optimizer_steps = math.ceil(steps / settings.OPTIMIZER.accumulate)
    schedule = SCHEDULES.build(
        settings.OPTIMIZER.learning_rate,
        "OPTIMIZER.learning_rate",
        epochs=settings.epochs,
        steps_per_epoch=optimizer_steps,
    )
    rule = settings.OPTIMIZER
    optimizer = build_optimizer(model, rule.momentum, rule.use_nesterov, rule.weight_decay, rule.grad_clip)
    scaler = paddle.amp.GradScaler(enable=settings.amp is not None and amp_dtype() == "float16")
    if settings.amp == "O2":
        model, optimizer = paddle.amp.decorate(models=model, optimizers=optimizer, level="O2", dtype=amp_dtype())

    counts = class_counts([clip.label for clip in train_set.clips], settings.num_classes)
    progress = {"epoch": 0, "best_top1": -1.0, "best_epoch": 0}
    if start:
        load_into(model, read_checkpoint(start), start)
        progress = load_progress(start.with_suffix(".pdopt"), optimizer, model)
    meta = {
        "paddleskel": paddleskel.__version__,
        "config": config,
        "layout": settings.load_layout().to_dict(),
        "class_names": data.class_names(),
        "input_shape": list(shape),
        "train_data": {**part_name(settings, "train"), **fingerprint(train_set.clips), "class_counts": counts},
    }
    _announce(log, settings, config, model, len(train_set), steps, start, progress)
    write_atomically(folder / "config.yaml", dump_yaml(config))
    scalars = Scalars(folder, keep_epochs=progress["epoch"])
    scale = _learning_rate_scale(rule, sizes.batch_size, log)

    for epoch in range(progress["epoch"], settings.epochs):
        sampler.set_epoch(epoch)
        began = time.perf_counter()
        bar = EpochProgress(
            log,
            "train",
            epoch + 1,
            settings.epochs,
            steps,
            (settings.epochs - epoch - 1) * steps,
            settings.log_interval,
        )

        def rate(step: int, first: int = epoch * optimizer_steps) -> float:
            return scale * schedule(first + step)

        record = {"epoch": epoch + 1}
        record |= train_epoch(model, criterion, optimizer, scaler, loader, rate, bar, settings, epoch, on_step)
        is_last = epoch + 1 == settings.epochs
        progress["epoch"] = epoch + 1
        if valid_loader and ((epoch + 1) % settings.val_interval == 0 or is_last):
            record |= validate_epoch(model, valid_loader, log, settings, epoch)
            if record["val_top1"] > progress["best_top1"]:
                progress |= {"best_top1": record["val_top1"], "best_epoch": epoch + 1}
                save_checkpoint(settings.checkpoint("best"), model, {**meta, "metrics": record})
                log.line(f"Already save the best model (top1 acc){record['val_top1']:.4f}")
        _save(settings, "last", model, optimizer, {**meta, "metrics": record}, progress)
        if (epoch + 1) % settings.save_interval == 0 or is_last:
            _save(settings, f"epoch_{epoch + 1:05d}", model, optimizer, {**meta, "metrics": record}, progress)
        record["seconds"] = time.perf_counter() - began
        scalars.add(record)
    scalars.close()
    log.line(f"training {settings.model_name} finished")
    log.close()


def train_epoch(
    model: nn.Layer,
    criterion: nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    scaler: paddle.amp.GradScaler,
    loader: paddle.io.DataLoader,
    rate: Callable[[int], float],
    bar: EpochProgress,
    settings: Settings,
    epoch: int,
    on_step: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Train one epoch; return its means.

    Losses and counts stay on the device and are fetched only for the steps that are reported.

    Args:
        rate: learning rate of an optimiser step of this epoch.
    """
    model.train()
    accumulate, amp = settings.OPTIMIZER.accumulate, settings.amp
    top = min(5, settings.num_classes)
    sums, samples = paddle.zeros([3]), 0
    for step, (inputs, labels, _) in enumerate(loader):
        if step == bar.steps:
            break
        bar.got_batch()
        group_start = step - step % accumulate
        if step == group_start:
            optimizer.set_lr(rate(step // accumulate))
        paddle.seed(
            _step_seed(settings.seed, epoch, step)
        )  # dropout depends on the step alone, so resuming changes nothing
        with paddle.amp.auto_cast(enable=amp is not None, level=amp or "O1", dtype=amp_dtype()):
            logits = model(inputs.squeeze(1))
        logits = logits.astype("float32")
        loss = criterion(logits, labels)
        scaler.scale(loss / min(accumulate, bar.steps - group_start)).backward()
        if (step + 1) % accumulate == 0 or step + 1 == bar.steps:
            scaler.step(optimizer)
            scaler.update()
            optimizer.clear_grad()
        with paddle.no_grad():
            batch = paddle.stack([loss.detach() * len(labels), *_correct(logits, labels, top)])
            sums += batch
        samples += len(labels)
        values = None
        if bar.wants_values(step):
            loss_now, top1, top5 = (batch / len(labels)).tolist()
            if not math.isfinite(loss_now):
                raise UserError(
                    f"the loss became {loss_now} in epoch {epoch + 1}, step {step}; lower "
                    "OPTIMIZER.learning_rate.value, or set OPTIMIZER.grad_clip. Earlier checkpoints are kept"
                )
            values = {"loss": loss_now, "lr": optimizer.get_lr(), "top1": top1, f"top{top}": top5}
        bar.step_done(step, len(labels), values)
        if on_step:
            on_step()
    loss_mean, top1, top5 = (sums / samples).tolist()
    speed = bar.finish({"loss": loss_mean, "top1": top1, f"top{top}": top5})
    return {
        "lr": optimizer.get_lr(),
        "train_loss": loss_mean,
        "train_top1": top1,
        f"train_top{top}": top5,
        "clips_per_second": speed,
    }


def validate_epoch(
    model: nn.Layer, loader: paddle.io.DataLoader, log: Log, settings: Settings, epoch: int
) -> dict[str, float]:
    """Score the validation split; return its metrics, exact over samples."""
    top = min(5, settings.num_classes)
    bar = EpochProgress(log, "val", epoch + 1, settings.epochs, len(loader), interval=settings.log_interval)

    def report(number: int, _batches: int, logits: np.ndarray, labels: np.ndarray) -> None:
        values = None
        if bar.wants_values(number):
            values = {"loss": cross_entropy(logits, labels), "top1": top_k_accuracy(logits, labels)}
        bar.step_done(number, len(labels), values)

    results = evaluate(model, loader, amp=settings.amp, on_batch=report)
    names = ["top_k_accuracy", "mean_class_accuracy"]
    metrics = results.metrics(names, [1, top], settings.METRIC.average_clips)
    values = {
        "val_loss": results.loss(),
        "val_top1": metrics["top1_acc"],
        f"val_top{top}": metrics[f"top{top}_acc"],
        "val_mean_class_accuracy": metrics["mean_class_accuracy"],
    }
    bar.finish({"loss": values["val_loss"], "top1": values["val_top1"], f"top{top}": values[f"val_top{top}"]})
    return values


def make_eval_loader(settings: Settings, data: Data, part: str) -> paddle.io.DataLoader:
    """Return the loader of the validation or test split. Batches hold about `batch_size` clips unless a size is set."""
    section, sizes = part_of(settings, part), settings.DATASET
    size = sizes.valid_batch_size if part == "valid" else sizes.test_batch_size
    size = size or max(1, sizes.batch_size // section.num_clips)
    dataset = data.dataset(part)
    return make_loader(dataset, BatchSampler(len(dataset), size), sizes.num_workers)


def _correct(logits: paddle.Tensor, labels: paddle.Tensor, top: int) -> list[paddle.Tensor]:
    """How many labels are the highest score, and among the `top` highest."""
    hits = logits.topk(top, axis=1)[1] == labels.unsqueeze(1)
    return [hits[:, 0].astype("float32").sum(), hits.astype("float32").sum()]


def _step_seed(seed: int, epoch: int, step: int) -> int:
    return (seed * 1_000_003 + epoch * 100_003 + step) % 2**31


def _save(settings: Settings, which: str, model: nn.Layer, optimizer, meta: dict, progress: dict[str, Any]) -> None:
    path = settings.checkpoint(which)
    save_checkpoint(path, model, meta)
    save_progress(path.with_suffix(".pdopt"), optimizer, model, progress)


def _find_start(settings: Settings, resume: str | None) -> Path | None:
    """Return the checkpoint to continue from."""
    if resume is None:
        return None
    if resume == "auto":
        last = settings.checkpoint("last")
        return last if last.is_file() and last.with_suffix(".pdopt").is_file() else None
    path = Path(resume).with_suffix(".pdparams")
    for file in (path, path.with_suffix(".pdopt")):
        if not file.is_file():
            raise UserError(f"--resume {resume}: {file}: no such file")
    return path


def _learning_rate_scale(rule: OptimizerSettings, batch_size: int, log: Log) -> float:
    """Return the factor on the learning rate; remark on a batch the rate was not meant for."""
    batch = batch_size * rule.accumulate
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


def _announce(
    log: Log,
    settings: Settings,
    config: dict,
    model: nn.Layer,
    samples: int,
    steps: int,
    start: Path | None,
    progress: dict,
) -> None:
    """Say once what is going to happen."""
    for line in dump_yaml(config).splitlines():
        log.line(line)
    trained = sum(p.size for p in model.parameters() if not p.stop_gradient)
    log.line(
        f"{settings.model_name}: {trained:,} trained parameters, {samples} clips an epoch, {steps} steps an epoch, "
        f"{settings.epochs} epochs, seed {settings.seed}, {paddle.get_device()}, paddlepaddle {paddle.__version__}, "
        f"output in {settings.output}"
    )
    if start:
        log.line(f"resuming after epoch {progress['epoch']} from {start}")
    elif (settings.output / "metrics.jsonl").exists():
        log.line(f"note: {settings.output} holds an earlier run, whose checkpoints this one replaces")
