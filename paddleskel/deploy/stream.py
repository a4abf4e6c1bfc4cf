"""An endless stream of frames, decided every few of them, in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.deploy.window import cut
from paddleskel.errors import UserError


@dataclass(frozen=True)
class Decision:
    """What is going on at a moment of a stream.

    Attributes:
        frame: number of the newest frame, from 0. seconds: the same in time. probs: (classes,), smoothed.
        class_index: -1 where no score reaches the threshold. label: "unknown" then.
    """

    frame: int
    seconds: float
    probs: np.ndarray
    class_index: int
    label: str

    @property
    def score(self) -> float:
        return float(self.probs.max())


class Stream:
    """Feed frames, get a decision every `stride` of them; made by `Predictor.stream`.

    Keeps the last `window` frames and nothing else.

    Args:
        probs_of: clips -> (N, classes). name: class index -> label.
        frames: the model's clip length; a shorter window is stretched to it. joints: V of every frame.
        smoothing: share of the last decision in the next, 0 for none. threshold: below it, "unknown".
        image_size: (height, width), for 2D models whose pipeline wants it. num_person: people looked at.
    """

    def __init__(
        self,
        probs_of: Callable[[Sequence[Clip]], np.ndarray],
        name: Callable[[int], str],
        frames: int,
        joints: int,
        window: int,
        stride: int,
        fps: float = 30.0,
        smoothing: float = 0.0,
        threshold: float = 0.0,
        image_size: tuple[int, int] | None = None,
        num_person: int = 2,
    ):
        if window < 1 or stride < 1 or fps <= 0 or not 0 <= smoothing < 1:
            raise UserError(
                f"stream: window and stride must be at least 1, fps above 0 and smoothing in [0, 1), not {window}, "
                f"{stride}, {fps} and {smoothing}"
            )
        self._probs_of, self._name = probs_of, name
        self.frames, self.joints, self.window, self.stride, self.fps = frames, joints, window, stride, fps
        self.smoothing, self.threshold, self.image_size = smoothing, threshold, image_size
        self.num_person = num_person
        self._kept: deque[tuple[np.ndarray, np.ndarray | None]] = deque(maxlen=window)
        self._smoothed: np.ndarray | None = None
        self.count = 0

    def push(self, keypoint: np.ndarray, score: np.ndarray | None = None) -> Decision | None:
        """Take one frame; return a decision if one is due (not before the first window is full).

        keypoint: (M, V, C) of the people seen, or (V, C) of one; M may change and be 0, but a person who stays should
        keep the place in the order. score: (M, V) confidences.
        """
        self._kept.append(self._check(keypoint, score))
        self.count += 1
        if self.count < self.window or (self.count - self.window) % self.stride:
            return None
        probs = self._probs_of([cut(self._clip(), 0, self.window, self.frames)])[0]
        if self._smoothed is not None:
            probs = self.smoothing * self._smoothed + (1 - self.smoothing) * probs
        self._smoothed = probs
        best = int(probs.argmax())
        known = probs[best] >= self.threshold
        newest = self.count - 1
        label = self._name(best) if known else "unknown"
        return Decision(newest, newest / self.fps, probs, best if known else -1, label)

    def run(self, frames: Iterable) -> Iterator[Decision]:
        """Yield the decisions over frames, each an array or a pair (keypoint, score)."""
        for frame in frames:
            keypoint, score = frame if isinstance(frame, tuple) else (frame, None)
            decision = self.push(keypoint, score)
            if decision is not None:
                yield decision

    def _check(self, keypoint, score) -> tuple[np.ndarray, np.ndarray | None]:
        points = np.array(keypoint, np.float32)  # a copy: callers reuse their buffers
        points = points[None] if points.ndim == 2 else points
        if points.ndim != 3 or points.shape[1] != self.joints or points.shape[2] not in (2, 3):
            raise UserError(
                f"stream: frame {self.count}: expected (persons, {self.joints} joints, 2 or 3 coordinates), found "
                f"shape {np.shape(keypoint)}"
            )
        points = points[: self.num_person]
        if score is not None:
            score = np.array(score, np.float32)
            score = (score[None] if score.ndim == 1 else score)[: self.num_person]
            if score.shape != points.shape[:2]:
                raise UserError(
                    f"stream: frame {self.count}: score of shape {score.shape} for {points.shape[:2]} joints"
                )
        if not np.isfinite(points).all() or (score is not None and not np.isfinite(score).all()):
            raise UserError(f"stream: frame {self.count}: NaN or infinite values; replace them, by 0 where not seen")
        if self._kept and (score is None) != (self._kept[-1][1] is None):
            raise UserError(f"stream: frame {self.count}: confidences must come with every frame or with none")
        if self._kept and points.shape[2] != self._kept[-1][0].shape[2]:
            raise UserError(f"stream: frame {self.count}: {points.shape[2]} coordinates a joint, the frame before had "
                            f"{self._kept[-1][0].shape[2]}")  # fmt: skip
        return points, score

    def _clip(self) -> Clip:
        """The kept frames; people missing from a frame are zeros in it."""
        persons = max(1, max(len(points) for points, _ in self._kept))
        channels = self._kept[-1][0].shape[-1]
        keypoint = np.zeros((persons, len(self._kept), self.joints, channels), np.float32)
        scored = self._kept[-1][1] is not None
        scores = np.zeros(keypoint.shape[:3], np.float32) if scored else None
        for time, (points, score) in enumerate(self._kept):
            keypoint[: len(points), time] = points
            if scored:
                scores[: len(score), time] = score
        return Clip(keypoint, scores, id=f"frame {self.count - 1}", image_size=self.image_size)
