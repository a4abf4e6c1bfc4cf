"""Random changes of when things happen in a training clip. None of them acts outside training.

Put them before `Stream` where motions are to follow them. All but `DropFrames` keep the number of frames, and go before
or after temporal sampling.
"""

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms.augment import Sometimes
from paddleskel.data.transforms.pipeline import TRANSFORMS
from paddleskel.data.transforms.temporal import share_interval


@TRANSFORMS
class TemporalCrop:
    """Lengthen a clip by its mirrored ends and cut a window of the old length out of it.   (BRL, Temperal_Crop)

    Args:
        ratio: an end is the sequence's length over this many frames long.
    """

    training_only = True

    def __init__(self, ratio: int = 6):
        if ratio < 1:
            raise ValueError(f"ratio must be at least 1, not {ratio}")
        self.ratio = ratio

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        total = clip.num_frames
        margin = total // self.ratio
        start = rng.randint(2 * margin + 1)
        order = np.arange(total)
        order = np.concatenate([order[:margin][::-1], order, order[total - margin :][::-1]])
        return clip.take_frames(order[start : start + total], clip.num_clips)


@TRANSFORMS
class TemporalShift(Sometimes):
    """Start a clip at a random frame; what came before it follows the end.   (BRL, Temperal_Shift)

    Args:
        p: how often.
    """

    def __init__(self, p: float = 0.5):
        super().__init__(p)

    def change(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        total = clip.num_frames
        return clip.take_frames((np.arange(total) + rng.randint(total)) % total, clip.num_clips)


@TRANSFORMS
class TemporalReverse(Sometimes):
    """Play a clip backwards.   (BRL, Temperal_Flip)

    Args:
        p: how often. Actions that are each other's reverse (sit down, stand up) forbid it.
    """

    def __init__(self, p: float = 0.5):
        super().__init__(p)

    def change(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        return clip.take_frames(np.arange(clip.num_frames)[::-1], clip.num_clips)


@TRANSFORMS
class DropFrames:
    """Lose random frames, the others closing up: a slower camera that also stutters. Goes before temporal sampling.

    Makes a network indifferent to a frame rate that differs between cameras. (CTR-GCN's random choice of frames, which
    has a fixed number of them.)

    Args:
        keep: share of the frames that stay, drawn from this interval; at least one does.
    """

    training_only = True

    def __init__(self, keep: tuple[float, float] = (0.3, 1.0)):
        self.keep = share_interval("keep", keep)

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        total = clip.num_frames
        kept = max(1, round(rng.uniform(*self.keep) * total))
        return clip.take_frames(np.sort(rng.permutation(total)[:kept]), clip.num_clips)


@TRANSFORMS
class TemporalBlur(Sometimes):
    """Smooth every joint's path with a Gaussian of random width.   (BRL, RandomGaussianBlur)

    The ends are mirrored, so that paths do not bend towards zero. Frames in which a joint was not found stay so, and
    count in nobody's mean.

    Args:
        taps: frames the kernel reaches over, an odd number.
        sigma: the width in frames is drawn from this interval.
        p: how often.
    """

    def __init__(self, taps: int = 15, sigma: tuple[float, float] = (0.1, 2.0), p: float = 0.5):
        if taps < 1 or taps % 2 == 0:
            raise ValueError(f"taps must be an odd number, not {taps}")
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"sigma must be positive, lower bound first, not {sigma}")
        super().__init__(p)
        self.taps, self.sigma = taps, sigma

    def change(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        reach = self.taps // 2
        kernel = np.exp(-np.square(np.arange(-reach, reach + 1)) / (2 * rng.uniform(*self.sigma) ** 2))
        points = clip.keypoint.astype(np.float32)
        seen = points.any(axis=-1, keepdims=True)
        total = clip.num_frames
        position = np.abs(np.arange(-reach, total + reach)) % max(2 * total - 2, 1)
        mirrored = np.minimum(position, 2 * total - 2 - position) if total > 1 else np.zeros(total + 2 * reach, int)
        blurred = np.zeros_like(points)
        weight = np.zeros(seen.shape, np.float32)
        for tap, share in enumerate(kernel.astype(np.float32)):
            frames = mirrored[tap : tap + total]
            blurred += share * points[:, frames]
            weight += share * seen[:, frames]
        return clip.with_(keypoint=np.where(seen, blurred / np.maximum(weight, 1e-12), points))
