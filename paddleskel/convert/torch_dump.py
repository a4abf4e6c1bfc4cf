"""Read plain pickles that hold torch tensors, such as the results MMAction2 dumps, without torch.

There, each tensor's storage is a call of `torch.storage._load_from_bytes` with a file of torch's old format inside:
five pickles in a row (magic number, version, machine, the storage's description, its key), a count, and raw bytes.
"""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.convert.torch_file import _DTYPES, _rebuild_tensor
from paddleskel.data.safe_pickle import SafeUnpickler, read_pickle

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {("torch", name): dtype for name, dtype in _DTYPES.items()}


class _StorageUnpickler(SafeUnpickler):
    """The description of one storage: its dtype."""

    def persistent_load(self, token: Any) -> str:
        if not isinstance(token, tuple) or len(token) < 2 or token[0] != "storage" or token[1] not in _DTYPES.values():
            raise pickle.UnpicklingError("a storage of an unknown kind")
        return token[1]


def _storage(data: Any) -> np.ndarray:
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("a storage that is not bytes")
    file = io.BytesIO(data)
    if SafeUnpickler(file).load() != _MAGIC:
        raise pickle.UnpicklingError("a tensor in a format that torch does not write into pickles")
    SafeUnpickler(file).load()  # version
    SafeUnpickler(file).load()  # machine
    dtype = _StorageUnpickler(file, _STORAGES).load()
    SafeUnpickler(file).load()  # key
    count = struct.unpack("<q", file.read(8))[0]
    rest = file.read()
    if dtype == "bfloat16":
        values = (np.frombuffer(rest, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(rest, dtype)
    if values.size != count:
        raise pickle.UnpicklingError("a tensor whose data are cut short")
    return values


def read_torch_pickle(path: str | Path) -> Any:
    """Read a pickle of arrays, plain values and torch tensors; tensors become arrays.

    Raises:
        UserError: missing file, not a pickle, truncated, or one that would run code (the callable is named).
    """
    extra = {("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor, ("torch.storage", "_load_from_bytes"): _storage}
    return read_pickle(path, extra)
