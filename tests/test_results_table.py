"""tools/results_table.py: means over seeds, fusions, and the samples that were trained on."""

import numpy as np
import pytest

from paddleskel.results import Results


@pytest.fixture
def runs(tmp_path):
    """Two seeds of joint and bone scores for four samples of two classes; sample d is a training sample too."""
    right = {1: {"j": "abd", "b": "acd"}, 2: {"j": "abcd", "b": "d"}}
    sure = {"j": 0.9, "b": 0.6}
    for seed, streams in right.items():
        for stream, names in streams.items():
            probs = np.array([[sure[stream] if name in names else 1 - sure[stream]] for name in "abcd"], np.float32)
            scores = np.concatenate([probs, 1 - probs], axis=1)
            folder = tmp_path / "net" / f"seed{seed}" / stream
            folder.mkdir(parents=True)
            labels = np.zeros(4, np.int64)
            Results(list("abcd"), labels, np.log(scores), scores, data={"seen": ["d"]}).save(folder / "test.npz")
    return tmp_path


def test_seeds_are_averaged_and_streams_fused(run, runs):
    result = run("results_table", runs)
    assert result.code == 0
    rows = {line.split(" | ")[1]: line for line in result.out.splitlines()[2:]}
    assert rows["j"] == "| net | j | 2 | 87.5 ± 17.7 | 83.3 ± 23.6 |"  # 3 and 4 of 4; 2 and 3 of 3
    assert rows["b"] == "| net | b | 2 | 50.0 ± 35.4 | 33.3 ± 47.1 |"  # 3 and 1 of 4; 2 and 0 of 3
    assert rows["two-stream (j + b)"] == "| net | two-stream (j + b) | 2 | 87.5 ± 17.7 | 83.3 ± 23.6 |"
    assert "four-stream" not in result.out


def test_one_seed_has_no_deviation(run, runs):
    for file in (runs / "net" / "seed2").rglob("test.npz"):
        file.unlink()
    assert "| net | j | 1 | 75.0 | 66.7 |" in run("results_table", runs).out


def test_an_empty_folder(run, tmp_path):
    result = run(
        "results_table",
        tmp_path,
    )
    assert result.code == 2
    assert "holds no <model>/seed<number>/<stream>/test.npz" in result.err
    assert result.out == ""
