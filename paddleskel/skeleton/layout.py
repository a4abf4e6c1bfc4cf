"""Layouts: the joints of a skeleton, what hangs on what, left and right, and body parts.

A layout is data (`layouts/*.yaml`, or the same mapping inline in a config). Bones, skip-bones, flips and graphs are
derived from it, so a new skeleton needs no code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.config import read_yaml
from paddleskel.errors import UserError
from paddleskel.registry import check_arguments, did_you_mean

_FOLDER = Path(__file__).parent / "layouts"
_USUAL = {  # (joints, coordinates) -> whose data usually have this shape
    (15, 2): "jhmdb",
    (17, 2): "coco",
    (18, 2): "openpose",
    (21, 2): "handmp",
    (25, 2): "openpose25",
    (26, 2): "halpe26",
    (33, 2): "mediapipe_pose",
    (133, 2): "coco_wholebody",
    (17, 3): "h36m",
    (20, 3): "nw_ucla",
    (21, 3): "handmp",
    (24, 3): "smpl",
    (25, 3): "nturgb+d",
    (33, 3): "mediapipe_pose",
}


@dataclass(frozen=True)
class Layout:
    """A skeleton with V joints.

    Attributes:
        name: how configs call it.
        joints: joint names; their order is the order of the data.
        parents: for each joint, the joint it hangs on in the graph; the root (the graph's centre) hangs on itself.
        bone_parents: for each joint, where its bone vector starts; the root's is itself.
        pairs: (left, right) joint indices.
        parts: body part -> joint indices.
        center, spine, shoulders: the joints by which 3D normalisation turns a body (see PreNormalize3D), or None.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    bone_parents: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    parts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    center: int | None = None
    spine: tuple[int, int] | None = None
    shoulders: tuple[int, int] | None = None

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def root(self) -> int:
        """The joint that hangs on itself, centre of the graph."""
        return next(i for i, parent in enumerate(self.parents) if i == parent)

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(child, parent) for every joint but the root."""
        return [(child, parent) for child, parent in enumerate(self.parents) if child != parent]

    @property
    def flip(self) -> np.ndarray:
        """(V,) index that exchanges left and right joints."""
        order = np.arange(self.num_joints)
        for left, right in self.pairs:
            order[left], order[right] = right, left
        return order

    def ancestors(self, hops: int) -> np.ndarray:
        """Return (V,): the joint `hops` bones towards the root, or the joint itself where the root is nearer.

        hops=1 gives bones, 2 skip-bones ("k" of BRL), 3 and 4 its "l" and "n".
        """
        reached = list(range(self.num_joints))
        for joint in range(self.num_joints):
            chain = [joint]
            while self.bone_parents[chain[-1]] != chain[-1]:
                chain.append(self.bone_parents[chain[-1]])
            reached[joint] = chain[hops] if len(chain) > hops else joint
        return np.array(reached)

    def to_dict(self) -> dict:
        """The mapping that `load_layout` reads back."""
        name = self.joints.__getitem__
        values: dict[str, Any] = {
            "name": self.name,
            "joints": {joint: name(parent) for joint, parent in zip(self.joints, self.parents)},
        }
        bones = {
            joint: name(bone)
            for joint, parent, bone in zip(self.joints, self.parents, self.bone_parents)
            if bone != parent
        }
        if bones:
            values["bones"] = bones
        if self.pairs:
            values["pairs"] = [[name(left), name(right)] for left, right in self.pairs]
        if self.parts:
            values["parts"] = {part: [name(joint) for joint in joints] for part, joints in self.parts.items()}
        body: dict[str, Any] = {}
        if self.center is not None:
            body["center"] = name(self.center)
        for key in ("spine", "shoulders"):
            if getattr(self, key) is not None:
                body[key] = [name(joint) for joint in getattr(self, key)]
        if body:
            values["body"] = body
        return values


def layout_names() -> list[str]:
    """The layouts that come with paddleskel."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def guess_layout(joints: Sequence[int], axes: Sequence[int]) -> Layout | None:
    """The layout that data of so many joints and coordinates usually have; None where that is open."""
    if len(joints) != 1 or len(axes) != 1:
        return None
    name = _USUAL.get((joints[0], axes[0]))
    return load_layout(name) if name else None


def load_layout(spec: str | Mapping | Layout) -> Layout:
    """Return a layout by name, by the path of a YAML file, or from an inline mapping; check it.

    Raises:
        UserError: unknown name; a parent, pair or part that names no joint; a graph that is not one tree; pairs that
            are not mirror images.
    """
    if isinstance(spec, Layout):
        return spec
    if isinstance(spec, Mapping):
        return _parse(spec, "layout")
    if str(spec).endswith((".yaml", ".yml")):
        return _parse(read_yaml(spec), str(spec))
    return _shipped(spec)


@cache
def _shipped(name: str) -> Layout:
    for path in [_FOLDER / f"{name}.yaml", *sorted(_FOLDER.glob("*.yaml"))]:
        if path.is_file():
            values = read_yaml(path)
            if name == values["name"] or name in values.get("aliases", []):
                return _parse(values, path.name)
    raise UserError(f"layout: unknown layout '{name}'{did_you_mean(name, layout_names())}; or give one inline")


def _schema(
    joints: dict[str, str],
    name: str = "custom",
    aliases: list[str] | None = None,
    bones: dict[str, str] | None = None,
    pairs: list[tuple[str, str]] | None = None,
    parts: dict[str, list[str]] | None = None,
    body: dict[str, Any] | None = None,
) -> None:
    """The keys of a layout file."""


def _body_schema(
    center: str | None = None, spine: tuple[str, str] | None = None, shoulders: tuple[str, str] | None = None
) -> None:
    """The keys of its section `body`."""


def _parse(values: Any, where: str) -> Layout:
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: a layout is a mapping with 'joints'; see docs/layouts.md")
    values = check_arguments(_schema, values, where, label="a layout")
    body = check_arguments(_body_schema, values.get("body") or {}, f"{where}.body", label="a layout's body")
    joints = tuple(values["joints"])
    index = {joint: i for i, joint in enumerate(joints)}

    def find(joint: str, place: str) -> int:
        if joint not in index:
            raise UserError(f"{where}.{place}: no joint '{joint}'{did_you_mean(joint, joints)}")
        return index[joint]

    parents = tuple(find(parent, f"joints.{joint}") for joint, parent in values["joints"].items())
    bones = list(parents)
    for joint, parent in (values.get("bones") or {}).items():
        bones[find(joint, "bones")] = find(parent, f"bones.{joint}")
    layout = Layout(
        name=values.get("name", "custom"),
        joints=joints,
        parents=parents,
        bone_parents=tuple(bones),
        pairs=tuple((find(a, "pairs"), find(b, "pairs")) for a, b in values.get("pairs") or []),
        parts={
            part: tuple(find(joint, f"parts.{part}") for joint in members)
            for part, members in (values.get("parts") or {}).items()
        },
        **{key: find(value, "body.center") for key, value in body.items() if key == "center" and value},
        **{
            key: (find(value[0], f"body.{key}"), find(value[1], f"body.{key}"))
            for key, value in body.items()
            if key != "center" and value
        },
    )
    _check_tree(layout.parents, joints, f"{where}.joints")
    _check_tree(layout.bone_parents, joints, f"{where}.bones")
    _check_pairs(layout, where)
    return layout


def _check_tree(parents: tuple[int, ...], joints: tuple[str, ...], where: str) -> None:
    """One root, and every joint reaches it."""
    roots = [joint for i, joint in enumerate(joints) if parents[i] == i]
    if len(roots) != 1:
        found = f"{len(roots)} roots ({', '.join(roots)})" if roots else "no root"
        raise UserError(
            f"{where}: {found}; exactly one joint, the centre, is its own parent, so that all are connected"
        )
    for start, joint in enumerate(joints):
        reached, steps = start, 0
        while parents[reached] != reached:
            reached, steps = parents[reached], steps + 1
            if steps > len(joints):
                raise UserError(f"{where}: '{joint}' never reaches the root '{roots[0]}': its parents form a circle")


def _check_pairs(layout: Layout, where: str) -> None:
    """Pairs are disjoint, and the parents of a pair are a pair too (or the same joint)."""
    named = [joint for pair in layout.pairs for joint in pair]
    for joint in named:
        if named.count(joint) > 1:
            raise UserError(f"{where}.pairs: '{layout.joints[joint]}' stands in more than one pair")
    flip = layout.flip
    for left, right in layout.pairs:
        if flip[layout.parents[left]] != layout.parents[right]:
            a, b = layout.joints[left], layout.joints[right]
            raise UserError(f"{where}.pairs: '{a}' and '{b}' are a pair, but their parents are not mirror images")
