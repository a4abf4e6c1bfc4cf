"""What flows through the data pipeline."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Clip:
    """One skeleton sequence.

    Attributes:
        keypoint: (M, T, V, C) coordinates of M persons over T frames; pixels in 2D, metres (as a rule) in 3D. A person
            who is absent in a frame is all zeros there.
        score: (M, T, V) confidence of each joint, or None.
        label: class index from 0; -1 if unknown.
        id: sample name, unique in its file.
        image_size: (height, width) in pixels, or None.
        num_clips: after temporal sampling, T holds this many clips of equal length one after another.
    """

    keypoint: np.ndarray
    score: np.ndarray | None = None
    label: int = -1
    id: str = ""
    image_size: tuple[int, int] | None = None
    num_clips: int = 1

    @property
    def num_frames(self) -> int:
        return self.keypoint.shape[1]

    def with_(self, **changes) -> "Clip":
        """Return a copy with some attributes replaced."""
        return replace(self, **changes)

    def take_frames(self, frames: np.ndarray, num_clips: int = 1) -> "Clip":
        """Return the clip at `frames` (indices along T), as `num_clips` clips."""
        score = None if self.score is None else self.score[:, frames]
        return self.with_(keypoint=self.keypoint[:, frames], score=score, num_clips=num_clips)

    def take_places(self, places: np.ndarray, num_clips: int = 1) -> "Clip":
        """Return the clip at `places` along T, which may lie between frames, as `num_clips` clips."""
        score = None if self.score is None else interpolate(self.score[..., None], places)[..., 0]
        return self.with_(keypoint=interpolate(self.keypoint, places), score=score, num_clips=num_clips)


def interpolate(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(M, T, V, C) -> (M, len(places), V, C) float32: values at `places` in [0, T - 1].

    In between two frames a joint lies on the straight line, unless it is absent (all zeros) in one of them; then it is
    where the nearer frame has it.
    """
    before = np.floor(places).astype(np.int64)
    after = np.minimum(before + 1, values.shape[1] - 1)
    share = (places - before).astype(np.float32)[:, None, None]
    low, high = values[:, before].astype(np.float32), values[:, after].astype(np.float32)
    absent = (low == 0).all(axis=-1, keepdims=True) | (high == 0).all(axis=-1, keepdims=True)
    return np.where(absent, np.where(share < 0.5, low, high), low + (high - low) * share)
