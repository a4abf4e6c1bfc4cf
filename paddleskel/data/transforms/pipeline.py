"""The registry of transforms, and the one way a config's list of them becomes a callable."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.errors import UserError
from paddleskel.registry import Registry, split_spec
from paddleskel.skeleton.layout import Layout

TRANSFORMS = Registry("transform")

# What a transform's constructor may take that comes from the run, not from its own arguments.
CONTEXT = ("layout", "stream", "num_clips", "training")


class Transform(Protocol):
    """Anything that turns a clip into a clip.

    A class with `training_only = True` is an augmentation, left out elsewhere; one with `testing_only = True` is left
    out of training; one with `deterministic = True` draws nothing, so that its results can be kept. One with `views`,
    called instead, makes several clips of each, whose scores are averaged.
    """

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip: ...


class Pipeline:
    """Transforms in order; the last packs the network's input.

    Training, validation, test, export and prediction all build theirs from the same config list with `build_pipeline`.
    """

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = list(transforms)

    def split(self) -> tuple[list[Transform], "Pipeline"]:
        """Return the first steps that draw nothing, and the pipeline of the others."""
        fixed = 0
        while getattr(self.transforms[fixed], "deterministic", False):
            fixed += 1
        return self.transforms[:fixed], Pipeline(self.transforms[fixed:])

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> np.ndarray:
        """Return (clips, M, T, V, C) float32, the clips of one view after those of another."""
        seen = [clip]
        for transform in self.transforms:
            if hasattr(transform, "views"):
                seen = [view for one in seen for view in transform.views(one)]
            else:
                seen = [transform(one, rng) for one in seen]
        clips = [_by_clip(one) for one in seen]
        return clips[0] if len(clips) == 1 else np.concatenate(clips)


def _by_clip(clip: Clip) -> np.ndarray:
    """(M, clips * T, V, C) -> (clips, M, T, V, C)."""
    persons, _, joints, channels = clip.keypoint.shape
    return clip.keypoint.reshape(persons, clip.num_clips, -1, joints, channels).swapaxes(0, 1)


def build_pipeline(
    specs: Sequence[Any], layout: Layout, stream: str | Sequence[str], training: bool = False, num_clips: int = 1
) -> Pipeline:
    """Build the pipeline of one phase.

    Args:
        specs: the config's PIPELINE list.
        training: random sampling and augmentations; otherwise the seeded sampling of validation and test.
        num_clips: clips to sample from each sequence.
    """
    transforms = []
    for position, spec in enumerate(specs):
        where = f"PIPELINE.{position}"
        transform = TRANSFORMS.build(spec, where, layout=layout, stream=stream, num_clips=num_clips, training=training)
        if not getattr(transform, "testing_only" if training else "training_only", False):
            transforms.append(transform)
    if not specs or split_spec(specs[-1], "PIPELINE")[0] != "Pack":
        raise UserError("PIPELINE: the last transform must be Pack, which makes the network's input")
    return Pipeline(transforms)
