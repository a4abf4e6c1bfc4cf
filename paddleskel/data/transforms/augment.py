"""Random changes of where the joints of a training clip are. None of them acts outside training."""

from typing import Literal

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms.pipeline import TRANSFORMS
from paddleskel.errors import UserError
from paddleskel.registry import did_you_mean
from paddleskel.skeleton.layout import Layout


class Sometimes:
    """An augmentation that changes a clip with probability `p` and else leaves it as it is."""

    training_only = True

    def __init__(self, p: float):
        if not 0 <= p <= 1:
            raise ValueError(f"p must lie between 0 and 1, not {p}")
        self.p = p

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        return self.change(clip, rng) if rng.random_sample() < self.p else clip

    def change(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        """Return the changed clip."""
        raise NotImplementedError


@TRANSFORMS
class RandomRot:
    """Rotate a whole clip by random angles: about x, y and z in 3D, in the plane in 2D.   (CTR-GCN, section 4.2)

    Args:
        theta: the angles are drawn from [-theta, theta] radians, or from the pair given; or three bounds, of the angles
            about x, y and z.
    """

    training_only = True

    def __init__(self, theta: float | tuple[float, float] | tuple[float, float, float] = 0.3):
        self.axes = isinstance(theta, tuple) and len(theta) == 3
        if self.axes:
            self.low, self.high = -np.asarray(theta), np.asarray(theta)
        else:
            self.low, self.high = theta if isinstance(theta, tuple) else (-theta, theta)

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        points = clip.keypoint
        if np.abs(points).max() <= 1e-8:
            return clip
        if self.axes and points.shape[-1] == 2:
            raise UserError("RandomRot: theta has three bounds, but points in a plane turn about one axis")
        if points.shape[-1] == 3:
            matrix = _rotation(rng.uniform(self.low, self.high, 3))
        else:
            matrix = _rotation(np.array([rng.uniform(self.low, self.high)]))
        return clip.with_(keypoint=points.astype(np.float32) @ matrix.T.astype(np.float32))


@TRANSFORMS
class TurnedViews:
    """Look at a clip from several sides in validation, test and prediction; the scores are averaged.

    Args:
        angles: radians about x, y and z (one angle in 2D) of each view; [0, 0, 0] is the clip as it is.
    """

    testing_only = True

    def __init__(self, angles: list[list[float]]):
        if not angles or any(len(view) not in (1, 3) for view in angles):
            raise ValueError("angles must hold one or three numbers a view, as in [[0, 0, 0], [0, 0, 0.3]]")
        self.angles = angles

    def views(self, clip: Clip) -> list[Clip]:
        points = clip.keypoint.astype(np.float32)
        if len(self.angles[0]) != (3 if points.shape[-1] == 3 else 1):
            raise UserError(f"TurnedViews: {len(self.angles[0])} angles a view do not turn {points.shape[-1]}D points")
        matrices = [_rotation(np.asarray(view)).T.astype(np.float32) for view in self.angles]
        return [clip.with_(keypoint=points @ matrix) for matrix in matrices]


def _rotation(angles: np.ndarray) -> np.ndarray:
    """(3, 3) matrix of three angles, (2, 2) of one."""
    if len(angles) == 3:
        return rotation_xyz(angles)
    (cos,), (sin,) = np.cos(angles), np.sin(angles)
    return np.array([[cos, -sin], [sin, cos]])


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


@TRANSFORMS
class Shear:
    """Slant a whole clip: each axis gets a random share of the others.   (BRL; AimCLR, section 3.2)

    Args:
        shear: the shares are drawn from [-shear, shear].
    """

    training_only = True

    def __init__(self, shear: float = 0.5):
        self.shear = shear

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        channels = clip.keypoint.shape[-1]
        matrix = np.eye(channels)
        matrix[~np.eye(channels, dtype=bool)] = rng.uniform(-self.shear, self.shear, channels * (channels - 1))
        return clip.with_(keypoint=clip.keypoint.astype(np.float32) @ matrix.T.astype(np.float32))


@TRANSFORMS
class Flip(Sometimes):
    """Mirror a clip: left becomes right, as if filmed in a mirror.   (PYSKL, Flip)

    Joints that were not found stay at zero.

    Args:
        p: how often.
        about: "zero" mirrors x about 0, which suits normalised data and 3D; "image" mirrors pixels in the picture, x
            -> width - x, before normalisation.
    """

    def __init__(self, layout: Layout, p: float = 0.5, about: Literal["zero", "image"] = "zero"):
        super().__init__(p)
        self.about, self.order = about, _exchange(layout)

    def change(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        points = clip.keypoint[:, :, self.order]
        x = points[..., 0]
        if self.about == "zero":
            points[..., 0] = -x
        elif clip.image_size is None:
            raise UserError(f"sample '{clip.id}' has no img_shape, which Flip needs with about: image")
        else:
            points[..., 0] = np.where(x != 0, clip.image_size[1] - x, 0)
        return clip.with_(keypoint=points, score=None if clip.score is None else clip.score[:, :, self.order])


@TRANSFORMS
class SwapSides(Sometimes):
    """Exchange the joints of left and right without mirroring the coordinates.   (BRL, Spatial_Flip)

    Args:
        p: how often.
    """

    def __init__(self, layout: Layout, p: float = 0.5):
        super().__init__(p)
        self.order = _exchange(layout)

    def change(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        score = None if clip.score is None else clip.score[:, :, self.order]
        return clip.with_(keypoint=clip.keypoint[:, :, self.order], score=score)


@TRANSFORMS
class MaskAxis(Sometimes):
    """Set one axis of a whole clip, drawn at random, to zero.   (BRL, Mask)

    Args:
        p: how often.
    """

    def __init__(self, p: float = 0.2):
        super().__init__(p)

    def change(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        points = clip.keypoint.copy()
        points[..., rng.randint(points.shape[-1])] = 0
        return clip.with_(keypoint=points)


@TRANSFORMS
class MaskJoints(Sometimes):
    """Hide random joints for a whole clip: coordinates and confidence become zero.

    Args:
        fraction: of the joints, rounded down; the same ones for all persons.
        p: how often.
    """

    def __init__(self, fraction: float = 0.2, p: float = 0.5):
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must lie between 0 and 1, not {fraction}")
        super().__init__(p)
        self.fraction = fraction

    def change(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        joints = clip.keypoint.shape[2]
        return _hide(clip, rng.permutation(joints)[: int(self.fraction * joints)])


@TRANSFORMS
class MaskParts(Sometimes):
    """Hide a group of body parts for a whole clip, such as all limbs of one side.   (BRL, Part_Drop)

    Args:
        p: how often.
        groups: lists of the layout's body parts, one of which is drawn; default: the left limbs, the right limbs.
    """

    def __init__(self, layout: Layout, p: float = 0.5, groups: list[list[str]] | None = None):
        groups = groups or [["left_arm", "left_leg"], ["right_arm", "right_leg"]]
        for part in (part for group in groups for part in group):
            if part not in layout.parts:
                raise UserError(f"the layout '{layout.name}' has no part '{part}'{did_you_mean(part, [*layout.parts])}")
        super().__init__(p)
        self.joints = [sorted({joint for part in group for joint in layout.parts[part]}) for group in groups]

    def change(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        return _hide(clip, self.joints[rng.randint(len(self.joints))])


def _hide(clip: Clip, joints) -> Clip:
    points = clip.keypoint.copy()
    points[:, :, joints] = 0
    if clip.score is None:
        return clip.with_(keypoint=points)
    score = clip.score.copy()
    score[:, :, joints] = 0
    return clip.with_(keypoint=points, score=score)


def _exchange(layout: Layout) -> np.ndarray:
    if not layout.pairs:
        raise UserError(f"the layout '{layout.name}' names no pairs of left and right joints; give it `pairs`")
    return layout.flip
