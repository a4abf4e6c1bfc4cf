"""Measurements that are more than a step in rounds: start-up, and cost against size."""

import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from paddleskel import runtime
from paddleskel.benchmark.rounds import ROOT, Worker, run_rounds, thread_variables
from paddleskel.benchmark.subjects import Subject
from paddleskel.errors import UserError
from paddleskel.files import write_atomically

DATASETS = (1_000, 8_000, 64_000)  # clips
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


def _run(command: Sequence[str], threads: int | None = None) -> None:
    """Run a command of the project. threads: default: as many as this process was given."""
    environment = {**os.environ, **thread_variables(threads or runtime.cpu_threads())}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise UserError(f"{' '.join(map(str, command))}: {done.stderr.strip().splitlines()[-1]}")


# what is varied: name -> (sizes, the subject of a size)
SWEEPS = {
    "frames": ((50, 100, 200, 300), lambda subject, size: subject._replace(frames=size)),
    "persons": ((1, 2, 4, 6), lambda subject, size: subject._replace(persons=size)),
    "batch": ((4, 8, 16, 32), lambda subject, size: subject._replace(batch=size)),
    "classes": ((10, 60, 120, 400), lambda subject, size: subject._replace(classes=size)),
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
    """Time and memory of a step against one size, all sizes in turns.

    Returns {"size", "seconds", "peak_mib"} for each size.
    """
    sizes, vary = SWEEPS[what]
    workers = [Worker("paddleskel.benchmark.subjects", vary(subject, size).name, threads) for size in sizes]
    found = run_rounds(workers, 1, rounds, seconds)
    for worker in workers:
        worker.close()
    return [
        {"size": joints_of(size), "seconds": 1 / series.median, "peak_mib": series.peak_mib}
        for size, series in zip(sizes, found)
    ]


def processes(
    counts: Sequence[int], threads: int, rounds: int, steps: int = 20, channels: int = 64
) -> list[dict[str, float]]:
    """Training speed of ST-GCN++ on the toy set with 1, 2, ... processes that share threads and exchange gradients.

    threads: in all. channels: of the first stage. The numbers of processes take turns.

    Returns {"size", "seconds", "clips_per_second"} for each number; seconds are those of a step of 16 clips in all.
    """
    speeds: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        toy = Path(folder) / "toy.pkl"
        make = ["tools/prepare_data.py", "toy", "--subjects", "12", "--repeats", "3", "--out", str(toy)]
        _run([sys.executable, *make])
        for turn in range(rounds):
            for count in counts:
                output = Path(folder, f"{turn}-{count}")
                options = [f"DATASET.{part}.file={toy}" for part in ("train", "valid", "test")]
                options += [f"output_dir={output}", "epochs=1", f"DATASET.batch_size={16 // count}"]
                options += [f"max_iters={steps}", "log_interval=1000", f"MODEL.backbone.base_channels={channels}"]
                launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(count)] if count > 1 else []
                words = [word for option in options for word in ("-o", option)]
                _run([sys.executable, *launch, "main.py", "-c", CONFIG, *words], max(1, threads // count))
                record = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
                speeds[count].append(record["clips_per_second"])
    medians = {count: statistics.median(found) for count, found in speeds.items()}
    return [{"size": count, "seconds": 16 / speed, "clips_per_second": speed} for count, speed in medians.items()]


def draw(sweeps: Sequence[dict], path: Path) -> None:
    """Plot a step's time against each size, beside a line in proportion where it should be one; write a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    size = (3.2 * len(sweeps), 3.2)
    figure, axes = pyplot.subplots(1, len(sweeps), figsize=size, layout="constrained", squeeze=False)
    for axis, sweep_ in zip(axes[0], sweeps):
        sizes = [row["size"] for row in sweep_["rows"]]
        times = [1000 * row["seconds"] for row in sweep_["rows"]]
        axis.plot(sizes, times, marker="o", label="measured")
        if sweep_["what"] in SWEEPS and sweep_["what"] != "classes":
            linear = [times[-1] * size / sizes[-1] for size in sizes]
            axis.plot(sizes, linear, linestyle="--", color="gray", label="in proportion")
        axis.set(xlabel=sweep_["what"], ylim=(0, 1.1 * max(times)))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("ms a step (dataset: a batch)")
    axes[0][0].legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    pyplot.close(figure)
    write_atomically(path, image.getvalue())


def exponent(rows: Sequence[dict[str, float]]) -> float:
    """The slope of log time over log size: 1 for a cost in proportion to the size."""
    x, y = [math.log(row["size"]) for row in rows], [math.log(row["seconds"]) for row in rows]
    return statistics.linear_regression(x, y).slope
