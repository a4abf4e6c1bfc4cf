"""Training on long-tailed data through main.py: every part of the method, and that it is the same when resumed."""

import json
import pickle

import numpy as np
import pytest
from conftest import ROOT

from paddleskel.models.checkpoint import read_checkpoint

NAME = "STGCN_PlusPlus_toy"
TAIL = ["-o", "DATASET.train.long_tail={imbalance_factor: 6, max_per_class: 6}"]  # the toy set here has 6 a class
ALL_OF_IT = [
    *TAIL, "-o", "DATASET.train.sampler=ClassProb",
    "-o", "DATASET.train.mix={name: PartMixup, parts: [left_leg, right_leg]}",
    "-o", "MODEL.loss={name: ActionAwareLoss, start_epoch: 1}",
]  # fmt: skip


def test_the_whole_method_trains_and_is_tested_by_shots(train):
    result, folder = train("run", *ALL_OF_IT, "--validate")
    assert "nan" not in result.out
    meta = read_checkpoint(folder / f"{NAME}_last.pdparams").meta
    counts = meta["train_data"]["class_counts"]
    assert counts == [6, 5, 4, 3, 3, 2, 2, 1, 1, 1, 1, 1]
    # classes from 8 on are brought to 6 samples each
    assert "50 clips an epoch, 4 steps" in result.out
    result, _ = train("run", *ALL_OF_IT, "--test", "--out", folder / "r.pkl")
    lines = result.out
    assert all(f"{name}_shot_acc: " in lines for name in ("many", "medium", "few"))
    written = pickle.loads((folder / "r.pkl").read_bytes())
    assert written["train_counts"] == counts
    right = written["probs"].argmax(1) == written["labels"]
    few = np.mean([right[written["labels"] == label].mean() for label in range(7, 12)])
    assert f"few_shot_acc: {few:.4f}" in lines
    result, _ = train("run", *ALL_OF_IT, "--test", "-o", "METRIC.shots=[1, 100]")
    assert "medium_shot_acc: " in result.out
    assert "few_shot_acc: nan" in result.out


def test_balanced_sets_are_not_cut_into_shots(train):
    train("run", "-o", "epochs=1", "--max_iters", "1")
    result, _ = train("run", "--test", "-o", "epochs=1")
    assert "top1_acc" in result.out
    assert "shot_acc" not in result.out


def test_resuming_a_long_tailed_run_changes_nothing(train):
    _, whole = train("whole", *ALL_OF_IT)
    _, half = train("half", *ALL_OF_IT)
    for suffix in ("pdparams", "pdopt"):
        for which in ("last", "epoch_00002"):
            (half / f"{NAME}_{which}.{suffix}").unlink()
    train("half", *ALL_OF_IT, "--resume", half / f"{NAME}_epoch_00001.pdparams")
    a, b = (read_checkpoint(folder / f"{NAME}_last.pdparams").state for folder in (whole, half))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    records = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in (whole, half)]
    assert records[0][-1]["train_loss"] == records[1][-1]["train_loss"]


def test_a_second_stage_out_of_reach_is_remarked(train):
    result, _ = train("run", "-o", "MODEL.loss=ActionAwareLoss", "--max_iters", "1")
    assert "note: MODEL.loss.start_epoch is 19, counted from 0, but training ends after 2 epochs" in result.out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("DATASET.train.sampler=ClassBalance", "did you mean 'ClassBalanced'"),
        ("DATASET.train.sampler={name: EffectiveNumber, beta: 1.0}", "beta must lie"),
        ("DATASET.train.mix=PartMixup", "DATASET.train.mix.parts: missing"),
        ("DATASET.train.mix={name: PartMixup, parts: [left_legs]}", "did you mean 'left_leg'"),
        ("MODEL.loss=ActionAware", "did you mean 'ActionAwareLoss'"),
        ("MODEL.loss.class_weight=[1.0]", "1 weights for 12 classes"),
        ("DATASET.train.long_tail.imbalance=3", "did you mean 'imbalance_factor'"),
        ("METRIC.shots=[100, 20]", "expected [few, many]"),
    ],
)
def test_mistakes_are_explained(train, override, message):
    result, folder = train("run", "-o", override, code=2)
    assert message in result.err
    assert not (folder / f"{NAME}_last.pdparams").exists()


def test_published_setups_are_configs():
    """Six streams are `-o stream=`; each method on each benchmark is a file."""
    from paddleskel.engine.settings import load_settings

    folder = ROOT / "configs" / "recognition"
    benchmarks = ["ntu60_xsub_3d", "ntu60_xview_3d", "ntu120_xsub_3d", "ntu120_xset_3d", "nwucla"]
    for benchmark in benchmarks:
        largest = {"ntu120_xset_3d": 400, "nwucla": 100}.get(benchmark, 600)
        for network in ("stgcn", "aagcn", "ctrgcn", "msg3d"):
            settings, _ = load_settings(folder / network / f"{network}_lt_{benchmark}.yaml", ["stream=km"])
            assert settings.DATASET.train.long_tail.max_per_class == largest
            assert settings.DATASET.train.sampler is None
        for network in ("stgcn_plusplus", "ctrgcn", "msg3d"):
            settings, _ = load_settings(folder / network / f"{network}_brl_{benchmark}.yaml", ["stream=k"])
            assert settings.epochs == 24
            assert settings.MODEL.loss["start_epoch"] == 19
            assert settings.DATASET.train.long_tail.max_per_class == largest
            assert settings.DATASET.train.mix["name"] == "PartMixup"


def test_a_cross_view_split_of_other_data_than_ntus_is_thinned_by_id():
    """As configs/recognition/*/*_lt_nwucla.yaml do."""
    from paddleskel.data.clip import Clip
    from paddleskel.data.long_tail import LongTail, thin

    clips = [
        Clip(np.zeros((1, 1, 20, 3), np.float32), label=label, id=f"a{label:02d}_s{sample:02d}_e00_v01")
        for label in range(2)
        for sample in range(20)
    ]
    kept = thin(clips, LongTail(imbalance_factor=2, max_per_class=10), 2, "xview_train")
    assert [clip.label for clip in kept] == [0] * 10 + [1] * 5
