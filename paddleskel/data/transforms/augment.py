"""Random changes of a training clip. None of them acts outside training."""

from typing import Literal

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms.pipeline import TRANSFORMS


@TRANSFORMS
class RandomRot:
    """Rotate a whole clip by random angles: about x, y and z in 3D, in the plane in 2D.   (CTR-GCN, section 4.2)

    Args:
        theta: the angles are drawn from [-theta, theta] radians, or from the pair given.
    """

    training_only = True

    def __init__(self, theta: float | tuple[float, float] = 0.3):
        self.low, self.high = theta if isinstance(theta, tuple) else (-theta, theta)

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        points = clip.keypoint
        if np.abs(points).max() <= 1e-8:
            return clip
        if points.shape[-1] == 3:
            matrix = rotation_xyz(rng.uniform(self.low, self.high, 3))
        else:
            angle = rng.uniform(self.low, self.high)
            matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return clip.with_(keypoint=points.astype(np.float32) @ matrix.T.astype(np.float32))


def rotation_xyz(angles: np.ndarray) -> np.ndarray:
    """(3, 3) matrix Rz Ry Rx for angles about (x, y, z), turning clockwise seen against the axis."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


@TRANSFORMS
class RandomScale:
    """Scale each axis of a whole clip by 1 + U(-scale, scale).

    Args:
        scale: one bound for all axes, or one an axis.
    """

    training_only = True

    def __init__(self, scale: float | list[float] = 0.2):
        self.scale = scale

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        channels = clip.keypoint.shape[-1]
        scale = self.scale if isinstance(self.scale, list) else [self.scale] * channels
        if len(scale) != channels:
            raise ValueError(f"scale has {len(scale)} values for {channels} axes")
        factor = 1 + rng.uniform(-1, 1, channels) * np.asarray(scale)
        return clip.with_(keypoint=clip.keypoint.astype(np.float32) * factor.astype(np.float32))


@TRANSFORMS
class RandomGaussianNoise:
    """Shift every joint in a random direction by N(0, sigma) times the extent of the body.

    Args:
        sigma: standard deviation, as a fraction of the diagonal of the box around the joints.
        base: take the box of each "frame", or of the whole "video".
        shared: draw one shift a joint for all frames and persons.
    """

    training_only = True

    def __init__(self, sigma: float = 0.01, base: Literal["frame", "video"] = "frame", shared: bool = False):
        self.sigma, self.base, self.shared = sigma, base, shared

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        joints, channels = clip.keypoint.shape[2:]
        points = clip.keypoint.astype(np.float32).reshape(-1, joints, channels)
        low, high = points.min(axis=1), points.max(axis=1)
        present = np.square(low).sum(axis=1) > 1e-8
        if not present.any():
            return clip
        if self.base == "frame":
            extent = np.linalg.norm(high - low, axis=1) * present
        else:
            extent = np.linalg.norm(high[present].max(axis=0) - low[present].min(axis=0)) * present
        draws = 1 if self.shared else len(points)
        length = rng.randn(draws, joints) * self.sigma * extent[:, None]
        direction = np.moveaxis(rng.uniform(-1, 1, (channels, draws, joints)), 0, -1)
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        shift = (direction * length[..., None]).astype(np.float32)
        return clip.with_(keypoint=(points + shift).reshape(clip.keypoint.shape))
