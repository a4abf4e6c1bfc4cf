"""Scores of a test: sample by sample, as a file."""

import csv
import io
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddleskel.errors import UserError
from paddleskel.files import write_atomically
from paddleskel.metrics import cross_entropy, mean_class_accuracy, top_k_accuracy

FORMATS = (".pkl", ".npz", ".json", ".csv")


@dataclass(frozen=True)
class Results:
    """Scores of N samples in the order of their split.

    Attributes:
        ids: sample names. labels: (N,). logits, probs: (N, classes), averaged over clips, float32.
    """

    ids: list[str]
    labels: np.ndarray
    logits: np.ndarray
    probs: np.ndarray
    class_names: list[str] | None = None

    def scores(self, average_clips: str) -> np.ndarray:
        """The scores a metric ranks by: "prob" or "score" (logits)."""
        return self.probs if average_clips == "prob" else self.logits

    def metrics(self, names: Sequence[str], topk: Sequence[int], average_clips: str = "prob") -> dict[str, float]:
        """Return {"top1_acc": ..., "mean_class_accuracy": ...}."""
        scores, values = self.scores(average_clips), {}
        if "top_k_accuracy" in names:
            values |= {f"top{k}_acc": top_k_accuracy(scores, self.labels, k) for k in topk}
        if "mean_class_accuracy" in names:
            values["mean_class_accuracy"] = mean_class_accuracy(scores, self.labels)
        return values

    def loss(self) -> float:
        """Mean cross entropy of the averaged logits."""
        return cross_entropy(self.logits, self.labels)

    def save(self, path: Path) -> None:
        """Write a .pkl, .npz, .json or .csv file by its ending."""
        check_format(path)
        write_atomically(path, getattr(self, f"_as_{path.suffix[1:]}")())

    def _table(self) -> dict:
        return {
            "ids": list(self.ids),
            "labels": self.labels,
            "logits": self.logits,
            "probs": self.probs,
            "class_names": self.class_names,
        }

    def _as_pkl(self) -> bytes:
        return pickle.dumps(self._table(), protocol=4)

    def _as_npz(self) -> bytes:
        buffer = io.BytesIO()
        arrays = {key: np.asarray(value) for key, value in self._table().items() if value is not None}
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    def _as_json(self) -> bytes:
        table = {
            key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in self._table().items()
        }
        return json.dumps(table, ensure_ascii=False).encode()

    def _as_csv(self) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text)
        names = self.class_names or [f"class_{i}" for i in range(self.probs.shape[1])]
        writer.writerow(["id", "label", "prediction", *(f"prob:{name}" for name in names)])
        for row in zip(self.ids, self.labels.tolist(), self.probs.argmax(axis=1).tolist(), self.probs.tolist()):
            writer.writerow([*row[:3], *(f"{value:.6g}" for value in row[3])])
        return text.getvalue().encode()


def check_format(path: Path) -> None:
    """Raise a UserError for a results file of an unknown kind, before anything is computed for it."""
    if path.suffix not in FORMATS:
        raise UserError(f"--out {path}: the file must end in one of {', '.join(FORMATS)}")
