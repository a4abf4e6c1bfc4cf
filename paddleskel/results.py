"""Scores of a test, sample by sample: as a file, and back from files of ours, PYSKL's and MMAction2's."""

import csv
import io
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel import metrics
from paddleskel.convert.torch_dump import read_torch_pickle
from paddleskel.data.npz import read_npz
from paddleskel.data.safe_pickle import explain
from paddleskel.errors import UserError
from paddleskel.files import write_atomically

FORMATS = (".pkl", ".npz", ".json", ".csv")
_ABOUT = ("class_names", "train_counts", "config", "data")


@dataclass(frozen=True)
class Results:
    """Scores of N samples in the order of their split.

    Attributes:
        ids: sample names; None in files that do not say.
        labels: (N,); None in files that do not say.
        logits: (N, classes) averaged over clips, float32; None in files that hold probabilities only.
        probs: (N, classes) probabilities averaged over clips, float32.
        class_names: None if unknown.
        train_counts: training samples of each class, None if unknown.
        config: resolved values of the config they were computed with. data: fingerprint of the samples; its "seen" are
            the ids of those that the training split holds too, number for number, where that is known.
    """

    ids: list[str] | None
    labels: np.ndarray | None
    logits: np.ndarray | None
    probs: np.ndarray
    class_names: list[str] | None = None
    train_counts: list[int] | None = None
    config: dict | None = None
    data: dict | None = None

    def __len__(self) -> int:
        return len(self.probs)

    @property
    def num_classes(self) -> int:
        return self.probs.shape[1]

    @property
    def stream(self) -> str | None:
        """The stream of their config."""
        stream = (self.config or {}).get("stream", "j" if self.config else None)
        return "+".join(stream) if isinstance(stream, list) else stream

    def name_of(self, label: int) -> str:
        """What to call a class."""
        return self.class_names[label] if self.class_names else f"class {label}"

    def unseen(self) -> "Results | None":
        """Those of the samples that are not training samples too; None where all are new, or that is not known."""
        seen = set((self.data or {}).get("seen") or [])
        if self.ids is None or not seen.intersection(self.ids):
            return None
        return self.take([i for i, name in enumerate(self.ids) if name not in seen])

    def take(self, order: Sequence[int]) -> "Results":
        """Return the samples at `order`, in that order."""
        return replace(
            self,
            ids=None if self.ids is None else [self.ids[i] for i in order],
            labels=None if self.labels is None else self.labels[order],
            logits=None if self.logits is None else self.logits[order],
            probs=self.probs[order],
        )

    def scores(self, kind: str) -> np.ndarray:
        """The scores a metric ranks by: "prob", or "score" for logits.

        Raises:
            UserError: logits where there are only probabilities.
        """
        if kind == "score" and self.logits is None:
            raise UserError("logits are asked for, but the results hold probabilities only")
        return self.probs if kind == "prob" else self.logits

    def metrics(
        self,
        names: Sequence[str] = metrics.NAMES,
        topk: Sequence[int] = (1, 5),
        average_clips: str = "prob",
        count_predicted: bool = False,
        shots: tuple[int, int] | None = None,
    ) -> dict[str, float]:
        """Return {"top1_acc": ..., "mean_class_accuracy": ...}; the arguments are those of METRIC."""
        scores, labels, values = self.scores(average_clips), self.labels, {}
        if "top_k_accuracy" in names:
            values |= {f"top{k}_acc": metrics.top_k_accuracy(scores, labels, k) for k in topk}
        if "mean_class_accuracy" in names:
            values["mean_class_accuracy"] = metrics.mean_class_accuracy(scores, labels, count_predicted)
        if "macro_f1" in names:
            values["macro_f1"] = metrics.macro_f1(scores, labels)
        if "calibration" in names:
            values["calibration_error"] = metrics.calibration_error(self.probs, labels)
        groups = metrics.shot_groups(self.train_counts, shots) if self.train_counts else None
        if "shot_accuracy" in names and groups:
            for name, value in metrics.shot_accuracy(scores, labels, groups).items():
                values[f"{name}_shot_acc"] = value
        return values

    def loss(self) -> float:
        """Mean cross entropy of the averaged logits."""
        return metrics.cross_entropy(self.logits, self.labels)

    def save(self, path: Path) -> None:
        """Write a .pkl, .npz, .json or .csv file by its ending; what a .csv cannot hold goes into a .json beside it."""
        check_format(path)
        write_atomically(path, getattr(self, f"_as_{path.suffix[1:]}")())
        if path.suffix == ".csv":
            write_atomically(_beside(path), json.dumps(self._about(), ensure_ascii=False).encode())

    def _about(self) -> dict:
        return {name: getattr(self, name) for name in _ABOUT}

    def _scores(self) -> dict:
        return {"ids": self.ids, "labels": self.labels, "logits": self.logits, "probs": self.probs}

    def _as_pkl(self) -> bytes:
        return pickle.dumps({**self._scores(), **self._about()}, protocol=4)

    def _as_npz(self) -> bytes:
        buffer = io.BytesIO()
        arrays = {key: np.asarray(value) for key, value in self._scores().items() if value is not None}
        np.savez_compressed(buffer, **arrays, about=np.array(json.dumps(self._about(), ensure_ascii=False)))
        return buffer.getvalue()

    def _as_json(self) -> bytes:
        scores = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self._scores().items()}
        return json.dumps({**scores, **self._about()}, ensure_ascii=False).encode()

    def _as_csv(self) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text)
        names = [self.name_of(label) for label in range(self.num_classes)]
        kinds = {"prob": self.probs} | ({} if self.logits is None else {"logit": self.logits})
        writer.writerow(["id", "label", "prediction", *(f"{kind}:{name}" for kind in kinds for name in names)])
        table = np.concatenate(list(kinds.values()), axis=1)
        for i, predicted in enumerate(metrics.predictions(self.probs).tolist()):
            head = ["" if self.ids is None else self.ids[i], "" if self.labels is None else int(self.labels[i])]
            writer.writerow([*head, predicted, *(f"{value:.9g}" for value in table[i])])
        return text.getvalue().encode()


