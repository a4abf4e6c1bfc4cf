"""Two processes on this machine, through tools/dist_train.sh and dist_test.sh."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TOY_CONFIG

from paddleskel.models.checkpoint import read_checkpoint

NAME = "STGCN_PlusPlus_toy"


def start(script, folder, *arguments):
    environment = {**os.environ, "PYTHON": sys.executable, "LOG_DIR": str(folder / "launch"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        ["bash", script, *map(str, arguments)], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process):
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return out


@pytest.fixture(scope="module")
def options(toy_options):
    """Global batches of 16, of which the last has 8 samples; no dropout, no augmentation but the random sampling."""
    extra = ["DATASET.valid_batch_size=16", "DATASET.test_batch_size=8", "OPTIMIZER.learning_rate.value=0.02",
             "log_interval=1"]  # fmt: skip
    return [*toy_options, *(part for option in extra for part in ("-o", option))]


@pytest.fixture(scope="module")
def pair(options, tmp_path_factory):
    """A run of two processes with batches of 8, BatchNorm over both, tested at its end."""
    folder = tmp_path_factory.mktemp("pair")
    process = start(
        "tools/dist_train.sh", folder, TOY_CONFIG, 2, *options, "-o", f"output_dir={folder}", "--validate",
        "-o", "DATASET.batch_size=8", "-o", "sync_bn=true", "--test-last",
    )  # fmt: skip
    out = finish(process)
    assert process.returncode == 0, out
    return folder, out


def losses(folder):
    text = (folder / "train.log").read_text()
    return np.array([float(number) for number in re.findall(r"train step:\d+ +loss: (\S+)", text)])


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_does(train, options, pair):
    folder, out = pair
    assert "2 processes of 8 clips each" in out
    _, alone = train("alone", "--validate", *options[len(options) - 8 :], "-o", "DATASET.batch_size=16")
    assert len(losses(alone)) == 10
    np.testing.assert_allclose(losses(folder), losses(alone), rtol=1e-5, atol=1e-5)
    for a, b in zip(records(alone), records(folder)):
        assert a["lr"] == b["lr"]
        assert b["train_loss"] == pytest.approx(a["train_loss"], abs=1e-5)
        assert b["val_loss"] == pytest.approx(a["val_loss"], abs=1e-4)
    assert [path.name for path in folder.glob("*.log")] == ["train.log"]  # one process writes


def test_two_processes_score_as_one_does(train, options, pair):
    folder, out = pair
    last = folder / f"{NAME}_last.pdparams"
    result, _ = train("alone", "--test", *options[len(options) - 8 :], "-w", last, "--out", folder / "alone.pkl")
    ours, theirs = (pickle.loads((folder / name).read_bytes()) for name in ("alone.pkl", "last_pred.pkl"))
    assert ours["ids"] == theirs["ids"]
    assert len(set(theirs["ids"])) == 24
    for key in ("labels", "logits", "probs"):
        assert np.array_equal(ours[key], theirs[key]), key
    said = re.search(r"\[TEST\] finished.*", result.out)[0]
    assert said in out
    assert out.count("[TEST] finished") == 1
    assert records(folder)[-1]["val_top1"] == np.mean(theirs["probs"].argmax(1) == theirs["labels"])


def test_two_processes_read_their_steps_together(options, pair, tmp_path):
    process = start(
        "tools/dist_train.sh", tmp_path, TOY_CONFIG, 2, *options, "-o", f"output_dir={tmp_path}",
        "-o", "DATASET.batch_size=8", "-o", "sync_bn=true", "-o", "check_every_step=false", "-o", "log_interval=4",
    )  # fmt: skip
    out = finish(process)
    assert process.returncode == 0, out
    assert len(losses(tmp_path)) == 4
    for ours, theirs in zip(records(tmp_path), records(pair[0])):
        assert ours["train_loss"] == theirs["train_loss"]
    ours, theirs = (read_checkpoint(folder / f"{NAME}_last.pdparams").state for folder in (tmp_path, pair[0]))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def process_of(launcher, rank):
    """The id of a launched process."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            mine = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == launcher.pid  # its parent
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mine and b"PADDLE_TRAINER_ID=%d" % rank in variables and b"main.py" in (entry / "cmdline").read_bytes():
            return int(entry.name)
    return None


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_a_killed_process_ends_the_job_and_the_run_goes_on(options, pair, tmp_path):
    arguments = (TOY_CONFIG, 2, *options, "-o", f"output_dir={tmp_path}", "--validate", "-o", "DATASET.batch_size=8",
                 "-o", "sync_bn=true", "--resume", "auto", "-o", "save_minutes=0.0")  # fmt: skip
    process = start("tools/dist_train.sh", tmp_path, *arguments)
    log = tmp_path / "launch" / "workerlog.0"  # the launcher passes it on only every two seconds
    while not (log.is_file() and "1/2  ] train step:1" in log.read_text()):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    os.kill(process_of(process, 1), signal.SIGKILL)
    began = time.monotonic()
    out = finish(process)
    assert time.monotonic() - began < 30  # a hang would last forever
    assert process.returncode != 0
    assert re.search(r"Container rank 1 status failed .* code -9", out)
    process = start("tools/dist_train.sh", tmp_path, *arguments)
    out = finish(process)
    assert process.returncode == 0, out
    assert "resuming after epoch" in out
    a, b = (read_checkpoint(folder / f"{NAME}_last.pdparams").state for folder in (pair[0], tmp_path))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert [record["epoch"] for record in records(tmp_path)] == [1, 2]


def test_the_message_of_a_failing_process_is_shown(options, tmp_path):
    """Process 1 cannot read its data; the launcher's output says so, and the job ends with a failure."""
    script = tmp_path / "fails.py"
    script.write_text(f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
import main
arguments = sys.argv[1:]
if os.environ["PADDLE_TRAINER_ID"] == "1":
    arguments += ["-o", "DATASET.train.file=nowhere.pkl"]
sys.exit(main.main(arguments))
""")
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node=2", "--log_dir", tmp_path / "launch"]
    done = subprocess.run(
        [*launch, script, "-c", TOY_CONFIG, *options, "-o", f"output_dir={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "error: nowhere.pkl: no such file" in done.stdout + done.stderr


def test_a_bad_sample_of_one_process_is_named_by_all(options, tmp_path):
    """The step is left out everywhere; synchronised BatchNorm needs every process while the cause is looked for."""
    script = tmp_path / "bad.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
import main
from paddleskel.data.dataset import SkeletonDataset
real = SkeletonDataset.__getitem__
def get(self, item):
    inputs, label, position = real(self, item)
    return (inputs * np.nan if item == (5, 0) else inputs), label, position
SkeletonDataset.__getitem__ = get
sys.exit(main.main(sys.argv[1:]))
""")
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node=2", "--log_dir", tmp_path / "launch"]
    changes = ["on_nonfinite=skip", "sync_bn=true", "DATASET.batch_size=8", "epochs=1", f"output_dir={tmp_path}"]
    done = subprocess.run(
        [*launch, script, "-c", TOY_CONFIG, *options, *(part for change in changes for part in ("-o", change))],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    log = (tmp_path / "train.log").read_text()
    assert re.search(r"not finite in epoch 1, step \d: process \d: .*the input of sample S\d+R\S+ is not finite", log)
    assert log.count("The step is left out") == 1
    assert len(list(tmp_path.glob("nonfinite_epoch1_step*_rank[01].npz"))) == 2
    state = read_checkpoint(tmp_path / f"{NAME}_last.pdparams").state
    assert all(np.isfinite(array).all() for array in state.values())
