"""The last step: a fixed number of persons, one dense array."""

from typing import Literal

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.transforms.pipeline import TRANSFORMS


@TRANSFORMS
class Pack:
    """Keep the first `num_person` persons, adding absent ones.   (PYSKL, FormatGCNInput)

    Shape: (M, T, V, C) -> (num_person, T, V, C) float32.

    Args:
        fill: "zero" adds persons of zeros; "loop" repeats the only person where there is one.
    """

    def __init__(self, num_person: int = 2, fill: Literal["zero", "loop"] = "zero"):
        if num_person < 1:
            raise ValueError(f"num_person must be at least 1, not {num_person}")
        self.num_person, self.fill = num_person, fill

    def __call__(self, clip: Clip, rng: np.random.RandomState) -> Clip:
        points = clip.keypoint
        packed = np.zeros((self.num_person, *points.shape[1:]), np.float32)
        if self.fill == "loop" and len(points) == 1:
            packed[:] = points
        else:
            packed[: len(points)] = points[: self.num_person]
        return clip.with_(keypoint=packed, score=None)
