"""Read pickles of numpy arrays and plain Python values, and nothing else.

A pickle is a program. This reader knows the few callables that arrays and builtins need and refuses any other by name
before it can be called. Files written by numpy 1 and numpy 2, and by Python 2, are read.

`trust.trust_files` (--trust) is the one way round: from then on unknown callables are imported and called.
"""

import contextlib
import io
import math
import os
import pickle
import tokenize
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddleskel.data.trust import is_trusting, limited_memory
from paddleskel.errors import UserError

# what pickle, zipfile, zlib and numpy's header parser raise for damaged content
_DAMAGE = (
    pickle.UnpicklingError, zlib.error, tokenize.TokenError, SyntaxError, SystemError, RuntimeError, ArithmeticError,
    LookupError, TypeError, ValueError, AttributeError, AssertionError,
)  # fmt: skip


class Refused(pickle.UnpicklingError):
    """The pickle asks for a callable that data do not need."""


class _PlainDtype:
    """Stands in for numpy.dtype while a pickle is read: a simple type whose byte order may be set, nothing else."""

    def __init__(self, code, *_flags):
        if not isinstance(code, str) or len(code) > 12:
            raise pickle.UnpicklingError("a structured dtype")
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biufcSUOMm":
            raise pickle.UnpicklingError(f"the dtype {code!r}")

    def __setstate__(self, state):
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array under reconstruction: compares shape, type and data before numpy sees them."""

    def __setstate__(self, state):
        version, shape, dtype, fortran, data = state
        dtype, data = _dtype(dtype), _bytes(data)
        sizes_fit = all(isinstance(size, int) and size >= 0 for size in shape)
        expected = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize) if sizes_fit else -1
        if not isinstance(data, list if dtype.hasobject else bytes) or len(data) != expected:
            raise pickle.UnpicklingError("an array whose shape does not fit its data")
        super().__setstate__((version, shape, dtype, fortran, data))


def _dtype(value) -> np.dtype:
    if not isinstance(value, _PlainDtype):
        raise pickle.UnpicklingError(f"{type(value).__name__} in place of a dtype")
    return value.dtype


def _bytes(data):
    return data.encode("latin1") if isinstance(data, str) else data  # Python 2 wrote its byte strings so


def _empty_array(_subtype, _shape, _typecode) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), "b")


def _array_from_buffer(data, dtype, shape, order, *_axes) -> np.ndarray:
    dtype = _dtype(dtype)
    if dtype.hasobject:
        raise pickle.UnpicklingError("an object array in a buffer")
    return np.frombuffer(bytearray(data), dtype=dtype).reshape(shape, order=order)


def _scalar(dtype, data) -> Any:
    dtype, data = _dtype(dtype), _bytes(data)
    if dtype.hasobject or not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise pickle.UnpicklingError("a numpy scalar whose bytes do not fit its type")
    return np.frombuffer(data, dtype=dtype)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise pickle.UnpicklingError(f"the encoding {encoding!r}")
    return text.encode(encoding)


def _bytearray(data=b"", *encoding) -> bytearray:
    if not isinstance(data, (bytes, str)):
        raise pickle.UnpicklingError("a bytearray not made from bytes")  # bytearray(n) would allocate n bytes
    return bytearray(data, *encoding)


def _no_bytes() -> bytes:
    return b""  # how old protocols spell it: bytes()


def _set(items=()) -> set:
    if not isinstance(items, (list, tuple)):
        raise pickle.UnpicklingError("a set not made from a list")  # set(range(n)) would allocate n entries
    return set(items)


def _frozenset(items=()) -> frozenset:
    return frozenset(_set(items))


_BUILTINS = {"set": _set, "frozenset": _frozenset, "complex": complex, "slice": slice, "range": range}
_KNOWN = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _PlainDtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
}
for _module in ("builtins", "__builtin__"):
    _KNOWN |= {(_module, name): value for name, value in _BUILTINS.items()}
    _KNOWN |= {(_module, "bytearray"): _bytearray, (_module, "bytes"): _no_bytes}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _empty_array
    _KNOWN[f"{_core}.multiarray", "scalar"] = _scalar
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _array_from_buffer


class SafeUnpickler(pickle.Unpickler):
    """An unpickler for arrays and builtins.

    Args:
        extra: further callables to admit, {(module, name): stand-in}.
    """

    def __init__(self, file: BinaryIO, extra: dict[tuple[str, str], Any] | None = None):
        super().__init__(file, encoding="latin1")
        self._known = {**_KNOWN, **(extra or {})}

    def persistent_load(self, reference: Any) -> Any:
        raise pickle.UnpicklingError("it refers to things that are not in it; it is no pickle, or a part of one")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._known:
            return self._known[module, name]
        if is_trusting():
            return super().find_class(module, name)
        raise Refused(f"{module}.{name}")


@contextlib.contextmanager
def explain(path: str | Path, what: str = "pickle of arrays and plain values") -> Iterator[None]:
    """Turn whatever goes wrong while a damaged file is read into one sentence about it. what: it should be."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Refused as error:
        raise UserError(
            f"{path}: refused: this pickle would call {error}, which data do not need; only arrays and plain values "
            "are read. --trust would run it: use that only for files whose origin you trust as you trust a program"
        ) from error
    except EOFError as error:
        raise UserError(f"{path}: the file ends in the middle of a pickle; download or write it again") from error
    except (MemoryError, RecursionError) as error:
        raise UserError(f"{path}: asks for more memory or nesting than there is; the file is damaged") from error
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: the zip archive is damaged: {error}") from error
    except _DAMAGE as error:
        problem = " ".join(str(error).split()) or type(error).__name__  # one line
        raise UserError(f"{path}: not a readable {what}: {problem}") from error


