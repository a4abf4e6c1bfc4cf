"""One epoch of training, step by step."""

import contextlib
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from paddleskel.data.loader import Loader
from paddleskel.engine import distributed
from paddleskel.engine.average import Average
from paddleskel.engine.distill import Teacher
from paddleskel.engine.guards import FiniteGuard
from paddleskel.engine.log import EpochProgress, Log
from paddleskel.engine.mixed import autocast
from paddleskel.engine.progress import Progress
from paddleskel.engine.saving import Saver
from paddleskel.engine.settings import Settings
from paddleskel.engine.stopping import StopRequest
from paddleskel.models.losses import Loss
from paddleskel.models.mixing import Mixed


@dataclass
class Run:
    """The parts of a training run.

    Attributes:
        model: the network. net: the same as it is called, which averages gradients over the processes.
        steps: an epoch. rate: the learning rate of an optimiser step, counted over the whole run.
        mix: mixes the samples of a batch, (inputs, labels, generator) -> Mixed. average: of the weights over the steps.
        teacher: whose probabilities are learnt; the loader gives joints then.
    """

    settings: Settings
    model: nn.Layer
    net: nn.Layer
    criterion: Loss
    optimizer: paddle.optimizer.Optimizer
    scaler: paddle.amp.GradScaler
    loader: Loader
    steps: int
    rate: Callable[[int], float]
    log: Log
    progress: Progress
    saver: Saver
    stop: StopRequest
    guard: FiniteGuard
    mix: Callable[..., Mixed] | None = None
    average: Average | None = None
    teacher: Teacher | None = None

    @property
    def rates_an_epoch(self) -> int:
        return math.ceil(self.steps / self.settings.OPTIMIZER.accumulate)


