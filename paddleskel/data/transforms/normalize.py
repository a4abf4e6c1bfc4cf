"""Put skeletons where the network expects them: the image on [-1, 1], or a body upright in the middle of its space."""

from typing import Literal

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms.pipeline import TRANSFORMS
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import Layout


@TRANSFORMS
class PreNormalize2D:
    """Map pixels to [-1, 1]: by the image ("fix") or by the box around the joints ("auto").   (PYSKL, PreNormalize2D)

    Args:
        mode: "auto" leaves clips alone whose box is not larger than `min_extent` in both directions, such as
            coordinates that are normalised already.
        threshold: joints with a confidence at or below it are set to (0, 0) after normalisation; null keeps all.
            PYSKL's code uses 0.01; its published 2D weights, MMAction2's and PaddleVideo's were trained without.
        image_size: (height, width) for samples that carry no img_shape.
        half: compute in float16 where the data are, as MMAction2 and PaddleVideo do (differs by up to 5e-4).
    """

    deterministic = True

    def __init__(
        self,
        mode: Literal["fix", "auto"] = "fix",
        threshold: float | None = None,
        image_size: tuple[int, int] | None = None,
        half: bool = False,
        min_extent: float = 10.0,
    ):
        self.mode, self.threshold, self.image_size = mode, threshold, image_size
        self.half, self.min_extent = half, min_extent

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        half = self.half and clip.keypoint.dtype == np.float16
        points = clip.keypoint if half else clip.keypoint.astype(np.float32)
        score = clip.score if half or clip.score is None else clip.score.astype(np.float32)
        unseen = None if score is None or self.threshold is None else score <= self.threshold
        center, radius = self._box(clip, points, unseen)
        if radius is not None:
            points = ((points - center.astype(points.dtype)) / radius.astype(points.dtype)).astype(points.dtype)
        if unseen is not None:
            points = np.where(unseen[..., None], points.dtype.type(0), points)
        return clip.with_(keypoint=points, score=score)

    def _box(self, clip: Clip, points: np.ndarray, unseen: np.ndarray | None):
        """Return (x, y) centre and half extent, or (None, None) to leave the clip alone."""
        if self.mode == "fix":
            size = clip.image_size or self.image_size
            if size is None:
                raise UserError(
                    f"sample '{clip.id}' has no img_shape, which PreNormalize2D needs; give `image_size: [height, "
                    "width]` in the config, or `mode: auto` to use the box around the joints"
                )
            radius = np.array([size[1], size[0]], np.float32) / 2
            return radius, radius
        seen = points.reshape(-1, 2) if unseen is None else points[~unseen]
        low, high = (seen.min(0), seen.max(0)) if len(seen) else (np.zeros(2), np.zeros(2))
        if not (high - low > self.min_extent).all():
            return None, None
        return (high + low) / 2, (high - low) / 2


