"""Which checkpoints a run writes, keeps and resumes from."""

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from paddleskel.engine import distributed
from paddleskel.engine.progress import Progress, SavedRun, parse_run, save_run
from paddleskel.engine.settings import Settings
from paddleskel.errors import UserError
from paddleskel.files import remove_leftovers
from paddleskel.models.checkpoint import save_checkpoint


class Saver:
    """Writes a run's checkpoints, on the process that writes files.

    The state of the run goes to `last.pdopt`; the one before it stays as `previous.pdopt`, in case the newest turns out
    damaged. Numbered checkpoints are written before `last`, so that a kill in between loses none.

    Args:
        averaged: the network whose weights are for use, if that is another than the one in training.
        setup: what the run is (config, data, ...); saved with it, and compared when it is resumed.
        meta: saved with the weights.
        restored: what the run was resumed from.
        say: prints a line.
    """

    def __init__(
        self,
        settings: Settings,
        model: nn.Layer,
        optimizer: paddle.optimizer.Optimizer,
        scaler: paddle.amp.GradScaler,
        setup: dict[str, Any],
        meta: dict[str, Any],
        restored: SavedRun | None,
        say: Callable[[str], None],
        averaged: nn.Layer | None = None,
    ):
        self.settings, self.setup, self.meta, self.say = settings, setup, meta, say
        self.model, self.optimizer, self.scaler, self.averaged = model, optimizer, scaler, averaged
        self.restored = restored
        self.writes = distributed.rank() == 0
        self.failures: dict[Path, str] = {}
        self._saved_at = time.monotonic()
        if self.writes:
            remove_leftovers(settings.output)

    def is_due(self) -> bool:
        """Whether so much time has passed that the state should be saved in the middle of an epoch."""
        minutes = self.settings.save_minutes
        return self.writes and minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def save_state(self, progress: Progress, which: str = "last") -> None:
        """Write the state of the run."""
        path = self.settings.checkpoint(which).with_suffix(".pdopt")
        previous = self.settings.checkpoint("previous").with_suffix(".pdopt") if which == "last" else None
        state = (self.model, self.optimizer, self.scaler, progress, self.setup, self.averaged, self.restored)
        self._attempt(path, lambda: save_run(path, *state, previous))
        self._saved_at = time.monotonic()

    def save_weights(self, which: str, record: dict) -> None:
        """Write the weights alone, with the scores of their epoch."""
        path, meta = self.settings.checkpoint(which), {**self.meta, "metrics": record}
        network = self.model if self.averaged is None else self.averaged
        self._attempt(path, lambda: save_checkpoint(path, network, meta))

    def end_of_epoch(self, progress: Progress, record: dict, numbered: bool) -> None:
        """Write what an epoch's end asks for, and remove numbered checkpoints beyond the `keep` newest."""
        if numbered:
            which = f"epoch_{progress.epoch:05d}"
            self.save_weights(which, record)
            self.save_state(progress, which)
        self.save_weights("last", record)
        self.save_state(progress)
        if self.writes and self.settings.keep is not None:
            for path in numbered_states(self.settings)[self.settings.keep :]:
                with contextlib.suppress(OSError):
                    path.with_suffix(".pdparams").unlink(missing_ok=True)
                    path.unlink(missing_ok=True)

    @property
    def failure(self) -> str | None:
        """What became of the last or the best checkpoint, if its latest save failed."""
        needed = [text for path, text in self.failures.items() if "_epoch_" not in path.name]
        return needed[0] if needed else None

    def _attempt(self, path: Path, write: Callable[[], None]) -> None:
        if not self.writes:
            return
        try:
            write()
            self.failures.pop(path, None)
        except UserError as error:
            if self.settings.on_save_error == "stop":
                raise UserError(f"{error}. Training stops (on_save_error: stop); what was saved is whole") from error
            self.failures[path] = str(error)
            self.say(f"WARNING: {error}. Training goes on (on_save_error: continue); the next save tries again")


def numbered_states(settings: Settings) -> list[Path]:
    """Return the .pdopt files of numbered checkpoints, newest first."""
    pattern = re.compile(re.escape(settings.model_name) + r"_epoch_(\d{5,})\.pdopt")
    found = [path for path in settings.output.glob("*.pdopt") if pattern.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(pattern.fullmatch(path.name)[1]), reverse=True)


def find_run(settings: Settings, resume: str | None) -> tuple[SavedRun | None, list[str]]:
    """Return the run to continue, read by rank 0 and passed to all, and remarks.

    Raises:
        UserError: the file asked for cannot be used; or there are files, and none of them can.
    """
    if resume is None:
        return None, []
    if distributed.rank() > 0:
        data = distributed.from_first(None)
        path, _, data = data.partition(b"\0")
        return (parse_run(data, Path(path.decode())), []) if path else (None, [])
    try:
        data, path, notes = _read_given(resume) if resume != "auto" else _read_newest(settings)
    except UserError:
        distributed.from_first(b"")
        raise
    distributed.from_first(str(path).encode() + b"\0" + data if path else b"")
    return parse_run(data, path) if path else None, notes


def _read_given(resume: str) -> tuple[bytes, Path, list[str]]:
    path = Path(resume).with_suffix(".pdopt")
    data = _read(path, f"--resume {resume}: ")
    parse_run(data, path)
    return data, path, []


def _read_newest(settings: Settings) -> tuple[bytes, Path | None, list[str]]:
    fixed = [settings.checkpoint(which).with_suffix(".pdopt") for which in ("last", "previous")]
    candidates = [path for path in fixed if path.is_file()] + numbered_states(settings)
    problems = []
    for path in candidates:
        try:
            data = _read(path)
            parse_run(data, path)
        except UserError as error:
            problems.append(f"WARNING: {error}")
        else:
            return data, path, problems
    if problems:
        raise UserError(
            f"--resume auto: none of the {len(candidates)} checkpoints in {settings.output} can be used; the newest: "
            f"{problems[0].removeprefix('WARNING: ')}. Without --resume training starts anew"
        )
    return b"", None, []


def _read(path: Path, where: str = "") -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{where}{path}: no such file; it holds the state of a run, beside its .pdparams") from error
    except OSError as error:
        raise UserError(f"{where}{path}: cannot be read: {error.strerror or error}") from error


def changes(old: Any, new: Any, where: str = "") -> list[str]:
    """Return one line for every value that differs between two nested records, as "a.b.0: 1 -> 2"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        inner = [(key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        inner = [(number, *pair) for number, pair in enumerate(zip(old, new))]
    else:
        return [] if old == new else [f"{where}: {_spoken(old)} -> {_spoken(new)}"]
    return [line for key, a, b in inner for line in changes(a, b, f"{where}.{key}" if where else str(key))]


_ABSENT = object()


def _spoken(value: Any) -> str:
    return "(not set)" if value is _ABSENT else repr(value)
