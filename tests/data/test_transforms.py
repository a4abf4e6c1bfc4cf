"""Transforms against numbers computed with the published pipelines on arrays made by formula, and on odd clips."""

import numpy as np
import pytest

from paddleskel.data.clip import Clip
from paddleskel.data.transforms import build_pipeline
from paddleskel.data.transforms.augment import RandomGaussianNoise, RandomRot, RandomScale, rotation_xyz
from paddleskel.data.transforms.normalize import FitBox, PreNormalize2D, PreNormalize3D
from paddleskel.data.transforms.pack import Pack
from paddleskel.data.transforms.stream import Stream
from paddleskel.data.transforms.temporal import UniformSample
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import load_layout

NTU, COCO = load_layout("nturgb+d"), load_layout("coco")
NO_RNG = None  # for transforms that draw nothing


def waves(persons, frames, joints, channels):
    """X[m,t,v,c] = sin(1 + 0.1m + 0.05t + 0.7v + 1.3c) + 0.2c"""
    m, t, v, c = np.indices((persons, frames, joints, channels))
    return np.sin(1 + 0.1 * m + 0.05 * t + 0.7 * v + 1.3 * c) + 0.2 * c


def clip_3d(dtype=np.float64):
    points = waves(2, 12, 25, 3)
    points[1, 0:4] = 0
    points[:, 5] = 0
    return Clip(points.astype(dtype), id="waves")


def clip_2d():
    points = (300 * waves(2, 7, 17, 2) + 500).astype(np.float16)
    score = (0.5 + 0.25 * np.abs(waves(2, 7, 17, 2)[..., 0])).astype(np.float16)
    points[1, 3] = 0
    score[1, 3] = 0
    return Clip(points, score, image_size=(1080, 1920))


def checksums(array):
    """Sum, sum of magnitudes, and sum weighted by 1 to 101 in turn."""
    flat = np.asarray(array, np.float64).ravel()
    return flat.sum(), np.abs(flat).sum(), (flat * (np.arange(flat.size) % 101 + 1)).sum()


def with_score(clip):
    return np.concatenate([clip.keypoint, clip.score[..., None]], axis=-1)


# ---- normalisation ----


def test_prenormalize3d():
    points = PreNormalize3D(NTU)(clip_3d(), NO_RNG).keypoint
    assert points.shape == (2, 11, 25, 3)
    np.testing.assert_allclose(checksums(points), (-747.34923, 992.18652, -37176.9565), rtol=2e-6)
    np.testing.assert_allclose(points[0, 0, 0], (0.5031, 0.07612, -0.59457), atol=1e-5)
    np.testing.assert_allclose(points[0, 0, 1], 0, atol=1e-7)
    np.testing.assert_allclose(
        points[0, 0, [4, 8]], [(-1.60213, 0.18875, -1.47434), (0.53531, 0.18875, -1.47434)], atol=1e-5
    )


def test_prenormalize3d_without_alignment():
    transform = PreNormalize3D(NTU, align_spine=False, align_shoulder=False)
    points = transform(clip_3d(), NO_RNG).keypoint
    np.testing.assert_allclose(checksums(points), (-146.8164, 1154.89855, -6755.9972), rtol=2e-6)


def test_prenormalize3d_puts_the_longer_seen_person_first():
    clip = clip_3d()
    swapped = clip.with_(keypoint=clip.keypoint[::-1])
    transform = PreNormalize3D(NTU)
    np.testing.assert_array_equal(transform(swapped, NO_RNG).keypoint, transform(clip, NO_RNG).keypoint)


def test_prenormalize3d_keeps_half_precision_until_the_rotation():
    points = PreNormalize3D(NTU)(clip_3d(np.float16), NO_RNG).keypoint
    assert checksums(points)[0] == pytest.approx(-747.52445, rel=2e-6)


def test_prenormalize3d_takes_any_number_of_persons():
    points = waves(4, 9, 25, 3)
    points[[0, 1, 3], :5] = 0
    normal = PreNormalize3D(NTU)(Clip(points), NO_RNG).keypoint
    assert normal.shape == (4, 9, 25, 3)
    np.testing.assert_allclose(normal[0, 0, 1], 0, atol=1e-6)  # person 2, seen throughout, is centred


