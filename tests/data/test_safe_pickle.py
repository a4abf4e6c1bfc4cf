"""The restricted unpickler: reads arrays and plain values, refuses everything else."""

import os
import pickle
import pickletools
import subprocess

import numpy as np
import pytest

from paddleskel.data.safe_pickle import read_pickle
from paddleskel.errors import UserError

VALUES = {
    "half": np.arange(6, dtype=np.float16).reshape(1, 2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "swapped": np.arange(3, dtype=">i4"),
    "strings": np.array(["a", "bc"]),
    "objects": np.array([{"x": 1}, None], dtype=object),
    "empty": np.zeros((0, 3)),
    "scalar": np.int64(7),
    "flag": np.bool_(True),
    "plain": [1, 2.5, "text", (None, True), {"set"}, b"bytes", 2**70],
}


def save(path, value, protocol):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def same(a, b):
    if isinstance(a, np.ndarray) and a.dtype != object:
        native = a.dtype.newbyteorder("=")  # numpy may swap while it reads
        return isinstance(b, np.ndarray) and native == b.dtype.newbyteorder("=") and np.array_equal(a, b)
    if isinstance(a, np.ndarray):
        return a.tolist() == np.asarray(b).tolist()
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_values_survive_every_protocol(tmp_path, protocol):
    read = read_pickle(save(tmp_path / "x.pkl", VALUES, protocol))
    assert all(same(VALUES[key], read[key]) for key in VALUES)


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_both_names_of_numpys_core_are_known(tmp_path, core):
    data = pickle.dumps(np.arange(3.0), protocol=2)
    current = b"numpy._core" if b"numpy._core" in data else b"numpy.core"
    (tmp_path / "x.pkl").write_bytes(data.replace(current + b".multiarray", core + b".multiarray"))
    assert read_pickle(tmp_path / "x.pkl").tolist() == [0, 1, 2]


def test_python_2_byte_strings_are_read(tmp_path):
    """An array as Python 2 wrote it: its data are a STRING."""
    data = pickle.dumps(np.arange(3, dtype=np.int8), protocol=2)
    ops = [(op.name, arg) for op, arg, _ in pickletools.genops(data)]
    assert ("BINUNICODE", "\x00\x01\x02") in ops  # what protocol 2 of Python 3 writes for bytes
    (tmp_path / "x.pkl").write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02i1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x03\x00\x01\x02tb."
    )
    assert read_pickle(tmp_path / "x.pkl").tolist() == [0, 1, 2]


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch {flag}",), "system"),
        (eval, ("open(r'{flag}', 'w')",), "builtins.eval"),
        (subprocess.Popen, (["touch", "{flag}"],), "subprocess.Popen"),
        (np.load, ("{flag}",), "load"),
        (getattr, ({}, "keys"), "builtins.getattr"),
        (bytearray, (10**15,), "bytearray"),
    ],
)
def test_code_is_refused_by_name_before_it_runs(tmp_path, function, arguments, named):
    flag = tmp_path / "ran"
    arguments = [
        a.format(flag=flag) if isinstance(a, str) else [p.format(flag=flag) for p in a] if isinstance(a, list) else a
        for a in arguments
    ]
    path = save(tmp_path / "x.pkl", {"annotations": [Hostile(function, *arguments)]}, 4)
    with pytest.raises(UserError, match=named):
        read_pickle(path)
    assert not flag.exists()


def corrupt(data, old, new):
    assert old in data
    return data.replace(old, new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[: len(data) // 2], "not a readable pickle|ends in the middle"),
        (lambda data: b"", "ends in the middle"),
        (lambda data: b"hello\n", "not a readable pickle"),
        (lambda data: b"PK\x03\x04\n.", "not a readable pickle.* it is no pickle, or a part of one"),
        (lambda data: corrupt(data, b"K\x02K\x03\x86", b"K\x02K\x09\x86"), "shape does not fit its data"),
        (lambda data: corrupt(data, b"\x8c\x02f8", b"\x8c\x02O8"), "shape does not fit its data|not a readable"),
        (lambda data: b"(" * 200000 + b".", "not a readable pickle|nesting"),
    ],
)
def test_damaged_files_are_explained(tmp_path, change, message):
    path = tmp_path / "x.pkl"
    path.write_bytes(change(pickle.dumps(np.zeros((2, 3)), protocol=4)))
    with pytest.raises(UserError, match=message) as error:
        read_pickle(path)
    assert "\n" not in str(error.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.pkl: no such file"):
        read_pickle(tmp_path / "nothing.pkl")
