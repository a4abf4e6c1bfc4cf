"""Augmentations: against their formulas, and that nothing else changes."""

import numpy as np
import pytest

from paddleskel.data.clip import Clip
from paddleskel.data.transforms import TRANSFORMS, build_pipeline
from paddleskel.data.transforms.augment import (
    Flip,
    MaskAxis,
    MaskJoints,
    MaskParts,
    RandomRot,
    Shear,
    SwapSides,
    TurnedViews,
    rotation_xyz,
)
from paddleskel.data.transforms.augment_time import (
    DropFrames,
    TemporalBlur,
    TemporalCrop,
    TemporalReverse,
    TemporalShift,
)
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import load_layout

NTU, COCO = load_layout("nturgb+d"), load_layout("coco")
Seeded = np.random.RandomState


def clip_3d(frames=20):
    return Clip(Seeded(0).randn(2, frames, 25, 3).astype(np.float32), id="c")


def clip_2d():
    points = Seeded(0).uniform(1, 1900, (2, 20, 17, 2)).astype(np.float32)
    points[0, 3, 5] = 0
    return Clip(points, Seeded(1).rand(2, 20, 17).astype(np.float32), id="c", image_size=(1080, 1920))


# BRL's table for the left/right exchange of NTU's joints
BRL_FLIP = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22]
BRL_LEFT = [4, 5, 6, 7, 21, 22, 12, 13, 14, 15]
BRL_RIGHT = [8, 9, 10, 11, 23, 24, 16, 17, 18, 19]


def test_swapping_sides_is_brls_permutation():
    clip = clip_3d()
    np.testing.assert_array_equal(SwapSides(NTU, 1.0)(clip, Seeded(0)).keypoint, clip.keypoint[:, :, BRL_FLIP])
    assert SwapSides(NTU, 0.0)(clip, Seeded(0)) is clip


def test_flipping_pixels_mirrors_the_picture():
    clip = clip_2d()
    flipped = Flip(COCO, 1.0, "image")(clip, Seeded(0))
    left, right = COCO.joints.index("left_wrist"), COCO.joints.index("right_wrist")
    np.testing.assert_allclose(flipped.keypoint[:, :, left, 0], 1920 - clip.keypoint[:, :, right, 0])
    np.testing.assert_array_equal(flipped.keypoint[:, :, left, 1], clip.keypoint[:, :, right, 1])
    np.testing.assert_array_equal(flipped.score[:, :, left], clip.score[:, :, right])
    assert not flipped.keypoint[0, 3, 6].any()  # joint 5 was not found
    twice = Flip(COCO, 1.0, "image")(flipped, Seeded(0))
    np.testing.assert_allclose(twice.keypoint, clip.keypoint, atol=1e-3)
    with pytest.raises(UserError, match="has no img_shape"):
        Flip(COCO, 1.0, "image")(clip.with_(image_size=None), Seeded(0))


def test_flipping_about_zero():
    clip = clip_3d()
    flipped = Flip(NTU, 1.0)(clip, Seeded(0)).keypoint
    np.testing.assert_array_equal(flipped, clip.keypoint[:, :, BRL_FLIP] * np.float32([-1, 1, 1]))


def test_rotation_bounds_of_each_axis():
    clip = clip_3d()
    turned = RandomRot((0.0, 0.0, 3.0))(clip, Seeded(0)).keypoint
    np.testing.assert_allclose(turned[..., 2], clip.keypoint[..., 2], atol=1e-6)
    assert np.abs(turned[..., :2] - clip.keypoint[..., :2]).max() > 0.5
    with pytest.raises(UserError, match="theta has three bounds"):
        RandomRot((0.0, 0.0, 3.0))(clip_2d(), Seeded(0))


