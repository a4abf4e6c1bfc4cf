"""The doctor's short visit before training: what would silently ruin the run stops it, the rest is remarked on."""

from collections.abc import Sequence

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.data.doctor.findings import Context, Finding
from paddleskel.data.doctor.measures import measure
from paddleskel.data.doctor.pose_checks import empty_samples, joints, picture, scores, space, teleports
from paddleskel.data.store import ids_of, labels_of
from paddleskel.errors import UserError

SAMPLES = 200  # clips that are measured, spread evenly over the split
RUINOUS = ("swapped-size", "not-pixels", "score-as-z", "empty", "frozen")  # where they hold for most samples
_CHECKS = (empty_samples, joints, picture, space, scores, teleports)


def quick_check(
    train: Sequence[Clip], valid: Sequence[Clip] | None, image_sizes_needed: bool = True, samples: int = SAMPLES
) -> list[str]:
    """Look at a training split, and at how the validation split goes with it, in a fraction of a second.

    Args:
        valid: the validation split, if it is used.
        image_sizes_needed: whether the pipeline takes 2D coordinates for pixels (see `examine`).

    Returns:
        Remarks, a sentence each.

    Raises:
        UserError: the training would run and learn nothing, or nonsense: one class only, or most samples empty,
            without movement or wrongly scaled.
    """
    labels = labels_of(train)
    if len(labels) > 1 and (labels == labels[0]).all():
        raise _stop(f"all {len(labels)} training samples have the label {labels[0]}, so the loss reaches zero at once")
    chosen = np.unique(np.linspace(0, len(train) - 1, samples).astype(int))
    measures = [measure(train[int(place)]) for place in chosen]
    context = Context(measures, {}, image_sizes_needed=image_sizes_needed)
    remarks = []
    for finding in (found for check in _CHECKS for found in check(context)):
        if finding.kind in RUINOUS and len(finding.names) > len(measures) / 2:
            raise _stop(_spoken(finding))
        if finding.level != "note":
            remarks.append(f"data: {_spoken(finding)}")
    if valid is not None:
        remarks += _against(train, labels, valid)
    return remarks


def _against(train: Sequence[Clip], labels: np.ndarray, valid: Sequence[Clip]) -> list[str]:
    """How two splits go together."""
    remarks = []
    shared = len(set(ids_of(train)) & set(ids_of(valid)))
    if shared:
        remarks.append(f"data: {shared} of {len(valid)} validation samples are trained on too, so scores are too good")
    untrained = sorted(set(labels_of(valid).tolist()) - set(labels.tolist()))
    if untrained:
        listed = ", ".join(map(str, untrained[:10]))
        remarks.append(f"data: classes {listed} are in the validation split but not in the training split")
    return remarks


def seen_in_training(train: Sequence[Clip], test: Sequence[Clip]) -> list[str]:
    """Return the ids of test samples that are, number for number, training samples under whatever id.

    Samples whose first frames and lengths differ are not compared further, so a large store is looked at quickly.
    """
    heads = {_head(clip) for clip in train}
    suspects = [clip for clip in test if _head(clip) in heads]
    doubles = {_head(clip) for clip in suspects}
    contents = {clip.keypoint.tobytes() for clip in train if _head(clip) in doubles} if doubles else set()
    return [clip.id for clip in suspects if clip.keypoint.tobytes() in contents]


def _head(clip: Clip) -> tuple[int, bytes]:
    return clip.num_frames, clip.keypoint[:, :1].tobytes()


def _spoken(finding: Finding) -> str:
    about = finding.to_dict()
    return f"{finding.text} ({', '.join(finding.names[:3])}): {about['effect']}; {about['cure']}"


def _stop(what: str) -> UserError:
    return UserError(
        f"DATASET.train: {what}. Nothing was trained; tools/check_data.py says more, and DATASET.check=false trains "
        "all the same"
    )