def read_pickle(path: str | Path, extra: dict[tuple[str, str], Any] | None = None) -> Any:
    """Read a pickle of arrays and plain values.

    Raises:
        UserError: missing file, not a pickle, truncated, or one that would run code (the callable is named).
    """
    with explain(path), limited_memory(os.path.getsize(path)), open(path, "rb") as file:
        return check_expansion(SafeUnpickler(file, extra).load())


def parse_pickle(data: bytes, path: str | Path) -> Any:
    """Like `read_pickle`, from bytes that were read already; `path` is for messages."""
    with explain(path), limited_memory(len(data)):
        return check_expansion(SafeUnpickler(io.BytesIO(data)).load())


def check_expansion(content: Any) -> Any:
    """Return the content of a pickle, unless its containers hold each other so often that walking them never ends.

    A list that holds a list twice, which holds a list twice, ... is small in memory; making an array or a message of it
    is not.

    Raises:
        UnpicklingError: more than a hundred times as many entries as there are objects, or a container inside itself.
    """
    sizes: dict[int, int] = {}
    under_way: set[int] = set()
    held, waiting = 0, [(content, False)]
    while waiting:
        node, entered = waiting.pop()
        if not _is_container(node) or (id(node) in sizes and not entered):
            continue
        entries = node.values() if isinstance(node, dict) else node.flat if isinstance(node, np.ndarray) else node
        inner = [part for part in entries if _is_container(part)]
        if entered:
            under_way.discard(id(node))
            sizes[id(node)] = total = 1 + len(node) + sum(sizes[id(part)] for part in inner)
            held += 1 + len(node)
            if total > max(_MOST_ENTRIES, 100 * held):
                raise pickle.UnpicklingError("containers that hold each other too often")
        elif any(id(part) in under_way or part is node for part in inner):
            raise pickle.UnpicklingError("a container that contains itself")
        else:
            under_way.add(id(node))
            waiting += [(node, True), *((part, False) for part in inner)]
    return content


def _is_container(value: Any) -> bool:
    return isinstance(value, _CONTAINERS) or (
        isinstance(value, np.ndarray) and value.dtype.hasobject and value.ndim > 0
    )


_CONTAINERS = (list, tuple, dict, set, frozenset)
_MOST_ENTRIES = 1_000_000
