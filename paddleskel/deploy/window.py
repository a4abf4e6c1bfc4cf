"""Untrimmed sequences: scores of overlapping windows, smoothed into a timeline of segments."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.deploy.outputs import UNKNOWN

_FLOOR = 1e-3  # no frame's score rules an action out
_PATIENCE = 0.75  # of a window's frames: what a change of action costs, in units of log-likelihood


@dataclass(frozen=True)
class Segment:
    """Frames start to end (exclusive) of one action. score: its mean over them. person: the track, or None for all.

    class_index: -1 for no action.
    """

    start: int
    end: int
    class_index: int
    score: float
    person: int | None = None


@dataclass(frozen=True)
class Timeline:
    """Scores over time of one sequence, (T, classes), and its segments."""

    id: str
    scores: np.ndarray
    segments: list[Segment]
    person: int | None = None


def slide(total: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return windows (start, end) that cover `total` frames; the last one ends with the last frame.

    A sequence shorter than a window is one window.
    """
    if total <= window:
        return [(0, total)]
    starts = list(range(0, total - window + 1, stride))
    if starts[-1] + window < total:
        starts.append(total - window)
    return [(start, start + window) for start in starts]


def cut(clip: Clip, start: int, end: int, frames: int) -> Clip:
    """Return frames start to end of a clip, stretched to `frames` where they are fewer.

    Never padded: a network that sees empty frames it was not trained on recognises those.
    """
    length = end - start
    if length >= frames:
        return clip.take_frames(np.arange(start, end))
    return clip.take_places(start + np.linspace(0, length - 1, frames))


def tracks(clip: Clip) -> list[tuple[int, Clip]]:
    """One clip a person, those who are never there left out."""
    people = []
    for person in range(clip.keypoint.shape[0]):
        if np.any(clip.keypoint[person]):
            score = None if clip.score is None else clip.score[person : person + 1]
            people.append((person, clip.with_(keypoint=clip.keypoint[person : person + 1], score=score)))
    return people


def timeline(
    clip: Clip,
    probs_of: Callable[[Sequence[Clip]], np.ndarray],
    window: int,
    stride: int,
    frames: int,
    threshold: float = 0.0,
    person: int | None = None,
) -> Timeline:
    """Score a sequence window by window.

    Args:
        probs_of: the model: clips -> (N, classes). frames: its clip length.
        threshold: frames whose best score stays below belong to no action.
    """
    windows = slide(clip.num_frames, window, stride)
    probs = probs_of([cut(clip, start, end, frames) for start, end in windows])
    scores = spread(probs, windows, clip.num_frames)
    return Timeline(clip.id, scores, segment(scores, threshold, _PATIENCE * window, person), person)


def spread(probs: np.ndarray, windows: Sequence[tuple[int, int]], total: int) -> np.ndarray:
    """(windows, classes) -> (T, classes): each frame's average over the windows it lies in, the nearest centres most.

    A window says most about its middle, so it counts there in full and at its ends hardly at all.
    """
    summed, weights = np.zeros((total, probs.shape[1])), np.zeros((total, 1))
    for row, (start, end) in zip(probs, windows):
        length = end - start
        weight = 1 - np.abs((np.arange(length) + 0.5) / length * 2 - 1) + 1e-6
        summed[start:end] += weight[:, None] * row
        weights[start:end] += weight[:, None]
    return summed / weights


def segment(scores: np.ndarray, threshold: float, patience: float, person: int | None = None) -> list[Segment]:
    """The most likely course of actions: logarithms of the scores (T, classes) add up, a change costs `patience`.

    A change has to pay for itself over the frames that follow, so a short doubt between two actions makes no segment.
    Found exactly by dynamic programming (Viterbi). "No action" competes with the constant score `threshold`.
    """
    likely = np.log(np.maximum(scores, _FLOOR))
    if threshold > 0:
        likely = np.concatenate([likely, np.full((len(likely), 1), np.log(threshold))], axis=1)
    total, states = likely.shape
    stayed = np.zeros((total, states), bool)
    origin = np.zeros(total, np.int64)
    best = likely[0].copy()
    for frame in range(1, total):
        origin[frame] = best.argmax()
        changed = best[origin[frame]] - patience
        stayed[frame] = best >= changed
        best = np.where(stayed[frame], best, changed) + likely[frame]
    path = np.zeros(total, np.int64)
    path[-1] = best.argmax()
    for frame in range(total - 1, 0, -1):
        path[frame - 1] = path[frame] if stayed[frame, path[frame]] else origin[frame]
    path[path == scores.shape[1]] = -1
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), total]
    found = []
    for start, end in pairwise(edges):
        label = int(path[start])
        inside = scores[start:end]
        score = inside[:, label].mean() if label >= 0 else inside.max(axis=1).mean()
        found.append(Segment(start, end, label, float(score), person))
    return found


def timeline_csv(timelines: Sequence[Timeline], names: Sequence[str], fps: float) -> str:
    """The segments as CSV, times in frames and in seconds."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["id", "person", "start_frame", "end_frame", "start_s", "end_s", "class", "label", "score"])
    for line in timelines:
        for part in line.segments:
            writer.writerow([
                line.id, "all" if part.person is None else part.person, part.start, part.end,
                f"{part.start / fps:.3f}", f"{part.end / fps:.3f}", part.class_index, name_of(part, names),
                f"{part.score:.4f}",
            ])  # fmt: skip
    return text.getvalue()


def name_of(part: Segment, names: Sequence[str]) -> str:
    if part.class_index < 0:
        return UNKNOWN
    return names[part.class_index] if names else str(part.class_index)


def draw_timeline(timelines: Sequence[Timeline], names: Sequence[str], fps: float) -> bytes:
    """A picture (PNG) of the segments, with the scores of the classes that occur, a row a sequence or person."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    present = sorted({part.class_index for line in timelines for part in line.segments} - {-1})
    colors = {index: pyplot.get_cmap("tab10" if len(present) <= 10 else "tab20")(place % 20)
              for place, index in enumerate(present)}  # fmt: skip
    height = 2.4 * len(timelines) + 0.8
    figure, rows = pyplot.subplots(len(timelines), 1, figsize=(11, height), layout="constrained", squeeze=False)
    for axis, line in zip(rows[:, 0], timelines):
        seconds = (np.arange(len(line.scores)) + 0.5) / fps
        for index in present:
            name = names[index] if names else str(index)
            axis.plot(seconds, line.scores[:, index], color=colors[index], label=name, linewidth=1.4)
        for part in line.segments:
            if part.class_index >= 0:
                axis.axvspan(part.start / fps, part.end / fps, color=colors[part.class_index], alpha=0.16, linewidth=0)
                label = name_of(part, names)
                axis.text((part.start + part.end) / 2 / fps, 1.05, label, ha="center", va="bottom", fontsize=8)
        who = "" if line.person is None else f", person {line.person}"
        axis.set(xlim=(0, len(line.scores) / fps), ylim=(0, 1.2), ylabel="score", title=f"{line.id}{who}")
        axis.grid(alpha=0.3)
    rows[-1, 0].set_xlabel("seconds")
    if present:
        handles, labels = rows[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", fontsize=8, ncols=min(8, len(present)))
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    pyplot.close(figure)
    return buffer.getvalue()
