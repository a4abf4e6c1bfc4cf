"""The remaining commands."""

import os
import pickle
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from paddleskel.errors import UserError


def test_prepare_data_writes_the_toy_set(run, tmp_path):
    out = tmp_path / "toy.pkl"
    result = run("prepare_data", "toy", "--dimensions", "3d", "--subjects", "2", "--repeats", "1", "--out", out)
    assert result.code == 0
    assert "24 clips (12 in 'train', 12 in 'val'), 12 actions" in result.out
    assert pickle.loads(out.read_bytes())["annotations"][0]["keypoint"].shape[2:] == (25, 3)
    sample = pickle.loads((tmp_path / "toy_sample.pkl").read_bytes())
    assert sample["keypoint"].shape[2:] == (25, 3)
    assert "label" not in sample
    result = run("prepare_data", "toy", "--subjects", "1", "--out", out)
    assert result.code == 2
    assert "at least 2 subjects" in result.err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["prepare_data", "verify", "FILE"], "no store; name a folder that"),
        (["prepare_data", "verify", "nowhere"], "nowhere: no store"),
        (["check_data", "FILE", "--samples", "-1"], "--samples: must be at least 0"),
        (["serve", "--model", "FILE", "--port", "99999"], "--port: must lie between 0 and 65535"),
    ],
)
def test_wrong_arguments_are_named(run, toy_file, command, said):
    result = run(*(toy_file if part == "FILE" else part for part in command))
    assert result.code == 2
    assert said in result.err


def test_launchers_explain_themselves():
    for script in ("dist_train.sh", "dist_test.sh"):
        done = subprocess.run(["bash", ROOT / "tools" / script], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith(f"usage: tools/{script} CONFIG")


def test_reproduce_explains_itself(tmp_path):
    script = ["bash", ROOT / "tools" / "reproduce.sh"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Repeat the results of docs/results.md: tools/reproduce.sh nwucla")
    environment = {**os.environ, "DATA": str(tmp_path / "absent.pkl")}
    done = subprocess.run([*script, "nwucla"], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "absent.pkl: no such file" in done.stderr


def test_launchers_run_one_process(toy_options, tmp_path):
    """dist_train.sh CONFIG 1 ..., then dist_test.sh CONFIG WEIGHTS 1."""
    environment = {**os.environ, "PYTHON": sys.executable}
    config = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"
    options = [*toy_options, "-o", f"output_dir={tmp_path}", "-o", "epochs=1", "--max_iters", "2"]
    weights = tmp_path / "STGCN_PlusPlus_toy_last.pdparams"
    for command in (["dist_train.sh", config, "1"], ["dist_test.sh", config, str(weights), "1"]):
        done = subprocess.run(
            ["bash", f"tools/{command[0]}", *command[1:], *options],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert "[TEST] finished" in done.stdout + done.stderr


def test_the_model_zoo_lists_every_config_and_its_published_numbers():
    page = (ROOT / "docs" / "model_zoo.md").read_text(encoding="utf-8")
    configs = {path.stem for path in (ROOT / "configs" / "recognition").rglob("*.yaml")}
    missing = {name for name in configs if f"| [{name}](" not in page}
    assert not missing, f"run tools/model_zoo.py: {missing}"
    published = yaml.safe_load((ROOT / "docs" / "published.yaml").read_text(encoding="utf-8"))
    for group in published:
        for row in group["rows"]:
            assert row["config"] in configs
            assert len(row["top1"]) == 6
            assert row["checkpoint"] in page
    assert "| PYSKL | 89.3 | 90.1 | 87.5 | 87.3 | 91.4 | 92.1 | 1.403 M | 2.925 G |" in page
    assert "| MMAction2 | 88.6 | 91.59 |" in page


def test_the_model_zoo_page_is_made_of_configs_and_published_numbers(tmp_path, monkeypatch):
    import model_zoo

    folder = ROOT / "configs" / "recognition" / "stgcn_plusplus"
    configs = {name: folder / f"{name}.yaml" for name in ("stgcn_plusplus_gesture", "stgcn_plusplus_toy")}
    row = {"config": "stgcn_plusplus_gesture", "checkpoint": "j.pth", "top1": [91, 92.25, None, None, None, None]}
    group = {"source": "Somebody", "page": "https://example.org", "weights": "w", "rows": [row]}
    monkeypatch.chdir(ROOT)
    page = model_zoo.page([group], configs)
    assert "| Somebody | 91.0 | 92.25 | - | - | - | - | 0.197 M | 0.040 G | `j.pth` |" in page
    assert "stgcn_plusplus_toy" in page
    with pytest.raises(UserError, match="no config is called 'stgcn_minus'"):
        model_zoo.page([{**group, "rows": [{**row, "config": "stgcn_minus"}]}], configs)


def test_dockerfile_copies_what_is_there():
    """Docker itself is not asked: what it copies exists and is not ignored, and its command takes these flags."""
    text = (ROOT / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for name in line.split()]
    assert {"paddleskel", "tools", "requirements.txt", "requirements-serve.txt"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not set(copied) & set(ignored)
    command = [sys.executable, "tools/serve.py", "--help"]
    usage = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    for flag in re.findall(r'"(--[a-z_]+)"', text):
        assert flag in usage
