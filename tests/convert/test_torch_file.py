"""The .pth reader and writer: what they give back, and what they refuse."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from paddleskel.convert.torch_file import read_torch, torch_file
from paddleskel.errors import UserError


@pytest.fixture
def state():
    rng = np.random.RandomState(0)
    return {
        "w": rng.randn(4, 3, 1, 1).astype(np.float32),
        "b": rng.randn(4).astype(np.float32),
        "scalar": np.array(2.5, np.float32),
        "count": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].shape == right[name].shape and np.array_equal(left[name], right[name]) for name in left
    )


def archive(program: bytes, storages: dict[str, bytes] | None = None, compression=zipfile.ZIP_STORED) -> bytes:
    """A zip as torch writes it, around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("archive/data.pkl", program)
        for name, data in (storages or {}).items():
            file.writestr(f"archive/data/{name}", data)
    return buffer.getvalue()


def test_a_written_file_is_read_back(state, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(torch_file(state))
    assert same(read_torch(path)["state_dict"], state)


def test_torch_reads_what_is_written(state, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    path.write_bytes(torch_file(state))
    loaded = torch.load(path, weights_only=True)["state_dict"]
    assert same({name: tensor.numpy() for name, tensor in loaded.items()}, state)


def test_what_torch_writes_is_read(state, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    tensors = {name: torch.tensor(array) for name, array in state.items()}
    tensors["turned"] = tensors["w"].squeeze().t()  # not contiguous, sharing storage
    tensors["part"] = tensors["b"][1:3]
    tensors["half"] = tensors["b"].half()
    tensors["bfloat"] = torch.tensor([1.0, -2.5, 0.15625]).bfloat16()
    tensors["parameter"] = torch.nn.Parameter(tensors["b"].clone())
    meta = {"epoch": 16, "config": "model = dict()", "seed": None, "lr": [0.1]}
    torch.save({"state_dict": tensors, "meta": meta, "optimizer": {"state": {0: {"step": 3}}}}, path)
    content = read_torch(path)
    assert content["meta"] == meta
    got = content["state_dict"]
    assert same({name: got[name] for name in state}, state)
    np.testing.assert_array_equal(got["turned"], state["w"][:, :, 0, 0].T)
    np.testing.assert_array_equal(got["part"], state["b"][1:3])
    np.testing.assert_array_equal(got["half"], state["b"].astype(np.float16))
    np.testing.assert_array_equal(got["bfloat"], [1.0, -2.5, 0.15625])
    np.testing.assert_array_equal(got["parameter"], state["b"])


def test_files_older_than_torch_1_6_go_through_torch(state, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "old.pth"
    tensors = {name: torch.tensor(array) for name, array in state.items()}
    torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=False)
    assert same(read_torch(path)["state_dict"], state)


def test_old_files_name_the_remedy_where_torch_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)  # importing it fails
    path = tmp_path / "old.pth"
    path.write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(UserError, match=r"older than 1\.6, or truncated; install torch"):
        read_torch(path)


class History:  # stands for mmengine.logging.history_buffer.HistoryBuffer
    def __init__(self):
        self.values = [1.0]


def test_objects_of_training_frameworks_are_left_inert(state, tmp_path, monkeypatch):
    """MMEngine leaves its loggers in checkpoints."""
    program = pickle.dumps({"message_hub": History(), "meta": {"epoch": 1}}, protocol=2)
    theirs = b"cmmengine.logging.history_buffer\nHistoryBuffer\n"
    path = tmp_path / "a.pth"
    path.write_bytes(archive(program.replace(f"c{__name__}\nHistory\n".encode(), theirs)))
    content = read_torch(path)
    assert content["meta"] == {"epoch": 1}
    assert not hasattr(content["message_hub"], "values")


class Hostile:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize("hostile", [Hostile(), {"state_dict": [Hostile()]}])
def test_a_pickle_that_would_run_code_is_refused_by_name(hostile, tmp_path, capsys):
    path = tmp_path / "bad.pth"
    path.write_bytes(archive(pickle.dumps(hostile, protocol=2)))
    with pytest.raises(UserError, match=r"bad\.pth: .*print"):
        read_torch(path)
    assert "must not run" not in capsys.readouterr().out


def tensor_program(storage=b"X\x0c\x00\x00\x00FloatStorage", size=4, offset=0, shape=(4,), stride=(1,)) -> bytes:
    """The pickle of one tensor over storage 0, with whatever numbers."""

    class Storage:
        pass

    class Tensor:
        def __reduce__(self):
            return Marker, (Storage(), offset, shape, stride, False, {})

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", FloatStorage, "0", "cpu", size) if isinstance(value, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"state_dict": {"w": Tensor()}})
    data = buffer.getvalue()
    data = data.replace(f"c{__name__}\nMarker\n".encode(), b"ctorch._utils\n_rebuild_tensor_v2\n")
    return data.replace(f"c{__name__}\nFloatStorage\n".encode(), b"ctorch\nFloatStorage\n")


def Marker(*_):
    return None


class FloatStorage:
    pass


def test_the_hand_made_tensor_is_a_good_one(tmp_path):
    path = tmp_path / "good.pth"
    path.write_bytes(archive(tensor_program(), {"0": np.arange(4, dtype="<f4").tobytes()}))
    np.testing.assert_array_equal(read_torch(path)["state_dict"]["w"], [0, 1, 2, 3])


@pytest.mark.parametrize(
    "numbers",
    [{"shape": (5,)}, {"offset": 1}, {"stride": (9,)}, {"offset": -1}, {"shape": (2, 2)}, {"shape": (2**62, 2**62)}],
)
def test_a_tensor_that_reaches_beyond_its_data_is_refused(numbers, tmp_path):
    path = tmp_path / "bad.pth"
    path.write_bytes(archive(tensor_program(**numbers), {"0": np.arange(4, dtype="<f4").tobytes()}))
    with pytest.raises(UserError, match=r"bad\.pth: "):
        read_torch(path)


def test_broken_files_are_named(state, tmp_path):
    whole = torch_file(state)
    cases = {
        "half.pth": whole[: len(whole) // 2],
        "empty.pth": b"",
        "html.pth": b"<html>not found</html>",
        "zip.pth": _other_zip(),
        "packed.pth": archive(tensor_program(), {"0": bytes(16)}, zipfile.ZIP_DEFLATED),
        "lost.pth": archive(tensor_program()),
        "short.pth": archive(tensor_program(), {"0": bytes(3)}),
    }
    for name, data in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(UserError, match=name):
            read_torch(path)
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        read_torch(tmp_path / "none.pth")


def _other_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("readme.txt", "hello")
    return buffer.getvalue()
