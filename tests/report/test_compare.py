"""tools/compare.py: runs side by side."""

import json

import numpy as np
import pytest

from paddleskel.results import Results

NAMES = ["wave", "sit", "run"]


@pytest.fixture
def runs(tmp_path):
    """Two run folders: the second gets ten of class 1 more and two of class 0 fewer right, of 60."""
    labels = np.repeat([0, 1, 2], 20)
    guesses = [labels.copy(), labels.copy()]
    guesses[0][20:35] = 0
    guesses[1][20:25] = 0
    guesses[1][:2] = 2
    for name, guess, order in (("first", guesses[0], np.arange(60)), ("second", guesses[1], np.arange(60)[::-1])):
        probs = np.full((60, 3), 0.1, np.float32) + 0.7 * np.eye(3, dtype=np.float32)[guess]
        folder = tmp_path / name
        folder.mkdir()
        whole = Results([f"s{i}" for i in range(60)], labels, np.log(probs), probs, NAMES)
        whole.take(order).save(folder / "result.npz")
        records = [{"epoch": e, "train_loss": 1 / e, "val_top1": 0.3 * e, "train_top1": 0.2} for e in (1, 2, 3)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return [tmp_path / "first", tmp_path / "second"]


def test_runs_are_compared_sample_by_sample(runs, run, tmp_path, browser):
    page = tmp_path / "compare.html"
    result = run("compare", *runs, "-o", page)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[1].split() == ["first", "75.00", "%", "75.00", "%"]
    assert lines[2].startswith("second  88.33 %   88.33 %  +13.33, 10 won, 2 lost, p = 0.039")
    browser.open(page)
    text = browser.evaluate("document.body.innerText")
    assert "Against first" in text
    assert "+13.33" in text
    assert "0.039" in text
    assert "sit\t20\t25.0 %\t75.0 %\t+50.0" in text
    assert "wave\t20\t100.0 %\t90.0 %\t-10.0" in text
    assert browser.evaluate("document.querySelectorAll('svg path[stroke-width=\"2\"]').length") == 4
    browser.dark()
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 25)"


def test_results_files_will_do(runs, run, tmp_path):
    result = run("compare", *(path / "result.npz" for path in runs), "-o", tmp_path / "c.html")
    assert result.code == 0
    assert "first/result.npz" in result.out
    assert "Training" not in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["first"], "at least two runs"),
        (["first", "second", "-o", "c.txt"], "must end in .html"),
        (["first", "third"], "result.npz: no such file; `main.py --test` writes it"),
        (["first", "first"], "given twice"),
    ],
)
def test_mistakes_are_explained(runs, run, flags, message):
    flags = [runs[0].parent / flag if flag in ("first", "second", "third") else flag for flag in flags]
    result = run("compare", *flags)
    assert result.code == 2
    assert message in result.err


def test_runs_of_other_splits_are_refused(runs, run, tmp_path):
    other = Results(["x"], np.array([0]), np.zeros((1, 3)), np.full((1, 3), 1 / 3, np.float32), NAMES)
    other.save(tmp_path / "other.npz")
    result = run("compare", runs[0], tmp_path / "other.npz", "-o", tmp_path / "c.html")
    assert result.code == 2
    assert "not of the same split" in result.err
