"""The memory-mapped store: the same samples as the pickle, in any state of the disk."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from paddleskel.data import store, store_files
from paddleskel.data.annotation import read_annotations
from paddleskel.data.clip import Clip
from paddleskel.data.dataset import SkeletonDataset, load_clips
from paddleskel.data.sources.toy import make_toy
from paddleskel.data.store import Store, StoreClips, is_store, labels_of, only, relabelled, write_store
from paddleskel.data.store_files import cached_steps, store_annotations, store_of
from paddleskel.data.transforms import build_pipeline
from paddleskel.errors import UserError
from paddleskel.files import make_folder
from paddleskel.skeleton.layout import load_layout

COCO, NTU = load_layout("coco"), load_layout("nturgb+d")


@pytest.fixture(scope="module")
def stored(toy_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "toy.store"
    store_annotations(read_annotations(toy_file), path)
    return path


def same(a: Clip, b: Clip):
    np.testing.assert_array_equal(a.keypoint, b.keypoint)
    assert (a.label, a.id, a.image_size, a.score is None) == (b.label, b.id, b.image_size, b.score is None)
    assert a.score is None or (a.score == b.score).all()


def test_a_store_holds_the_same_samples(stored, toy_file):
    for split in ("train", "val", None):
        direct = load_clips(str(toy_file), split, COCO, 12)
        clips = load_clips(str(stored), split, COCO, 12)
        assert len(clips) == len(direct)
        for a, b in zip(direct, clips):
            same(a, b)
        assert clips.ids == [clip.id for clip in direct]
        assert clips.labels.tolist() == [clip.label for clip in direct]
    assert Store(stored).class_names[0] == "raise arms"
    assert not clips[0].keypoint.flags.writeable
    assert [clip.id for clip in clips[5:8]] == clips.ids[5:8]
    assert clips[-1].id == clips.ids[-1]


def test_labels_can_be_mended(stored, toy_file):
    for file in (str(stored), str(toy_file)):
        clips = load_clips(file, "train", COCO, 12)
        labels = labels_of(clips).copy()
        labels[3] = 11 - labels[3]
        mended = relabelled(clips, labels)
        assert labels_of(mended).tolist() == [clip.label for clip in mended] == labels.tolist()
        assert mended[3].label != clips[3].label
        assert mended[2:5][1].label == labels[3]
        np.testing.assert_array_equal(mended[3].keypoint, clips[3].keypoint)
        kept = only(mended, {clips[3].id, clips[0].id})
        assert labels_of(kept).tolist() == [clip.label for clip in kept] == [labels[0], labels[3]]


def test_3d_without_scores(tmp_path):
    content = make_toy("3d", subjects=2, repeats=1)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    store = store_of(tmp_path / "a.pkl", say=lambda text: None)
    for a, b in zip(load_clips(str(tmp_path / "a.pkl"), None, NTU, 12), store.select(None, NTU, 12)):
        same(a, b)


def test_selecting_checks_what_the_pickle_reader_checks(stored, tmp_path):
    store = Store(stored)
    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        store.select("test", COCO, 12)
    with pytest.raises(UserError, match="17 joints, but the layout 'nturgb"):
        store.select("train", NTU, 12)
    with pytest.raises(UserError, match=r"label \d+ is outside 0 to 3, as num_classes is 4"):
        store.select("train", COCO, 4)
    write_store(tmp_path / "s", [Clip(np.ones((1, 2, 17, 2)), id="x")], {"none": []}, None, np.float32)
    with pytest.raises(UserError, match="sample 'x': no 'label'"):
        Store(tmp_path / "s").select(None, COCO, 4)
    with pytest.raises(UserError, match="holds no sample"):
        Store(tmp_path / "s").select("none", COCO, 4)


def test_workers_open_it_anew(stored):
    clips = load_clips(str(stored), "train", COCO, 12)
    sent = pickle.dumps(clips)
    assert len(sent) < 5000
    same(pickle.loads(sent)[3], clips[3])


def test_damage_is_found(stored, tmp_path, run):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(stored, copy)
    assert run("prepare_data", "verify", copy).code == 0
    content = bytearray((copy / "keypoint.bin").read_bytes())
    content[1234] ^= 1
    (copy / "keypoint.bin").write_bytes(content)
    result = run("prepare_data", "verify", copy)
    assert result.code == 2
    assert "keypoint.bin: its checksum is not the one" in result.err
    (copy / "keypoint.bin").write_bytes(content[:-2])
    with pytest.raises(UserError, match=r"keypoint\.bin: missing or not"):
        Store(copy)
    index = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**index, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        Store(copy)
    (copy / "index.json").write_text("{")
    with pytest.raises(UserError, match="not readable"):
        Store(copy)
    with pytest.raises(UserError, match="no store"):
        Store(tmp_path)


# ---- conversion ----


def clips_then(stop):
    yield Clip(np.ones((1, 4, 17, 2), np.float32), label=0, id="a")
    raise stop


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), UserError("x"), MemoryError()])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, stop):
    with pytest.raises(type(stop)):
        write_store(tmp_path / "s", clips_then(stop), {}, None, np.float32)
    assert not list(tmp_path.iterdir())


def test_a_killed_conversion_leaves_nothing_that_looks_complete(tmp_path):
    code = (
        "import os, signal, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from paddleskel.data.clip import Clip\n"
        "from paddleskel.data.store import write_store\n"
        "def clips():\n"
        "    for n in range(3): yield Clip(np.ones((1, 4, 17, 2), np.float32), label=0, id=str(n))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_store(Path(sys.argv[1]), clips(), {}, None, np.float32)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], cwd=ROOT)
    assert done.returncode == -9
    assert not any(is_store(path) for path in tmp_path.iterdir())
    write_store(tmp_path / "s", [Clip(np.ones((1, 4, 17, 2)), label=0, id="a")], {}, None, np.float32)
    assert len(Store(tmp_path / "s")) == 1


def test_other_folders_are_never_replaced(tmp_path, stored):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is no store"):
        write_store(tmp_path / "mine", [Clip(np.ones((1, 4, 17, 2)), id="a")], {}, None, np.float32)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_samples_that_do_not_go_together(tmp_path):
    first = Clip(np.ones((1, 4, 17, 2)), id="a")
    for other in (Clip(np.ones((1, 4, 25, 3)), id="b"), Clip(np.ones((1, 4, 17, 2)), np.ones((1, 4, 17)), id="b")):
        with pytest.raises(UserError, match="sample 'b'"):
            write_store(tmp_path / "s", [first, other], {}, None, np.float32)
    with pytest.raises(UserError, match="no sample"):
        write_store(tmp_path / "s", [], {}, None, np.float32)


def test_a_pickle_is_converted_once_and_again_when_it_changes(tmp_path, toy_file):
    path = tmp_path / "a.pkl"
    path.write_bytes(toy_file.read_bytes())
    said = []
    first = store_of(path, say=said.append)
    assert (first.path, len(said)) == (f"{path}.store", 1)
    assert store_of(path, say=said.append).index == first.index
    assert len(said) == 1
    content = pickle.loads(path.read_bytes())
    content["annotations"][0]["label"] = 7
    path.write_bytes(pickle.dumps(content))
    assert store_of(path, say=said.append).labels[0] == 7
    (tmp_path / "a.pkl.store" / "score.bin").unlink()
    assert len(store_of(path, say=said.append)) == 96
    assert len(said) == 3


@pytest.mark.parametrize("moment", ["outdated one taken away", "new one put there"])
def test_another_process_may_convert_at_the_same_time(tmp_path, monkeypatch, moment):
    """It is quicker just before one of the two renamings."""
    path, clips = tmp_path / "s", [Clip(np.ones((1, 4, 17, 2)), label=0, id="a")]
    write_store(path, [Clip(np.zeros((1, 4, 17, 2)), label=0, id="a")], {}, None, np.float32)
    real, met = os.replace, []

    def replace(source, target):
        if moment.startswith("outdated") and source == path:
            met.append(shutil.rmtree(path))
        elif moment.startswith("new") and target == path:
            met.append(shutil.copytree(source, path))
        real(source, target)

    monkeypatch.setattr(store.os, "replace", replace)
    write_store(path, clips, {}, None, np.float32)
    assert len(met) == 1
    assert Store(path).clip(0).keypoint.all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


def test_the_store_goes_elsewhere_where_it_cannot_lie_beside(tmp_path, toy_file, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.pkl"
    path.write_bytes(toy_file.read_bytes())

    def refuse(folder):  # root may write anywhere, so the refusal is made up
        if folder == path.parent:
            raise UserError("read-only")
        return make_folder(folder)

    monkeypatch.setattr(store_files, "make_folder", refuse)
    assert store_of(path, say=lambda text: None).path.startswith(str(tmp_path / "home" / "paddleskel"))
    given = store_of(path, str(tmp_path / "here"), say=lambda text: None)
    assert given.path.startswith(str(tmp_path / "here"))
    assert not (tmp_path / "data" / "a.pkl.store").exists()


def test_a_folder_marked_read_only_is_left_alone(tmp_path, toy_file, monkeypatch):
    """Even by root, who could write there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.pkl").write_bytes(toy_file.read_bytes())
    folder.chmod(0o555)
    try:
        assert store_of(folder / "a.pkl", say=lambda text: None).path.startswith(str(tmp_path / "home"))
        assert [path.name for path in folder.iterdir()] == ["a.pkl"]
    finally:
        folder.chmod(0o755)


