"""tools/long_tail_study.py on a run of seconds."""

import re

import pytest
from conftest import TOY_CONFIG

TAIL = ["-o", "DATASET.train.long_tail={imbalance_factor: 6, max_per_class: 6}", "-o", "epochs=1"]


@pytest.fixture
def study(run, toy_options, tmp_path):
    return lambda *flags: run("long_tail_study", "-c", TOY_CONFIG, *toy_options, "--output", tmp_path, *flags)


def test_a_method_is_trained_once_and_tabled(study, tmp_path):
    flags = [*TAIL, "--methods", "mix-up, balanced", "--seeds", "1"]
    result = study(*flags)
    assert result.code == 0, result.err
    assert "1 epochs of 2 steps, 1 seeds" in result.out  # 30 clips in batches of 16
    table = result.out[result.out.index("| method") :]
    assert table.startswith("| method | all | many | medium | few |\n")
    assert re.search(r"^\| mix-up, balanced softmax( \| [\d.]+){4} \|$", table, re.MULTILINE)
    folder = tmp_path / "mix_up__balanced_softmax" / "0"
    log = (folder / "train.log").read_text()
    assert "BalancedSoftmaxLoss" in log
    assert "PartMixup" in log
    trained = (folder / "test.npz").stat().st_mtime_ns
    again = study(*flags)
    assert again.out.endswith(table)
    assert (folder / "test.npz").stat().st_mtime_ns == trained


def test_mistakes_are_explained(study):
    result = study("--methods", "magic")
    assert result.code == 2
    assert "--methods magic: none of cross entropy, " in result.err
    result = study()
    assert result.code == 2
    assert "long_tail is not set" in result.err
    result = study(*TAIL, "--methods", "focal", "-o", "num_classes=3")
    assert result.code == 2
    assert "label" in result.err