def test_test_clips_are_seen_from_several_sides():
    steps = [
        {"name": "TurnedViews", "angles": [[0, 0, 0], [0, 0, np.pi / 2]]},
        "Stream",
        {"name": "UniformSample", "clip_len": 8},
        "Pack",
    ]
    clip = clip_3d()
    plain = build_pipeline(steps[1:], NTU, "jm", num_clips=3)(clip, None)
    views = build_pipeline(steps, NTU, "jm", num_clips=3)(clip, None)
    assert views.shape == (6, *plain.shape[1:])
    np.testing.assert_array_equal(views[:3], plain)
    np.testing.assert_allclose(views[3:], plain @ rotation_xyz([0, 0, np.pi / 2]).T, atol=1e-5)
    assert build_pipeline(steps, NTU, "jm", training=True)(clip, Seeded(0)).shape[0] == 1
    with pytest.raises(UserError, match="do not turn 2D points"):
        TurnedViews([[0, 0, 0]]).views(clip_2d())
    flat = TurnedViews([[np.pi]]).views(clip_2d())[0]
    np.testing.assert_allclose(flat.keypoint, -clip_2d().keypoint, rtol=1e-4)


def test_flips_need_pairs():
    bare = load_layout({"joints": {"a": "a", "b": "a"}})
    for transform in (Flip, SwapSides):
        with pytest.raises(UserError, match="names no pairs"):
            transform(bare)


@pytest.mark.parametrize("axes", [2, 3])
def test_shear(axes):
    clip = Clip(Seeded(0).randn(1, 5, 7, axes))
    shares = Seeded(4).uniform(-0.5, 0.5, axes * (axes - 1))
    matrix = np.array([[1, *shares[:2]], [shares[2], 1, shares[3]], [*shares[4:], 1]]) if axes == 3 else np.array(
        [[1, shares[0]], [shares[1], 1]]
    )  # fmt: skip
    expected = np.einsum("ij,mtvj->mtvi", matrix, clip.keypoint)
    np.testing.assert_allclose(Shear(0.5)(clip, Seeded(4)).keypoint, expected, rtol=1e-5, atol=1e-6)


def test_masks():
    clip = clip_3d()
    zero = (MaskAxis(1.0)(clip, Seeded(2)).keypoint == 0).all(axis=(0, 1, 2))
    assert zero.sum() == 1
    masked = MaskJoints(0.2, 1.0)(clip, Seeded(2)).keypoint
    assert (masked == 0).all(axis=(0, 1, 3)).sum() == 5
    flat = MaskJoints(0.2, 1.0)(clip_2d(), Seeded(2))
    gone = (flat.keypoint == 0).all(axis=(0, 1, 3))
    np.testing.assert_array_equal((flat.score == 0).all(axis=(0, 1)), gone)
    seen = set()
    for seed in range(9):
        hidden = (MaskParts(NTU, 1.0)(clip, Seeded(seed)).keypoint == 0).all(axis=(0, 1, 3))
        seen.add(tuple(np.flatnonzero(hidden)))
    assert seen == {tuple(sorted(BRL_LEFT)), tuple(sorted(BRL_RIGHT))}
    assert clip.keypoint.all()  # the clip itself is as it was
    with pytest.raises(UserError, match="did you mean 'left_arm'"):
        MaskParts(NTU, 1.0, [["left_arms"]])


def test_temporal_crop():
    clip = clip_3d(18)
    order = np.concatenate([[2, 1, 0], np.arange(18), [17, 16, 15]])
    for seed in range(6):
        start = Seeded(seed).randint(7)
        cropped = TemporalCrop(6)(clip, Seeded(seed)).keypoint
        np.testing.assert_array_equal(cropped, clip.keypoint[:, order[start : start + 18]])
    assert TemporalCrop(6)(clip_3d(3), Seeded(0)).num_frames == 3


def test_temporal_shift_and_reverse():
    clip = clip_3d()
    rng = Seeded(5)
    rng.random_sample()
    by = rng.randint(20)
    shifted = TemporalShift(1.0)(clip, Seeded(5)).keypoint
    np.testing.assert_array_equal(shifted, np.roll(clip.keypoint, -by, axis=1))
    np.testing.assert_array_equal(TemporalReverse(1.0)(clip, Seeded(0)).keypoint, clip.keypoint[:, ::-1])


