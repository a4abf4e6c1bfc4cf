"""What goes wrong while training, planted: samples that are not finite, workers that die, runs that learn nothing."""

import os
import re
import signal
import time

import numpy as np
import pytest

from paddleskel.data.dataset import SkeletonDataset
from paddleskel.data.loader import Loader
from paddleskel.data.sampler import BatchSampler
from paddleskel.engine import epoch
from paddleskel.engine.guards import MemoryWatch, memory_in_use, stuck_warning
from paddleskel.engine.log import read_records
from paddleskel.errors import UserError
from paddleskel.models.checkpoint import read_checkpoint

NAME = "STGCN_PlusPlus_toy"


def weights(folder):
    return read_checkpoint(folder / f"{NAME}_last.pdparams").state


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# ---- values that are not finite ----


@pytest.fixture
def bad_sample(monkeypatch):
    """Sample 5 becomes NaN in the second epoch, as a broken augmentation would make it."""
    real = SkeletonDataset.__getitem__

    def get(self, item):
        inputs, label, position = real(self, item)
        return (inputs * np.nan if item == (5, 1) else inputs), label, position

    monkeypatch.setattr(SkeletonDataset, "__getitem__", get)


def test_a_bad_sample_is_named_and_ends_the_run(train, bad_sample):
    result, folder = train("run", code=2)
    found = list(folder.glob("nonfinite_epoch2_step*_rank0.npz"))
    assert len(found) == 1
    saved = np.load(found[0])
    name = saved["ids"][np.isnan(saved["inputs"]).any(axis=(1, 2, 3, 4, 5))].item()
    assert f"not finite in epoch 2, step {found[0].name.split('step')[1][0]}" in result.err
    assert f"the input of sample {name} is not finite" in result.err
    assert f"saved in {found[0]}" in result.err
    assert all(np.isfinite(array).all() for array in weights(folder).values())


def test_a_bad_sample_can_be_left_out(train, bad_sample):
    result, folder = train("run", "-o", "on_nonfinite=skip", "--validate")
    assert "The step is left out" in result.out
    state = weights(folder)
    assert all(np.isfinite(array).all() for array in state.values())
    assert read_checkpoint(folder / f"{NAME}_last.pdopt").meta["progress"]["records"][1]["train_loss"] > 0


def test_nothing_but_bad_steps_ends_the_run(train):
    diverges = ("-o", "OPTIMIZER.learning_rate.value=1e30", "-o", "on_nonfinite=skip", "-o", "epochs=9")
    result, _ = train("run", *diverges, code=2)
    assert "20 steps in a row were left out: training has diverged" in result.err


def test_the_first_layer_is_named(train, monkeypatch):
    from paddle import nn

    real, first = nn.BatchNorm2D.forward, []

    def forward(self, x):
        first.extend([self] if not first else [])
        return real(self, x) * (1.0 if self is first[0] else np.inf)

    monkeypatch.setattr(nn.BatchNorm2D, "forward", forward)
    result, _ = train("run", code=2)
    assert re.search(
        r"the first layer whose output is not finite is backbone\.blocks\.0\.\S+ \(BatchNorm2D\)", result.err
    )


def test_steps_that_are_read_together_are_the_same_steps(train, monkeypatch):
    real, sizes = epoch.Steps.read, []

    def read(self):
        sizes.append(len(self.waiting))
        return real(self)

    options = ("-o", "DATASET.batch_size=8", "-o", "OPTIMIZER.accumulate=2", "-o", "log_interval=3")
    _, each = train("each", *options)
    monkeypatch.setattr(epoch.Steps, "read", read)
    _, together = train("together", *options, "-o", "check_every_step=false")
    assert sizes == [1, 3, 3, 2] * 2  # nine steps an epoch, read where a line is written
    assert same(weights(each), weights(together))
    numbers = [
        [{key: value for key, value in record.items() if key in ("lr", "train_loss", "train_top1")} for record in found]
        for found in (read_records(folder / "metrics.jsonl") for folder in (each, together))
    ]
    assert numbers[0] == numbers[1]


