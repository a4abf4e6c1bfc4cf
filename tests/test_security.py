"""Hostile files, planted where users put downloaded ones: each is refused in a sentence, and does nothing."""

import io
import os
import pickle
import re
import resource
import struct
import zipfile

import numpy as np
import pytest
from conftest import ROOT, TOY_CONFIG

from paddleskel.config import parse_yaml
from paddleskel.data import trust
from paddleskel.data.annotation import read_annotations
from paddleskel.data.npz import read_npz
from paddleskel.data.safe_pickle import read_pickle
from paddleskel.errors import UserError
from paddleskel.memory import peak_mib

MIB = 2**20


@pytest.fixture(autouse=True)
def distrust():
    yield
    trust.trust_files(False)


@pytest.fixture
def flag(tmp_path):
    """A file that hostile content would create."""
    return tmp_path / "ran"


class Hostile:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.system, (f"touch {self.flag}",)


def torch_archive(path, program, **members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def refusal(result):
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    return result.err


# ---- files that would run code ----


@pytest.fixture(params=["annotations", "weights.pdparams", "weights.pth", "state.pdopt"])
def planted(request, tmp_path, flag, toy_options):
    """A command that reads a hostile file of one kind."""
    program = pickle.dumps({"annotations": [], "state_dict": Hostile(flag)}, protocol=2)
    path = tmp_path / request.param
    common = ["-c", TOY_CONFIG, *toy_options, "-o", f"output_dir={tmp_path / 'out'}"]
    if request.param.endswith(".pth"):
        torch_archive(path, program)
    else:
        path.write_bytes(program)
    if request.param == "annotations":
        return [*common, "-o", f"DATASET.train.file={path}"], path
    if request.param.endswith(".pdopt"):
        return [*common, "--resume", str(path)], path
    return [*common, "--test", "-w", str(path)], path


def test_code_in_files_does_not_run(run, planted, flag):
    arguments, path = planted
    error = refusal(run("main", *arguments))
    assert f"{path}: refused: this pickle would call" in error
    assert "system" in error
    assert "--trust would run it" in error
    assert not flag.exists()


def test_trust_is_the_way_round_and_says_so(run, planted, flag):
    arguments, _ = planted
    result = run("main", *arguments, "--trust")
    assert "runs any code they contain" in result.err
    assert flag.exists()


def test_results_files_run_nothing(run, tmp_path, flag):
    path = tmp_path / "scores.pkl"
    path.write_bytes(pickle.dumps([Hostile(flag)]))
    assert "refused: this pickle would call" in refusal(run("ensemble", path, path))
    assert not flag.exists()


def test_poses_to_predict_run_nothing(tmp_path, flag):
    from paddleskel.data.sources import read_poses

    path = tmp_path / "clip.pkl"
    path.write_bytes(pickle.dumps(Hostile(flag)))
    with pytest.raises(UserError, match="refused: this pickle would call"):
        read_poses(path)
    assert not flag.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [touch {flag}]", "!!python/name:os.system", "!x 1"])
def test_yaml_makes_no_objects(run, tmp_path, flag, tag):
    path = tmp_path / "config.yaml"
    path.write_text(f"model_name: {tag.format(flag=flag)}\n")
    error = refusal(run("main", "-c", path))
    assert f"{path}, line 1: not valid YAML: could not determine a constructor for the tag" in error
    assert not flag.exists()


def test_inference_yml_makes_no_objects(tmp_path):
    from paddleskel.deploy.bundle import read_bundle

    path = tmp_path / "inference.yml"
    path.write_text("format: 1\nmodel_name: !!python/name:os.system\n")
    with pytest.raises(UserError, match="could not determine a constructor"):
        read_bundle(path)


# ---- files that would fill the machine ----


def growth(read, path):
    """Peak of what a refused read has added to the memory of this process, in MiB."""
    before = peak_mib()
    with pytest.raises(UserError) as caught:
        read(path)
    return peak_mib() - before, str(caught.value)


linux = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")


@linux
@pytest.mark.parametrize(
    ("program", "what"),
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", "a memo of 2^31 entries"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**34) + b"x.", "16 GiB of bytes that are not there"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**34) + b"x.", "a bytearray of 16 GiB"),
        (b"\x80\x02cbuiltins\nset\ncbuiltins\nrange\nJ\xff\xff\xff\x7f\x85R\x85R.", "a set of 2^31 numbers"),
        (b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "a bytearray of 2 GiB"),
        (b"\x80\x02]q\x00" + b"(h\x00h\x00h\x00h\x00tq\x00" * 40 + b".", "tuples of tuples of tuples"),
        (b"\x80\x02]q\x00(h\x00h\x00e.", "a list that contains itself"),
    ],
)
def test_small_pickles_stay_small(tmp_path, program, what):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(program)
    added, message = growth(read_annotations, path)
    assert added < 600, what
    assert str(path) in message


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """An archive of 900 MiB of zeros, which take 4 MiB in it, as an array and as a torch program."""
    path = tmp_path_factory.mktemp("bomb") / "bomb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, size in (("zeros.npy", 500), ("archive/data.pkl", 400)):
            with archive.open(name, "w") as member:
                for _ in range(size // 4):
                    member.write(bytes(4 * MIB))
    return path.read_bytes()


@linux
@pytest.mark.parametrize("ending", [".npz", ".pth"])
def test_archives_that_unpack_to_much_are_refused(tmp_path, bomb, ending):
    from paddleskel.convert.weights import read_any

    path = tmp_path / f"bomb{ending}"
    path.write_bytes(bomb)
    added, message = growth(read_any, path)
    assert re.search(r"refused: \d+\.\d MiB that unpack to 0\.9 GiB; if you know the file, --trust reads it", message)
    assert added < 100


@linux
def test_a_header_that_lies_about_its_size(tmp_path):
    path = tmp_path / "lie.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (2**32,)})
    added, message = growth(read_npz, path)
    assert str(path) in message
    assert added < 600


@linux
def test_a_tensor_made_of_one_number(tmp_path):
    """Strides of 0: a shape of 2^36 over a storage of 4 bytes."""
    from paddleskel.convert.torch_file import read_torch

    text = lambda value: b"X" + struct.pack("<I", len(value)) + value
    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\x01tQ"
    size = b"(J" + struct.pack("<i", 2**18) + b"J" + struct.pack("<i", 2**18) + b"t"
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + size + b"(K\x00K\x00t\x89}tR."
    path = torch_archive(tmp_path / "bomb.pth", program, archive__data__0=bytes(4))
    added, message = growth(read_torch, path)
    assert "a tensor that is larger than its data" in message
    assert added < 100


def test_yaml_aliases_do_not_multiply():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)]
    with pytest.raises(UserError, match=r"bomb\.yaml: refused: its aliases stand for more than 2,000,000 values"):
        parse_yaml("\n".join(lines), "bomb.yaml")
    with pytest.raises(UserError, match="an alias that contains itself"):
        parse_yaml("a: &a [*a]", "loop.yaml")
    with pytest.raises(UserError, match="nested too deeply"):
        parse_yaml("[" * 20000, "deep.yaml")
    assert parse_yaml("a: &a [1, 2]\nb: *a", "fine.yaml") == {"a": [1, 2], "b": [1, 2]}


