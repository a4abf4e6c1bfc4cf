"""Read .npz and .npy files: arrays of numbers and texts, nothing pickled, nothing larger than it should be."""

import zipfile
from pathlib import Path

import numpy as np

from paddleskel.data.safe_pickle import explain
from paddleskel.data.trust import check_zip, limited_memory
from paddleskel.errors import UserError

_NPZ = "archive of arrays (.npz)"


def check_npz(path: str | Path) -> None:
    """Look at the directory of a .npz file.

    Raises:
        UserError: missing, no archive, or refused for its size or its names.
    """
    with explain(path, _NPZ):
        open(path, "rb").close()
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path}: not a .npz file (no zip archive), or a truncated one")
        with zipfile.ZipFile(path) as archive:
            check_zip(archive, path)


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file.

    Raises:
        UserError: missing, damaged, or refused for its size or its names.
    """
    check_npz(path)
    with explain(path, _NPZ), limited_memory(Path(path).stat().st_size), np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise UserError(f"{path}: not a readable {_NPZ}: an entry is no array")
    return arrays


def npz_names(path: str | Path) -> list[str]:
    """Return the names of the arrays in a .npz file, without reading them; errors as in `read_npz`."""
    check_npz(path)
    with explain(path, _NPZ), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_npy(path: str | Path, mapped: bool = False) -> np.ndarray:
    """Return the array of a .npy file. mapped: leave it on disk until it is used.

    Raises:
        UserError: missing, damaged, or of a size that its file does not have.
    """
    with explain(path, "array file (.npy)"), limited_memory(Path(path).stat().st_size):
        array = np.load(path, "r" if mapped else None, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{path}: an archive of arrays; call it .npz")
    return array
