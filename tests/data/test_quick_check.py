"""The short check before training: ruinous data stop the run, doubtful ones are remarked on, good ones pass."""

import copy
import pickle

import numpy as np
import pytest

from paddleskel.data.annotation import parse_annotation
from paddleskel.data.doctor.quick import quick_check, seen_in_training
from paddleskel.data.sources.toy import make_toy
from paddleskel.errors import UserError


@pytest.fixture(scope="module")
def clips():
    return [parse_annotation(item, "toy") for item in make_toy(subjects=3, repeats=1)["annotations"]]


def test_good_data_pass_silently(clips):
    assert quick_check(clips[:24], clips[24:]) == []


def each(clips, change):
    return [change(clip) for clip in clips]


RUINOUS = {
    "all 36 training samples have the label 4": lambda c: c.with_(label=4),
    "hold nobody": lambda c: c.with_(keypoint=c.keypoint * 0),
    "no joint ever moves": lambda c: c.with_(keypoint=np.repeat(c.keypoint[:, 10:11], 20, axis=1), score=None),
    r"is it \(width, height\)": lambda c: c.with_(keypoint=c.keypoint * np.float16(0.9) + np.float16(180),
                                                  image_size=(1920, 1080)),
    "normalised already": lambda c: c.with_(keypoint=c.keypoint.astype(np.float32) / 1920),
}  # fmt: skip


@pytest.mark.parametrize("problem", RUINOUS)
def test_ruinous_data_stop(clips, problem):
    with pytest.raises(UserError, match=problem):
        quick_check(each(clips, RUINOUS[problem]), None)


def test_doubtful_data_are_remarked_on(clips):
    bad = [clips[0].with_(keypoint=clips[0].keypoint * 0), *clips[1:]]
    (remark,) = quick_check(bad, None)
    assert "1 of 36 samples hold nobody" in remark
    assert clips[0].id in remark
    shared, untrained = quick_check([c for c in clips[:24] if c.label != 3], clips[20:])
    assert "validation samples are trained on too" in shared
    assert "classes 3 are in the validation split" in untrained


def test_test_samples_that_are_training_samples(clips):
    copies = [
        clips[3].with_(id="another name"),
        clips[5].with_(keypoint=clips[5].keypoint + np.float32(1e-3), id="new"),
    ]
    same_start = clips[6].keypoint.copy()
    same_start[:, -1] += 1
    assert seen_in_training(clips, [*copies, clips[6].with_(keypoint=same_start, id="other end")]) == ["another name"]


def test_training_stops_unless_told_not_to(run, tmp_path, toy_file, toy_options):
    content = copy.deepcopy(pickle.loads(toy_file.read_bytes()))
    for item in content["annotations"]:
        item["label"] = 2
    path = tmp_path / "one.pkl"
    path.write_bytes(pickle.dumps(content))
    config = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"
    flags = [*toy_options, "-o", f"DATASET.train.file={path}", "-o", f"output_dir={tmp_path / 'out'}"]
    result = run("main", "-c", config, *flags)
    assert result.code == 2
    assert "training samples have the label 2" in result.err
    assert "DATASET.check=false" in result.err
    assert not list((tmp_path / "out").glob("*.pdparams"))
    result = run("main", "-c", config, *flags, "-o", "DATASET.check=false", "-o", "epochs=1", "--max_iters", 1)
    assert result.code == 0, result.err
