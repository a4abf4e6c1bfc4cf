"""What goes wrong at a user's hands: one clear sentence, exit code 2, nothing written."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, TOY_CONFIG


@pytest.fixture
def fails(run, toy_options, tmp_path):
    """Run main.py on the toy set; expect one sentence on stderr and no files."""

    def call(*arguments):
        output = tmp_path / "out"
        result = run("main", "-c", TOY_CONFIG, *toy_options, "-o", f"output_dir={output}", *arguments)
        assert result.code == 2
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        assert not list(output.glob("*.pdparams"))
        return result.err

    return call


def file_of(tmp_path, content):
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(content))
    return "-o", f"DATASET.train.file={path}"


def changed(toy_file, **fields):
    content = pickle.loads(toy_file.read_bytes())
    content["annotations"][3] = {**content["annotations"][3], **fields}
    return content


def test_a_typo_in_a_config_key(fails):
    error = fails("-o", "MODEL.backbone.gcn_adaptve=init")
    assert f"{TOY_CONFIG}: MODEL.backbone.gcn_adaptve: unknown key" in error
    assert "did you mean 'gcn_adaptive'?" in error


def test_a_missing_config(run):
    result = run("main", "-c", "configs/recognition/stgcn_plusplus/stgcn_plusplus_toi.yaml")
    assert result.code == 2
    assert "no such config (did you mean 'configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml'?)" in result.err


def test_weights_of_another_model(fails, run, toy_options, tmp_path):
    run("main", "-c", TOY_CONFIG, *toy_options, "-o", f"output_dir={tmp_path / 'a'}", "-o", "epochs=1")
    weights = tmp_path / "a" / "STGCN_PlusPlus_toy_last.pdparams"
    assert weights.is_file()
    error = fails("--test", "-w", weights, "-o", "MODEL.backbone.base_channels=12")
    assert f"{weights}: these weights are not of this config's network" in error
    assert "has shape" in error
    error = fails("--test", "-w", weights, "-o", "MODEL.backbone.num_stages=4")
    assert "missing (backbone.blocks.3." in error


def test_weights_that_are_no_checkpoint(fails, tmp_path):
    path = tmp_path / "x.pdparams"
    assert "no such file" in fails("--test", "-w", path)
    path.write_bytes(b"not a checkpoint")
    assert "not a readable pickle" in fails("--test", "-w", path)
    path.write_bytes(pickle.dumps([1, 2]))
    assert "not a checkpoint: expected a mapping of arrays" in fails("--test", "-w", path)
    path.write_bytes(pickle.dumps({"w": np.zeros(3)})[:40])
    assert str(path) in fails("--test", "-w", path)


def test_nothing_to_test(fails):
    assert "no --weights given, and no checkpoint in" in fails("--test")


def test_a_missing_data_file(fails):
    assert "data/nowhere.pkl: no such file" in fails("-o", "DATASET.train.file=data/nowhere.pkl")


def test_a_pickle_that_would_run_code(fails, tmp_path):
    flag = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {flag}",)

    error = fails(*file_of(tmp_path, {"annotations": [Hostile()]}))
    assert "refused: this pickle would call" in error
    assert "system" in error
    assert not flag.exists()


def test_a_label_outside_the_classes(fails, tmp_path, toy_file):
    error = fails(*file_of(tmp_path, changed(toy_file, label=12)))
    assert "label 12 is outside 0 to 11, as num_classes is 12" in error
    assert "sample 'S001R002A002'" in error


def test_joints_of_another_skeleton(fails, tmp_path, toy_file):
    error = fails(*file_of(tmp_path, changed(toy_file, keypoint=np.zeros((1, 9, 25, 2)), total_frames=9)))
    assert "keypoint has 25 joints, but the layout 'coco' has 17" in error


def test_an_unknown_split(fails):
    assert "no split 'xsub_train'; it has train, val" in fails("-o", "DATASET.train.split=xsub_train")


def test_channels_that_do_not_fit(fails):
    error = fails("-o", "stream=j+b", "-o", "MODEL.backbone.in_channels=3")
    assert "MODEL.backbone.in_channels is 3" in error
    assert "with 6 channels" in error


@pytest.mark.skipif(
    os.geteuid() == 0 and not os.path.exists("/proc"), reason="root writes anywhere; /proc refuses even root"
)
def test_an_output_folder_that_cannot_be_written(run, toy_options):
    result = run("main", "-c", TOY_CONFIG, *toy_options, "-o", "output_dir=/proc/paddleskel")
    assert result.code == 2
    assert "/proc/paddleskel: the folder cannot be written to" in result.err


def test_an_output_folder_that_is_a_file(run, toy_options, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("main", "-c", TOY_CONFIG, *toy_options, "-o", f"output_dir={tmp_path / 'file'}")
    assert result.code == 2
    assert "cannot be written to" in result.err


def test_an_unknown_results_format(fails):
    assert "must end in one of .pkl, .npz, .json, .csv" in fails("--test", "-w", "x", "--out", "r.yaml")


def test_an_impossible_value_of_a_component(fails):
    error = fails("-o", "PIPELINE.UniformSample.clip_len=0")
    assert "PIPELINE.2: UniformSample: clip_len and num_clips must be at least 1" in error


def test_the_command_itself_exits_with_2_and_no_traceback():
    done = subprocess.run(
        [sys.executable, "main.py", "-c", TOY_CONFIG, "-o", "epochs=zero"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == f"error: {TOY_CONFIG}: epochs: expected a whole number, not 'zero'\n"
