"""Which samples make up which batch, on which process."""

from collections.abc import Iterator

import numpy as np


class BatchSampler:
    """Batches of (position, epoch) for the data loader.

    In training all processes draw the same permutation of an epoch and take every `world_size`-th sample of it,
    wrapping around so that all have equally many; otherwise order is kept and each sample goes to exactly one process.

    Args:
        length: samples in the dataset.
        shuffle: training (True) or evaluation (False).
        drop_last: leave out the last, smaller batch of an epoch.
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
    ):
        self.length, self.batch_size, self.shuffle, self.seed = length, batch_size, shuffle, seed
        self.drop_last, self.rank, self.world_size = drop_last, rank, world_size
        self.epoch = 0
        self.first_batch = 0

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch whose order the next iteration takes; skip the batches before `first_batch`."""
        self.epoch, self.first_batch = epoch, first_batch

    def positions(self) -> np.ndarray:
        """Return this process's positions of the epoch, in order."""
        if not self.shuffle:
            return np.arange(self.rank, self.length, self.world_size)
        order = np.random.RandomState([self.seed % 2**32, self.epoch]).permutation(self.length)
        padded = np.resize(order, -(-self.length // self.world_size) * self.world_size)
        return padded[self.rank :: self.world_size]

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        if self.shuffle:
            count = -(-self.length // self.world_size)
        else:
            count = len(range(self.rank, self.length, self.world_size))
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        positions = self.positions().tolist()
        for batch in range(self.first_batch, len(self)):
            chosen = positions[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(position, self.epoch) for position in chosen]
