"""The examples in other languages give the sample's output; each is skipped where its engine cannot be had."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from paddleskel.deploy.formats import why_no_onnx

EXAMPLES = ROOT / "examples" / "deploy"


@pytest.fixture(scope="module")
def unzipped(exported, tmp_path_factory):
    """The exported folder with the sample's arrays beside the model."""
    if why_no_onnx():
        pytest.skip(f"no ONNX: {why_no_onnx()}")
    folder = tmp_path_factory.mktemp("examples") / "model"
    shutil.copytree(exported[0], folder)
    with zipfile.ZipFile(folder / "sample.npz") as sample:
        sample.extractall(folder)
    return folder


def run(command, **kwargs):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compile_and_run(name, flags, libraries, folder, tmp_path):
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    program = tmp_path / name
    run(["g++", "-std=c++17", "-O0", "-Wall", "-Wextra", EXAMPLES / f"{name}.cpp", "-o", program, *flags])
    assert "largest difference" in run([program, folder], env={**os.environ, "LD_LIBRARY_PATH": str(libraries)})


def test_cpp_openvino(unzipped, tmp_path):
    openvino = pytest.importorskip("openvino", reason="pip install openvino, which brings its C++ headers")
    root = Path(openvino.__file__).parent
    library = next((root / "libs").glob("libopenvino.so.*"), None)
    if library is None or not (root / "include").is_dir():
        pytest.skip("this openvino brings no C++ headers")
    flags = [f"-isystem{root}/include", library]
    compile_and_run("openvino", flags, root / "libs", unzipped, tmp_path)


@pytest.mark.parametrize(
    ("name", "variable", "include", "library"),
    [
        ("onnxruntime", "ONNXRUNTIME_ROOT", "include", "-lonnxruntime"),
        ("paddle_inference", "PADDLE_INFERENCE_ROOT", "paddle/include", "-lpaddle_inference"),
    ],
)
def test_cpp_of_unpacked_releases(name, variable, include, library, unzipped, tmp_path):
    root = os.environ.get(variable)
    if not root:
        pytest.skip(f"set {variable} to an unpacked release, which has the C++ headers")
    folder = Path(root) / include.replace("include", "lib")
    flags = [f"-isystem{root}/{include}", f"-L{folder}", library]
    compile_and_run(name, flags, folder, unzipped, tmp_path)


def test_javascript(unzipped, tmp_path):
    modules = Path(os.environ.get("PADDLESKEL_NODE_MODULES", ROOT / ".venv" / "node" / "node_modules"))
    if not shutil.which("node") or not (modules / "onnxruntime-node").is_dir():
        pytest.skip("needs node and npm install --prefix .venv/node --ignore-scripts onnxruntime-node")
    shutil.copy(EXAMPLES / "predict.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    said = run(["node", tmp_path / "predict.mjs", unzipped])
    assert "class " in said
    assert "largest difference: input" in said
    broken = tmp_path / "broken"
    shutil.copytree(unzipped, broken)
    content = bytearray((broken / "output.npy").read_bytes())
    content[-1] ^= 0x41
    (broken / "output.npy").write_bytes(content)
    failed = subprocess.run(["node", tmp_path / "predict.mjs", broken], capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1
