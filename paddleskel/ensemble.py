"""Late fusion: a weighted sum of the scores that several streams or models give the same samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from paddleskel.errors import UserError
from paddleskel.metrics import label_ranks, mean_class_accuracy, softmax, top_k_accuracy
from paddleskel.registry import did_you_mean
from paddleskel.results import Results

# The weights that the published tables use.   (PYSKL, MMAction2, BRL)
PRESETS = {
    "two-stream": {"j": 1.0, "b": 1.0},
    "four-stream": {"j": 2.0, "b": 2.0, "jm": 1.0, "bm": 1.0},
    "six-stream": {"j": 2.0, "b": 2.0, "k": 2.0, "jm": 1.0, "bm": 1.0, "km": 1.0},
}


@dataclass(frozen=True)
class Member:
    """One of the models that are fused: how to call it, and its results."""

    name: str
    results: Results


def preset_weights(preset: str, streams: Sequence[str | None]) -> list[float]:
    """Return the weights of a preset for streams in any order.

    Raises:
        UserError: an unknown preset; streams that are not exactly the preset's, or not known.
    """
    if preset not in PRESETS:
        raise UserError(f"--preset: unknown preset '{preset}'{did_you_mean(preset, list(PRESETS))}")
    wanted = PRESETS[preset]
    if None in streams:
        raise UserError("--preset: not every file says which stream it is; name them in order, as in --streams j b")
    if sorted(streams) != sorted(wanted):
        raise UserError(f"--preset {preset} fuses the streams {', '.join(wanted)}; given are {', '.join(streams)}")
    return [wanted[stream] for stream in streams]


def join(members: Sequence[Member]) -> tuple[list[Member], str | None]:
    """Bring all results into the order of the first that has sample ids; those without are taken to be in that order.

    Returns:
        The members, all with the same ids and labels in the same order, and a remark if they were joined by position.

    Raises:
        UserError: results of different samples, labels or classes; no file with labels.
    """
    first = members[0]
    for member in members[1:]:
        if member.results.num_classes != first.results.num_classes:
            raise UserError(
                f"{member.name} has scores of {member.results.num_classes} classes, {first.name} of "
                f"{first.results.num_classes}; they are not of the same task"
            )
    nameless = [member.name for member in members if member.results.ids is None]
    named = next((member for member in members if member.results.ids is not None), None)
    joined = [member if member.results.ids is None else _by_id(named, member) for member in members]
    for member in joined[1:]:
        if len(member.results) != len(first.results):
            raise UserError(
                f"{member.name} has {len(member.results)} samples, {first.name} has {len(first.results)}; they are not "
                "of the same split"
            )
    ids = named.results.ids if named else None
    labels = _common_labels(joined, ids)
    joined = [Member(m.name, replace(m.results, ids=ids, labels=labels)) for m in joined]
    remark = f"joined by position, as {', '.join(nameless)} say no sample ids" if nameless else None
    return joined, remark


def _by_id(first: Member, member: Member) -> Member:
    place = {name: i for i, name in enumerate(member.results.ids)}
    missing = [name for name in first.results.ids if name not in place]
    extra = len(place) + len(missing) - len(first.results.ids)
    if missing or extra:
        example = missing[0] if missing else next(iter(place.keys() - set(first.results.ids)))
        raise UserError(
            f"{member.name} and {first.name} are not of the same split: {len(missing)} samples are only in "
            f"{first.name}, {extra} only in {member.name} (such as '{example}')"
        )
    return Member(member.name, member.results.take([place[name] for name in first.results.ids]))


def _common_labels(members: Sequence[Member], ids: list[str] | None) -> np.ndarray:
    labelled = [member for member in members if member.results.labels is not None]
    if not labelled:
        raise UserError("no file has labels; give --annotations FILE and --split NAME, from which they are taken")
    labels = labelled[0].results.labels
    for member in labelled[1:]:
        wrong = np.flatnonzero(member.results.labels != labels)
        if len(wrong):
            sample = f"'{ids[wrong[0]]}'" if ids else f"number {wrong[0]}"
            raise UserError(
                f"{member.name} and {labelled[0].name} disagree about the labels of {len(wrong)} samples, such as "
                f"{sample}; they are not of the same split, or not in the same order"
            )
    return labels


def score_of(results: Results, kind: str = "prob", apply_softmax: bool = False) -> np.ndarray:
    """(N, classes) float64 scores to add up: "prob" or "score" (logits), with another softmax if asked for."""
    scores = results.scores(kind).astype(np.float64)
    return softmax(scores) if apply_softmax else scores


def fuse(scores: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Weighted sum of (N, classes) scores."""
    if len(weights) != len(scores):
        raise UserError(f"--weights: {len(weights)} weights for {len(scores)} sets of scores")
    if any(weight < 0 or not np.isfinite(weight) for weight in weights) or not any(weights):
        raise UserError(f"--weights: {' '.join(map(str, weights))}: expected numbers from 0 up, not all 0")
    return sum(weight * score for weight, score in zip(weights, scores))