@TRANSFORMS
class PreNormalize3D:
    """Drop empty frames, centre on the first frame's mid-spine, turn the spine to +z and the shoulders to +x.
    (PYSKL, PreNormalize3D)

    The person seen in the most frames comes first; frames without that person are dropped. Joints at exactly (0, 0, 0)
    are absent and stay there. A clip of zeros passes unchanged.

    Args:
        align_center, align_spine, align_shoulder: which of the three to do. PYSKL's align_spine=False is both of the
            last two false.
        center, spine, shoulders: joint names; default: those of the layout's `body`.
    """

    deterministic = True

    def __init__(
        self,
        layout: Layout,
        align_center: bool = True,
        align_spine: bool = True,
        align_shoulder: bool = True,
        center: str | None = None,
        spine: tuple[str, str] | None = None,
        shoulders: tuple[str, str] | None = None,
    ):
        def find(joint: str) -> int:
            if joint not in layout.joints:
                raise UserError(f"no joint '{joint}' in the layout '{layout.name}'")
            return layout.joints.index(joint)

        self.center = layout.center if center is None else find(center)
        self.spine = layout.spine if spine is None else tuple(map(find, spine))
        self.shoulders = layout.shoulders if shoulders is None else tuple(map(find, shoulders))
        self.align_center, self.align_spine, self.align_shoulder = align_center, align_spine, align_shoulder
        for wanted, key in ((align_center, "center"), (align_spine, "spine"), (align_shoulder, "shoulders")):
            if wanted and getattr(self, key) is None:
                raise UserError(f"the layout '{layout.name}' names no body {key}; give `{key}` here or switch it off")

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        points = clip.keypoint
        if points.shape[-1] != 3:
            raise UserError(f"sample '{clip.id}' has {points.shape[-1]} coordinates a joint; PreNormalize3D needs 3")
        # float16 is read as float32, in which numpy is several times as fast, and rounded where PYSKL has float16
        half = points.dtype == np.float16
        points = points.astype(np.float32) if half else points
        present = np.abs(points).reshape(*points.shape[:2], -1).max(axis=2, initial=0) > 1e-8  # (M, T)
        if not present.any():
            return clip
        score = clip.score
        main = int(present.sum(axis=1).argmax())
        if main:
            persons = np.arange(len(points))
            persons[[0, main]] = main, 0
            points, score = points[persons], None if score is None else score[persons]
        frames = present[main]
        if not frames.all():
            points, score = points[:, frames], None if score is None else score[:, frames]
        if self.align_center:
            absent = (points[..., 0] == 0) & (points[..., 1] == 0) & (points[..., 2] == 0)
            points = points - points[0, 0, self.center]
            if absent.any():
                points[absent] = 0
        first = points[0, 0]
        if half:
            rounded = points.astype(np.float16)
            points, first = rounded.astype(np.float32), rounded[0, 0]
        rotation = np.eye(3)
        if self.align_spine:
            rotation = rotation_between(_vector(first, self.spine), np.array([0.0, 0.0, 1.0]))
        if self.align_shoulder:
            across = rotation @ _vector(first, self.shoulders)
            rotation = rotation_between(across, np.array([1.0, 0.0, 0.0])) @ rotation
        if self.align_spine or self.align_shoulder:
            flat = points.reshape(-1, 3).astype(np.float32, copy=False)
            points = (flat @ rotation.T.astype(np.float32)).reshape(points.shape)
        elif half:
            points = rounded
        return clip.with_(keypoint=points, score=score)


@TRANSFORMS
class FitBox:
    """Stretch each axis so that the joints of a whole sequence reach from -1 to 1.   (CTR-GCN's NW-UCLA recipe)

    Joints at exactly (0, 0, 0) are absent and stay there. An axis without extent becomes 0.
    """

    deterministic = True

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        points = clip.keypoint.astype(np.float32)
        seen = points.any(axis=-1)
        if not seen.any():
            return clip
        low, high = points[seen].min(axis=0), points[seen].max(axis=0)
        extent = np.where(high > low, high - low, 1)
        fitted = np.where(high > low, (points - low) / extent * 2 - 1, 0)
        return clip.with_(keypoint=np.where(seen[..., None], fitted, 0).astype(np.float32))


def _vector(body: np.ndarray, joints: tuple[int, int]) -> np.ndarray:
    """(3,) from the first joint to the second of one body (V, 3)."""
    start, end = joints
    return body[end] - body[start]


def rotation_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) rotation that carries `source` onto the unit vector `target` about their common normal (Rodrigues).

    The identity where either vector is shorter than 1e-6 or they are parallel.
    """
    (a, b, c), (d, e, f) = source.astype(np.float64), target
    axis = np.array([b * f - c * e, c * d - a * f, a * e - b * d])
    if min(np.abs(source).sum(), np.abs(target).sum(), np.abs(axis).sum()) < 1e-6:
        return np.eye(3)
    unit = source / np.linalg.norm(source)  # in the data's type, as in the published code
    angle = np.arccos(np.clip(unit @ target, -1, 1))
    if abs(angle) < 1e-6:
        return np.eye(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
