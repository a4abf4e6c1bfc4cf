"""Requests to end a run: signals, and a file that a scheduler creates."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from paddleskel.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PREEMPTED = 75  # EX_TEMPFAIL: run it again later
_LOOK_EVERY = 1.0  # seconds between looks at the file, which may lie on a network


class StopRequest:
    """Notes SIGTERM, SIGINT (Ctrl-C) and the appearance of a file, for the run to act on when its state is whole.

    Use as a context manager; a second signal ends the process at once.

    Args:
        file: path whose existence asks the run to end.
    """

    def __init__(self, file: str | None = None):
        self.file, self.signal = file, None
        self._looked = self._old = None
        self._found = False

    def __enter__(self) -> "StopRequest":
        numbers = _SIGNALS if threading.current_thread() is threading.main_thread() else ()  # others may not listen
        self._old = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_exception: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def __bool__(self) -> bool:
        now = time.monotonic()
        if self.file and not self._found and (self._looked is None or now - self._looked >= _LOOK_EVERY):
            self._looked, self._found = now, os.path.exists(self.file)
        return self.signal is not None or self._found

    def ending(self, saved: str) -> Interrupted:
        """Return the exception that ends the command. saved: what was saved, for the message."""
        if self.signal is not None:
            return Interrupted(f"stopped by {signal.Signals(self.signal).name}: {saved}", 128 + self.signal)
        if self._found:
            return Interrupted(f"stopped because {self.file} exists: {saved}", _PREEMPTED)
        return Interrupted(f"stopped at the request of another process: {saved}", 128 + signal.SIGTERM)
