"""Streams: what of a skeleton the network sees - joints, bones, their motions."""

from collections.abc import Sequence

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms.pipeline import TRANSFORMS
from paddleskel.errors import UserError
from paddleskel.registry import did_you_mean
from paddleskel.skeleton.layout import Layout

# stream -> (bones towards the root that a vector spans, 0 for joints; whether it is a motion)
STREAMS = {
    "j": (0, False),
    "b": (1, False),
    "jm": (0, True),
    "bm": (1, True),
    "k": (2, False),
    "km": (2, True),
    "l": (3, False),
    "lm": (3, True),
    "n": (4, False),
    "nm": (4, True),
}


def parse_stream(stream: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names in a stream setting: "b", "j+b" or ["j", "b"].

    Raises:
        UserError: an unknown name.
    """
    names = stream.split("+") if isinstance(stream, str) else list(stream)
    names = tuple(name.strip() for name in names)
    for name in names:
        if name not in STREAMS:
            raise UserError(f"stream: unknown stream '{name}'{did_you_mean(name, list(STREAMS))}")
    if not names:
        raise UserError(f"stream: names none of {', '.join(STREAMS)}")
    return names


@TRANSFORMS
class Stream:
    """Compute the configured stream; several are concatenated on the channel axis.   (PYSKL, GenSkeFeat)

    j: joint positions. b: each joint minus the joint its bone starts at (k, l, n: 2, 3, 4 bones nearer the root). jm,
    bm and so on: frame t+1 minus frame t, the last frame zero. Confidences, where there are any, become the last
    channel: a bone's is the mean of its two joints', a motion's the mean of its two frames' (zero in the last).

    Before temporal sampling, as published, a motion is what happens between two frames of the camera; after it, between
    two frames of the clip, and the last frame of every clip is zero.

    Shape: (M, T, V, C) and (M, T, V) -> (M, T, V, len(streams) * (C + 1)) float32. The arithmetic is done in the data's
    type, as in the published pipelines.

    Args:
        use_score: append confidences as a channel.
    """

    deterministic = True

    def __init__(self, layout: Layout, stream: str | list[str] = "j", use_score: bool = True):
        self.streams = parse_stream(stream)
        self.use_score = use_score
        self.starts = {hops: layout.ancestors(hops) for hops, _ in (STREAMS[name] for name in self.streams) if hops}

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        score, last = clip.score if self.use_score else None, _last_frames(clip)
        features = [self._compute(clip.keypoint, score, last, *STREAMS[name]) for name in self.streams]
        return clip.with_(keypoint=features[0] if len(features) == 1 else np.concatenate(features, axis=-1), score=None)

    def _compute(
        self, points: np.ndarray, score: np.ndarray | None, last: np.ndarray, hops: int, motion: bool
    ) -> np.ndarray:
        channels = points.shape[-1]
        feature = np.empty((*points.shape[:-1], channels + (score is not None)), np.float32)
        if hops:
            start = self.starts[hops]
            points = (points - points[:, :, start]).astype(np.float32)
            score = None if score is None else ((score + score[:, :, start]) / 2).astype(np.float32)
        if not motion:
            feature[..., :channels] = points
            if score is not None:
                feature[..., channels] = score
            return feature
        np.subtract(points[:, 1:], points[:, :-1], out=feature[:, :-1, :, :channels])
        if score is not None:
            feature[:, :-1, :, channels] = (score[:, 1:] + score[:, :-1]) / 2
        feature[:, last] = 0
        return feature


def _last_frames(clip: Clip) -> np.ndarray:
    """(num_clips,) indices of the last frame of each clip."""
    length = clip.num_frames // clip.num_clips
    return np.arange(1, clip.num_clips + 1) * length - 1


@TRANSFORMS
class Joints:
    """Hand the joints over as they are, to a network that computes its streams itself.

    Shape: (M, T, V, C) and (M, T, V) -> (M, T, V, C + 1) float32, or twice as many channels with `following`.

    Args:
        use_score: append confidences as a channel.
        following: append the channels of the next frame, from which the network takes motions. The last frame of a clip
            follows itself, its confidence negated, so that its motion and the confidence of that are zero as in
            `Stream`.
    """

    deterministic = True

    def __init__(self, use_score: bool = True, following: bool = False):
        self.use_score, self.following = use_score, following

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        points = clip.keypoint.astype(np.float32)
        if self.use_score and clip.score is not None:
            points = np.concatenate([points, clip.score.astype(np.float32)[..., None]], axis=-1)
        if self.following:
            after, last = np.concatenate([points[:, 1:], points[:, -1:]], axis=1), _last_frames(clip)
            after[:, last] = points[:, last]
            if self.use_score and clip.score is not None:
                after[:, last, :, -1] *= -1
            points = np.concatenate([points, after], axis=-1)
        return clip.with_(keypoint=points, score=None)