def fused_results(members: Sequence[Member], weights: Sequence[float], fused: np.ndarray) -> Results:
    """The fused scores as results, on the scale of one member's; probabilities stay, logits get a softmax."""
    fused = (fused / sum(weights)).astype(np.float32)
    base = next((m.results for m in members if m.results.class_names), members[0].results)
    proper = (fused >= 0).all() and np.allclose(fused.sum(axis=1), 1, atol=1e-2)
    seen = next((m.results.data for m in members if (m.results.data or {}).get("seen")), base.data)
    about = {"streams": [member.name for member in members], "weights": list(map(float, weights))}
    return replace(
        base,
        labels=members[0].results.labels,
        logits=None if proper else fused,
        probs=fused if proper else softmax(fused).astype(np.float32),
        config={"ensemble": about},
        data=seen,
    )


def table(
    names: Sequence[str], scores: Sequence[np.ndarray], labels: np.ndarray, weights: Sequence[float]
) -> list[dict]:
    """Accuracies of each member, each pair in its weights, and the whole: name, weights, top1, top5, mean class."""
    count = len(scores)
    groups = [(i,) for i in range(count)]
    groups += list(combinations(range(count), 2)) if count > 2 else []
    groups += [tuple(range(count))] if count > 1 else []
    rows = []
    for group in groups:
        parts = [weights[i] if len(group) > 1 else 1.0 for i in group]
        if not any(parts):
            continue
        fused = fuse([scores[i] for i in group], parts)
        rows.append(
            {
                "name": " + ".join(names[i] for i in group),
                "weights": " : ".join(f"{weight:g}" for weight in parts) if len(group) > 1 else "",
                "top1": top_k_accuracy(fused, labels),
                "top5": top_k_accuracy(fused, labels, 5),
                "mean_class": mean_class_accuracy(fused, labels),
            }
        )
    return rows


def search_weights(
    scores: Sequence[np.ndarray], labels: np.ndarray, step: float = 0.25, top: float = 3.0
) -> list[float]:
    """Find weights on held-out samples: one coordinate at a time over a grid, from equal weights, until none improves.

    The best has the highest top-1 accuracy; among equals, the lowest place of the labels on average.
    """
    grid = np.arange(0, top + step / 2, step)
    weights = [1.0] * len(scores)

    def value(candidate: Sequence[float]) -> tuple[float, float]:
        ranks = label_ranks(fuse(scores, candidate), labels)
        return float((ranks == 0).mean()), -float(ranks.mean())

    best = value(weights)
    improved = True
    while improved:
        improved = False
        for i in range(len(weights)):
            for weight in grid:
                candidate = [*weights[:i], float(weight), *weights[i + 1 :]]
                if any(candidate) and (found := value(candidate)) > best:
                    best, weights, improved = found, candidate, True
    return weights


def check_disjoint(search: Results, report: Results) -> None:
    """Refuse to find weights on samples that the result is reported on.

    Raises:
        UserError: common samples, or no ids to tell by.
    """
    if search.ids is None or report.ids is None:
        raise UserError(
            "--search-on: without sample ids nobody can tell that the weights are not found on the samples they are "
            "reported on; use files with ids, or give --annotations and --split for them"
        )
    common = set(search.ids) & set(report.ids)
    if common:
        raise UserError(
            f"--search-on: {len(common)} samples, such as '{min(common)}', are among those the result is reported on; "
            "weights found there would flatter it. Give the results of another split"
        )


def label_from_annotations(results: Results, samples: Mapping[str, int]) -> Results:
    """Give results without ids the ids and labels of a split's samples, in the split's order.

    Raises:
        UserError: another number of samples.
    """
    if results.ids is not None:
        return results
    if len(samples) != len(results):
        raise UserError(f"the split has {len(samples)} samples, the list of scores {len(results)}")
    return replace(results, ids=list(samples), labels=np.array(list(samples.values()), np.int64))
