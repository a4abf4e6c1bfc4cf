"""Mixed precision: convolutions and matrix products in a half type. Paddle has it on GPUs alone."""

import contextlib
from typing import Literal

import paddle

from paddleskel.engine.settings import Settings


def has_gpu() -> bool:
    """Whether the run computes on a GPU, or another accelerator that Paddle knows."""
    return not paddle.get_device().startswith("cpu")


def amp_level(settings: Settings) -> Literal["O1", "O2"] | None:
    """Return the level that the run computes with; None: everything in float32, as always on a CPU."""
    return settings.amp if has_gpu() else None


def autocast(settings: Settings) -> contextlib.AbstractContextManager:
    """Return what forward passes run in."""
    level = amp_level(settings)
    return paddle.amp.auto_cast(level=level, dtype=settings.amp_dtype) if level else contextlib.nullcontext()


def precision_notes(settings: Settings) -> list[str]:
    """Say what becomes of `amp`; nothing where the config has none."""
    if level := amp_level(settings):
        return [f"mixed precision {level} with {settings.amp_dtype}"]
    return ["note: mixed precision needs a GPU; this run computes in float32"] if settings.amp else []
