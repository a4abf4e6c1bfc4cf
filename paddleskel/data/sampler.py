"""Which samples make up which batch, on which process."""

from collections.abc import Callable, Iterator

import numpy as np


class BatchSampler:
    """Batches of (position, epoch) for the data loader.

    In training there is one order of an epoch and one cut into global batches of `batch_size` times `world_size`
    samples; each process takes every `world_size`-th sample of a global batch. So 1 process with batches of 16 and 2
    processes with batches of 8 take the same steps on the same samples. Where the last global batch has too few samples
    for all, a process without one repeats the batch's first sample, with weight 0.

    In evaluation order is kept, each batch goes whole to one process and none is repeated.

    Args:
        length: samples in the dataset.
        batch_size: of one process.
        shuffle: training (True) or evaluation (False).
        drop_last: leave out the last, smaller global batch of an epoch.
        draw: gives the positions of an epoch, `length` of them in random order; default: each once.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        draw: Callable[[np.random.RandomState], np.ndarray] | None = None,
    ):
        self.length, self.batch_size, self.shuffle, self.seed = length, batch_size, shuffle, seed
        self.drop_last, self.rank, self.world_size = drop_last, rank, world_size
        self.draw = draw
        self.epoch = 0
        self.first_batch = 0

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch whose order the next iteration takes; skip the batches before `first_batch`."""
        self.epoch, self.first_batch = epoch, first_batch

    def order(self) -> np.ndarray:
        """Return the positions of the epoch in the order all processes together go through them."""
        if not self.shuffle:
            return np.arange(self.length)
        rng = np.random.RandomState([self.seed % 2**32, self.epoch])
        return rng.permutation(self.length) if self.draw is None else self.draw(rng)

    def weight(self, batch: int) -> float:
        """Return what the mean over this process's part of a training batch counts for in the mean over processes:
        the part's size over the mean size of the parts.
        """
        whole = min((batch + 1) * self._cut, self.length) - batch * self._cut
        mine = len(range(self.rank, whole, self.world_size))
        return mine * self.world_size / whole

    @property
    def _cut(self) -> int:
        return self.batch_size * self.world_size if self.shuffle else self.batch_size

    def __len__(self) -> int:
        """Batches of this process in a whole epoch."""
        count = self.length // self._cut if self.drop_last else -(-self.length // self._cut)
        return count if self.shuffle else len(range(self.rank, count, self.world_size))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self.order().tolist()
        for number in range(self.first_batch, len(self)):
            if self.shuffle:
                whole = order[number * self._cut : (number + 1) * self._cut]
                chosen = whole[self.rank :: self.world_size] or whole[:1]
            else:
                batch = number * self.world_size + self.rank
                chosen = order[batch * self._cut : (batch + 1) * self._cut]
            yield [(position, self.epoch) for position in chosen]


class RepeatedBatch(BatchSampler):
    """The first batch of the first epoch, `steps` times an epoch: a network that cannot learn it has a mistake."""

    def __init__(self, length: int, batch_size: int, steps: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        super().__init__(length, batch_size, True, seed, False, rank, world_size)
        self.steps = steps

    def weight(self, batch: int) -> float:
        return super().weight(0)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first = BatchSampler(self.length, self.batch_size, True, self.seed, False, self.rank, self.world_size)
        batch = next(iter(first))
        for _ in range(self.first_batch, self.steps):
            yield batch
