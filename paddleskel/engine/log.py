"""What a run says: lines on the console and in train.log, one JSON line an epoch, curves at the end.

The lines have PaddleVideo's wording, so that scripts which read its logs read these. On a terminal the steps of an
epoch are one progress bar instead; train.log always holds the lines.
"""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from paddleskel.errors import UserError
from paddleskel.files import write_atomically


class Log:
    """Print lines and append them to a file.

    Args:
        path: the file; None prints only.
        quiet: print nothing (processes other than the first).
    """

    def __init__(self, path: Path | None = None, quiet: bool = False):
        self.file: TextIO | None = open(path, "a", encoding="utf-8") if path else None
        self.quiet, self.broken = quiet, False
        self.interactive = sys.stdout.isatty() and not quiet

    def line(self, text: str, console: bool = True) -> None:
        """Write one line, stamped with the time."""
        stamped = f"[{datetime.now():%m/%d %H:%M:%S}] {text}"
        if console and not self.quiet:
            tqdm.write(stamped, file=sys.stdout)
            sys.stdout.flush()
        if self.file:
            self.broken = _write(self.file, stamped, self.broken)

    def close(self) -> None:
        if self.file:
            with contextlib.suppress(OSError):
                self.file.close()


def _write(file: TextIO, line: str, broken: bool) -> bool:
    """Append a line; return whether that failed, which is said once: a full disk must not end a run for its log."""
    try:
        file.write(line + "\n")
        file.flush()
    except OSError as error:
        if not broken:
            print(f"WARNING: {file.name}: cannot be written: {error.strerror or error}", file=sys.stderr)
        return True
    return False


class EpochProgress:
    """The steps of one epoch: a bar on a terminal, a line every `interval` steps elsewhere and in the file.

    Args:
        mode: "train" or "val".
        steps: in this epoch; steps_left: in the epochs after it, for the eta.
    """

    def __init__(
        self, log: Log, mode: str, epoch: int, epochs: int, steps: int, steps_left: int = 0, interval: int = 10
    ):
        self.log, self.mode, self.epoch, self.epochs = log, mode, epoch, epochs
        self.steps, self.steps_left, self.interval = steps, steps_left, interval
        self.start = self.last = time.perf_counter()
        self.reading = self.computing = 0.0
        self.since_line = [0, 0.0, 0.0, 0]  # steps, seconds, of them reading, samples
        self.samples = 0
        self.bar = None
        if log.interactive:
            screen = shutil.get_terminal_size((100, 24))  # tqdm believes terminals that say 0 x 0
            self.bar = tqdm(
                total=steps,
                desc=f"epoch {epoch}/{epochs} {mode}",
                unit="step",
                leave=False,
                ncols=screen.columns,
                nrows=screen.lines,
                bar_format="{desc} {bar} {n}/{total}{postfix}",
            )

    def got_batch(self) -> None:
        """Mark that the step's batch has arrived."""
        self.reading = time.perf_counter() - self.last

    def wants_values(self, step: int) -> bool:
        """Whether `step` will be reported, so that its values are worth fetching from the device."""
        return step % self.interval == 0 or step == self.steps - 1

    def step_done(self, step: int, samples: int, values: Mapping[str, float] | None) -> None:
        """Count a step; report `values` if it is one of those that `wants_values`."""
        now = time.perf_counter()
        self.since_line = [a + b for a, b in zip(self.since_line, (1, now - self.last, self.reading, samples))]
        self.samples += samples
        self.last = now
        if self.bar is not None:
            self.bar.update()
        if values is None:
            return
        count, seconds, reading, seen = self.since_line
        rate = seen / seconds if seconds else 0.0
        eta = (self.steps - step - 1 + self.steps_left) * seconds / count
        said = " ".join(
            f"{key}: {value:.6f}" if key == "lr" else f"{key}: {value:.5f}" for key, value in values.items()
        )
        self.log.line(
            f"epoch:[{self.epoch:3d}/{self.epochs:<3d}] {self.mode} step:{step:<4d} {said} "
            f"batch_cost: {seconds / count:.5f} sec, reader_cost: {reading / count:.5f} sec, "
            f"ips: {rate:.5f} instance/sec, eta: {spoken_time(eta)}",
            console=self.bar is None,
        )
        if self.bar is not None:
            self.bar.set_postfix_str(
                " ".join(f"{k} {v:.3g}" for k, v in values.items()) + f" {rate:.1f} clips/s eta {spoken_time(eta)}"
            )
        self.since_line = [0, 0.0, 0.0, 0]

    def finish(self, values: Mapping[str, float]) -> float:
        """Write the epoch's summary; return its clips a second."""
        seconds = max(time.perf_counter() - self.start, 1e-9)
        if self.bar is not None:
            self.bar.close()
        said = " ".join(f"{key}_avg: {value:.5f}" for key, value in values.items())
        self.log.line(
            f"END epoch:{self.epoch:<3d} {self.mode} {said} avg_batch_cost: {seconds / max(self.steps, 1):.5f} sec, "
            f"batch_cost_sum: {seconds:.5f} sec, avg_ips: {self.samples / seconds:.5f} instance/sec."
        )
        return self.samples / seconds


def spoken_time(seconds: float) -> str:
    """1:02:03."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the epochs' records in metrics.jsonl, none where it is missing; a half-written last line is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


class Scalars:
    """Per-epoch numbers: metrics.jsonl, VisualDL where it is installed, curves.png at the end.

    Args:
        folder: where the files go.
        records: of the epochs before, when resuming; the file starts with them.
    """

    def __init__(self, folder: Path, records: Sequence[dict[str, Any]] = ()):
        self.folder, self.broken = folder, False
        self.records = list(records)
        path = folder / "metrics.jsonl"
        write_atomically(path, "".join(json.dumps(record) + "\n" for record in self.records))
        self.file = open(path, "a", encoding="utf-8")
        try:
            from visualdl import LogWriter
        except ImportError:
            self.visualdl = None
        else:
            self.visualdl = LogWriter(logdir=str(folder / "vdl"))

    def add(self, record: dict[str, Any]) -> None:
        """Write one epoch's record; it has "epoch", counted from 1."""
        self.records.append(record)
        self.broken = _write(self.file, json.dumps(record), self.broken)
        for key, value in record.items() if self.visualdl else ():
            if key != "epoch" and isinstance(value, (int, float)):
                self.visualdl.add_scalar(tag=key, value=value, step=record["epoch"])

    def close(self) -> None:
        """Draw the curves and close the files."""
        from paddleskel.report.curves import draw_curves

        with contextlib.suppress(OSError):
            self.file.close()
        if self.visualdl:
            self.visualdl.close()
        try:
            if self.records:
                draw_curves(self.records, self.folder / "curves.png")
        except UserError as error:
            print(f"WARNING: {error}", file=sys.stderr)
