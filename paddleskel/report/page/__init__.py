"""The report of a test: one HTML page that needs no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel import metrics
from paddleskel.config import dump_yaml
from paddleskel.data.clip import Clip
from paddleskel.report.breakdown import Breakdown, confusion_order
from paddleskel.report.charts import reliability_chart
from paddleskel.report.player import embed, player, player_assets, player_data
from paddleskel.results import Results
from paddleskel.skeleton.layout import Layout

_FOLDER = Path(__file__).parent
_RESAMPLES = 1000
_MAX_ERRORS = 4000  # listed behind the cells of the matrix


@dataclass(frozen=True)
class Shown:
    """A sample to show.

    Attributes:
        position: its place in the results. clip: as it was recorded. curves: class name -> probability over time.
    """

    position: int
    clip: Clip
    curves: dict[str, list[float]]


def choose_samples(results: Results, kind: str = "prob", count: int = 9) -> dict[str, list[int]]:
    """Return positions of the "worst" samples (wrong, and the least probability for their label) and of the most
    "uncertain" others (largest entropy), at most `count` each.
    """
    probs = results.probs.astype(np.float64)
    own = probs[np.arange(len(probs)), results.labels]
    wrong = metrics.predictions(results.scores(kind)) != results.labels
    worst = np.lexsort((own, ~wrong))[: min(count, int(wrong.sum()))]
    entropy = -(probs * np.log(np.maximum(probs, 1e-12))).sum(axis=1)
    entropy[worst] = -1
    uncertain = np.argsort(-entropy, kind="stable")[: max(0, min(count, len(probs) - len(worst)))]
    return {"worst": worst.tolist(), "uncertain": uncertain.tolist()}


def report_page(
    results: Results,
    layout: Layout,
    shown: dict[str, Sequence[Shown]],
    title: str,
    subtitle: str,
    about: str,
    kind: str = "prob",
    topk: Sequence[int] = (1, 5),
    shots: tuple[int, int] | None = None,
) -> str:
    """Return the page.

    Args:
        shown: the samples of `choose_samples`, with the same keys.
        kind: what predictions go by, "prob" or "score".
        topk, shots: as in METRIC.
    """
    import jinja2

    breakdown = Breakdown.of(results, kind)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    safe, text = jinja2.filters.Markup, lambda name: (_FOLDER / name).read_text(encoding="utf-8")
    names = breakdown.names
    return environment.get_template("report.html").render(
        title=title,
        subtitle=subtitle,
        style=safe(text("report.css")),
        script=safe(text("report.js")),
        player=safe(player_assets()),
        cards=_cards(results, kind, topk, shots),
        resamples=f"{_RESAMPLES:,}",
        total=f"{len(results):,}",
        names=names,
        pairs=breakdown.pairs(15),
        classes=_class_rows(breakdown),
        has_counts=breakdown.train_counts is not None,
        largest=max(breakdown.train_counts or [0]),
        reliability=safe(reliability_chart(results.probs, results.labels)),
        calibration=f"{metrics.calibration_error(results.probs, results.labels):.4f}",
        samples=[_group(key, shown.get(key, ()), results, layout, kind, safe) for key in _GROUPS if shown.get(key)],
        about=about,
        config=dump_yaml(results.config) if results.config else "",
        data=safe(embed(_matrix_data(results, breakdown, kind))),
    )


def _cards(results: Results, kind: str, topk: Sequence[int], shots: tuple[int, int] | None) -> list[dict[str, str]]:
    """Headline numbers with their bootstrap intervals."""
    scores, labels = results.scores(kind), results.labels
    ranks = metrics.label_ranks(scores, labels)
    guess = metrics.predictions(scores)
    right = (guess == labels).astype(float)

    def class_means(chosen: np.ndarray) -> np.ndarray:
        total = np.bincount(labels[chosen], minlength=results.num_classes)
        hits = np.bincount(labels[chosen], right[chosen], results.num_classes)
        return np.divide(hits, total, out=np.full(len(total), np.nan), where=total > 0)

    def macro_f1(chosen: np.ndarray) -> float:
        matrix = metrics.confusion_matrix(guess[chosen], labels[chosen], results.num_classes)
        return mean(metrics.class_scores(matrix).f1)

    def mean(values: np.ndarray) -> float:
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else float("nan")

    values = [(f"top-{k} accuracy", lambda chosen, k=k: (ranks[chosen] < k).mean(), "") for k in topk]
    values.append(("mean class accuracy", lambda chosen: mean(class_means(chosen)), ""))
    values.append(("macro F1", macro_f1, ""))
    groups = metrics.shot_groups(results.train_counts, shots) if results.train_counts else None
    for name, members in (groups or {}).items():
        if len(members):
            note = f"{len(members)} classes"
            values.append((f"{name}-shot classes", lambda chosen, m=members: mean(class_means(chosen)[m]), note))
    everything, cards = np.arange(len(labels)), []
    for name, statistic, note in values:
        low, high = metrics.bootstrap_interval(statistic, len(labels), resamples=_RESAMPLES)
        value, interval = 100 * statistic(everything), f"{100 * low:.2f} to {100 * high:.2f}"
        cards.append({"name": name, "value": f"{value:.2f} %", "note": f"{interval}, {note}" if note else interval})
    error = metrics.calibration_error(results.probs, labels)
    return [*cards, {"name": "calibration error", "value": f"{error:.3f}", "note": "0 is honest"}]


def _class_rows(breakdown: Breakdown) -> list[dict[str, Any]]:
    each, counts = breakdown.scores, breakdown.train_counts
    rows = []
    for label, name in enumerate(breakdown.names):
        if not each.samples[label] and not each.predicted[label]:
            continue
        other, count = breakdown.mostly_taken_for(label)
        row = {"name": name, "samples": int(each.samples[label]), "confused": f"{other} ({count})" if count else ""}
        for key, value in (("accuracy", each.accuracy), ("precision", each.precision), ("f1", each.f1)):
            known = not np.isnan(value[label])
            row[key] = f"{100 * value[label]:.1f} %" if known else "-"
            row[f"{key}_value"] = f"{value[label]:.6f}" if known else ""
        row["accuracy_width"] = f"{100 * np.nan_to_num(each.accuracy[label]):.1f}"
        if counts is not None:
            row |= {"train": counts[label], "train_width": f"{100 * counts[label] / max(*counts, 1):.1f}"}
        rows.append(row)
    return rows


def _matrix_data(results: Results, breakdown: Breakdown, kind: str) -> dict[str, Any]:
    guess = metrics.predictions(results.scores(kind))
    wrong = np.flatnonzero(guess != results.labels)
    sure = results.probs[np.arange(len(guess)), guess].astype(float).round(3)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:_MAX_ERRORS]
    errors = [[results.ids[i], int(results.labels[i]), int(guess[i]), float(sure[i])] for i in wrong]
    accuracy = np.nan_to_num(breakdown.scores.accuracy, nan=2.0)
    return {
        "names": breakdown.names,
        "matrix": breakdown.matrix.tolist(),
        "errors": errors,
        "orders": {
            "label": list(range(results.num_classes)),
            "confusion": confusion_order(breakdown.matrix),
            "accuracy": np.argsort(accuracy, kind="stable").tolist(),
        },
    }


_GROUPS = {
    "worst": ("Worst mistakes", "The samples whose label got the least probability."),
    "uncertain": ("Most uncertain", "The samples whose probabilities are spread the widest."),
}
_CURVES_NOTE = " The curves are the probabilities after the clip up to that frame."


def _group(key: str, shown: Sequence[Shown], results: Results, layout: Layout, kind: str, safe) -> dict[str, Any]:
    title, note = _GROUPS[key]
    guess, cards = metrics.predictions(results.scores(kind)), []
    for item in shown:
        i = item.position
        label, predicted = int(results.labels[i]), int(guess[i])
        said = f"{results.ids[i]}: {results.name_of(label)}"
        motion = player_data(item.clip.keypoint, layout, item.clip.score, said, item.curves, max_frames=90)
        best = np.argsort(-results.probs[i], kind="stable")[:3]
        cards.append(
            {
                "id": results.ids[i],
                "label": results.name_of(label),
                "predicted": results.name_of(predicted),
                "right": label == predicted,
                "scores": ", ".join(f"{results.name_of(c)} {100 * results.probs[i, c]:.0f} %" for c in best),
                "player": safe(player(motion)),
            }
        )
    note += _CURVES_NOTE if any(item.curves for item in shown) else ""
    return {"anchor": key, "title": title, "note": note, "samples": cards}
