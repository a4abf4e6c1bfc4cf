"""What a test leaves beside its weights: scores, tables, the report."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

import paddleskel
from paddleskel.data.clip import Clip
from paddleskel.data.transforms import Pipeline, build_pipeline
from paddleskel.engine.build import Data
from paddleskel.engine.mixed import autocast
from paddleskel.engine.settings import Settings
from paddleskel.errors import UserError
from paddleskel.files import make_folder, write_atomically
from paddleskel.metrics import predictions, softmax
from paddleskel.report.breakdown import Breakdown
from paddleskel.report.page import Shown, choose_samples, report_page
from paddleskel.results import Results

FILES = ("result.npz", "confusion.csv", "per_class.csv", "report.html")
_POINTS = 12  # of a curve over time


def report_folder(settings: Settings, weights: str | Path) -> Path:
    """Return where to report on a test: beside the weights, or in the run's output folder if that cannot be written."""
    beside = Path(weights).parent
    return beside if os.access(beside, os.W_OK) else make_folder(settings.output)


def write_report(
    folder: Path, results: Results, settings: Settings, model: nn.Layer, data: Data, weights: str | Path
) -> None:
    """Write result.npz, confusion.csv, per_class.csv and report.html."""
    rule = settings.METRIC
    breakdown = Breakdown.of(results, rule.average_clips)
    results.save(folder / "result.npz")
    write_atomically(folder / "confusion.csv", breakdown.confusion_csv())
    write_atomically(folder / "per_class.csv", breakdown.per_class_csv())
    layout = settings.load_layout()
    pipeline = build_pipeline(settings.PIPELINE, layout, settings.stream)
    clips = data.clips("test")
    chosen = choose_samples(results, rule.average_clips)
    guess = predictions(results.scores(rule.average_clips))
    shown = {
        key: [
            Shown(i, clips[i], _curves(settings, model, pipeline, clips[i], results, i, int(guess[i])))
            for i in positions
        ]
        for key, positions in chosen.items()
    }
    section = results.data or {}
    split = f"split {section['split']} of {section['file']}" if section.get("split") else section.get("file", "")
    page = report_page(
        results,
        layout,
        shown,
        title=settings.model_name,
        subtitle=f"stream {results.stream}, {len(results):,} samples, {split}",
        about=(
            f"Weights {Path(weights).name}; {split}, SHA-256 of ids and labels {str(section.get('sha256'))[:16]}; "
            f"{settings.DATASET.test.num_clips} clips a sample, averaged as "
            f"{'probabilities' if rule.average_clips == 'prob' else 'logits'}; paddleskel {paddleskel.__version__}."
        ),
        kind=rule.average_clips,
        topk=[k for k in rule.topk if k < settings.num_classes] or [1],
        shots=rule.shots,
    )
    write_atomically(folder / "report.html", page)


def _curves(
    settings: Settings, model: nn.Layer, pipeline: Pipeline, clip: Clip, results: Results, position: int, predicted: int
) -> dict[str, list[float]]:
    """Probabilities of the label, the prediction and the next best class for growing beginnings of the clip."""
    try:
        probs = scores_over_time(settings, model, pipeline, clip)
    except UserError:  # the first frames alone may hold nobody
        return {}
    best = np.argsort(-results.probs[position], kind="stable")[:2].tolist()
    classes = dict.fromkeys([int(results.labels[position]), predicted, *best])
    return {results.name_of(label): probs[:, label].tolist() for label in list(classes)[:3]}


def scores_over_time(
    settings: Settings, model: nn.Layer, pipeline: Pipeline, clip: Clip, points: int = _POINTS
) -> np.ndarray:
    """(points, classes) probabilities for beginnings of a clip, from its first frame alone to the whole."""
    lengths: Sequence[int] = np.linspace(1, clip.num_frames, points).round().astype(int)
    beginnings = [clip.take_frames(np.arange(length)) for length in lengths]
    inputs = np.concatenate([pipeline(beginning, np.random.RandomState(0)) for beginning in beginnings])
    was_training = model.training
    model.eval()
    with paddle.no_grad(), autocast(settings):
        logits = model(paddle.to_tensor(inputs)).astype("float32").numpy()
    if was_training:
        model.train()
    return softmax(logits).reshape(points, -1, logits.shape[1]).mean(axis=1)
