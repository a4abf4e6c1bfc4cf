"""Runs that are interrupted, and files that are damaged or cannot be written."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from paddleskel.engine.mixed import has_gpu
from paddleskel.files import seal, unseal
from paddleskel.models.checkpoint import read_checkpoint

NAME = "STGCN_PlusPlus_toy"
DROPOUT = ("-o", "MODEL.backbone.tcn_dropout=0.3")


def weights(folder, which="last", suffix="pdparams"):
    return read_checkpoint(folder / f"{NAME}_{which}.{suffix}").state


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def epochs(folder):
    return [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_ten_kills_change_nothing():
    done = subprocess.run(
        [sys.executable, "tests/soak.py", "--kills", "10", "--epochs", "6", "--workers", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("10 kills")


@pytest.mark.parametrize(
    ("batches", "extra"),
    [
        (1, ()),
        (2, ("-o", "OPTIMIZER.accumulate=2")),
        (2, ("-o", "OPTIMIZER.accumulate=2", "-o", "check_every_step=false", "-o", "log_interval=1000")),
        pytest.param(
            1, ("--amp_level", "O2"), marks=pytest.mark.skipif(not has_gpu(), reason="mixed precision needs a GPU")
        ),
        (1, ("-o", "OPTIMIZER.ema=0.9")),
    ],
)
def test_an_epoch_goes_on_where_it_was_left(train, tmp_path, batches, extra):
    """The preemption file ends the run after the first step of every start; a step takes `batches` batches."""
    _, whole = train("whole", *DROPOUT, *extra)
    file = tmp_path / "preempt"
    asked = (*DROPOUT, *extra, "-o", f"preempt_file={file}", "--resume", "auto")
    file.write_text("")
    for start in range(2):
        result, pieces = train("pieces", *asked, code=75)
        assert f"stopped because {file} exists: step {(start + 1) * batches} of epoch 1 is saved" in result.err
    file.unlink()
    result, _ = train("pieces", *asked)
    assert f"resuming after epoch 0 and {2 * batches} steps" in result.out
    assert same(weights(whole), weights(pieces))
    assert same(weights(whole, suffix="pdopt"), weights(pieces, suffix="pdopt"))
    assert epochs(pieces) == [1, 2]


def damage(path, how):
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes({
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "truncated": data[:middle],
        "empty": b"",
    }[how])  # fmt: skip


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty"])
def test_a_damaged_checkpoint_is_passed_over(train, how):
    _, whole = train("whole")
    damage(whole / f"{NAME}_last.pdopt", how)
    (whole / f"{NAME}_last.pdparams").rename(whole / "kept.pdparams")
    result, _ = train("whole", "--resume", "auto")
    assert f"WARNING: {whole / f'{NAME}_last.pdopt'}: " in result.out
    assert f"resuming after epoch 1 from {whole / f'{NAME}_previous.pdopt'}" in result.out
    assert same(weights(whole), read_checkpoint(whole / "kept.pdparams").state)
    assert epochs(whole) == [1, 2]


def test_numbered_checkpoints_are_the_last_resort(train):
    _, folder = train("run")
    for which in ("last", "previous"):
        damage(folder / f"{NAME}_{which}.pdopt", "truncated")
    result, _ = train("run", "--resume", "auto")
    assert f"from {folder / f'{NAME}_epoch_00002.pdopt'}" in result.out
    for path in folder.glob("*.pdopt"):
        damage(path, "truncated")
    result, _ = train("run", "--resume", "auto", code=2)
    assert "none of the 4 checkpoints" in result.err
    assert "Without --resume training starts anew" in result.err


def test_weights_without_their_state_are_not_enough(train, tmp_path):
    _, folder = train("run", "-o", "epochs=1")
    (folder / f"{NAME}_last.pdparams").rename(tmp_path / "x.pdopt")
    result, _ = train("run", "--resume", tmp_path / "x.pdopt", code=2)
    assert "not the state of a training run" in result.err


def test_numbered_checkpoints_are_thinned_out(train):
    _, folder = train("run", "-o", "epochs=4", "-o", "keep=2", "--max_iters", "1")
    numbered = sorted(path.name for path in folder.glob("*_epoch_*"))
    assert numbered == [f"{NAME}_epoch_0000{n}.{suffix}" for n in (3, 4) for suffix in ("pdopt", "pdparams")]


def test_what_changed_since_the_checkpoint_is_listed(train, tmp_path, toy_file):
    import pickle

    train("run", "-o", "epochs=1")
    content = pickle.loads(toy_file.read_bytes())
    content["split"]["train"] = content["split"]["train"][:-8]
    fewer = tmp_path / "fewer.pkl"
    fewer.write_bytes(pickle.dumps(content))
    result, _ = train("run", "--resume", "auto", "-o", "OPTIMIZER.momentum=0.8", "-o", f"DATASET.train.file={fewer}")
    assert "changed since the checkpoint: config.OPTIMIZER.momentum: 0.9 -> 0.8" in result.out
    assert "changed since the checkpoint: config.epochs: 1 -> 2" in result.out
    assert "changed since the checkpoint: train_data.samples: 72 -> 64" in result.out
    assert "changed since the checkpoint: train_data.file: 'toy.pkl' -> 'fewer.pkl'" in result.out


def test_an_epoch_whose_batches_changed_begins_anew(train, tmp_path):
    file = tmp_path / "preempt"
    file.write_text("")
    train("run", "-o", f"preempt_file={file}", code=75)
    result, folder = train("run", "--resume", "auto", "-o", "DATASET.batch_size=8")
    assert "changed since the checkpoint: batch: 16 -> 8" in result.out
    assert "it begins at its first step" in result.out
    assert epochs(folder) == [1, 2]


def test_signals_save_and_exit(toy_options, tmp_path):
    """SIGINT and SIGTERM to the real command."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):
        folder = tmp_path / number.name
        options = [*toy_options, "-o", f"output_dir={folder}", "-o", "epochs=500", "-o", "log_interval=1"]
        config = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"
        process = subprocess.Popen(
            [sys.executable, "main.py", "-c", config, *options], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        for line in process.stdout:
            if "train step:1" in line:
                break
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert err.startswith(f"stopped by {number.name}: step ")
        assert err.count("\n") == 1
        assert read_checkpoint(folder / f"{NAME}_last.pdopt").meta["progress"]["step"] > 0


# ---- files that cannot be written ----


@pytest.fixture
def small_files():
    """No file of this process may exceed 20 kB, as on a disk that is nearly full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_does_not_end_a_run_that_may_go_on(train, small_files):
    small_files(20_000)
    result, folder = train("run", "--validate", code=2)
    assert f"{NAME}_last.pdopt: cannot be written: File too large. Training goes on" in result.out
    assert "training finished, but a checkpoint is missing" in result.err
    assert epochs(folder) == [1, 2]
    assert not list(folder.glob(".*"))


def test_a_full_disk_ends_a_run_that_shall_stop(train, small_files):
    _, folder = train("run", "-o", "epochs=1")
    before = weights(folder)
    small_files(20_000)
    result, _ = train("run", "--resume", "auto", "-o", "on_save_error=stop", code=2)
    assert "File too large. Training stops (on_save_error: stop)" in result.err
    assert same(weights(folder), before)


def test_a_disk_that_has_room_again_is_used_again(train, small_files, monkeypatch):
    from paddleskel.engine.saving import Saver

    real = Saver.end_of_epoch

    def end_of_epoch(self, progress, record, numbered):
        small_files(20_000 if progress.epoch == 1 else resource.RLIM_INFINITY)
        real(self, progress, record, numbered)

    monkeypatch.setattr(Saver, "end_of_epoch", end_of_epoch)
    result, folder = train("run")
    assert "cannot be written" in result.out
    _, whole = train("whole")
    assert same(weights(folder), weights(whole))


@pytest.fixture
def little_disk(tmp_path):
    """A folder on a file system of its own, of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_file_system(train, little_disk):
    result, folder = train("disk", code=2)
    assert "No space left on device. Training goes on" in result.out
    assert "a checkpoint is missing" in result.err
    whole = list(folder.glob("*.pd*"))
    assert whole  # what fits is there, and whole
    for path in whole:
        assert read_checkpoint(path).state


def test_a_file_system_that_turned_read_only(train, little_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(little_disk)], check=True)
    result, _ = train("disk", code=2)
    assert "the folder cannot be written to: Read-only file system" in result.err


# ---- checksums ----


def test_seals_find_any_change():
    sealed = seal(b"content")
    assert unseal(sealed, "x") == b"content"
    assert unseal(b"content of another program", "x") == b"content of another program"
    from paddleskel.errors import UserError

    with pytest.raises(UserError, match="damaged"):
        unseal(sealed.replace(b"ten", b"tin"), "x")


def test_paddle_reads_sealed_files(train):
    import paddle

    _, folder = train("run", "-o", "epochs=1")
    loaded = paddle.load(str(folder / f"{NAME}_last.pdparams"))
    ours = weights(folder)
    assert all(np.array_equal(loaded[name].numpy(), ours[name]) for name in ours)
