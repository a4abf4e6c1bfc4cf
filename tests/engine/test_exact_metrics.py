"""The metrics of --test are those of scikit-learn on all samples, whatever the batch."""

import re
import warnings

import numpy as np
import pytest

from paddleskel.results import read_results


@pytest.mark.parametrize("size", [1, 7, 64])  # of 24 samples: the last batch of 7 has 3
def test_printed_metrics_are_sklearns(train, tmp_path, size):
    sklearn = pytest.importorskip("sklearn.metrics")
    train("run", "-o", "epochs=1")
    out = tmp_path / "scores.npz"
    sizes = ["-o", f"DATASET.test_batch_size={size}", "-o", "METRIC.topk=[1,3]", "-o", "epochs=1"]
    result, _ = train("run", "--test", *sizes, "--out", out)
    printed = dict(re.findall(r"\] (\w+): ([\d.]+)\n", result.out))
    scores = read_results(out)
    guess, classes = scores.probs.argmax(1), np.arange(12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "top1_acc": sklearn.accuracy_score(scores.labels, guess),
            "top3_acc": sklearn.top_k_accuracy_score(scores.labels, scores.probs, k=3, labels=classes),
            "mean_class_accuracy": sklearn.balanced_accuracy_score(scores.labels, guess),
            "macro_f1": sklearn.f1_score(scores.labels, guess, average="macro", zero_division=0),
        }
    assert {name: printed[name] for name in expected} == {name: f"{value:.4f}" for name, value in expected.items()}