def test_prenormalize3d_passes_zeros_and_single_frames():
    zeros = Clip(np.zeros((2, 6, 25, 3), np.float32))
    assert PreNormalize3D(NTU)(zeros, NO_RNG).keypoint.shape == (2, 6, 25, 3)
    assert PreNormalize3D(NTU)(Clip(waves(1, 1, 25, 3)), NO_RNG).keypoint.shape == (1, 1, 25, 3)


def test_prenormalize3d_needs_to_know_the_body():
    with pytest.raises(UserError, match="names no body center"):
        PreNormalize3D(COCO)
    custom = PreNormalize3D(COCO, center="nose", align_spine=False, shoulders=("left_shoulder", "right_shoulder"))
    across = custom(Clip(waves(1, 3, 17, 3)), NO_RNG).keypoint[0, 0]
    np.testing.assert_allclose((across[6] - across[5])[1:], 0, atol=1e-6)
    with pytest.raises(UserError, match="2 coordinates"):
        custom(clip_2d(), NO_RNG)


def test_prenormalize2d_with_threshold():
    array = with_score(PreNormalize2D(threshold=0.01)(clip_2d(), NO_RNG))
    assert array.dtype == np.float32
    np.testing.assert_allclose(checksums(array), (39.85421, 329.12649, 1560.5765), rtol=2e-6)


def test_prenormalize2d_in_half_precision():
    clip = PreNormalize2D(half=True)(clip_2d(), NO_RNG)
    assert clip.keypoint.dtype == np.float16
    assert checksums(clip.keypoint)[0] == pytest.approx(-140.24808, rel=1e-6)
    assert clip.keypoint[1, 3, 0].tolist() == [-1, -1]


def test_prenormalize2d_by_the_box_of_the_joints():
    clip = PreNormalize2D(mode="auto", threshold=0.01)(clip_2d(), NO_RNG)
    seen = clip.keypoint[clip.score > 0.01]
    np.testing.assert_allclose([seen.min(0), seen.max(0)], [[-1, -1], [1, 1]], atol=1e-6)
    small = Clip(waves(1, 5, 17, 2).astype(np.float32))  # extent below 10: normalised already
    np.testing.assert_array_equal(PreNormalize2D(mode="auto")(small, NO_RNG).keypoint, small.keypoint)
    unseen = clip_2d().with_(score=np.zeros((2, 7, 17)))
    assert not PreNormalize2D(mode="auto", threshold=0.01)(unseen, NO_RNG).keypoint.any()


def test_prenormalize2d_needs_an_image_size():
    clip = clip_2d().with_(image_size=None, id="c1")
    with pytest.raises(UserError, match=r"'c1' has no img_shape.*image_size"):
        PreNormalize2D()(clip, NO_RNG)
    given = PreNormalize2D(image_size=(1080, 1920))(clip, NO_RNG)
    np.testing.assert_array_equal(given.keypoint, PreNormalize2D()(clip_2d(), NO_RNG).keypoint)


def test_a_box_is_filled():
    points = np.random.RandomState(0).randn(2, 6, 17, 3).astype(np.float32) * np.float32([1, 2, 3]) + 5
    points[1, 2:] = 0
    fitted = FitBox()(Clip(points), NO_RNG).keypoint
    assert not fitted[1, 2:].any()
    seen = np.concatenate([fitted[0].reshape(-1, 3), fitted[1, :2].reshape(-1, 3)])
    np.testing.assert_allclose((seen.min(axis=0), seen.max(axis=0)), ([-1] * 3, [1] * 3), atol=1e-6)
    flat = points * np.float32([1, 1, 0]) + np.float32([0, 0, 2])
    assert not FitBox()(Clip(flat[:1]), NO_RNG).keypoint[..., 2].any()
    empty = Clip(np.zeros((1, 4, 17, 3), np.float32))
    assert FitBox()(empty, NO_RNG) is empty


# ---- streams ----

