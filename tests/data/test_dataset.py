"""Datasets, samplers, and the toy set."""

import itertools
import pickle

import numpy as np
import pytest

from paddleskel.data.dataset import SkeletonDataset, collate, load_clips
from paddleskel.data.sampler import BatchSampler, RepeatedBatch
from paddleskel.data.sources.toy import CLASS_NAMES, make_toy
from paddleskel.data.transforms import build_pipeline
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import load_layout

COCO = load_layout("coco")
STEPS = [{"name": "PreNormalize2D"}, "Stream", {"name": "UniformSample", "clip_len": 16}, "Pack"]


@pytest.fixture(scope="module")
def dataset(toy_file):
    clips = load_clips(str(toy_file), "train", COCO, 12)
    return SkeletonDataset(clips, build_pipeline(STEPS, COCO, "j", training=True), seed=7, repeat=2)


def test_randomness_depends_on_seed_epoch_and_position_alone(dataset):
    first = dataset[3, 0][0]
    dataset[5, 0]
    np.testing.assert_array_equal(dataset[3, 0][0], first)
    assert (dataset[3, 1][0] != first).any()
    twin = dataset[3 + len(dataset.clips), 0]  # the second repetition of the same clip
    assert (twin[0] != first).any()
    assert twin[1] == dataset[3, 0][1]


def test_batches_are_stacked(dataset):
    inputs, labels, positions = collate([dataset[0, 0], dataset[1, 0]])
    assert (inputs.shape, inputs.dtype) == ((2, 1, 2, 16, 17, 3), np.float32)
    assert (labels.dtype, positions.tolist()) == (np.int64, [0, 1])


def test_repeat_must_be_positive(dataset):
    with pytest.raises(UserError, match="repeat"):
        SkeletonDataset(dataset.clips, dataset.pipeline, repeat=0)


def drawn(sampler):
    return [position for batch in sampler for position, _ in batch]


