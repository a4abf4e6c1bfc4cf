"""Long-tailed training sets and samplers, by the published counts."""

import hashlib

import numpy as np
import pytest

from paddleskel.data.clip import Clip
from paddleskel.data.long_tail import LongTail, class_counts, class_sizes, draw, thin
from paddleskel.data.rebalance import SAMPLERS, RebalancedOrder
from paddleskel.data.sampler import BatchSampler
from paddleskel.data.sources.ntu import TRAIN_SUBJECTS, sample_ids
from paddleskel.errors import UserError

NTU60_LT_100 = [
    600, 554, 513, 474, 439, 406, 375, 347, 321, 297, 274, 254, 235, 217, 201, 186, 172, 159, 147, 136, 125, 116, 107,
    99, 92, 85, 78, 72, 67, 62, 57, 53, 49, 45, 42, 39, 36, 33, 30, 28, 26, 24, 22, 20, 19, 17, 16, 15, 14, 13, 12, 11,
    10, 9, 8, 8, 7, 7, 6, 6,
]  # fmt: skip


def test_sizes_follow_the_rule():
    assert class_sizes(60, 100, 600) == NTU60_LT_100


@pytest.mark.parametrize(
    ("classes", "largest", "totals"),
    [(60, 600, (7892, 9150, 14142)), (120, 600, (15600, 18137, 28182)), (120, 400, (10378, 12069, 18771))],
)
def test_totals_are_brls(classes, largest, totals):
    assert tuple(sum(class_sizes(classes, factor, largest)) for factor in (100, 50, 10)) == totals


def ntu_like_ids(classes, subjects, repeats):
    return [
        f"S{(p + r) % 17 + 1:03d}C{c:03d}P{p:03d}R{r:03d}A{a:03d}"
        for p in subjects for c in (1, 2, 3) for r in range(1, repeats + 1) for a in range(1, classes + 1)
    ]  # fmt: skip


@pytest.mark.parametrize("order", ["subject", "camera", "setup", "id"])
def test_a_smaller_list_begins_every_class_of_a_larger_one(order):
    ids = ntu_like_ids(60, range(1, 60), 4)
    labels = [int(name[-3:]) - 1 for name in ids]
    large, small = (draw(ids, labels, class_sizes(60, factor, 600), order) for factor in (10, 100))
    by_class = lambda names: [[name for name in names if name.endswith(f"A{a:03d}")] for a in range(1, 61)]
    for many, few in zip(by_class(large), by_class(small)):
        assert many[: len(few)] == few
    assert [len(names) for names in by_class(small)] == NTU60_LT_100
    shuffled = np.random.RandomState(1).permutation(len(ids))
    again = draw([ids[i] for i in shuffled], [labels[i] for i in shuffled], class_sizes(60, 100, 600), order)
    assert again == small  # the order of the file does not matter


@pytest.mark.parametrize(
    ("split", "factor", "listed", "ordered"),
    [
        ("xsub", 100, "7978b035e9a24c2b", "d199b2352a211fdf"),
        ("xsub", 50, "9eb339922064ab63", "9ec566ddacd4b5d9"),
        ("xsub", 10, "3d1058b7817640a5", "dd1220dfa86b51f0"),
        ("xset", 100, "cb849477aefd71aa", "f08bc3c28b2ef53d"),
        ("xset", 50, "06bc03b7b60cfff7", "0765ba01dc7025b0"),
        ("xset", 10, "4eac40d4b0403a8e", "f9a279ebe99dbdf3"),
    ],
)
def test_ntu120_lists_are_brls_id_by_id(split, factor, listed, ordered):
    """SHA-256 of the published lists."""
    ids = sample_ids("ntu120")
    if split == "xsub":
        ids, order, largest = [name for name in ids if int(name[9:12]) in TRAIN_SUBJECTS], "subject", 600
    else:
        ids, order, largest = [name for name in ids if int(name[1:4]) % 2 == 0], "setup", 400
    chosen = draw(ids, [int(name[-3:]) - 1 for name in ids], class_sizes(120, factor, largest), order)
    digest = lambda names: hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    assert (digest(chosen), digest(sorted(chosen))) == (listed, ordered)


def clips(labels):
    return [Clip(np.zeros((1, 2, 3, 2)), label=label, id=f"c{i}") for i, label in enumerate(labels)]


