"""Read and write torch's checkpoint files (.pth) without torch.

Since torch 1.6 such a file is a zip of one pickle and the raw bytes of every storage. The pickle is read by the
restricted reader: tensors become numpy arrays, classes of the mm* libraries that training leaves behind become inert
placeholders, and anything else is refused by name.
"""

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.data.safe_pickle import Refused, SafeUnpickler, check_expansion, explain
from paddleskel.data.trust import check_zip, is_trusting, limited_memory
from paddleskel.errors import UserError

_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_EXPANDED = 2**20
_INERT_PACKAGES = ("mmengine", "mmcv", "mmaction", "pyskl")


class _Inert:
    """Stands in for objects of training frameworks; takes any state and does nothing."""

    def __init__(self, *_arguments, **_keys):
        pass

    def __setstate__(self, _state):
        pass

    def __setitem__(self, _key, _value):
        pass

    def append(self, _item):
        pass

    extend = append


def _inert_attribute(owner: Any, name: str) -> type[_Inert]:
    if owner is not _Inert and not isinstance(owner, _Inert):
        raise Refused("builtins.getattr")
    return _Inert


def _inert_object(kind: Any, *_base) -> _Inert:
    if kind is not _Inert:
        raise Refused("copyreg._reconstructor")
    return _Inert()


def _rebuild_tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_rest) -> np.ndarray:
    """A view of a storage; every index it can reach must lie inside."""
    if not all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor with an impossible shape")
    if math.prod(size) > max(storage.size, _EXPANDED):  # strides of 0 make much out of little
        raise pickle.UnpicklingError("a tensor that is larger than its data")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and last >= storage.size:
        raise pickle.UnpicklingError("a tensor that reaches beyond its data")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


def _rebuild_parameter(data: np.ndarray, *_rest) -> np.ndarray:
    return data


_KNOWN = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    ("builtins", "getattr"): _inert_attribute,
    ("__builtin__", "getattr"): _inert_attribute,
    ("copyreg", "_reconstructor"): _inert_object,
    ("copy_reg", "_reconstructor"): _inert_object,
    ("builtins", "object"): _Inert,
    ("__builtin__", "object"): _Inert,
    ("collections", "defaultdict"): lambda *_: {},
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _TorchUnpickler(SafeUnpickler):
    """The pickle inside a .pth; storages are read from the zip as they are met."""

    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, root: str):
        super().__init__(file, _KNOWN)
        self._archive, self._root = archive, root
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in _INERT_PACKAGES:
            return _Inert
        if module.startswith("numpy.dtypes"):
            return _Inert
        return super().find_class(module, name)

    def persistent_load(self, token: Any) -> np.ndarray:
        kind, dtype, key = token[:3]
        if kind != "storage" or dtype not in _DTYPES.values():
            raise pickle.UnpicklingError("a storage of an unknown kind")
        if key not in self._storages:
            entry = self._archive.getinfo(f"{self._root}data/{key}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise pickle.UnpicklingError("compressed data, which torch does not write")
            data = self._archive.read(entry)
            if dtype == "bfloat16":
                self._storages[key] = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                self._storages[key] = np.frombuffer(data, dtype)
        return self._storages[key]


def read_torch(path: str | Path) -> Any:
    """Return the content of a .pth file, tensors as numpy arrays.

    Files older than torch 1.6 are no zips; they are read by torch (tensors only) where it is installed.

    Raises:
        UserError: missing, truncated, or one that would run code (what it would call is named).
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        return _read_with_torch(path)
    with explain(path), limited_memory(Path(path).stat().st_size), zipfile.ZipFile(path) as archive:
        check_zip(archive, path)
        pickles = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise UserError(f"{path}: a zip archive, but not one that torch writes (no data.pkl in it)")
        root = pickles[0].removesuffix("data.pkl")
        return check_expansion(_TorchUnpickler(io.BytesIO(archive.read(pickles[0])), archive, root).load())


def _read_with_torch(path: str | Path) -> Any:
    start = Path(path).open("rb").read(2)
    if start[:1] != b"\x80":
        raise UserError(f"{path}: not a torch checkpoint, or a truncated one (no zip archive); download it again")
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: written by a torch older than 1.6, or truncated; install torch to read it "
            "(pip install torch), or save it again with a newer one"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=not is_trusting())
    except Exception as error:  # torch raises many kinds
        raise UserError(f"{path}: torch cannot read it: {str(error).splitlines()[0]}") from error
    return _as_arrays(content)


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_arrays(item) for key, item in value.items()}
    return value.detach().float().numpy() if hasattr(value, "detach") else value


def torch_file(state: Mapping[str, np.ndarray]) -> bytes:
    """Return a .pth file with {"state_dict": state}, which `torch.load(..., weights_only=True)` reads."""
    storages, buffer = [], io.BytesIO()
    items = b"".join(_text(name) + _tensor(np.asarray(array), storages) for name, array in state.items())
    mapping = b"}(" + items + b"u"
    program = b"\x80\x02" + b"}(" + _text("state_dict") + mapping + _text("meta") + b"}" + b"u."
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        for number, data in enumerate(storages):
            archive.writestr(f"archive/data/{number}", data)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _tuple(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, numbers)) + b"t"


def _tensor(array: np.ndarray, storages: list[bytes]) -> bytes:
    """The pickle opcodes of one tensor; its bytes are appended to `storages`."""
    kind = {"i": "LongStorage", "f": "FloatStorage"}[array.dtype.kind]
    array = np.asarray(array, _DTYPES[kind], order="C")
    strides = tuple(step // array.itemsize for step in array.strides)
    storage = b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text(str(len(storages))) + _text("cpu")
    storage += _integer(array.size) + b"tQ"  # a persistent id: torch reads data/<number>
    storages.append(array.tobytes())
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = storage + _integer(0) + _tuple(array.shape) + _tuple(strides) + b"\x89" + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"