def test_a_bad_sample_is_named_when_steps_are_read_together(train, bad_sample):
    _, folder = train("each", code=2)
    result, late = train("late", "-o", "check_every_step=false", "-o", "log_interval=1000", code=2)
    saved, found = ([path.name for path in run.glob("nonfinite*")] for run in (folder, late))
    assert len(saved) == 1
    assert found == saved
    assert "the input of sample" in result.err
    assert all(np.isfinite(array).all() for array in weights(late).values())
    assert same(weights(folder), weights(late))


def test_a_step_that_is_not_looked_at_cannot_be_skipped(train):
    result, _ = train("run", "-o", "on_nonfinite=skip", "-o", "check_every_step=false", code=2)
    assert "check_every_step: only a step that is looked at can be skipped" in result.err


def test_a_run_that_diverges_is_told_how_to_find_the_layer(train):
    options = ("-o", "OPTIMIZER.learning_rate.value=1e30", "-o", "check_every_step=false")
    result, folder = train("run", *options, code=2)
    assert "check_every_step=true names the layer" in result.err
    assert not list(folder.glob("*_last.*"))


# ---- data workers ----


@pytest.fixture
def loader(toy_file, tmp_path):
    """Make a loader of two workers over samples; `fail(position)` runs in the worker before each one."""

    def make(fail, **options):
        class Planted(SkeletonDataset):
            def __getitem__(self, item):
                fail(item[0])
                return super().__getitem__(item)

        from paddleskel.data.dataset import load_clips
        from paddleskel.data.transforms import build_pipeline
        from paddleskel.skeleton.layout import load_layout

        layout = load_layout("coco")
        steps = [{"name": "PreNormalize2D"}, "Stream", {"name": "UniformSample", "clip_len": 8}, "Pack"]
        clips = load_clips(str(toy_file), "train", layout, 12)[:30]
        dataset = Planted(clips, build_pipeline(steps, layout, "j", training=True), seed=1)
        said = []
        sampler = BatchSampler(30, 4, shuffle=True, seed=3)
        return Loader(dataset, sampler, num_workers=2, report=said.append, **options), said

    return make


def once(folder, action):
    """Do something at sample 7, once in the life of all processes."""

    def fail(position):
        if position == 7 and not (folder / "done").exists():
            (folder / "done").touch()
            action()

    return fail


def batches(loader):
    with_workers = list(loader)
    loader.close()
    return with_workers


def equal(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for one, two in zip(a, b) for x, y in zip(one, two))


@pytest.fixture
def undisturbed(loader):
    return batches(loader(lambda position: None)[0])


@pytest.mark.parametrize(
    ("action", "options", "ending"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), {}, "was ended by SIGKILL, as the system does when memory"),
        (lambda: os._exit(3), {}, "ended with exit code 3"),
        (lambda: time.sleep(60), {"timeout": 0.5}, "has not answered for 0.5 s"),
        (lambda: os.kill(os.getpid(), signal.SIGSTOP), {"timeout": 0.5}, "has not answered for 0.5 s"),
    ],
    ids=["killed", "exited", "hanging", "stopped"],
)
def test_a_worker_is_named_and_replaced(loader, undisturbed, tmp_path, action, options, ending):
    disturbed, said = loader(once(tmp_path, action), **options)
    assert equal(batches(disturbed), undisturbed)
    assert len(said) == 1
    assert said[0].startswith("data worker ")
    assert ending in said[0]


def test_workers_that_keep_dying_end_the_run(loader):
    def fail(position):
        if position == 7:
            os._exit(1)

    dying, said = loader(fail)
    with pytest.raises(UserError, match=r"ended with exit code 1, as did 2 before it, at the samples S\d+R"):
        batches(dying)
    assert len(said) == 2


