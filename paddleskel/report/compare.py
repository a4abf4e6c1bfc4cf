"""Several runs side by side: curves, classes won and lost, and whether the difference is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel import metrics
from paddleskel.ensemble import Member, join
from paddleskel.errors import UserError
from paddleskel.report.breakdown import Breakdown
from paddleskel.report.charts import line_chart
from paddleskel.results import FORMATS, Results, read_results

_PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Compared:
    """A run: its name, its results joined with the others', and the records of its epochs."""

    name: str
    results: Results
    records: list[dict[str, Any]]

    @property
    def right(self) -> np.ndarray:
        """(N,) whether each sample's prediction is right."""
        return metrics.predictions(self.results.probs) == self.results.labels


def read_runs(paths: Sequence[str], read_records) -> list[Compared]:
    """Read runs: output folders that were tested, or results files.

    Args:
        read_records: reads the metrics.jsonl of a folder.

    Raises:
        UserError: a folder without result.npz; results of different samples.
    """
    members, records = [], []
    for path in map(Path, paths):
        file = path if path.suffix in FORMATS else path / "result.npz"
        if not file.is_file():
            raise UserError(f"{file}: no such file; `main.py --test` writes it into a run's output folder")
        members.append(Member(str(path), read_results(file)))
        records.append(read_records(file.parent / "metrics.jsonl") if path.suffix not in FORMATS else [])
    joined, _ = join(members)
    names = _short_names([member.name for member in joined])
    return [Compared(name, member.results, lines) for name, member, lines in zip(names, joined, records)]


def _short_names(paths: list[str]) -> list[str]:
    """The last parts of paths by which they differ."""
    for length in range(1, max(len(Path(path).parts) for path in paths) + 1):
        names = ["/".join(Path(path).parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"{paths[0]}: given twice; a run compared with itself says nothing")


def headline(run: Compared) -> dict[str, float]:
    """Top-1 with its bootstrap interval, mean class accuracy, macro F1, calibration error."""
    right = run.right
    low, high = metrics.bootstrap_interval(lambda chosen: right[chosen].mean(), len(right))
    values = run.results.metrics(["top_k_accuracy", "mean_class_accuracy", "macro_f1", "calibration"], [1])
    return {**values, "low": low, "high": high}


def against(base: Compared, other: Compared) -> dict[str, Any]:
    """McNemar's test of two runs on the same samples, and the difference of top-1 with its bootstrap interval."""
    only_base, only_other, p = metrics.mcnemar(base.right, other.right)
    change = other.right.astype(float) - base.right
    low, high = metrics.bootstrap_interval(lambda chosen: change[chosen].mean(), len(change))
    return {"lost": only_base, "won": only_other, "p": p, "change": float(change.mean()), "low": low, "high": high}


def class_changes(base: Compared, other: Compared) -> list[dict[str, Any]]:
    """The change of accuracy of every class that has samples, largest gain first."""
    before, after = (Breakdown.of(run.results) for run in (base, other))
    rows = []
    for label, name in enumerate(before.names):
        if before.scores.samples[label]:
            old, new = before.scores.accuracy[label], after.scores.accuracy[label]
            samples = int(before.scores.samples[label])
            rows.append({"name": name, "samples": samples, "old": old, "new": new, "change": new - old})
    return sorted(rows, key=lambda row: -row["change"])


def compare_page(runs: Sequence[Compared]) -> str:
    """Return the page; the first run is what the others are compared with."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    safe = jinja2.filters.Markup
    others = [{"name": run.name, **against(runs[0], run), "classes": class_changes(runs[0], run)} for run in runs[1:]]
    for other in others:
        widest = max(max(abs(row["change"]) for row in other["classes"]), 1e-9)
        for row in other["classes"]:
            row["width"] = f"{50 * abs(row['change']) / widest:.1f}"
    charts = []
    for title, keys, percent in (
        ("top-1 accuracy", ("val_top1", "train_top1"), True),
        ("loss", ("val_loss", "train_loss"), False),
    ):
        series = {}
        for run in runs:
            key = next((key for key in keys if any(record.get(key) is not None for record in run.records)), None)
            points = [(r["epoch"], r[key]) for r in run.records if key and r.get(key) is not None]
            if points:
                series[f"{run.name} ({'validation' if key.startswith('val') else 'training'})"] = points
        if series:
            charts.append(safe(line_chart(title, series, percent)))
    return environment.get_template("compare.html").render(
        style=safe((_PAGE / "report.css").read_text(encoding="utf-8")),
        runs=[{"name": run.name, **headline(run)} for run in runs],
        base=runs[0].name,
        others=others,
        charts=charts,
        total=f"{len(runs[0].results):,}",
    )
