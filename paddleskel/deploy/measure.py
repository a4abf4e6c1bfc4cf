"""Latency, throughput and memory of prediction."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from paddleskel.memory import peak_mib


@dataclass
class Meter:
    """Times the batches of a loop.

    Attributes:
        seconds: of each batch. samples: in all.
    """

    seconds: list[float] = field(default_factory=list)
    samples: int = 0
    started: float = field(default_factory=time.perf_counter)

    def watch(self, results: Iterable, batch_size: int) -> Iterator:
        """Yield what `results` yields, timing how long each batch of it takes to come."""
        start, count = time.perf_counter(), 0
        for result in results:
            if count == 0:
                self.seconds.append(time.perf_counter() - start)
            count = (count + 1) % batch_size
            self.samples += 1
            yield result
            if count == 0:
                start = time.perf_counter()

    def lines(self) -> list[str]:
        """The report. The first batch, in which engines prepare themselves, is left out where there are others."""
        times = np.array(self.seconds[1:] or self.seconds) * 1e3
        total = time.perf_counter() - self.started
        if not len(times):
            return ["benchmark: no sample"]
        p50, p90, p95, p99 = np.percentile(times, [50, 90, 95, 99])
        return [
            f"benchmark: {self.samples} samples in {len(self.seconds)} batches, preprocessing included",
            f"    latency a batch, ms: mean {times.mean():.2f}  p50 {p50:.2f}  p90 {p90:.2f}  p95 {p95:.2f}  "
            f"p99 {p99:.2f}  max {times.max():.2f}",
            f"    throughput: {self.samples / total:.1f} samples/s, reading included",
            f"    peak memory: {peak_mib():.0f} MiB",
        ]