def train_epoch(run: Run, on_step: Callable[[], None] | None = None) -> dict[str, float]:
    """Train one epoch, or what is left of it; return its means over samples, of all processes.

    Raises:
        Interrupted: the run was asked to end; its state is saved.
        UserError: the loss or a gradient is not finite.
    """
    settings, progress, epoch = run.settings, run.progress, run.progress.epoch
    accumulate, top = settings.OPTIMIZER.accumulate, min(5, settings.num_classes)
    done, first_rate = progress.step, epoch * run.rates_an_epoch
    sums = progress.sums = progress.sums or dict.fromkeys(("loss", "top1", "topk", "samples", "seconds"), 0.0)
    steps_left = (settings.epochs - epoch - 1) * run.steps
    bar = EpochProgress(run.log, "train", epoch + 1, settings.epochs, run.steps, steps_left, settings.log_interval)
    run.model.train()
    run.criterion.set_epoch(epoch)
    run.loader.sampler.set_epoch(epoch, done)
    run.optimizer.set_lr(run.rate(first_rate + max(0, done - 1) // accumulate))
    group_is_good = True
    began = time.perf_counter()
    for step, (inputs, labels, positions) in enumerate(run.loader, start=done):
        if step >= run.steps:
            break
        bar.got_batch()
        group_start = step - step % accumulate
        group_ends = (step + 1) % accumulate == 0 or step + 1 == run.steps
        if step == group_start:
            run.optimizer.set_lr(run.rate(first_rate + step // accumulate))
            run.guard.before_step()
            group_is_good = True
        distributed.meet("step")
        share = run.loader.sampler.weight(step) / min(accumulate, run.steps - group_start)
        with contextlib.nullcontext() if group_ends else _without_exchange(run.net):
            logits, loss = _forward(run, step, inputs, labels)
            run.scaler.scale(loss * share).backward()
        checked = group_ends and not run.scaler.is_enable()  # the scaler looks at its gradients itself
        values = _share_values(run, step, logits, labels, loss, top, checked)
        good = all(map(math.isfinite, values[:5]))
        if good:
            run.guard.passed()
            for key, value in zip(("loss", "top1", "topk", "samples"), values):
                sums[key] += value
        else:
            group_is_good = False
            clips = run.loader.dataset.clips
            ids = [clips[position % len(clips)].id for position in positions]
            where = f"epoch {epoch + 1}, step {step}"
            again = functools.partial(_forward, run, step, inputs, labels)
            run.guard.failed(where, inputs, labels, ids, lambda again=again: again()[0])
        if group_ends:
            if group_is_good:
                run.scaler.step(run.optimizer)
                run.scaler.update()
                if run.average:
                    run.average.update(first_rate + step // accumulate)
            run.optimizer.clear_grad()
        shown = None
        if bar.wants_values(step) and good:
            count = values[3]
            shown = {"loss": values[0] / count, "lr": run.optimizer.get_lr()}
            shown |= {"top1": values[1] / count, f"top{top}": values[2] / count}
        bar.step_done(step, int(values[3]), shown)
        if on_step:
            on_step()
        if group_ends:
            now = time.perf_counter()
            progress.step, sums["seconds"], began = step + 1, sums["seconds"] + now - began, now
            if values[5] > 0:
                run.saver.save_state(progress)
                raise run.stop.ending(f"{place(progress)} is saved; --resume auto continues there")
            if values[6] > 0:
                run.saver.save_state(progress)
    count = max(sums["samples"], 1.0)
    means = {"loss": sums["loss"] / count, "top1": sums["top1"] / count, f"top{top}": sums["topk"] / count}
    speed = bar.finish(means)
    return {"epoch": epoch + 1, "lr": run.optimizer.get_lr()} | {
        **{f"train_{key}": value for key, value in means.items()},
        "clips_per_second": speed,
    }


def _forward(run: Run, step: int, inputs: np.ndarray, labels: np.ndarray) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Return logits and loss. Dropout and mixing depend on step and process alone, so resuming changes nothing."""
    settings = run.settings
    parts = [settings.seed % 2**32, run.progress.epoch, step, distributed.rank()]
    seed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    paddle.seed(seed % 2**31)
    clips, classes = paddle.to_tensor(inputs).squeeze(1), paddle.to_tensor(labels)
    mixed = run.mix(clips, classes, np.random.RandomState(seed)) if run.mix else None
    clips = mixed.inputs if mixed else clips
    with autocast(settings):
        clips, probs = run.teacher(clips) if run.teacher else (clips, None)
        logits = run.net(clips)
    logits = logits.astype("float32")
    loss = run.criterion(logits, mixed.labels, mixed.others, mixed.shares) if mixed else run.criterion(logits, classes)
    return logits, loss if probs is None else run.teacher.loss(logits, probs.astype("float32"), loss)


def _share_values(
    run: Run, step: int, logits: paddle.Tensor, labels: np.ndarray, loss: paddle.Tensor, top: int, check: bool
) -> list[float]:
    """Return sums over all processes: loss and hits over samples, samples, gradient probe; who wants to stop, to save.

    One exchange a step, so that all processes act alike.
    """
    counted = len(labels) if run.loader.sampler.weight(step) > 0 else 0
    with paddle.no_grad():
        hits = logits.topk(top, axis=1)[1] == paddle.to_tensor(labels).unsqueeze(1)
        parts = [loss.detach() * counted, hits[:, 0].astype("float32").sum(), hits.astype("float32").sum()]
        parts += [run.guard.probe()] if check else []
        loss_sum, top1, topk, *probe = paddle.stack([part.reshape([]) for part in parts]).tolist()
    hits_count = [top1, topk] if counted else [0.0, 0.0]
    flags = [float(bool(run.stop)), float(run.saver.is_due())]
    return distributed.total([loss_sum, *hits_count, float(counted), *(probe or [0.0]), *flags])


def _without_exchange(net: nn.Layer) -> contextlib.AbstractContextManager:
    """Keep gradients to this process until the last batch of a step."""
    return net.no_sync() if isinstance(net, paddle.DataParallel) else contextlib.nullcontext()


def place(progress: Progress) -> str:
    return f"step {progress.step} of epoch {progress.epoch + 1}"
