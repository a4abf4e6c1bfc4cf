"""Training: one function that reads from top to bottom."""

import contextlib
import math
from collections.abc import Callable

import paddle

import paddleskel
from paddleskel.config import dump_yaml
from paddleskel.convert.weights import read_weights
from paddleskel.data.dataset import SkeletonDataset
from paddleskel.data.loader import Loader
from paddleskel.data.long_tail import class_counts
from paddleskel.data.sampler import BatchSampler, RepeatedBatch
from paddleskel.engine import distributed
from paddleskel.engine.average import Average
from paddleskel.engine.build import (
    Data,
    build_criterion,
    build_mix,
    build_network,
    check_fit,
    fingerprint,
    part_name,
    pipeline_of,
    rebalanced,
)
from paddleskel.engine.distill import Teacher
from paddleskel.engine.epoch import Run, place, train_epoch
from paddleskel.engine.evaluator import make_eval_loader, validate_epoch
from paddleskel.engine.guards import FiniteGuard, MemoryWatch, memory_in_use, stuck_warning
from paddleskel.engine.log import Log, Scalars
from paddleskel.engine.mixed import amp_level
from paddleskel.engine.optim import SCHEDULES, build_optimizer
from paddleskel.engine.progress import Progress, restore_run
from paddleskel.engine.saving import Saver, find_run
from paddleskel.engine.settings import Settings
from paddleskel.engine.start import (
    announce,
    announce_start,
    check_abilities,
    kept_step,
    learning_rate_scale,
    overfit_verdict,
)
from paddleskel.engine.stopping import StopRequest
from paddleskel.errors import UserError
from paddleskel.files import make_folder, write_atomically
from paddleskel.models.checkpoint import load_into
from paddleskel.nn.recompute import recompute_blocks
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
        resume: "auto" continues from the newest whole checkpoint in the output folder if there is one; a path
            continues from it.
        weights: start from these parameters instead of random ones.
        on_step: called after every step (profiling).

    Raises:
        Interrupted: a signal or the preemption file asked the run to end; its state is saved.
    """
    seed_everything(settings.seed)
    if settings.deterministic:
        make_deterministic()
    if settings.early_stop and not validate:
        raise UserError("early_stop: looks at the validation score, so it needs --validate")
    check_abilities(settings)
    model = build_network(settings)
    for part in ("train", "valid") if validate else ("train",):
        pipeline_of(settings, part)  # a mistake in it shows before data are read
    notes: list[str] = []
    if weights:
        checkpoint, notes = read_weights(weights, model, fresh_head=True)
        load_into(model, checkpoint, weights)
    start, remarks = find_run(settings, resume)
    first = distributed.rank() == 0
    if first:
        make_folder(settings.output)
    log = Log(settings.output / "train.log" if first else None, quiet=not first)
    for note in notes + remarks:
        log.line(note)

    data = Data(settings)
    with distributed.first_alone("reading of the data"):
        train_set = data.dataset("train")
        valid_loader = make_eval_loader(settings, data, "valid") if validate else None
    shape = check_fit(model, train_set, settings)
    teacher = Teacher(settings, model.backbone.in_channels) if settings.MODEL.teacher else None
    if teacher:
        train_set = data.dataset("train", teacher.transforms)
    counts = class_counts([clip.label for clip in train_set.clips], settings.num_classes)
    criterion = build_criterion(settings, counts, log.line)
    sampler = _make_sampler(settings, train_set)
    loader = Loader(
        train_set, sampler, settings.DATASET.num_workers, settings.DATASET.worker_timeout, lambda text: log.line(text)
    )
    for remark in data.check(valid=validate):
        log.line(remark)

    steps = min(len(sampler), settings.max_iters or len(sampler))
    rule, level = settings.OPTIMIZER, amp_level(settings)
    schedule = SCHEDULES.build(
        rule.learning_rate,
        "OPTIMIZER.learning_rate",
        epochs=settings.epochs,
        steps_per_epoch=math.ceil(steps / rule.accumulate),
    )
    if settings.MODEL.recompute:
        recompute_blocks(model.backbone.blocks)
    optimizer = build_optimizer(model, rule.momentum, rule.use_nesterov, rule.weight_decay, rule.grad_clip)
    scaler = paddle.amp.GradScaler(enable=level is not None and settings.amp_dtype == "float16")
    if level == "O2":
        model, optimizer = paddle.amp.decorate(models=model, optimizers=optimizer, level="O2", dtype=settings.amp_dtype)

    average = Average(model, build_network(settings), rule.ema) if rule.ema else None
    averaged = average.network if average else None

    train_data = {**part_name(settings, "train"), **fingerprint(train_set.clips), "class_counts": counts}
    whole_batch = settings.DATASET.batch_size * distributed.world_size()
    setup = {"config": config, "train_data": train_data, "batch": whole_batch, "steps": steps}
    progress = Progress()
    if start:
        restore_run(start, model, optimizer, scaler, averaged)
        progress = start.progress
        kept_step(progress, start.setup, setup)
    meta = {
        "paddleskel": paddleskel.__version__,
        "config": config,
        "layout": settings.load_layout().to_dict(),
        "class_names": data.class_names(),
        "input_shape": list(shape),
        "train_data": train_data,
    }
    announce(log, settings, config, model, sampler.length, steps)
    announce_start(log, settings, start, setup)
    scale = learning_rate_scale(rule, whole_batch, log)
    saver = Saver(settings, model, optimizer, scaler, setup, meta, start, log.line, averaged)
    if first:
        write_atomically(settings.output / "config.yaml", dump_yaml(config))
    scalars = Scalars(settings.output, progress.records) if first else None
    memory = MemoryWatch()
    with contextlib.closing(loader), StopRequest(settings.preempt_file) as stop:
        run = Run(
            settings,
            model,
            distributed.parallel(model, settings.sync_bn),
            criterion,
            optimizer,
            scaler,
            loader,
            steps,
            lambda number: scale * schedule(number),
            log,
            progress,
            saver,
            stop,
            FiniteGuard(model, settings.on_nonfinite == "skip", settings.output, log.line),
            build_mix(settings, counts),
            average,
            teacher,
        )
        while progress.epoch < settings.epochs and not _has_stalled(settings, progress):
            record = train_epoch(run, on_step)
            warnings = [
                stuck_warning(record["train_loss"], record["train_top1"], settings.num_classes, progress.epoch + 1),
                memory.look(),
            ]
            is_last = progress.epoch + 1 == settings.epochs
            if valid_loader is not None and ((progress.epoch + 1) % settings.val_interval == 0 or is_last):
                record |= validate_epoch(
                    averaged or model, valid_loader, log, settings, progress.epoch, lambda: _leave_if_asked(run)
                )
            _close_epoch(run, record, scalars, is_last)
            for warning in filter(None, warnings):
                log.line(warning)
    if valid_loader is not None:
        valid_loader.close()
    if scalars:
        scalars.close()
    if progress.epoch < settings.epochs:
        log.line(
            f"stopped early: no better validation score for {settings.early_stop} epochs; the best was epoch "
            f"{progress.best_epoch}"
        )
    if settings.overfit_one_batch:
        log.line(overfit_verdict(progress.records[-1], settings.num_classes))
    if saver.failure:
        raise UserError(f"training finished, but a checkpoint is missing: {saver.failure}")
    log.line(f"training {settings.model_name} finished")
    log.close()


def _make_sampler(settings: Settings, train_set: SkeletonDataset) -> BatchSampler:
    """Return the sampler of the training split."""
    sizes, draw = settings.DATASET, rebalanced(settings, train_set)
    samples = len(train_set) if draw is None else len(draw)
    shape = {"rank": distributed.rank(), "world_size": distributed.world_size()}
    if settings.overfit_one_batch:
        return RepeatedBatch(len(train_set), sizes.batch_size, settings.max_iters or 100, settings.seed, **shape)
    sampler = BatchSampler(samples, sizes.batch_size, True, settings.seed, sizes.drop_last, **shape, draw=draw)
    if not len(sampler):
        raise UserError(
            f"DATASET.drop_last: {samples} training samples do not fill one batch of "
            f"{sizes.batch_size * distributed.world_size()}; lower DATASET.batch_size or keep the last batch"
        )
    return sampler


def _leave_if_asked(run: Run) -> None:
    """End the run between two validation batches; training of the epoch is done, and saved so."""
    if run.stop:
        run.saver.save_state(run.progress)
        raise run.stop.ending(f"{place(run.progress)} is saved; --resume auto continues with the validation")


def _close_epoch(run: Run, record: dict, scalars: Scalars | None, is_last: bool) -> None:
    """Count an epoch as done, write its checkpoints and its line of metrics."""
    settings, progress = run.settings, run.progress
    progress.epoch, progress.step = progress.epoch + 1, 0
    record["seconds"], progress.sums = progress.sums["seconds"], {}
    record["memory_mb"] = memory_in_use()
    if record.get("val_top1", -1.0) > progress.best_top1:
        progress.best_top1, progress.best_epoch = record["val_top1"], progress.epoch
        run.saver.save_weights("best", record)
        run.log.line(f"Already save the best model (top1 acc){record['val_top1']:.4f}")
    progress.records.append(record)
    run.saver.end_of_epoch(progress, record, numbered=progress.epoch % settings.save_interval == 0 or is_last)
    if scalars:
        scalars.add(record)
    distributed.meet("end of the epoch")


def _has_stalled(settings: Settings, progress: Progress) -> bool:
    return bool(settings.early_stop) and progress.epoch - progress.best_epoch >= settings.early_stop
