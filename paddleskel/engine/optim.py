"""Learning-rate schedules, as plain functions of the step, and the optimiser."""

import math

import paddle
from paddle import nn

from paddleskel.registry import Registry

SCHEDULES = Registry("learning-rate schedule")


class _Warmup:
    """A linear rise from `start` times the rate to the rate, over the first steps."""

    def __init__(self, steps: int, start: float):
        if steps < 0 or not 0 <= start <= 1:
            raise ValueError("warmup_epochs must not be negative and warmup_start must lie in [0, 1]")
        self.steps, self.start = steps, start

    def __call__(self, step: int) -> float:
        return 1.0 if step >= self.steps else self.start + (1 - self.start) * step / self.steps


@SCHEDULES
class Cosine:
    """value / 2 (1 + cos(pi step / steps)), falling to `min_value` at the end of the last epoch, step by step.

    The length follows `epochs`; a warm-up multiplies the first epochs' rates.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        value: float = 0.1,
        min_value: float = 0.0,
        warmup_epochs: int = 0,
        warmup_start: float = 0.1,
    ):
        _check_rate(value)
        self.steps, self.value, self.min_value = epochs * steps_per_epoch, value, min_value
        self.warmup = _Warmup(warmup_epochs * steps_per_epoch, warmup_start)

    def __call__(self, step: int) -> float:
        cosine = (1 + math.cos(math.pi * min(step, self.steps) / self.steps)) / 2
        return self.warmup(step) * (self.min_value + (self.value - self.min_value) * cosine)


@SCHEDULES
class Step:
    """`value`, times `gamma` from each of the epochs in `milestones` on (counted from 0, so [2, 10] changes after
    2).
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        milestones: list[int],
        value: float = 0.1,
        gamma: float = 0.1,
        warmup_epochs: int = 0,
        warmup_start: float = 0.1,
    ):
        _check_rate(value)
        self.value, self.gamma = value, gamma
        self.milestones = [epoch * steps_per_epoch for epoch in milestones]
        self.warmup = _Warmup(warmup_epochs * steps_per_epoch, warmup_start)

    def __call__(self, step: int) -> float:
        passed = sum(step >= milestone for milestone in self.milestones)
        return self.warmup(step) * self.value * self.gamma**passed


@SCHEDULES
class Constant:
    """`value` throughout."""

    def __init__(self, value: float = 0.1):
        _check_rate(value)
        self.value = value

    def __call__(self, step: int) -> float:
        return self.value


def _check_rate(value: float) -> None:
    if not value > 0:
        raise ValueError(f"value: a learning rate must be positive, not {value}")


def build_optimizer(
    model: nn.Layer, momentum: float, use_nesterov: bool, weight_decay: float, grad_clip: float | None
) -> paddle.optimizer.Momentum:
    """Return SGD with momentum; weight decay is added to the gradient of every parameter.   (torch's SGD, the same
    update)

    The rate is set before every step with `set_lr`. grad_clip: largest global gradient norm, or None.
    """
    parameters = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    return paddle.optimizer.Momentum(
        learning_rate=0.0,
        momentum=momentum,
        parameters=parameters,
        use_nesterov=use_nesterov,
        weight_decay=weight_decay,
        grad_clip=None if grad_clip is None else nn.ClipGradByGlobalNorm(grad_clip),
    )
