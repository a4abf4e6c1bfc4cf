"""The benchmark: what it runs, in turns, and what it says. Speeds themselves are never asserted."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from matplotlib.image import imread

from paddleskel.benchmark import studies
from paddleskel.benchmark.rounds import Series, Worker, ratio, run_rounds
from paddleskel.benchmark.studies import SWEEPS, exponent, joints_of
from paddleskel.benchmark.subjects import Subject
from paddleskel.errors import UserError

OURS = "paddleskel.benchmark.subjects"
SMALL = ["--batch_size", "2", "--frames", "8", "--persons", "1", "--seconds", "0", "--rounds", "2", "--threads", "1"]
PEER = """
import os
LOG = os.environ.get("PEER_LOG")
def build(name):
    if "MSG3D" in name:
        raise ValueError("this peer has no MS-G3D")
    print("chatter on standard output")
    def step():
        with open(LOG, "a") as file:
            file.write(name + "\\n")
    return step
"""


@pytest.fixture
def peer(tmp_path, monkeypatch):
    (tmp_path / "peer.py").write_text(PEER)
    monkeypatch.setenv("PEER_LOG", str(tmp_path / "log"))
    return tmp_path / "peer.py"


def test_workers_run_in_turns(peer, tmp_path):
    workers = [Worker(str(peer), name, 1) for name in ("one", "two")]
    (tmp_path / "log").write_text("")
    series = run_rounds(workers, 10, rounds=3, seconds=0)
    for worker in workers:
        worker.close()
    assert (tmp_path / "log").read_text().split() == ["one", "one", "two", "two"] * 3  # one step to warm up
    assert all(len(one.rates) == 3 and one.median > 0 and one.peak_mib > 0 for one in series)


def test_a_step_that_does_a_part_counts_for_as_much():
    class Steady:
        def __init__(self, share):
            self.share = share

        def run(self, seconds):
            return {"steps": 20, "seconds": 2.0, "cpu_seconds": 2.0, "peak_mib": 1}

    whole, tenth = run_rounds([Steady(1), Steady(0.1)], 16, rounds=3, seconds=0)
    assert (whole.median, tenth.median) == (160, 16)


def test_ratios_compare_rounds_with_each_other():
    """A machine that slows down in the middle slows both, and the ratio stays."""
    ours, peer = Series([10.0, 2.0, 10.0]), Series([5.0, 1.0, 5.0])
    assert ratio(ours, peer) == 2.0
    assert (ours.median, ours.spread()) == (10.0, "2.00 to 10.00")


def test_a_peer_that_cannot_build_is_named(peer):
    with pytest.raises(
        UserError, match=r"peer\.py: building 'train/MSG3D/.*' failed: ValueError: this peer has no MS-G3D"
    ):
        Worker(str(peer), "train/MSG3D/coco/1x1x8", 1)


def test_a_network_nobody_has_is_said_without_a_class_of_error():
    with pytest.raises(
        UserError, match=r"failed: MODEL\.backbone: unknown backbone 'STGCM' \(did you mean 'STGCN'\?\)"
    ):
        Worker(OURS, "train/STGCM/coco/1x1x8", 1)


@pytest.mark.parametrize("name", ["nowhere.py", "a/folder", "/"])
def test_a_peer_that_is_no_file_is_refused_before_anything_runs(run, name):
    result = run("benchmark", "train", *SMALL, "--peer", name)
    assert result.code == 2
    assert f"--peer: no file {name}; give a .py file or the name of an importable module" in result.err


def test_names_say_what_is_run():
    subject = Subject.parse("eval/CTRGCN/nturgb+d/4x2x64")
    assert subject == Subject("eval", "CTRGCN", "nturgb+d", 4, 2, 64)
    assert subject.name == "eval/CTRGCN/nturgb+d/4x2x64"
    unusual = subject._replace(classes=400, recompute=1)
    assert unusual.name == "eval/CTRGCN/nturgb+d/4x2x64/classes=400,recompute=1"
    assert Subject.parse(unusual.name) == unusual
    _, vary = SWEEPS["joints"]
    assert vary(subject, "coco").name == "eval/CTRGCN/coco/4x2x64"
    assert joints_of("coco_wholebody") == 133


def test_exponent_of_a_square_law():
    assert exponent([{"size": n, "seconds": 3.0 * n**2} for n in (10, 20, 40)]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("what", "unit"),
    [
        ("eval", "clips/s"),
        ("infer", "clips/s"),
        ("test", "samples of 10 clips/s"),
    ],
)
def test_the_tool_prints_rates_with_their_conditions(run, what, unit, tmp_path):
    result = run("benchmark", what, *SMALL, "--json", tmp_path / "out.json")
    assert result.code == 0, result.err
    assert re.match(r"processor .+, cores \d+, threads 1, python 3\.\d+", result.out)
    assert unit in result.out
    assert re.search(r"\d+\.\d\d  \(\d+\.\d\d to \d+\.\d\d\) +\d\.\d\d cores +\d+ MiB", result.out)
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["machine"]["threads"] == 1
    assert all(len(row["rounds"]) == 2 for row in saved["rows"])


def test_the_tool_compares_with_a_peer_and_stock_paddle(run, peer, tmp_path):
    result = run("benchmark", "train", *SMALL, "--peer", peer, "--stock")
    assert result.code == 0, result.err
    assert re.search(r"\n  stock Paddle .* x \d+\.\d\d", result.out)
    assert re.search(r"\n  peer .* x \d+\.\d\d", result.out)
    assert set((tmp_path / "log").read_text().split()) == {"train/STGCNPlusPlus/coco/2x1x8"}


@pytest.mark.parametrize("flags", [["--rounds", "0"], ["--threads", "0"], ["--frames", "-1"]])
def test_impossible_sizes_are_refused(run, flags):
    result = run("benchmark", "train", *flags)
    assert result.code == 2
    assert f"{flags[0]}: must be at least 1" in result.err


def test_ways_of_an_unknown_network_are_refused(run):
    result = run("benchmark", "test", *SMALL, "--model", "STGCM")
    assert result.code == 2
    assert "STGCM" in result.err


def test_memory_against_the_batch_size(run, peer):
    result = run("benchmark", "memory", *SMALL, "--peer", peer)
    assert re.search(r"batch +32: paddleskel \d+, peer \d+, recomputing \d+", result.out)


def test_processes_share_a_step(run):
    result = run("benchmark", "train", *SMALL, "--processes", "2")
    assert result.code == 0, result.err
    assert re.search(r"2 processes +\d+\.\d+ .* x \d", result.out)
    result = run("benchmark", "train", *SMALL, "--processes", "3")
    assert result.code == 2
    assert "3 processes cannot share 2 clips evenly" in result.err


def test_the_memory_of_the_process_that_starts_a_worker_is_not_counted(peer):
    code = "from paddleskel.benchmark.rounds import Worker; held = b'1' * 2**29; "
    code += f"worker = Worker({str(peer)!r}, 'one', 1); print(worker.run(0)['peak_mib']); worker.close()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert 0 < float(done.stdout) < 256, done.stderr


def test_recomputing_keeps_less_of_a_step():
    plain = Subject("train", "STGCNPlusPlus", "coco", 8, 2, 64)
    peaks = []
    for subject in (plain, plain._replace(recompute=1)):
        worker = Worker(OURS, subject.name, 1)
        peaks.append(worker.run(0)["peak_mib"])
        worker.close()
    assert peaks[1] < 0.8 * peaks[0]


def test_scaling_counts_processes_and_draws(run, tmp_path, monkeypatch):
    sweeps = {name: ((2, 3), vary) for name, (_, vary) in SWEEPS.items() if name in ("persons", "classes")}
    monkeypatch.setattr(studies, "SWEEPS", sweeps)
    monkeypatch.setattr(studies, "DATASETS", (40, 80))
    monkeypatch.setattr(studies, "processes", functools.partial(studies.processes, steps=2, channels=8))
    result = run("benchmark", "scaling", *SMALL, "--plot", tmp_path / "scaling.png", "--json", tmp_path / "out.json")
    assert result.code == 0, result.err
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["what"] for row in rows] == ["persons", "classes", "dataset", "processes"]
    assert rows[0]["step"] == "train/STGCNPlusPlus/coco/2x1x8"
    assert [len(row["rows"]) for row in rows] == [2, 2, 2, 1]
    pixels = imread(tmp_path / "scaling.png")
    assert pixels.shape[1] > pixels.shape[0]
    assert pixels[..., :3].min() < 0.3


@pytest.mark.parametrize(("step", "told"), [("matmul/8", "4"), ("stock:matmul/8", "None")])
def test_stock_paddle_is_not_told_of_the_processor(step, told):
    code = "import os; from paddleskel.benchmark.subjects import build; "
    code += f"build({step!r})(); print(os.environ.get('MKL_DEBUG_CPU_TYPE'))"
    environment = {**os.environ, "MKL_DEBUG_CPU_TYPE": "4"}  # runs on any x86
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == told, done.stderr


def test_processes_divide_the_threads(monkeypatch):
    ran = []

    def record(command, threads=None):
        ran.append(("launch" in " ".join(map(str, command)), threads))
        outputs = [word.removeprefix("output_dir=") for word in command if str(word).startswith("output_dir=")]
        for output in map(Path, outputs):
            output.mkdir(parents=True)
            (output / "metrics.jsonl").write_text(json.dumps({"clips_per_second": 10.0 * threads}) + "\n")

    monkeypatch.setattr(studies, "_run", record)
    rows = studies.processes((1, 2, 8), threads=4, rounds=1)
    assert ran == [(False, None), (False, 4), (True, 2), (True, 1)]  # the data, then the trainings
    assert [(row["size"], row["clips_per_second"]) for row in rows] == [(1, 40), (2, 20), (8, 10)]


def test_startup_is_measured_on_the_commands_themselves(run):
    result = run("benchmark", "startup", "--rounds", "1")
    assert result.code == 0, result.err
    assert re.search(r"main\.py to the first step: \d+\.\d\d s", result.out)
    assert re.search(r"predict\.py to the first answer: \d+\.\d\d s", result.out)


def test_the_makefile_names_measurements_that_exist():
    text = (ROOT / "Makefile").read_text()
    import benchmark

    assert set(re.findall(r"benchmark\.py (\w+)", text)) <= set(benchmark.WHAT)