def test_mistakes_and_failures_in_workers_are_passed_on(loader):
    def mistake(position):
        raise UserError("sample so-and-so: mend it")

    def failure(position):
        raise ZeroDivisionError("in a transform")

    with pytest.raises(UserError, match="sample so-and-so: mend it"):
        batches(loader(mistake)[0])
    with pytest.raises(RuntimeError, match=r"(?s)prepared the samples S\d+R.*ZeroDivisionError: in a transform"):
        batches(loader(failure)[0])


def test_an_iteration_can_be_left_and_begun_again(loader, undisturbed):
    again, _ = loader(lambda position: None)
    for batch in again:
        assert np.array_equal(batch[0], undisturbed[0][0])
        break
    assert equal(batches(again), undisturbed)
    assert equal(batches(again), undisturbed)


def test_workers_do_not_outlive_their_parent(toy_file):
    """A killed trainer leaves no worker behind."""
    import subprocess
    import sys

    from conftest import ROOT

    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from paddleskel.data.dataset import SkeletonDataset, load_clips
from paddleskel.data.loader import Loader
from paddleskel.data.sampler import BatchSampler
from paddleskel.data.transforms import build_pipeline
from paddleskel.skeleton.layout import load_layout
layout = load_layout("coco")
steps = [{{"name": "PreNormalize2D"}}, "Stream", {{"name": "UniformSample", "clip_len": 8}}, "Pack"]
dataset = SkeletonDataset(load_clips({str(toy_file)!r}, "train", layout, 12), build_pipeline(steps, layout, "j", True))
loader = Loader(dataset, BatchSampler(len(dataset), 4, True), num_workers=3)
batches = iter(loader)
next(batches)
print(*(worker.process.pid for worker in loader._workers), flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3, done.stderr
    until = time.monotonic() + 20
    while time.monotonic() < until and any(is_running(pid) for pid in pids):
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)


def is_running(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- runs that learn nothing ----


def test_guessing_is_remarked_on():
    assert stuck_warning(2.48, 0.09, 12, epoch=1) is None
    assert "about ln(12) = 2.4849: the network guesses" in stuck_warning(2.48, 0.09, 12, epoch=2)
    assert stuck_warning(2.48, 0.5, 12, epoch=2) is None
    assert stuck_warning(1.9, 0.3, 12, epoch=2) is None


def test_one_batch_is_learned_by_heart(train):
    rate = ("-o", "DATASET.batch_size=2", "-o", "OPTIMIZER.learning_rate.value=0.1", "--max_iters", "30")
    result, _ = train("learns", "--overfit-one-batch", *rate)
    assert "one batch: learned, loss 0." in result.out
    result, _ = train("fails", "--overfit-one-batch", "-o", "OPTIMIZER.learning_rate.value=1e-9", "--max_iters", "3")
    assert "one batch: NOT learned" in result.out


def test_training_ends_early(train):
    still = ("-o", "OPTIMIZER.learning_rate.value=1e-12", "-o", "epochs=9", "-o", "early_stop=2")
    result, folder = train("run", "--validate", *still)
    assert "stopped early: no better validation score for 2 epochs; the best was epoch 1" in result.out
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    result, _ = train("run", "--validate", *still, "--resume", "auto")  # it stays ended
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    result, _ = train("run", *still, code=2)
    assert "early_stop: looks at the validation score, so it needs --validate" in result.err


def test_growing_memory_is_remarked_on_once():
    watch = MemoryWatch()
    assert [watch.look(used) for used in (100, 110, 120, 130, 140)] == [None] * 5
    assert "memory has grown in each of the last 5 epochs, from 100 to 150 MiB" in watch.look(150)
    assert watch.look(160) is None
    steady = MemoryWatch()
    assert not any(steady.look(used) for used in (100, 101, 102, 103, 104, 105, 100, 130, 100, 130))


def test_memory_is_recorded(train):
    _, folder = train("run", "-o", "epochs=1")
    record = read_checkpoint(folder / f"{NAME}_last.pdopt").meta["progress"]["records"][0]
    assert 10 < record["memory_mb"] < 1e5
    assert memory_in_use() > 10