def test_a_list_keeps_what_it_names(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("c3\nc1\nc99\n")
    kept = thin(clips([0, 1, 0, 1]), LongTail(list=str(path)), 2, "train")
    assert [clip.id for clip in kept] == ["c1", "c3"]
    path.write_text("other")
    with pytest.raises(UserError, match="names no sample"):
        thin(clips([0, 1]), LongTail(list=str(path)), 2, None)
    with pytest.raises(UserError, match="cannot be read"):
        thin(clips([0, 1]), LongTail(list=str(tmp_path / "none")), 2, None)


def test_ids_of_other_data_are_ordered_by_id_unless_told_otherwise():
    few = thin(clips([0] * 20 + [1] * 20), LongTail(imbalance_factor=4, max_per_class=20), 2, "train")
    assert class_counts([clip.label for clip in few], 2) == [20, 5]
    with pytest.raises(UserError, match="order: id"):
        thin(clips([0, 1]), LongTail(order="subject"), 2, "train")


# ---- samplers ----


def brl_order(labels=None):
    counts = np.array(NTU60_LT_100)
    labels = np.repeat(np.arange(60), counts) if labels is None else labels
    multiples = SAMPLERS.build({"name": "ClassProb"})(counts)
    return multiples, RebalancedOrder(labels, 5 * multiples)


def test_brls_sampler_has_its_published_epoch():
    multiples, order = brl_order()
    expected = [
        23.0769, 25, 27.2727, 30, 31.5789, 35.2941, 37.5, 40, 42.8571, 46.1538, 50, 54.5455, 60, 66.6667, 75, 75,
        85.7143, 85.7143, 100, 100,
    ]  # fmt: skip
    np.testing.assert_allclose(multiples, [1] * 40 + expected, rtol=1e-5)
    assert len(order) == 98106
    drawn = order(np.random.RandomState(0))
    assert len(drawn) == len(set(drawn.tolist())) == 98106  # copies are positions of their own
    labels = np.repeat(np.arange(60), NTU60_LT_100)[drawn % 7892]
    counts = np.bincount(labels)
    assert (counts[:40] == 5 * np.array(NTU60_LT_100[:40])).all()
    assert (counts[40:] > 2980).all()


@pytest.mark.parametrize(
    ("spec", "shares"),
    [
        ({"name": "ClassBalanced"}, [1, 1, 1]),
        ({"name": "SquareRoot"}, [10, 5, 2]),
        ({"name": "EffectiveNumber", "beta": 0.0}, [100, 25, 4]),
        ({"name": "EffectiveNumber", "beta": 0.9}, [100 / 9.99973, 25 / 9.28210, 4 / 3.439]),
        ({"name": "ClassProb", "class_prob": [0.5, 1, 10]}, [50, 25, 40]),
    ],
)
def test_samplers_bring_classes_into_their_shares(spec, shares):
    counts = np.array([100, 25, 4])
    order = RebalancedOrder(np.repeat(np.arange(3), counts), 10 * SAMPLERS.build(spec)(counts))
    drawn = np.bincount(np.repeat(np.arange(3), counts)[order(np.random.RandomState(3)) % 129], minlength=3)
    np.testing.assert_allclose(drawn / drawn.sum(), np.array(shares) / np.sum(shares), atol=0.004)


def test_classes_without_samples_are_left_out():
    counts = np.array([5, 0, 5])
    for name in ("ClassBalanced", "SquareRoot", "EffectiveNumber", "ClassProb"):
        order = RebalancedOrder([0] * 5 + [2] * 5, SAMPLERS.build(name)(counts))
        assert len(order(np.random.RandomState(0))) == len(order) >= 9
    with pytest.raises(UserError, match="2 multiples for 3 classes"):
        SAMPLERS.build({"name": "ClassProb", "class_prob": [1.0, 2.0]})(counts)
    with pytest.raises(UserError, match="leaves no sample"):
        RebalancedOrder([0, 1], np.zeros(2))


def test_epochs_and_processes_share_the_draw():
    labels = [0] * 30 + [1] * 3
    order = RebalancedOrder(labels, SAMPLERS.build("ClassBalanced")(np.array([30, 3])))
    epochs = []
    for epoch in (0, 1, 0):
        sampler = BatchSampler(len(order), 8, True, seed=1, draw=order)
        sampler.set_epoch(epoch)
        epochs.append([position for batch in sampler for position, _ in batch])
    assert epochs[0] == epochs[2] != epochs[1]
    assert len(epochs[0]) == len(order)
    parts = []
    for rank in (0, 1):
        sampler = BatchSampler(len(order), 4, True, seed=1, rank=rank, world_size=2, draw=order)
        parts.append({position for batch in sampler for position, _ in batch})
    assert parts[0] | parts[1] == set(epochs[0])