STREAMS_3D = {
    "j": (220.6621, None, None),
    "b": (27.86832, 712.65944, 1467.8628),
    "jm": (12.34597, 277.18291, 1089.7566),
    "bm": (6.89436, 225.64053, 672.9255),
    "k": (39.90015, 938.57773, 2099.8451),
    "km": (11.73924, 299.274, 968.2369),
}
STREAMS_2D = {"b": (100.8894, 305.16787), "jm": (123.55624, 156.51723), "bm": (127.35016, 155.59742)}
STREAMS_2D_HALF = {
    "j": (5.85153, 363.12311),
    "b": (100.89185, 305.16528),
    "jm": (123.55319, 180.04474),
    "bm": (127.34766, 155.59302),
}


@pytest.mark.parametrize("stream", STREAMS_3D)
def test_streams_3d(stream):
    feature = Stream(NTU, stream)(clip_3d(np.float32), NO_RNG).keypoint
    for value, expected in zip(checksums(feature), STREAMS_3D[stream]):
        assert expected is None or value == pytest.approx(expected, rel=3e-6, abs=1e-4)


@pytest.mark.parametrize("stream", STREAMS_2D)
def test_streams_2d_average_confidences(stream):
    clip = PreNormalize2D(threshold=0.01)(clip_2d(), NO_RNG)
    feature = Stream(COCO, stream)(clip, NO_RNG).keypoint
    np.testing.assert_allclose(checksums(feature)[:2], STREAMS_2D[stream], rtol=2e-6)


@pytest.mark.parametrize("stream", STREAMS_2D_HALF)
def test_streams_2d_in_half_precision(stream):
    feature = Stream(COCO, stream)(PreNormalize2D(half=True)(clip_2d(), NO_RNG), NO_RNG).keypoint
    np.testing.assert_allclose(checksums(feature)[:2], STREAMS_2D_HALF[stream], rtol=2e-5)


def test_several_streams_are_concatenated_in_order():
    feature = Stream(NTU, "j+b+jm+bm")(clip_3d(np.float32), NO_RNG).keypoint
    assert feature.shape[-1] == 12
    assert checksums(feature)[0] == pytest.approx(267.77075, rel=3e-6)
    assert checksums(feature)[2] == pytest.approx(16251.3831, rel=3e-6)


def test_bones_of_the_hand_form_a_chain():
    feature = Stream(NTU, "b")(clip_3d(np.float32), NO_RNG).keypoint
    np.testing.assert_allclose(feature[0, 0, 21], (0.64607, -0.04882, -0.67219), atol=1e-5)
    assert not feature[:, :, 20].any()  # the root


def test_motion_of_one_frame_is_zero():
    assert not Stream(NTU, "jm")(Clip(waves(1, 1, 25, 3)), NO_RNG).keypoint.any()


@pytest.mark.parametrize("stream", ["jm", "b+bm"])
def test_motions_after_sampling_stay_within_a_clip(stream):
    """Every clip as if it were the only one; between clips there is no motion."""
    resize = {"name": "CropResize", "clip_len": 6}
    clips = build_pipeline([resize, "Stream", "Pack"], COCO, stream, num_clips=3)(clip_2d(), NO_RNG)
    frames = build_pipeline([resize, "Joints", "Pack"], COCO, stream, num_clips=3)(clip_2d(), NO_RNG)
    for clip, joints in zip(clips, frames):
        alone = Stream(COCO, stream)(Clip(joints[..., :2], joints[..., 2]), NO_RNG).keypoint
        np.testing.assert_allclose(clip, alone, atol=1e-5)


def test_confidences_can_be_left_out():
    assert Stream(COCO, "b", use_score=False)(clip_2d(), NO_RNG).keypoint.shape[-1] == 2


# ---- packing and the pipeline ----


def test_packing_adds_and_cuts_persons():
    three = Clip(waves(3, 5, 17, 3))
    assert Pack(2)(three, NO_RNG).keypoint.shape == (2, 5, 17, 3)
    one = Clip(waves(1, 5, 17, 3))
    assert not Pack(3)(one, NO_RNG).keypoint[1:].any()
    looped = Pack(2, fill="loop")(one, NO_RNG).keypoint
    np.testing.assert_array_equal(looped[0], looped[1])


