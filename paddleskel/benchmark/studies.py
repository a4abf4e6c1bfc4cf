"""Measurements that are more than a step in rounds: start-up, and cost against size."""

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from paddleskel.benchmark.rounds import ROOT, Worker, run_rounds
from paddleskel.benchmark.subjects import Subject
from paddleskel.errors import UserError

CONFIG = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"


def seconds_until(command: Sequence[str], text: str) -> float:
    """Run a command of the project until it prints `text`; return the seconds that took, and stop it."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if text in line:
                return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    raise UserError(f"{' '.join(map(str, command))}: ended without '{text}': {''.join(said[-2:]).strip()}")


def startup(rounds: int) -> dict[str, list[float]]:
    """Seconds from the command to main.py's first step and to predict.py's first answer, on the toy set."""
    with tempfile.TemporaryDirectory() as folder:
        toy = Path(folder) / "toy.pkl"
        tool = lambda name, *arguments: [sys.executable, f"tools/{name}.py", *map(str, arguments)]
        _run(tool("prepare_data", "toy", "--subjects", 4, "--repeats", 1, "--out", toy))
        options = [f"DATASET.{part}.file={toy}" for part in ("train", "valid", "test")]
        options += [f"output_dir={folder}/run", "epochs=1", "log_interval=1"]
        options = [word for option in options for word in ("-o", option)]
        train = [sys.executable, "main.py", "-c", CONFIG, *options]
        _run([*train, "--max_iters", "1"])
        weights = next(Path(folder, "run").glob("*_last.pdparams"))
        _run(tool("export_model", "-c", CONFIG, "-p", weights, "-o", f"{folder}/bundle"))
        sample = Path(folder) / "toy_sample.pkl"
        predict = tool("predict", "--model", f"{folder}/bundle", "--input_file", sample)
        times: dict[str, list[float]] = {"main.py to the first step": [], "predict.py to the first answer": []}
        for _ in range(rounds):
            times["main.py to the first step"].append(seconds_until(train, "train step:0"))
            times["predict.py to the first answer"].append(seconds_until(predict, "top-1 score:"))
    return times


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(map(str, command))}: {done.stderr.strip().splitlines()[-1]}")


# what is varied: name -> (sizes, the subject of a size)
SWEEPS = {
    "frames": ((50, 100, 200, 300), lambda subject, size: subject._replace(frames=size)),
    "persons": ((1, 2, 4, 6), lambda subject, size: subject._replace(persons=size)),
    "batch": ((4, 8, 16, 32), lambda subject, size: subject._replace(batch=size)),
    "joints": (
        ("coco", "nturgb+d", "mediapipe_pose", "coco_wholebody"),
        lambda subject, layout: subject._replace(layout=layout),
    ),
}


def joints_of(size: int | str) -> int:
    """A size as a number: a layout's is its joints."""
    if isinstance(size, int):
        return size
    from paddleskel.skeleton.layout import load_layout

    return load_layout(size).num_joints


def sweep(what: str, subject: Subject, threads: int, rounds: int, seconds: float) -> list[dict[str, float]]:
    """Time and memory of a step against one size. Returns {"size", "seconds", "peak_mib"} for each size."""
    sizes, vary = SWEEPS[what]
    rows = []
    for size in sizes:
        worker = Worker("paddleskel.benchmark.subjects", vary(subject, size).name, threads)
        series = run_rounds([worker], 1, rounds, seconds)[0]
        worker.close()
        rows.append({"size": joints_of(size), "seconds": 1 / series.median, "peak_mib": series.peak_mib})
    return rows


def exponent(rows: Sequence[dict[str, float]]) -> float:
    """The slope of log time over log size: 1 for a cost in proportion to the size."""
    x, y = [math.log(row["size"]) for row in rows], [math.log(row["seconds"]) for row in rows]
    return statistics.linear_regression(x, y).slope
