"""Choose frames: clips of a fixed length from sequences of any length."""

from typing import Literal

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms.pipeline import TRANSFORMS
from paddleskel.errors import UserError


@TRANSFORMS
class UniformSample:
    """Cut a sequence into `clip_len` equal pieces and take one random frame of each, `num_clips` times.   (PoseC3D,
    section 3.2)

    Shorter sequences repeat from their start. Validation and test draw from a private generator seeded the same for
    every sample, so that results do not depend on order, batch size or workers.

    Shape: (M, T, V, C) -> (M, num_clips * clip_len, V, C).

    Args:
        clip_len: frames a clip.
        p_interval: fraction of the sequence a clip is taken from; a pair draws it anew for each clip.
        variant: whose random stream to follow, so that test clips equal theirs frame by frame: "pyskl" (also BRL's) or
            "mmaction" (also PaddleVideo's). They differ only for sequences longer than a clip.
        random_start: let short sequences start anywhere outside training too, and repeat inside the interval drawn
            (PYSKL's UniformSampleDecode).
        seed: of the generator outside training.
    """

    def __init__(
        self,
        clip_len: int,
        num_clips: int = 1,
        training: bool = False,
        p_interval: float | tuple[float, float] = 1.0,
        variant: Literal["pyskl", "mmaction"] = "pyskl",
        random_start: bool = False,
        seed: int = 255,
    ):
        if clip_len < 1 or num_clips < 1:
            raise ValueError(f"clip_len and num_clips must be at least 1, not {clip_len} and {num_clips}")
        self.clip_len, self.num_clips, self.training, self.seed = clip_len, num_clips, training, seed
        self.interval, self.variant, self.random_start = share_interval("p_interval", p_interval), variant, random_start
        self._seeded: dict[int, np.ndarray] = {}  # total -> frames, outside training

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        total = clip.num_frames
        if self.training:
            return clip.take_frames(self.frames(total, rng), self.num_clips)
        if total not in self._seeded:
            self._seeded[total] = self.frames(total, np.random.RandomState(self.seed))
        return clip.take_frames(self._seeded[total], self.num_clips)

    def frames(self, total: int, rng: np.random.RandomState) -> np.ndarray:
        """Return (num_clips * clip_len,) indices below `total`."""
        return np.concatenate([self._clip(total, i, rng) for i in range(self.num_clips)])

    def _clip(self, total: int, i: int, rng: np.random.RandomState) -> np.ndarray:
        length, offset = total, 0
        low, high = self.interval
        if self.variant == "pyskl" or low < 1:
            ratio = rng.random_sample() * (high - low) + low
            length = max(1, int(ratio * total))
            offset = rng.randint(total - length + 1)
        return (self._positions(length, i, rng) + offset) % total

    def _positions(self, total: int, i: int, rng: np.random.RandomState) -> np.ndarray:
        wanted = self.clip_len
        if total < wanted:
            if self.training or self.random_start:
                start = rng.randint(0, total)
            else:
                start = i if total < self.num_clips else i * total // self.num_clips
            positions = np.arange(start, start + wanted)
            return positions % total if self.random_start else positions
        if total < 2 * wanted:
            skipped = np.zeros(wanted + 1, np.int64)
            skipped[rng.choice(wanted + 1, total - wanted, replace=False)] = 1
            return np.arange(wanted) + np.cumsum(skipped)[:-1]
        bounds = np.arange(wanted + 1) * total // wanted
        return bounds[:-1] + rng.randint(np.diff(bounds))


@TRANSFORMS
class CropResize:
    """Take a stretch of a sequence and bring it to `clip_len` frames, joints between two frames on the straight line.
    (CTR-GCN, valid_crop_resize)

    Short sequences become slower in place of being repeated. In training the stretch is drawn; outside, a single clip
    is the middle of the sequence, as long as the upper bound allows, and several clips draw theirs from a private
    generator seeded the same for every sample.

    Shape: (M, T, V, C) -> (M, num_clips * clip_len, V, C) float32.

    Args:
        clip_len: frames a clip.
        p_interval: fraction of the sequence that a clip is taken from, drawn from this interval.
        seed: of the generator outside training.
    """

    def __init__(
        self,
        clip_len: int,
        num_clips: int = 1,
        training: bool = False,
        p_interval: float | tuple[float, float] = (0.5, 1.0),
        seed: int = 255,
    ):
        if clip_len < 1 or num_clips < 1:
            raise ValueError(f"clip_len and num_clips must be at least 1, not {clip_len} and {num_clips}")
        self.clip_len, self.num_clips, self.training, self.seed = clip_len, num_clips, training, seed
        self.low, self.high = share_interval("p_interval", p_interval)

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        if not self.training:
            rng = np.random.RandomState(self.seed)
        drawn = self.training or self.num_clips > 1
        places = []
        for _ in range(self.num_clips):
            ratio = rng.uniform(self.low, self.high) if drawn else self.high
            slack = (1 - ratio) * (clip.num_frames - 1)
            start = slack * (rng.random_sample() if drawn else 0.5)
            places.append(start + np.linspace(0, ratio * (clip.num_frames - 1), self.clip_len))
        return clip.take_places(np.concatenate(places), self.num_clips)


@TRANSFORMS
class PadTo:
    """Lengthen a sequence to a fixed number of frames, as ST-GCN was first trained.   (PYSKL, PadTo)

    Shape: (M, T, V, C) -> (M, length, V, C).

    Args:
        mode: "zero" appends empty frames, "loop" repeats the sequence.
    """

    def __init__(self, length: int, mode: Literal["zero", "loop"] = "loop", num_clips: int = 1):
        if num_clips > 1:
            raise ValueError(f"pads whole sequences, so there is one clip of each; num_clips is {num_clips}")
        self.length, self.mode = length, mode

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        frames = clip.num_frames
        if frames > self.length:
            raise UserError(f"sample '{clip.id}' has {frames} frames, more than PadTo's length of {self.length}")
        if self.mode == "loop":
            return clip.take_frames(np.arange(self.length) % frames)
        missing = ((0, 0), (0, self.length - frames), (0, 0))
        score = None if clip.score is None else np.pad(clip.score, missing)
        return clip.with_(keypoint=np.pad(clip.keypoint, (*missing, (0, 0))), score=score)


def share_interval(name: str, value: float | tuple[float, float]) -> tuple[float, float]:
    """The bounds of a share to draw, both `value` where it is a number.

    Raises:
        ValueError: they do not lie in (0, 1], lower bound first.
    """
    low, high = value if isinstance(value, tuple) else (value, value)
    if not 0 < low <= high <= 1:
        raise ValueError(f"{name} must lie in (0, 1], lower bound first, not {value}")
    return low, high
