"""What the doctor measures of each sample, in one pass over the data."""

import hashlib
from dataclasses import dataclass

import numpy as np

from paddleskel.data.clip import Clip

JUMP = 0.5  # a joint that moves by more than this times its body's size between two frames has jumped


@dataclass(frozen=True)
class Measures:
    """Numbers about one sample.

    Attributes:
        id, label, image_size: the sample's. persons: places for people; people: those that are ever seen.
        frames: length; seen_frames: frames with somebody in them.
        joints, axes: V and C. low, high: (C,) smallest and largest coordinates of joints that were seen.
        outside, outside_swapped: fraction of seen joints beyond the picture, as it is and with height and width
            exchanged.
        score: smallest and largest confidence, or None.
        moves, found: (V,) which joints ever change their place, and which are ever seen.
        twins: pairs of joints that are at the same place whenever both are seen.
        jumps: fraction of the joints' steps from frame to frame that are jumps, and how many.
        size: median diagonal of the box around a body.
        depth_like_score: whether the third coordinates lie in [0, 1] as confidences do.
        digest: of coordinates and confidences.
    """

    id: str
    label: int
    image_size: tuple[int, int] | None
    persons: int
    people: int
    frames: int
    seen_frames: int
    joints: int
    axes: int
    low: np.ndarray
    high: np.ndarray
    outside: float
    outside_swapped: float
    score: tuple[float, float] | None
    moves: np.ndarray
    found: np.ndarray
    twins: np.ndarray
    jumps: tuple[float, int]
    size: float
    depth_like_score: bool
    digest: bytes


def measure(clip: Clip) -> Measures:
    """Measure a sample; its coordinates must be finite."""
    points = clip.keypoint.astype(np.float32, copy=False)
    persons, frames, joints, axes = points.shape
    seen = points.any(axis=-1)  # (M, T, V)
    values = points[seen]
    low, high = (values.min(axis=0), values.max(axis=0)) if len(values) else (np.zeros(axes), np.zeros(axes))
    outside, swapped = _outside(values, clip.image_size)
    sizes = _body_sizes(points, seen)
    size = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0
    digest = hashlib.blake2b(np.ascontiguousarray(clip.keypoint).tobytes(), digest_size=16)
    if clip.score is not None:
        digest.update(np.ascontiguousarray(clip.score).tobytes())
    return Measures(
        id=clip.id,
        label=clip.label,
        image_size=clip.image_size,
        persons=persons,
        people=int(seen.any(axis=(1, 2)).sum()),
        frames=frames,
        seen_frames=int(seen.any(axis=(0, 2)).sum()),
        joints=joints,
        axes=axes,
        low=low,
        high=high,
        outside=outside,
        outside_swapped=swapped,
        score=None if clip.score is None else (float(clip.score.min()), float(clip.score.max())),
        moves=_moves(points, seen),
        found=seen.any(axis=(0, 1)),
        twins=_twins(points, seen),
        jumps=_jumps(points, seen, size),
        size=size,
        depth_like_score=bool(axes == 3 and len(values) and low[2] >= 0 and high[2] <= 1),
        digest=digest.digest(),
    )


def _outside(values: np.ndarray, image_size: tuple[int, int] | None) -> tuple[float, float]:
    """Fractions of 2D points more than a tenth of the picture beyond its edges, and with the edges exchanged."""
    if image_size is None or not len(values) or values.shape[1] != 2:
        return 0.0, 0.0
    height, width = image_size
    beyond = lambda w, h: float(((values < (-0.1 * w, -0.1 * h)) | (values > (1.1 * w, 1.1 * h))).any(axis=1).mean())
    return beyond(width, height), beyond(height, width)


def _body_sizes(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(M, T) diagonals of the boxes around the joints seen; 0 where fewer than two are."""
    low = np.where(seen[..., None], points, np.inf).min(axis=2)
    high = np.where(seen[..., None], points, -np.inf).max(axis=2)
    return np.where(seen.sum(axis=2) > 1, np.linalg.norm(np.where(np.isfinite(high - low), high - low, 0), axis=-1), 0)


def _moves(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(V,) whether a joint is ever at two places, of one person."""
    low = np.where(seen[..., None], points, np.inf).min(axis=1)
    high = np.where(seen[..., None], points, -np.inf).max(axis=1)
    return (high > low).any(axis=(0, 2))


def _twins(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(pairs, 2) joints that share their place in the first, middle and last frame where both are seen."""
    frames = np.flatnonzero(seen[0].any(axis=1))
    if not len(frames):
        return np.empty((0, 2), int)
    chosen = frames[[0, len(frames) // 2, -1]]
    body, both = points[0, chosen], seen[0, chosen]
    together = both[:, :, None] & both[:, None]
    apart = (np.abs(body[:, :, None] - body[:, None]).max(axis=-1) > 0) & together
    same = ~apart.any(axis=0) & together.any(axis=0)
    return np.argwhere(np.triu(same, 1))


def _jumps(points: np.ndarray, seen: np.ndarray, size: float) -> tuple[float, int]:
    both = seen[:, 1:] & seen[:, :-1]
    if size <= 0 or not both.any():
        return 0.0, 0
    steps = np.linalg.norm(points[:, 1:] - points[:, :-1], axis=-1)
    jumps = (steps > JUMP * size) & both
    return float(jumps.sum() / both.sum()), int(jumps.sum())