def test_a_file_that_cannot_be_stored_is_read_directly(tmp_path, annotation):
    bad = {**annotation, "frame_dir": "bad", "keypoint": annotation["keypoint"] * np.nan}
    content = {"split": {"train": ["clip_a"], "val": ["bad"]}, "annotations": [annotation, bad]}
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content))
    assert store_of(path) is None
    assert store_of(tmp_path / "none.pkl") is None
    assert [p.name for p in tmp_path.iterdir()] == ["a.pkl"]


# ---- cached steps ----

STEPS = ["PreNormalize2D", "Stream", {"name": "UniformSample", "clip_len": 16}, "Pack"]


@pytest.mark.parametrize("stream", ["j", "bm"])
def test_cached_steps_give_the_same_input(tmp_path, toy_file, stream):
    store_annotations(read_annotations(toy_file), tmp_path / "s")
    clips = Store(tmp_path / "s").select("train", COCO, 12)
    pipeline = build_pipeline(STEPS, COCO, stream, training=True)
    steps, rest = pipeline.split()
    assert (len(steps), len(rest.transforms)) == (2, 2)
    said = []
    for _ in range(2):
        cached = cached_steps(clips.store, steps, said.append)
    assert len(said) == 1
    plain = SkeletonDataset(clips, pipeline, seed=1)
    quick = SkeletonDataset(StoreClips(cached, clips.positions), rest, seed=1)
    for position in range(0, len(plain), 7):
        np.testing.assert_array_equal(plain[position, 3][0], quick[position, 3][0])
    other = build_pipeline([{"name": "PreNormalize2D", "mode": "auto"}, *STEPS[1:]], COCO, stream).split()[0]
    assert cached_steps(clips.store, other, said.append).path != cached.path


def test_training_reads_the_store_and_its_cache(run, tmp_path, toy_file, toy_options):
    path = tmp_path / "toy.pkl"
    path.write_bytes(toy_file.read_bytes())
    config = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"
    losses = []
    for number, options in enumerate((["DATASET.store=false"], ["DATASET.store=true"], ["DATASET.cache_steps=true"])):
        files = [f"DATASET.{part}.file={path}" for part in ("train", "valid", "test")]
        more = [*files, *options, f"output_dir={tmp_path / str(number)}", "epochs=1", "DATASET.num_workers=0"]
        flags = [part for option in more for part in ("-o", option)]
        result = run("main", "-c", config, *toy_options, *flags, "--max_iters", 2)
        assert result.code == 0, result.err
        losses.append(json.loads((tmp_path / str(number) / "metrics.jsonl").read_text().splitlines()[0])["train_loss"])
        assert is_store(tmp_path / "toy.pkl.store") == (number > 0)
        assert (tmp_path / "toy.pkl.store" / "cache").exists() == (number == 2)
    assert losses[0] == losses[1] == losses[2]
