"""Which frames become a clip: against numbers computed with the published pipelines, and on odd sequences."""

import numpy as np
import pytest

from paddleskel.data.clip import Clip
from paddleskel.data.transforms.temporal import CropResize, PadTo, UniformSample
from paddleskel.errors import UserError

NO_RNG = None  # for transforms that draw nothing

# (frames, clip_len, clips): sum and weighted sum of the indices, pyskl's and mmaction's
SAMPLES = {
    (50, 100, 10): ((24500, 1246505), (24500, 1246505)),
    (99, 100, 10): ((48951, 2343183), (48951, 2343183)),
    (100, 100, 10): ((49500, 2576805), (49500, 2576805)),
    (103, 100, 1): ((5170, 316052), (5172, 316205)),
    (103, 100, 10): ((51087, 2658927), (51139, 2661855)),
    (150, 100, 10): ((74456, 3875873), (74613, 3883920)),
    (199, 100, 10): ((99127, 5158785), (98766, 5135824)),
    (200, 100, 10): ((99506, 5177531), (99501, 5177869)),
    (250, 100, 1): ((12422, 764275), (12424, 764228)),
    (250, 100, 10): ((124266, 6465883), (124259, 6466334)),
    (300, 100, 10): ((149545, 7781196), (149542, 7781707)),
    (103, 64, 10): ((32775, 1608339), (32801, 1604948)),
    (200, 64, 10): ((63419, 3110770), (63403, 3109931)),
    (8, 100, 10): ((3488, 167909), (3488, 167909)),
}


@pytest.mark.parametrize("case", SAMPLES)
@pytest.mark.parametrize("variant", ["pyskl", "mmaction"])
def test_test_clips_equal_the_published_ones(case, variant):
    total, clip_len, clips = case
    frames = UniformSample(clip_len, clips, variant=variant).frames(total, np.random.RandomState(255))
    weighted = (frames * (np.arange(len(frames)) % 97 + 1)).sum()
    assert (frames.sum(), weighted) == SAMPLES[case][variant == "mmaction"]


def test_random_start_draws_for_short_sequences_too():
    frames = UniformSample(100, random_start=True).frames(12, np.random.RandomState(255))
    assert (frames[:5].tolist(), frames.sum()) == ([9, 10, 11, 0, 1], 558)


def test_sampling_leaves_the_global_generator_alone():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    UniformSample(100, 10)(Clip(np.ones((2, 7, 17, 2))), NO_RNG)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("total", [1, 2, 31, 32, 33, 63, 64, 65, 500])
def test_training_samples_stay_in_range_and_in_order(total):
    sample = UniformSample(32, training=True)
    for seed in range(20):
        frames = sample.frames(total, np.random.RandomState(seed))
        assert len(frames) == 32
        assert frames.min() >= 0
        assert frames.max() < total
        if total >= 32:
            assert (np.diff(frames) > 0).all()


@pytest.mark.parametrize("variant", ["pyskl", "mmaction"])
def test_training_samples_lie_in_a_stretch_of_the_sequence(variant):
    sample = UniformSample(32, training=True, p_interval=(0.4, 0.6), variant=variant)
    drawn = np.stack([sample.frames(100, np.random.RandomState(seed)) for seed in range(200)])
    assert (np.diff(drawn) > 0).all()  # none goes round from the end to the beginning
    spans = np.ptp(drawn, axis=1) + 1
    assert spans.max() <= 60
    assert spans.min() < 45
    assert drawn.min() <= 1
    assert drawn.max() >= 98
    assert 20 < np.median(drawn[:, 0]) < 30  # half of 100 less a stretch of 50


@pytest.mark.parametrize(
    "arguments", [{"clip_len": 0}, {"clip_len": 4, "p_interval": (0.9, 0.5)}, {"clip_len": 4, "p_interval": 0.0}]
)
def test_impossible_sampling_is_refused(arguments):
    with pytest.raises(ValueError, match="must"):
        UniformSample(**arguments)


def ramp(total: int) -> Clip:
    """A clip whose joints count the frames from 1; joint 3 is absent throughout, joint 4 in frame 2."""
    points = np.repeat(np.arange(1, total + 1, dtype=np.float32), 17 * 3).reshape(1, total, 17, 3)
    points[:, :, 3] = 0
    points[:, 2:3, 4] = 0
    return Clip(points, id="ramp")


def test_a_short_clip_is_stretched_and_a_long_one_thinned():
    stretched = CropResize(9)(ramp(5), NO_RNG).keypoint
    np.testing.assert_allclose(stretched[0, :, 0, 0], np.arange(1, 5.5, 0.5))
    assert not stretched[:, :, 3].any()
    np.testing.assert_allclose(stretched[0, :, 4, 0], [1, 1.5, 2, 0, 0, 4, 4, 4.5, 5])  # the nearer frame's
    np.testing.assert_allclose(CropResize(3)(ramp(5), NO_RNG).keypoint[0, :, 0, 0], [1, 3, 5])
    np.testing.assert_allclose(CropResize(3, p_interval=0.5)(ramp(5), NO_RNG).keypoint[0, :, 0, 0], [2, 3, 4])
    assert (CropResize(4)(ramp(1), NO_RNG).keypoint[0, :, 0] == 1).all()


def test_stretches_are_drawn_in_training_and_seeded_in_test():
    train = CropResize(8, training=True)
    starts = {float(train(ramp(50), np.random.RandomState(seed)).keypoint[0, 0, 0, 0]) for seed in range(20)}
    assert len(starts) == 20
    clips = CropResize(8, num_clips=3)
    one, two = clips(ramp(50), NO_RNG), clips(ramp(50), NO_RNG)
    np.testing.assert_array_equal(one.keypoint, two.keypoint)
    assert one.num_clips == 3
    lengths = [part[-1] - part[0] for part in one.keypoint[0, :, 0, 0].reshape(3, 8)]
    assert len(set(lengths)) == 3
    assert all(0.5 * 49 <= length <= 49 for length in lengths)


def test_sequences_are_lengthened():
    rng = np.random.RandomState(0)
    clip = Clip(rng.rand(2, 3, 5, 2), rng.rand(2, 3, 5))
    looped = PadTo(7)(clip, NO_RNG)
    np.testing.assert_array_equal(looped.keypoint, clip.keypoint[:, [0, 1, 2, 0, 1, 2, 0]])
    np.testing.assert_array_equal(looped.score, clip.score[:, [0, 1, 2, 0, 1, 2, 0]])
    padded = PadTo(7, mode="zero")(clip, NO_RNG)
    for after, before in ((padded.keypoint, clip.keypoint), (padded.score, clip.score)):
        np.testing.assert_array_equal(after[:, :3], before)
        assert after.shape[1] == 7
        assert not after[:, 3:].any()
    assert PadTo(3)(clip, NO_RNG).num_frames == 3
    with pytest.raises(UserError, match="has 3 frames, more than PadTo's length of 2"):
        PadTo(2)(clip, NO_RNG)
    with pytest.raises(ValueError, match="num_clips is 2"):
        PadTo(7, num_clips=2)
