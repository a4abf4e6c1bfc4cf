"""From one layout to another, by the names of the joints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddleskel.errors import UserError
from paddleskel.skeleton.layout import Layout, load_layout

# Names that different layouts give to much the same point.
_SAME = [
    {"hip_center", "spine_base", "mid_hip", "hip", "pelvis"},
    {"shoulder_center", "spine_shoulder", "thorax"},
    {"spine", "spine_mid", "belly", "spine1"},
    {"left_foot", "left_big_toe", "left_foot_index"},
    {"right_foot", "right_big_toe", "right_foot_index"},
    {"left_index", "left_hand_tip"},
    {"right_index", "right_hand_tip"},
]
# Points in the middle of others, where a layout does not have them itself.
_BETWEEN = {
    **dict.fromkeys(("neck", "shoulder_center", "spine_shoulder", "thorax"), ("left_shoulder", "right_shoulder")),
    **dict.fromkeys(("mid_hip", "hip", "hip_center", "spine_base", "pelvis"), ("left_hip", "right_hip")),
    **dict.fromkeys(("spine", "spine_mid", "belly"), ("left_shoulder", "right_shoulder", "left_hip", "right_hip")),
    "head": ("left_ear", "right_ear"),
    "face": ("left_eye", "right_eye"),
}


@dataclass(frozen=True)
class JointMap:
    """How to fill one layout from another.

    Attributes:
        parts: for each joint wanted, the joints whose mean it is; empty where there is none.
        missing: names of the joints that cannot be filled.
        derived: {joint: the names it is made from}, where it is not simply taken.
    """

    parts: tuple[tuple[int, ...], ...]
    missing: tuple[str, ...]
    derived: dict[str, tuple[str, ...]]

    def report(self, source: str, target: str) -> str:
        """Say what a remapping does and what it lacks."""
        made = "; ".join(f"{joint} from {', '.join(names)}" for joint, names in self.derived.items())
        taken = len(self.parts) - len(self.missing) - len(self.derived)
        lines = [f"{source} -> {target}: {taken} of {len(self.parts)} joints by their names"]
        lines += [f"made from others: {made}"] if made else []
        lines += [f"missing, left at zero: {', '.join(self.missing)}"] if self.missing else []
        return "; ".join(lines)


def match_joints(source: Sequence[str], target: Sequence[str]) -> JointMap:
    """Match the joints of two layouts: by name, by another name for the same point, or as the middle of others."""
    index = {name: place for place, name in enumerate(source)}
    parts, missing, derived = [], [], {}
    for joint in target:
        names = _origin(joint, index)
        parts.append(tuple(index[name] for name in names))
        if not names:
            missing.append(joint)
        elif names != (joint,):
            derived[joint] = names
    return JointMap(tuple(parts), tuple(missing), derived)


def _origin(joint: str, index: dict[str, int]) -> tuple[str, ...]:
    if joint in index:
        return (joint,)
    for names in _SAME:
        if joint in names:
            found = sorted(names & set(index))
            if found:
                return (found[0],)
    between = _BETWEEN.get(joint, ())
    return between if between and all(name in index for name in between) else ()


def remap(points: np.ndarray, score: np.ndarray | None, mapping: JointMap) -> tuple[np.ndarray, np.ndarray | None]:
    """Fill a layout: (M, T, V, C) and (M, T, V) or None, to the same with the joints wanted.

    A joint made from others is their mean where all are seen and absent elsewhere; its confidence is the least of
    theirs. Joints that are missing are zeros with confidence 0.
    """
    filled = np.zeros((*points.shape[:2], len(mapping.parts), points.shape[3]), points.dtype)
    scored = None if score is None else np.zeros(filled.shape[:3], score.dtype)
    for joint, parts in enumerate(mapping.parts):
        if not parts:
            continue
        chosen = points[:, :, list(parts)]
        seen = chosen.any(axis=(-1,)).all(axis=2)
        filled[:, :, joint] = np.where(seen[..., None], chosen.astype(np.float32).mean(axis=2), 0)
        if scored is not None:
            scored[:, :, joint] = score[:, :, list(parts)].min(axis=2)
    return filled, scored


def joints_of(annotation: dict[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """(what to call it, joint names) of an annotation's own layout, if it says what its joints are."""
    if annotation.get("joints"):
        return "the file's joints", tuple(annotation["joints"])
    if annotation.get("layout"):
        layout = load_layout(annotation["layout"])
        return layout.name, layout.joints
    return None


def remap_annotation(annotation: dict[str, Any], layout: Layout, where: str) -> dict[str, Any]:
    """Return the annotation in a layout; unchanged where it is in it already or does not say what it is in.

    Raises:
        UserError: joints of the layout that cannot be filled.
    """
    known = joints_of(annotation)
    if known is None or known[1] == layout.joints:
        return annotation
    mapping = match_joints(known[1], layout.joints)
    if mapping.missing:
        raise UserError(
            f"{where}: sample '{annotation.get('frame_dir', '')}' has the joints of {known[0]}, from which the layout "
            f"'{layout.name}' lacks {', '.join(mapping.missing)}; use a model of layout {known[0]}"
        )
    return apply_mapping(annotation, mapping, layout)


def apply_mapping(annotation: dict[str, Any], mapping: JointMap, layout: Layout) -> dict[str, Any]:
    """Return the annotation with its joints remapped."""
    points, score = remap(np.asarray(annotation["keypoint"]), annotation.get("keypoint_score"), mapping)
    changed = {key: value for key, value in annotation.items() if key not in ("joints", "layout")}
    changed |= {"keypoint": points, "layout": layout.name}
    return changed if score is None else changed | {"keypoint_score": score}
