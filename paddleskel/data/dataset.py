"""A split of an annotation file, as the network's input."""

from collections.abc import Sequence

import numpy as np

from paddleskel.data.annotation import AnnotationFile, parse_annotation, read_annotations
from paddleskel.data.clip import Clip
from paddleskel.data.store import Store, is_store
from paddleskel.data.transforms import Pipeline
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import Layout

Sample = tuple[np.ndarray, int, int]  # (clips, M, T, V, C) float32, label, position in the split


def load_clips(
    file: AnnotationFile | Store | str, split: str | None, layout: Layout, num_classes: int | None
) -> Sequence[Clip]:
    """Check every sample of a split and return them: an annotation file's from memory, a store's as they are asked for.

    Raises:
        UserError: names the file, the sample and the field.
    """
    if isinstance(file, str):
        file = Store(file) if is_store(file) else read_annotations(file)
    if isinstance(file, Store):
        return file.select(split, layout, num_classes)
    return [parse_annotation(item, file.path, layout, num_classes) for item in file.select(split)]


class SkeletonDataset:
    """Samples of a split through a pipeline.

    An item is asked for by its position, or by (position, epoch) in training: what a transform draws depends on the
    seed, the epoch and the position alone, so it never repeats between epochs and does not depend on the number of
    workers.

    Args:
        repeat: count the split so many times over; every repetition draws anew.
    """

    def __init__(self, clips: Sequence[Clip], pipeline: Pipeline, seed: int = 0, repeat: int = 1):
        if repeat < 1:
            raise UserError(f"DATASET.train.repeat: must be at least 1, not {repeat}")
        self.clips, self.pipeline, self.seed, self.repeat = clips, pipeline, seed, repeat
        self._rng = np.random.RandomState()  # making one takes as long as a whole pipeline; seeding it does not

    def __len__(self) -> int:
        return len(self.clips) * self.repeat

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        position, epoch = item if isinstance(item, tuple) else (item, 0)
        self._rng.seed([self.seed % 2**32, epoch, position])
        clip = self.clips[position % len(self.clips)]
        return self.pipeline(clip, self._rng), clip.label, position


def collate(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stack samples: (N, clips, M, T, V, C) float32, (N,) int64 labels, (N,) int64 positions."""
    inputs, labels, positions = zip(*samples)
    return np.stack(inputs), np.array(labels, np.int64), np.array(positions, np.int64)