def check_format(path: Path) -> None:
    """Raise a UserError for a results file of an unknown kind, before anything is computed for it."""
    if path.suffix not in FORMATS:
        raise UserError(f"--out {path}: the file must end in one of {', '.join(FORMATS)}")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.about.json")


def read_results(path: str | Path) -> Results:
    """Read the scores of a test.

    Ours (.pkl, .npz, .json, .csv); PYSKL's and BRL's (a .pkl or .json list of one vector a sample: no ids, no labels);
    MMAction2's dumps (a .pkl list of dicts with torch tensors, read without torch).

    Raises:
        UserError: not a results file; scores that are no numbers or of different lengths; an id given twice.
    """
    path = Path(path)
    with explain(path, "results file"):
        return _parse(path, _read(path))


def _parse(path: Path, content: Any) -> Results:
    if isinstance(content, Mapping) and "probs" in content:
        return _checked(path, content, content.get("logits"), content["probs"])
    if isinstance(content, (list, tuple)) and len(content) and isinstance(content[0], Mapping):
        return _from_mmaction(path, content)
    if isinstance(content, (list, tuple)) and len(content):
        return _with_scores(path, {}, content)
    raise UserError(
        f"{path}: not a results file: expected what `main.py --test --out FILE` writes, PYSKL's list of score vectors, "
        f"or MMAction2's list of dicts with 'pred_score'; found {type(content).__name__}"
    )


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix == ".npz":
            values = read_npz(path)
            return {**values, **json.loads(str(values.pop("about", "{}")))}
        if path.suffix == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".csv":
            return _read_csv(path)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: not a readable results file: {error}") from error
    return read_torch_pickle(path)