def test_dropped_frames_leave_the_others_in_order():
    clip = clip_3d()
    frames = np.arange(20)
    clip.keypoint[:, :, 0, 0] = frames
    shares, kept = [], np.zeros(20)
    for seed in range(300):
        dropped = DropFrames((0.25, 0.75))(clip, Seeded(seed)).keypoint
        left = dropped[0, :, 0, 0].astype(int)
        assert (np.diff(left) > 0).all()
        np.testing.assert_array_equal(dropped, clip.keypoint[:, left])
        shares.append(len(left) / 20)
        kept[left] += 1
    assert (min(shares), max(shares)) == (0.25, 0.75)
    np.testing.assert_allclose(np.mean(shares), 0.5, atol=0.03)
    np.testing.assert_allclose(kept / 300, 0.5, atol=0.12)  # no frame is favoured: 4 standard deviations
    assert DropFrames((1.0, 1.0))(clip, Seeded(0)).num_frames == 20
    assert DropFrames((0.1, 0.1))(clip_3d(2), Seeded(0)).num_frames == 1


def test_temporal_blur():
    clip = clip_3d()
    rng = Seeded(3)
    rng.random_sample()
    kernel = np.exp(-np.square(np.arange(-7, 8)) / (2 * rng.uniform(0.1, 2.0) ** 2))
    kernel /= kernel.sum()
    padded = np.pad(clip.keypoint, ((0, 0), (7, 7), (0, 0), (0, 0)), mode="reflect")
    expected = sum(share * padded[:, tap : tap + 20] for tap, share in enumerate(kernel))
    np.testing.assert_allclose(TemporalBlur(p=1.0)(clip, Seeded(3)).keypoint, expected, atol=1e-5)
    still = Clip(np.ones((1, 6, 4, 3), np.float32))
    still.keypoint[0, 2, 1] = 0
    np.testing.assert_allclose(TemporalBlur(p=1.0)(still, Seeded(1)).keypoint, still.keypoint, atol=1e-6)
    assert TemporalBlur(p=1.0)(clip_3d(1), Seeded(1)).num_frames == 1


AUGMENTATIONS = [name for name in TRANSFORMS.names() if getattr(TRANSFORMS.get(name), "training_only", False)]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_follow_their_generator_and_leave_the_clip_alone(name):
    for clip, layout in ((clip_3d(), NTU), (clip_2d(), COCO)):
        before = clip.keypoint.copy()
        transform = TRANSFORMS.build(name, layout=layout, stream="j", num_clips=1, training=True)
        changed = [transform(clip, Seeded(seed)) for seed in (1, 1, *range(2, 12))]
        np.testing.assert_array_equal(changed[0].keypoint, changed[1].keypoint)
        assert any((c.keypoint.shape != before.shape) or (c.keypoint != changed[0].keypoint).any() for c in changed)
        np.testing.assert_array_equal(clip.keypoint, before)
        assert all(np.isfinite(c.keypoint).all() for c in changed)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_are_left_out_of_evaluation(name):
    steps = [name, "Stream", {"name": "UniformSample", "clip_len": 8}, "Pack"]
    assert len(build_pipeline(steps, NTU, "j", training=True).transforms) == 4
    assert len(build_pipeline(steps, NTU, "j").transforms) == 3


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("Flip", {"p": 1.5}), ("MaskJoints", {"fraction": 0.0}), ("TemporalCrop", {"ratio": 0}),
     ("TemporalBlur", {"taps": 4}), ("TemporalBlur", {"sigma": [2.0, 1.0]}),
     ("DropFrames", {"keep": [0.0, 1.0]}), ("DropFrames", {"keep": [0.5, 1.2]})],
)  # fmt: skip
def test_impossible_settings_are_refused(name, arguments):
    with pytest.raises(UserError, match="must"):
        TRANSFORMS.build({"name": name, **arguments}, "PIPELINE.0", layout=NTU)
