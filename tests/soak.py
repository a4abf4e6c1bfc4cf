"""Kill a short training again and again, resume it each time, and compare the end with an undisturbed run.

    python tests/soak.py --kills 100

Each run is interrupted by SIGKILL or SIGTERM at a random moment: while it reads, trains, validates or saves. What must
hold: the final weights and the state of the run have the same bits, metrics.jsonl has every epoch once with the same
numbers, every numbered checkpoint is there and whole, and no unfinished file is left. If a run ends before all kills
are delivered, another begins.

With --fresh every start is a new `python main.py`; otherwise a process that has imported everything forks, which saves
seconds each time and is killed just the same.
"""

import argparse
import json
import os
import pickle
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CONFIG = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"
NAME = "STGCN_PlusPlus_toy"
TIMED = ("seconds", "clips_per_second", "memory_mb")


def arguments_of(data: Path, folder: Path, epochs: int, workers: int) -> list[str]:
    """The arguments of main.py: a tiny network with dropout, saving its state after every step."""
    options = [
        *(f"DATASET.{part}.file={data}" for part in ("train", "valid", "test")),
        "MODEL.backbone.base_channels=8", "MODEL.backbone.num_stages=2", "MODEL.backbone.inflate_stages=[2]",
        "MODEL.backbone.down_stages=[2]", "MODEL.backbone.tcn_dropout=0.2", "PIPELINE.UniformSample.clip_len=16",
        f"DATASET.num_workers={workers}", f"epochs={epochs}", f"output_dir={folder}", "save_minutes=0.0",
        "save_interval=2", "log_interval=1",
    ]  # fmt: skip
    return ["-c", CONFIG, "--validate", "--resume", "auto", *(part for option in options for part in ("-o", option))]


class Training:
    """One process that trains; its output comes through a pipe."""

    def __init__(self, arguments: list[str], fresh: bool):
        reading, writing = os.pipe()
        self.output = reading
        if fresh:
            command = [sys.executable, "main.py", *arguments]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=writing, stderr=subprocess.STDOUT)
            self.pid = self.process.pid
        else:
            self.pid = os.fork()
            if self.pid == 0:
                self._become(arguments, writing)
        os.close(writing)
        self.text = b""

    def _become(self, arguments: list[str], writing: int) -> None:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        os.chdir(ROOT)
        code = 1
        try:
            import main

            code = main.main(arguments)
        finally:
            os._exit(code)

    def read(self, seconds: float) -> bool:
        """Take in output for at most so long; return False at its end."""
        if select.select([self.output], [], [], seconds)[0]:
            data = os.read(self.output, 65536)
            self.text += data
            return bool(data)
        return True

    def wait(self) -> int:
        """Take in the rest; return the exit code, negative for a signal."""
        while self.read(60):
            pass
        os.close(self.output)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def interrupt(training: Training, rng: random.Random) -> int | None:
    """Kill a training at a random moment; return the signal, or None if it ended by itself before."""
    number = rng.choice([signal.SIGKILL, signal.SIGTERM])
    mark = b"resuming" if rng.random() < 0.2 else b"train step"  # before its first step, or in its course
    while mark not in training.text and training.read(60):
        pass
    until = time.monotonic() + rng.uniform(0, 0.4)
    while time.monotonic() < until:
        if not training.read(max(0.0, until - time.monotonic())):
            return None
    os.kill(training.pid, number)
    return number


def compare(whole: Path, soaked: Path, epochs: int) -> list[str]:
    """Return what differs between an undisturbed run and one that was killed."""
    from paddleskel.models.checkpoint import read_checkpoint

    problems = []
    names = {path.name for path in whole.iterdir()} - {f"{NAME}_previous.pdopt"}
    problems += [f"{name} is missing" for name in sorted(names - {path.name for path in soaked.iterdir()})]
    problems += [f"{path.name} was left behind" for path in soaked.glob(".*")]
    for name in sorted(name for name in names if name.endswith((".pdparams", ".pdopt"))):
        a, b = read_checkpoint(whole / name), read_checkpoint(soaked / name)
        if a.state.keys() != b.state.keys() or not all(np.array_equal(a.state[key], b.state[key]) for key in a.state):
            problems.append(f"{name} has other values")
    records = [read_records(folder) for folder in (whole, soaked)]
    if [record["epoch"] for record in records[1]] != list(range(1, epochs + 1)):
        problems.append(f"metrics.jsonl has the epochs {[record['epoch'] for record in records[1]]}")
    elif records[0] != records[1]:
        problems.append("metrics.jsonl has other numbers")
    return problems


def read_records(folder: Path) -> list[dict]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMED} for record in records]


def soak(kills: int, seed: int, epochs: int, workers: int, fresh: bool, folder: Path) -> list[str]:
    """Run the whole test; return what went wrong."""
    from paddleskel.data.sources.toy import make_toy

    rng, data = random.Random(seed), folder / "toy.pkl"
    data.write_bytes(pickle.dumps(make_toy("2d", subjects=4, repeats=2)))
    first = Training(arguments_of(data, folder / "whole", epochs, 0), fresh)
    if code := first.wait():
        return [f"the undisturbed run ended with {code}: {first.text.decode()[-2000:]}"]
    delivered, rounds, counts = 0, 0, {}
    while delivered < kills:
        rounds += 1
        target = folder / f"soaked_{rounds}"
        code = None
        while code != 0:
            training = Training(arguments_of(data, target, epochs, workers), fresh)
            sent = interrupt(training, rng) if delivered < kills else None
            code = training.wait()
            allowed = {None: (0,), signal.SIGKILL: (-9,), signal.SIGTERM: (-15, 143, 0)}[sent]
            if code not in (*allowed, 0):
                return [f"after {delivered} kills a run ended with {code}: {training.text.decode()[-2000:]}"]
            if sent is not None and code != 0:
                delivered += 1
                counts[sent.name] = counts.get(sent.name, 0) + 1
        if problems := compare(folder / "whole", target, epochs):
            return [f"round {rounds}, after {delivered} kills: {problem}" for problem in problems]
        shutil.rmtree(target)
    said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(
        f"{delivered} kills ({said}) in {rounds} runs of {epochs} epochs: every end has the bits of the undisturbed run"
    )
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0, help="data workers of the killed runs")
    parser.add_argument("--fresh", action="store_true", help="start a new `python main.py` each time")
    flags = parser.parse_args()
    import paddleskel.engine.trainer  # what forked trainings need

    assert paddleskel
    with tempfile.TemporaryDirectory() as folder:
        problems = soak(flags.kills, flags.seed, flags.epochs, flags.workers, flags.fresh, Path(folder))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
