"""Batches of a dataset, prepared ahead of time by worker processes that may die."""

import contextlib
import multiprocessing
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

import numpy as np

from paddleskel.data.dataset import SkeletonDataset, collate
from paddleskel.data.sampler import BatchSampler
from paddleskel.errors import UserError

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # (N, clips, M, T, V, C), (N,) labels, (N,) positions
_AHEAD = 2  # batches a worker has been asked for
_ATTEMPTS = 3


@dataclass
class _Worker:
    process: multiprocessing.Process
    connection: Connection
    asked: deque = field(default_factory=deque)  # batches it owes, oldest first


class Loader:
    """Yields the batches of a sampler, in its order.

    Each worker is a process with a pipe of its own, and batch b belongs to worker b mod `num_workers`, so the loader
    knows what a worker owes: one that dies, or that gives no sign for `timeout` seconds, is reported, replaced and
    asked again. As a sample depends on the seed, the epoch and its position alone, nothing changes thereby. Shared
    memory is not used, so a small /dev/shm does not matter.

    Args:
        num_workers: 0 prepares batches in this process.
        timeout: seconds to wait for a batch.
        report: told of every worker that had to be replaced.
    """

    def __init__(
        self,
        dataset: SkeletonDataset,
        sampler: BatchSampler,
        num_workers: int = 0,
        timeout: float = 300.0,
        report: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    ):
        self.dataset, self.sampler, self.timeout, self.report = dataset, sampler, timeout, report
        self._workers: list[_Worker | None] = [None] * num_workers

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """Yield (inputs, labels, positions).

        Raises:
            UserError: a sample that cannot be prepared, or one on which worker after worker fails.
        """
        if not self._workers:
            for items in self.sampler:
                yield collate([self.dataset[item] for item in items])
            return
        self._forget()
        batches, number, owed = iter(self.sampler), 0, 0
        while True:
            while owed < _AHEAD * len(self._workers) and (items := next(batches, None)) is not None:
                self._ask((number + owed) % len(self._workers), items)
                owed += 1
            if not owed:
                return
            batch = self._receive(number % len(self._workers))
            number, owed = number + 1, owed - 1
            yield batch

    def close(self) -> None:
        """End the workers. The loader can be iterated again; it starts new ones then."""
        for slot, worker in enumerate(self._workers):
            if worker is not None:
                self._kill(worker)
                self._workers[slot] = None

    def _forget(self) -> None:
        """Drop what is still under way for an iteration that was left early."""
        if any(worker is not None and worker.asked for worker in self._workers):
            self.close()

    def _start(self) -> _Worker:
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
        ours, theirs = context.Pipe()
        # a forked worker holds copies of our ends; it closes them, so that it notices when this process ends
        copies = [worker.connection for worker in self._workers if worker] + [ours] if "fork" in methods else []
        process = context.Process(target=_work, args=(theirs, self.dataset, copies), daemon=True)
        try:
            process.start()
        except OSError as error:
            raise UserError(f"a data worker cannot be started: {error}; set DATASET.num_workers=0") from error
        theirs.close()
        return _Worker(process, ours)

    def _ask(self, slot: int, items: Sequence) -> None:
        worker = self._workers[slot]
        if worker is None:
            worker = self._workers[slot] = self._start()
        worker.asked.append(items)
        with contextlib.suppress(OSError):  # dead: noticed when its batch is due
            worker.connection.send(items)

    def _receive(self, slot: int) -> Batch:
        """Return the oldest batch a worker owes, from it or from the ones that follow it."""
        for attempt in range(1, _ATTEMPTS + 1):
            worker = self._workers[slot]
            ready = wait([worker.connection, worker.process.sentinel], self.timeout)
            if worker.connection in ready:
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    answer = None
                if answer is not None:
                    items = worker.asked.popleft()
                    return self._opened(answer, items)
            if not ready:
                ending = f"has not answered for {self.timeout:g} s"
            else:
                worker.process.join(5)
                ending = _ending(worker.process.exitcode)
            who = f"data worker {slot} (process {worker.process.pid}) {ending}"
            if attempt < _ATTEMPTS:
                self.report(f"{who}; it is replaced")
            asked = worker.asked
            self._kill(worker)
            self._workers[slot] = None
            for items in asked:
                self._ask(slot, items)
        raise UserError(
            f"{who}, as did {_ATTEMPTS - 1} before it, at the samples {self._names(asked[0])}; look at these samples "
            "and at the free memory, or set DATASET.num_workers=0"
        )

    def _opened(self, answer: tuple, items: Sequence) -> Batch:
        kind, content = answer
        if kind == "batch":
            return content
        if kind == "mistake":
            raise UserError(content)
        raise RuntimeError(f"while a worker prepared the samples {self._names(items)}:\n{content}")

    def _names(self, items: Sequence) -> str:
        positions = [item[0] if isinstance(item, tuple) else item for item in items]
        ids = [self.dataset.clips[position % len(self.dataset.clips)].id for position in positions]
        return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")

    def _kill(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _ending(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe"
    if exitcode < 0:
        name = signal.Signals(-exitcode).name if -exitcode in set(signal.Signals) else f"signal {-exitcode}"
        hint = ", as the system does when memory runs out" if exitcode == -signal.SIGKILL else ""
        return f"was ended by {name}{hint}"
    return f"ended with exit code {exitcode}"


def _work(connection: Connection, dataset: SkeletonDataset, copies: Sequence[Connection]) -> None:
    """A worker's life: prepare the batches that are asked for until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the trainer decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for copy in copies:
        copy.close()
    while True:
        try:
            items = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = ("batch", collate([dataset[item] for item in items]))
        except UserError as error:
            answer = ("mistake", str(error))
        except Exception:
            answer = ("failure", traceback.format_exc())
        try:
            connection.send(answer)
        except OSError:
            return