# ---- archives ----


@pytest.mark.parametrize(
    "name", ["../outside.npy", "/outside.npy", "a/../../outside.npy", "..\\outside.npy", "C:x.npy"]
)
def test_archives_do_not_lead_out_of_their_folder(tmp_path, name):
    from paddleskel.convert.torch_file import read_torch
    from paddleskel.data.sources import read_poses

    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    for ending, read in ((".npz", read_npz), (".pth", read_torch), (".zip", lambda path: read_poses(path, "ntu"))):
        path = tmp_path / f"x{ending}"
        entry = zipfile.ZipInfo(name)
        entry.filename = name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry, buffer.getvalue())
            archive.writestr("archive/data.pkl", pickle.dumps({}))
        with pytest.raises(UserError, match=r"refused: the archive's entry .* leads out of its folder"):
            read(path)
    assert not (tmp_path.parent / "outside.npy").exists()


def test_no_reader_goes_round_the_restricted_ones():
    """Nothing but the restricted reader calls Python's unpickler; no unsafe YAML, no unpacking, no eval."""
    unsafe = re.compile(
        r"pickle\.loads?\(|pickle\.Unpickler|yaml\.(unsafe_|full_)?load\(|allow_pickle=True|extractall|\.extract\("
        r"|paddle\.load\(|joblib|marshal|shelve|(?<![.\w])(eval|exec)\("
    )
    for folder in ("paddleskel", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            code = re.sub(r'"""(?s:.*?)"""|#.*', "", path.read_text())
            found = [match[0] for match in unsafe.finditer(code)]
            expected = ["pickle.Unpickler"] if path.name == "safe_pickle.py" else []
            assert found == expected, path


def test_reading_under_a_limit_leaves_it_as_it_was(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"x": np.zeros(3)}))
    read_pickle(path)
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")
    with pytest.raises(UserError):
        read_pickle(path)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_readers_in_several_threads_leave_no_limit_behind():
    """A limit that ends after another has begun must not be what that one restores."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    first, second = trust.limited_memory(0), trust.limited_memory(2**20)
    first.__enter__()
    small = resource.getrlimit(resource.RLIMIT_DATA)
    second.__enter__()
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] > small[0] or small == before
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
