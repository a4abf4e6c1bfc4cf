"""Weights by formula, so that goldens need not store them. numpy only: the program that made the goldens uses it
too.
"""

import zlib

import numpy as np


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array of a PYSKL state name: drawn from a generator seeded by the name, at a plausible scale."""
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        array = 1 + 0.3 * np.abs(noise)
    elif leaf == "running_mean":
        array = 0.2 * noise
    elif leaf in ("A", "PA"):
        array = 0.3 * noise if leaf == "A" else 1 + 0.2 * noise
    elif leaf in ("alpha", "beta", "add_coeff"):
        array = 0.5 + 0.1 * noise
    elif leaf == "weight" and len(shape) == 1:
        array = 1 + 0.2 * noise
    elif leaf == "weight":
        array = noise / np.sqrt(np.prod(shape[1:]))
    else:
        array = 0.1 * noise
    return array.astype(np.float32)


def inputs(joints: int) -> np.ndarray:
    """(2, 2, 12, V, 3) clips."""
    return np.random.RandomState(5).standard_normal((2, 2, 12, joints, 3)).astype(np.float32)


LABELS = np.array([1, 3])
CLASSES = 5