def _read_csv(path: Path) -> dict:
    header, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    if header[:3] != ["id", "label", "prediction"]:
        raise ValueError("its first line does not begin with id,label,prediction")
    about = json.loads(_beside(path).read_text(encoding="utf-8")) if _beside(path).is_file() else {}
    columns = {kind: [i for i, name in enumerate(header) if name.startswith(f"{kind}:")] for kind in ("prob", "logit")}
    scores = {kind: [[float(row[i]) for i in chosen] for row in rows] for kind, chosen in columns.items() if chosen}
    return {
        "ids": [row[0] for row in rows] if rows and rows[0][0] else None,
        "labels": [int(row[1]) for row in rows] if rows and rows[0][1] else None,
        "logits": scores.get("logit"),
        "probs": scores["prob"],
        "class_names": [header[i].removeprefix("prob:") for i in columns["prob"]],
        **about,
    }


def _from_mmaction(path: Path, samples: Sequence[Mapping]) -> Results:
    """MMAction2's dump: one dict a sample with pred_score (classes,), gt_label (1,) and maybe a name."""
    if not all(isinstance(sample, Mapping) and "pred_score" in sample for sample in samples):
        raise UserError(f"{path}: a list of dicts without 'pred_score'; MMAction2's `tools/test.py --dump` writes them")
    found: dict[str, Any] = {}
    if all("gt_label" in sample for sample in samples):
        labels = [np.ravel(sample["gt_label"]) for sample in samples]
        if any(label.size != 1 for label in labels):
            raise UserError(f"{path}: gt_label: expected one class a sample; several labels a sample are not supported")
        found["labels"] = [int(label[0]) for label in labels]
    for key in ("frame_dir", "filename"):
        if all(isinstance(sample.get(key), str) for sample in samples):
            found["ids"] = [sample[key] for sample in samples]
            break
    return _with_scores(path, found, [sample["pred_score"] for sample in samples])


def _with_scores(path: Path, found: Mapping, scores: Sequence) -> Results:
    """Results from one kind of scores: probabilities if they are, logits otherwise."""
    vectors = _matrix(path, [np.ravel(vector) for vector in scores], "scores")
    if (vectors >= 0).all() and np.allclose(vectors.sum(axis=1), 1, atol=1e-2):
        return _checked(path, found, None, vectors)
    return _checked(path, found, vectors, metrics.softmax(vectors))


def _matrix(path: Path, values: Any, name: str) -> np.ndarray:
    try:
        matrix = np.asarray(values, np.float32)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {name}: not one vector of numbers a sample, all of one length") from error
    if matrix.ndim != 2 or matrix.shape[1] < 2 or not np.isfinite(matrix).all():
        raise UserError(f"{path}: {name}: expected finite numbers of shape (samples, classes), found {matrix.shape}")
    return matrix


def _checked(path: Path, found: Mapping, logits: Any, probs: Any) -> Results:
    probs = _matrix(path, probs, "probs")
    ids, labels = found.get("ids"), found.get("labels")
    ids = None if ids is None else [str(name) for name in ids]
    if labels is not None:
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or (labels < 0).any() or (labels >= probs.shape[1]).any():
            raise UserError(f"{path}: labels: expected class indices from 0 to {probs.shape[1] - 1}, one a sample")
        labels = labels.astype(np.int64)
    for name, column in (("ids", ids), ("labels", labels)):
        if column is not None and len(column) != len(probs):
            raise UserError(f"{path}: {len(column)} {name} for {len(probs)} score vectors")
    if ids is not None and len(set(ids)) < len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise UserError(f"{path}: the sample '{twice}' stands in it twice")
    about = {name: found.get(name) for name in _ABOUT}
    names = about["class_names"]
    if names is not None:
        about["class_names"] = [str(name) for name in names]
    return Results(ids, labels, None if logits is None else _matrix(path, logits, "logits"), probs, **about)
