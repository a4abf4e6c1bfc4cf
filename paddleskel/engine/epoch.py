"""One epoch of training, step by step."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn

from paddleskel.data.loader import Loader
from paddleskel.engine import distributed
from paddleskel.engine.average import Average
from paddleskel.engine.distill import Teacher
from paddleskel.engine.guards import FiniteGuard
from paddleskel.engine.log import EpochProgress, Log
from paddleskel.engine.mixed import autocast, has_gpu
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

    @property
    def checks_every_step(self) -> bool:
        """Whether a step is looked at before it changes the parameters, which waits for the device."""
        chosen = self.settings.check_every_step
        return self.guard.skip or not has_gpu() if chosen is None else chosen


class Step(NamedTuple):
    """A step of this process whose values may still lie on the device.

    values: (5,) loss and top-1 and top-k hits over its samples, how many these are, a number that is finite if all
        gradients are.
    """

    number: int
    values: paddle.Tensor
    inputs: np.ndarray
    labels: np.ndarray
    positions: np.ndarray


class Sums(NamedTuple):
    """What a step came to, over the samples of all processes."""

    loss: float
    top1: float
    topk: float
    samples: float
    finite: bool


class Steps:
    """Steps whose values stay on the device until they are read together.

    Attributes:
        stops, saves: whether a process wanted to end the run, to save its state, when it was last asked.
    """

    def __init__(self, run: Run):
        self.run = run
        self.waiting: list[Step] = []
        self.stops = self.saves = False

    def are_due(self) -> bool:
        """Whether to read now, whatever the log wants."""
        run = self.run
        return run.checks_every_step or (distributed.world_size() == 1 and (bool(run.stop) or run.saver.is_due()))

    def read(self) -> list[Sums]:
        """Take the steps that wait; add those that are finite to the epoch's sums.

        One exchange, so that all processes act alike.

        Raises:
            UserError: a step is not finite, and such steps are not left out.
        """
        run, steps, self.waiting = self.run, self.waiting, []
        own = paddle.stack([step.values for step in steps]).flatten().tolist()
        *values, stop, save = distributed.total([*own, float(bool(run.stop)), float(run.saver.is_due())])
        self.stops, self.saves = self.stops or stop > 0, self.saves or save > 0
        read = []
        for i, step in enumerate(steps):
            *sums, probe = values[5 * i : 5 * i + 5]
            read.append(Sums(*sums, all(map(math.isfinite, (*sums, probe)))))
            if not read[-1].finite:
                self._report(step)
                continue
            run.guard.passed()
            for key, value in zip(("loss", "top1", "topk", "samples"), sums):
                run.progress.sums[key] += value
        return read

    def _report(self, step: Step) -> None:
        clips = self.run.loader.dataset.clips
        ids = [clips[position % len(clips)].id for position in step.positions]
        where = f"epoch {self.run.progress.epoch + 1}, step {step.number}"
        again = lambda: _forward(self.run, step.number, step.inputs, step.labels)[0]
        self.run.guard.failed(where, step.inputs, step.labels, ids, again if self.run.checks_every_step else None)


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
    steps, group_is_good = Steps(run), True
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
        weight = run.loader.sampler.weight(step)
        with contextlib.nullcontext() if group_ends else _without_exchange(run.net):
            logits, loss = _forward(run, step, inputs, labels)
            run.scaler.scale(loss * (weight / min(accumulate, run.steps - group_start))).backward()
        checked = group_ends and not run.scaler.is_enable()  # the scaler looks at its gradients itself
        counted = len(labels) if weight > 0 else 0
        values = _values(logits, labels, loss, top, counted, run.guard.probe() if checked else None)
        steps.waiting.append(Step(step, values, inputs, labels, positions))
        samples, shown = 0, None
        if steps.are_due() or bar.wants_values(step):
            read = steps.read()
            samples, last = int(sum(one.samples for one in read)), read[-1]
            group_is_good = group_is_good and last.finite
            if bar.wants_values(step) and last.finite:
                shown = {"loss": last.loss / last.samples, "lr": run.optimizer.get_lr()}
                shown |= {"top1": last.top1 / last.samples, f"top{top}": last.topk / last.samples}
        if group_ends:
            if group_is_good:
                run.scaler.step(run.optimizer)
                run.scaler.update()
                if run.average:
                    run.average.update(first_rate + step // accumulate)
            run.optimizer.clear_grad()
        bar.step_done(step, samples, shown)
        if on_step:
            on_step()
        if group_ends:
            now = time.perf_counter()
            progress.step, sums["seconds"], began = step + 1, sums["seconds"] + now - began, now
            if steps.stops or steps.saves:
                if steps.waiting:
                    steps.read()  # what is not finite must not be saved
                steps.saves = False
                run.saver.save_state(progress)
            if steps.stops:
                raise run.stop.ending(f"{place(progress)} is saved; --resume auto continues there")
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


def _values(
    logits: paddle.Tensor, labels: np.ndarray, loss: paddle.Tensor, top: int, counted: int, probe: paddle.Tensor | None
) -> paddle.Tensor:
    """(5,) values of a `Step`, on the device; a batch that only fills up the last step counts 0 samples."""
    with paddle.no_grad():
        hits = (logits.topk(top, axis=1)[1] == paddle.to_tensor(labels).unsqueeze(1)).astype("float32")
        hits = hits if counted else paddle.zeros_like(hits)
        own = [loss.detach() * counted, hits[:, 0].sum(), hits.sum(), paddle.full([], counted, "float32")]
        own.append(paddle.zeros([]) if probe is None else probe)
        return paddle.stack([part.astype("float32").reshape([]) for part in own])


def _without_exchange(net: nn.Layer) -> contextlib.AbstractContextManager:
    """Keep gradients to this process until the last batch of a step."""
    return net.no_sync() if isinstance(net, paddle.DataParallel) else contextlib.nullcontext()


def place(progress: Progress) -> str:
    return f"step {progress.step} of epoch {progress.epoch + 1}"