def test_training_epochs_are_permutations_that_differ():
    sampler = BatchSampler(10, 4, shuffle=True, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(drawn(sampler))
    assert epochs[0] == epochs[2] != epochs[1]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(sampler) == 3
    assert [len(batch) for batch in sampler] == [4, 4, 2]
    assert len(BatchSampler(10, 4, shuffle=True, drop_last=True)) == 2


def test_an_epoch_can_start_in_the_middle():
    sampler = BatchSampler(10, 4, shuffle=True)
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.set_epoch(3, first_batch=1)
    assert list(sampler) == whole[1:]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_processes_share_the_samples(world):
    shares = [drawn(BatchSampler(10, 2, rank=rank, world_size=world)) for rank in range(world)]
    assert sorted(itertools.chain(*shares)) == list(range(10))  # evaluation: each sample once
    samplers = [BatchSampler(10, 2, True, rank=rank, world_size=world) for rank in range(world)]
    assert len({len(list(sampler)) for sampler in samplers}) == 1  # training: equally many steps
    counted = [
        position
        for sampler in samplers
        for number, batch in enumerate(sampler)
        for position, _ in batch
        if sampler.weight(number)
    ]
    assert sorted(counted) == list(range(10))


@pytest.mark.parametrize(("length", "world"), [(10, 2), (9, 2), (13, 4), (12, 4)])
def test_the_number_of_processes_does_not_change_the_steps(length, world):
    """1 process with batches of 4 or 8 against `world` processes with batches of 2."""
    alone = list(BatchSampler(length, 2 * world, True, seed=5))
    samplers = [BatchSampler(length, 2, True, seed=5, rank=rank, world_size=world) for rank in range(world)]
    parts = [list(sampler) for sampler in samplers]
    for step, whole in enumerate(alone):
        means = [sampler.weight(step) for sampler in samplers]
        assert np.mean(means) == pytest.approx(1)
        union = [item for sampler, part in zip(samplers, parts) if sampler.weight(step) for item in part[step]]
        assert sorted(union) == sorted(whole)
        # the mean over processes of weighted means over parts is the mean over the whole
        value = lambda items: np.mean([position**2 for position, _ in items])
        weighted = [sampler.weight(step) * value(part[step]) for sampler, part in zip(samplers, parts)]
        assert np.mean(weighted) == pytest.approx(value(whole))


def test_one_batch_is_repeated():
    sampler = RepeatedBatch(10, 4, steps=3, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 3
    assert batches[0] == batches[1] == batches[2] == next(iter(BatchSampler(10, 4, True, seed=1)))
    sampler.set_epoch(2, first_batch=2)
    assert list(sampler) == batches[:1]


# ---- the toy set ----


def test_the_toy_set_is_deterministic_and_varied():
    a, b = (make_toy("2d", subjects=3, repeats=1) for _ in range(2))
    assert pickle.dumps(a) == pickle.dumps(b)
    assert pickle.dumps(make_toy("2d", subjects=3, repeats=1, seed=1)) != pickle.dumps(a)
    lengths = [item["total_frames"] for item in a["annotations"]]
    assert 30 <= min(lengths) < 80 < 150 < max(lengths) <= 300
    persons = {item["keypoint"].shape[0] for item in a["annotations"]}
    assert persons == {1, 2}
    assert len(CLASS_NAMES) >= 10
    subjects = {name: {i[:4] for i in ids} for name, ids in a["split"].items()}
    assert not subjects["train"] & subjects["val"]


@pytest.mark.parametrize(("dimensions", "shape"), [("2d", (17, 2)), ("3d", (25, 3))])
def test_toy_annotations_are_valid(tmp_path, dimensions, shape):
    path = tmp_path / "toy.pkl"
    path.write_bytes(pickle.dumps(make_toy(dimensions, subjects=2, repeats=2)))
    layout = COCO if dimensions == "2d" else load_layout("nturgb+d")
    clips = load_clips(str(path), None, layout, len(CLASS_NAMES))
    assert all(clip.keypoint.shape[2:] == shape for clip in clips)
    absent = [(clip.keypoint == 0).all(axis=(2, 3)).any() for clip in clips]
    assert any(absent)  # persons leave
    if dimensions == "2d":
        assert any((clip.score == 0).any() for clip in clips)  # joints drop out


def test_toy_bodies_keep_their_proportions():
    clip = make_toy("3d", subjects=2, repeats=1)["annotations"][0]["keypoint"][0].astype(np.float64)
    seen = clip[np.abs(clip).sum((1, 2)) > 0]
    forearm = np.linalg.norm(seen[:, 6] - seen[:, 5], axis=1)
    assert forearm.std() < 0.02  # sensor noise only
    assert 0.15 < forearm.mean() < 0.35


def mean_pose(annotation, root):
    """Each person's mean over the frames they are seen in, around the first person's root; (2, V, C)."""
    points = annotation["keypoint"].astype(np.float64)
    points = np.concatenate([points, np.zeros_like(points)])[:2]
    seen = np.abs(points).sum(-1, keepdims=True) > 0
    mean = (points * seen).sum(1) / np.maximum(seen.sum(1), 1)
    return (mean - mean[:1, root : root + 1]).ravel()


@pytest.mark.parametrize(("dimensions", "root"), [("2d", 11), ("3d", 0)])
def test_the_mean_pose_does_not_tell_the_actions_apart(dimensions, root):
    """A linear classifier on the mean pose (ridge regression to one-hot labels, over a range of penalties)."""
    content = make_toy(dimensions)
    train = set(content["split"]["train"])
    features = np.array([mean_pose(item, root) for item in content["annotations"]])
    labels = np.array([item["label"] for item in content["annotations"]])
    training = np.array([item["frame_dir"] in train for item in content["annotations"]])
    features = (features - features[training].mean(0)) / (features[training].std(0) + 1e-9)
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    a, b = features[training], np.eye(12)[labels[training]]
    for penalty in (0.1, 1, 10, 100, 1000):
        weights = np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ b)
        accuracy = ((features[~training] @ weights).argmax(1) == labels[~training]).mean()
        assert accuracy < 0.6, penalty
