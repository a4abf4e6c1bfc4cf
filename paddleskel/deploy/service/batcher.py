"""Dynamic batching: requests that arrive together run through the network together."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np


class Overloaded(Exception):
    """More work waits than the service promises to do."""


class Batcher:
    """Collect prepared clips for a moment and score them in one run, on a thread of its own.

    Args:
        score: list of (clips, M, T, V, C) -> (N, classes).
        max_batch: clips a run. wait: seconds the first of a batch waits for others. max_waiting: clips in the queue.
        on_batch: told the size of every batch.
    """

    def __init__(
        self,
        score: Callable[[Sequence[np.ndarray]], np.ndarray],
        max_batch: int = 16,
        wait: float = 0.004,
        max_waiting: int = 256,
        on_batch: Callable[[int], None] = lambda size: None,
    ):
        self._score, self.max_batch, self.wait, self._on_batch = score, max_batch, wait, on_batch
        self._queue: asyncio.Queue = asyncio.Queue(max_waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._task: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    async def submit(self, inputs: np.ndarray) -> np.ndarray:
        """Return the probabilities, (classes,), of one prepared clip.

        Raises:
            Overloaded: the queue is full.
        """
        result = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((inputs, result))
        except asyncio.QueueFull as error:
            raise Overloaded from error
        return await result

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Finish everything that was submitted, then stop."""
        await self._queue.join()
        if self._task:
            self._task.cancel()
        self._thread.shutdown()

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            deadline = asyncio.get_running_loop().time() + self.wait
            while len(batch) < self.max_batch:
                left = deadline - asyncio.get_running_loop().time()
                try:
                    batch.append(await asyncio.wait_for(self._queue.get(), max(0.0, left)))
                except (asyncio.TimeoutError, TimeoutError):
                    break
            await self._run(batch)

    async def _run(self, batch: list[tuple[np.ndarray, asyncio.Future]]) -> None:
        self._on_batch(len(batch))
        try:
            loop = asyncio.get_running_loop()
            probs = await loop.run_in_executor(self._thread, self._score, [inputs for inputs, _ in batch])
            for (_, result), row in zip(batch, probs):
                if not result.done():  # whoever asked may have gone
                    result.set_result(row)
        except Exception as error:  # an engine's failure belongs to those who asked, and the service goes on
            for _, result in batch:
                if not result.done():
                    result.set_exception(error)
        finally:
            for _ in batch:
                self._queue.task_done()
