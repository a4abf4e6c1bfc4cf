"""Rounds: workers run in turns, so that what else the machine does hits all of them alike."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paddleskel.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def thread_variables(threads: int) -> dict[str, str]:
    """What a process that is started finds in its environment, to use so many threads."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


class Worker:
    """A step in a process of its own (see worker.py).

    Args:
        module: importable name or .py file with `build(name)`. name: what to build.
        threads: CPU threads, and as many cores to run on.
        python: the interpreter; the peer's may differ from this one.
        share: how much of what the others do in a step this one does.
    """

    def __init__(
        self,
        module: str,
        name: str,
        threads: int,
        python: str = sys.executable,
        share: float = 1.0,
    ):
        variables = {**os.environ, **thread_variables(threads)}
        variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), variables.get("PYTHONPATH", "")])
        command = [python, str(Path(__file__).with_name("worker.py")), module, name]
        self.module, self.name, self.share = module, name, share
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables
        )
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))[:threads]
            os.sched_setaffinity(self._process.pid, cores)
        self.ready = self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().strip().splitlines() or ["no message"]
            why = said[-1].removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")
            raise UserError(f"{self.module}: building '{self.name}' failed: {why}")
        return json.loads(line)

    def run(self, seconds: float) -> dict:
        """Run the step for that long; return the worker's answer."""
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()


@dataclass
class Series:
    """What one worker did in all rounds.

    Attributes:
        rates: units a second, one a round. cores: kept busy, on average. peak_mib: largest resident memory.
    """

    rates: list[float] = field(default_factory=list)
    cores: float = 0.0
    peak_mib: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    def spread(self) -> str:
        """The slowest and the fastest round."""
        return f"{min(self.rates):.2f} to {max(self.rates):.2f}"


def run_rounds(workers: Sequence[Worker], units: float, rounds: int, seconds: float) -> list[Series]:
    """Run every worker once a round, in turns; `units` are done by one step (clips, say)."""
    series = [Series() for _ in workers]
    busy = [[0.0, 0.0] for _ in workers]
    for _ in range(rounds):
        for i, worker in enumerate(workers):
            answer = worker.run(seconds)
            series[i].rates.append(units * worker.share * answer["steps"] / answer["seconds"])
            series[i].peak_mib = answer["peak_mib"]
            busy[i][0] += answer["cpu_seconds"]
            busy[i][1] += answer["seconds"]
    for one, (cpu, wall) in zip(series, busy):
        one.cores = cpu / wall
    return series


def ratio(ours: Series, peer: Series) -> float:
    """Median over the rounds of ours over the peer's: both sides of a round met the same machine."""
    return statistics.median(a / b for a, b in zip(ours.rates, peer.rates))
