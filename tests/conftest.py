"""Fixtures: reference data where there are any, small annotation files, and the commands run in-process."""

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in (".", "tools", "tests", "tests/golden")]


REFERENCE = Path(os.environ.get("PADDLESKEL_REFERENCE", ROOT.parent / "shared"))
TOY_CONFIG = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"


def pytest_configure() -> None:
    """Import paddle with its environment, as the processes that tests start do, before a test module imports it."""
    from paddleskel.runtime import import_paddle

    import_paddle()


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of reference tensors and real skeletons, which do not come with the project."""
    if not (REFERENCE / "ref").is_dir():
        pytest.skip("needs the reference tensors (set PADDLESKEL_REFERENCE)")
    return REFERENCE


@pytest.fixture(scope="session")
def toy_file(tmp_path_factory) -> Path:
    """A small toy set: 4 subjects, 2 clips of each of 12 actions."""
    from paddleskel.data.sources.toy import make_toy

    path = tmp_path_factory.mktemp("toy") / "toy.pkl"
    path.write_bytes(pickle.dumps(make_toy("2d", subjects=4, repeats=2)))
    return path


@pytest.fixture
def annotation() -> dict:
    """One valid 2D annotation of two persons over 40 frames."""
    rng = np.random.RandomState(0)
    return {
        "frame_dir": "clip_a",
        "label": 3,
        "total_frames": 40,
        "keypoint": rng.uniform(100, 900, (2, 40, 17, 2)).astype(np.float16),
        "keypoint_score": rng.uniform(0.5, 1, (2, 40, 17)).astype(np.float16),
        "img_shape": (1080, 1920),
    }


class Run(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd, monkeypatch) -> Callable[..., Run]:
    """Run main.py ("main") or a tool ("predict") in this process, from the project's root."""
    import importlib

    def call(command: str, *arguments) -> Run:
        monkeypatch.chdir(ROOT)
        module = importlib.import_module(command)
        capfd.readouterr()
        try:
            code = module.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code
        out, err = capfd.readouterr()
        return Run(code, out, err)

    return call


@pytest.fixture(scope="session")
def chromium():
    """One headless browser for all tests of pages."""
    from browser import CHROMIUM, Browser

    if CHROMIUM is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """The browser; the test fails if a page it opened last complained on the console."""
    chromium.dark(False)
    yield chromium
    errors = list(chromium.errors)
    chromium.open("about:blank")  # an animation left playing would slow every test after it
    assert errors == []


@pytest.fixture(scope="session")
def toy_options(toy_file) -> list[str]:
    """Overrides that make the toy config train in seconds."""
    options = [
        f"DATASET.train.file={toy_file}",
        f"DATASET.valid.file={toy_file}",
        f"DATASET.test.file={toy_file}",
        "DATASET.test.num_clips=2",
        "MODEL.backbone.base_channels=8",
        "MODEL.backbone.num_stages=3",
        "MODEL.backbone.inflate_stages=[2]",
        "MODEL.backbone.down_stages=[2, 3]",
        "PIPELINE.UniformSample.clip_len=16",
        "epochs=2",
    ]
    return [part for option in options for part in ("-o", option)]


@pytest.fixture
def train(run, toy_options, tmp_path):
    """Train the small toy network into tmp_path/<name>; return what was printed and the folder."""

    def call(name, *arguments, code=0):
        folder = tmp_path / name
        result = run("main", "-c", TOY_CONFIG, *toy_options, "-o", f"output_dir={folder}", *arguments)
        assert result.code == code, result.err
        return result, folder

    return call


@pytest.fixture(scope="session")
def exported(tmp_path_factory, toy_options, toy_file):
    """The toy config trained for two epochs and exported; (folder, weights). Do not write into the folder."""
    import export_model

    import main

    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main.main(["-c", TOY_CONFIG, *toy_options, "-o", f"output_dir={folder}", "--validate"]) == 0
        weights = folder / "STGCN_PlusPlus_toy_best.pdparams"
        overrides = ["--override" if part == "-o" else part for part in toy_options]
        arguments = ["-c", TOY_CONFIG, *overrides, "-p", str(weights), "-o", str(folder / "model")]
        assert export_model.main(arguments) == 0
    return folder / "model", weights
