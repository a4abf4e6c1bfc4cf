"""The doctor: looks through an annotation file for what would stop, ruin or flatter a training."""

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddleskel.data.annotation import AnnotationFile, parse_annotation
from paddleskel.data.clip import Clip
from paddleskel.data.doctor.findings import KINDS, Context, Finding
from paddleskel.data.doctor.measures import Measures, measure
from paddleskel.data.doctor.pose_checks import POSE_CHECKS
from paddleskel.data.doctor.set_checks import SET_CHECKS
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import Layout

_ORDER = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Report:
    """What the doctor found in a file: the worst first, and the file in numbers."""

    path: str
    findings: list[Finding]
    summary: dict[str, Any]
    measures: list[Measures]

    def count(self, level: str) -> int:
        return sum(finding.level == level for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {"file": self.path, "summary": self.summary, "findings": [item.to_dict() for item in self.findings]}


def examine(
    file: AnnotationFile,
    layout: Layout | None = None,
    num_classes: int | None = None,
    image_sizes_needed: bool = True,
) -> Report:
    """Examine an annotation file.

    Args:
        layout, num_classes: what the config says, if there is one.
        image_sizes_needed: whether the config's pipeline uses img_shape and takes 2D coordinates for pixels.
    """
    context = Context([], file.splits, file.class_names, layout, num_classes, image_sizes_needed)
    bad: dict[str, list[tuple[str, str]]] = {}
    for number, item in enumerate(file.annotations):
        name = str(item.get("frame_dir", item.get("filename", ""))) if isinstance(item, Mapping) else ""
        context.all_ids.append(name or f"(sample {number})")
        clip, problem = read_sample(item)
        if problem is not None:
            bad.setdefault(problem[0], []).append((context.all_ids[-1], problem[1]))
        if clip is not None:
            context.measures.append(measure(clip))
    findings = [
        Finding(
            kind, f"{len(found)} of {len(file.annotations)} samples: {found[0][1]}", tuple(name for name, _ in found)
        )
        for kind, found in bad.items()
    ]
    for check in (*POSE_CHECKS, *SET_CHECKS):
        findings += check(context)
    findings.sort(key=lambda finding: _ORDER[finding.level])
    return Report(file.path, findings, summarize(context, len(file.annotations)), context.measures)


def read_sample(item: Any) -> tuple[Clip | None, tuple[str, str] | None]:
    """The sample as far as it can be read, and (kind, what is wrong with it)."""
    try:
        return parse_annotation(item, "", need_label=False), None
    except UserError as error:
        problem = str(error).removeprefix(": ").split(": ", 1)[-1]
    kind = "malformed"
    if "NaN or infinite" in problem:
        kind = "not-finite"
    elif problem.startswith("total_frames is"):
        kind = "wrong-length"
    elif problem.startswith(("label", "no 'label'")):
        kind = "no-label"
    elif "empty, shape" in problem:
        kind = "empty"
    clip = None
    if kind in ("not-finite", "wrong-length"):
        with contextlib.suppress(UserError):  # the rest of the sample is looked at all the same
            clip = parse_annotation(finite(trimmed(item)), "", need_label=False)
    return clip, (kind, problem)


def finite(item: Mapping) -> dict[str, Any]:
    """The annotation with zeros for joints that are NaN or infinite, and for their confidences."""
    fixed = dict(item)
    points = np.array(item["keypoint"], copy=True)
    bad = ~np.isfinite(points).all(axis=-1)
    points[bad] = 0
    fixed["keypoint"] = points
    if item.get("keypoint_score") is not None:
        score = np.array(item["keypoint_score"], copy=True)
        score[~np.isfinite(score)] = 0
        if score.shape == bad.shape:
            score[bad] = 0
        fixed["keypoint_score"] = score
    return fixed


def trimmed(item: Mapping) -> dict[str, Any]:
    """The annotation with total_frames set to the number of frames, where it is not possible."""
    frames, total = np.shape(item["keypoint"])[1], item.get("total_frames")
    valid = isinstance(total, (int, np.integer)) and 0 < total <= frames
    return dict(item) if total is None or valid else {**item, "total_frames": frames}


def summarize(context: Context, samples: int) -> dict[str, Any]:
    """The file in numbers."""
    measures = context.measures
    count = Counter(item.label for item in measures if item.label >= 0)
    summary: dict[str, Any] = {
        "samples": samples,
        "readable": len(measures),
        "splits": {name: len(ids) for name, ids in context.splits.items()},
        "classes": {str(label): count[label] for label in sorted(count)},
        "class_names": context.class_names,
    }
    if measures:
        frames = [item.frames for item in measures]
        sizes = Counter(item.image_size for item in measures if item.image_size)
        summary |= {
            "joints": sorted({item.joints for item in measures}),
            "coordinates": sorted({item.axes for item in measures}),
            "confidences": any(item.score is not None for item in measures),
            "frames": {"least": min(frames), "median": float(np.median(frames)), "most": max(frames)},
            "people": {str(n): times for n, times in sorted(Counter(item.people for item in measures).items())},
            "image_sizes": [list(size) for size, _ in sizes.most_common(5)],
        }
        if len(summary["coordinates"]) == 1 and any(item.people for item in measures):
            seen = [item for item in measures if item.people]
            summary["low"] = np.min([item.low for item in seen], axis=0).astype(float).round(4).tolist()
            summary["high"] = np.max([item.high for item in seen], axis=0).astype(float).round(4).tolist()
    return summary


__all__ = ["KINDS", "Finding", "Report", "examine", "finite", "read_sample", "trimmed"]