PIPELINE = ["PreNormalize2D", "Stream", {"name": "UniformSample", "clip_len": 16}, "Pack"]


def test_the_pipeline_makes_the_networks_input():
    build = lambda **keys: build_pipeline(PIPELINE, COCO, "j", **keys)(clip_2d(), np.random.RandomState(0))
    assert build(training=True).shape == (1, 2, 16, 17, 3)
    test = build(num_clips=4)
    assert test.shape == (4, 2, 16, 17, 3)
    assert test.dtype == np.float32


def test_clips_are_the_consecutive_runs_of_the_sampled_frames():
    frames = UniformSample(16, 4).frames(7, np.random.RandomState(255)).reshape(4, 16)
    steps = ["Stream", {"name": "UniformSample", "clip_len": 16}, "Pack"]
    packed = build_pipeline(steps, COCO, "j", num_clips=4)(clip_2d(), NO_RNG)
    for clip in range(4):
        np.testing.assert_array_equal(packed[clip, :, :, :, :2], clip_2d().keypoint[:, frames[clip]])


def test_augmentations_act_in_training_only():
    specs = [
        "PreNormalize3D",
        {"name": "RandomRot", "theta": 0.3},
        "Stream",
        {"name": "UniformSample", "clip_len": 8},
        "Pack",
    ]
    names = lambda training: [type(t).__name__ for t in build_pipeline(specs, NTU, "j", training).transforms]
    assert "RandomRot" in names(True)
    assert "RandomRot" not in names(False)


def test_the_pipeline_must_end_in_pack():
    with pytest.raises(UserError, match="the last transform must be Pack"):
        build_pipeline(["Stream"], COCO, "j")


# ---- augmentations ----


def test_rotation_matrix():
    expected = [[0.936293, 0.275096, 0.218351], [-0.289629, 0.956425, 0.036957], [-0.198669, -0.097843, 0.97517]]
    np.testing.assert_allclose(rotation_xyz(np.array([0.1, -0.2, 0.3])), expected, atol=1e-6)


def test_random_rotation_and_scale():
    rotated = RandomRot(0.3)(clip_3d(np.float32), np.random.RandomState(7)).keypoint
    np.testing.assert_allclose(checksums(rotated)[:2], (147.51492, 878.88331), rtol=3e-6)
    scaled = RandomScale(0.1)(clip_3d(np.float32), np.random.RandomState(7)).keypoint
    np.testing.assert_allclose(checksums(scaled)[:2], (222.6667, 871.55928), rtol=3e-6)


def test_rotation_in_the_plane_keeps_lengths():
    points = waves(1, 4, 17, 2)
    turned = RandomRot(0.5)(Clip(points), np.random.RandomState(1)).keypoint
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(points, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("base", ["frame", "video"])
@pytest.mark.parametrize("shared", [False, True])
def test_noise_is_small_and_skips_the_absent(base, shared):
    clip = clip_3d(np.float32)
    noisy = RandomGaussianNoise(0.01, base, shared)(clip, np.random.RandomState(1)).keypoint
    change = noisy - clip.keypoint
    assert not change[clip.keypoint.any(axis=(2, 3)) == 0].any()
    assert 0 < np.abs(change).max() < 0.3


def test_noise_is_measured_by_the_box():
    """Two frames of a box of sides 3 and 4, far from the origin, the second 12 to the side."""
    frame = np.array([[100.0, 50.0], [103.0, 54.0]] * 200, np.float32)
    clip = Clip(np.stack([frame, frame + [12, 0]])[None].astype(np.float32))
    for base, diagonal in (("frame", 5.0), ("video", np.hypot(15, 4))):
        shift = RandomGaussianNoise(0.01, base)(clip, np.random.RandomState(1)).keypoint - clip.keypoint
        rms = np.sqrt(np.square(np.linalg.norm(shift, axis=-1)).mean())
        assert rms == pytest.approx(0.01 * diagonal, rel=0.1)
