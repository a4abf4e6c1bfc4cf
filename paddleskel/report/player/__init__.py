"""An animated skeleton in a web page, without any network: plays, pauses, scrubs; turns in 3D.

    page = player_assets() + player(player_data(clip.keypoint, layout, score=clip.score, label="S001... waving"))

`player_assets` goes into a page once, before or after any number of players. A page that gets its data later calls
`SkeletonPlayer.mount(element, data)` in the browser with what `player_data` returns.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.skeleton.layout import Layout

_FOLDER = Path(__file__).parent
_MISSING = -32768  # of int16; player.js knows it

# Rows are (right, up, towards the viewer) on the screen, for data whose upward axis is ...
_VIEWS = {
    "y": [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],  # Kinect: x to the sensor's left, z away from it
    "-y": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],  # cameras of computer vision: y down, z away
    "z": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],  # motion capture
    "-z": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
}


def player_assets() -> str:
    """The style sheet and the script that all players of a page share, as HTML."""
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("player.css", "player.js"))
    return f"<style>\n{style}</style>\n<script>\n{script}</script>\n"


def player(data: Mapping[str, Any]) -> str:
    """Return the HTML of one player that shows what `player_data` returned."""
    return f'<div class="skeleton-player" aria-label="{escape(data["label"])}">{embed(data)}</div>\n'


def embed(data: Any) -> str:
    """Plain values as a <script type="application/json"> element, safe whatever the strings in them hold."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return '<script type="application/json">' + text.replace("<", "\\u003c").replace("\u2028", "\\u2028") + "</script>"


def player_data(
    keypoint: np.ndarray,
    layout: Layout,
    score: np.ndarray | None = None,
    label: str = "skeleton",
    curves: Mapping[str, Sequence[float]] | None = None,
    fps: float = 30.0,
    max_frames: int = 150,
    autoplay: bool = True,
    up: str | None = None,
) -> dict[str, Any]:
    """Return what one player shows, as plain values for JSON; about 8 bytes a 3D joint and frame.

    Args:
        keypoint: (M, T, V, 2 or 3) coordinates. A person who is absent in a frame is all zeros there; in 2D a joint at
            (0, 0) was not seen. Values that are not finite were not seen either.
        score: (M, T, V) confidences; unsure joints are drawn fainter.
        label: what it shows, for screen readers.
        curves: name -> values in [0, 1] over the same time, drawn below; any number of points.
        fps: of the data; max_frames: longer sequences are thinned out evenly, and play as long as before.
        autoplay: play while on the screen (not where the reader prefers reduced motion).
        up: upward axis, "y", "-y", "z" or "-z"; default: y down in 2D, along the layout's spine in 3D, otherwise y.
    """
    points = np.asarray(keypoint, np.float32)
    total = points.shape[1]
    frames = np.arange(total) if total <= max_frames else np.linspace(0, total - 1, max_frames).round().astype(int)
    seen = seen_joints(points)
    present = np.flatnonzero(seen.any(axis=(1, 2)))  # persons
    present = present if len(present) else np.arange(1)
    points, seen = points[present], seen[present]
    points = view(points, seen, layout, up)[:, frames]
    seen = seen[:, frames]
    points, extent = _centred(points, seen)
    packed = np.where(seen[..., None], np.clip(np.round(np.nan_to_num(points) * 10000), -32767, 32767), _MISSING)
    sides = np.zeros(layout.num_joints, int)
    for left, right in layout.pairs:
        sides[left], sides[right] = 1, 2
    certain = None if score is None else np.nan_to_num(np.asarray(score, np.float32))[present][:, frames]
    return {
        "label": label,
        "persons": len(points),
        "frames": len(frames),
        "joints": layout.num_joints,
        "dims": points.shape[-1],
        "length": total,
        "numbers": (frames + 1).tolist(),
        "fps": fps * len(frames) / total,
        "points": _base64(packed.astype("<i2")),
        "score": None if certain is None else _base64((certain.clip(0, 1) * 255).round().astype(np.uint8)),
        "extent": extent,
        "bones": [list(edge) for edge in layout.edges],
        "sides": sides.tolist(),
        "curves": [
            {"label": name, "values": [round(float(v), 4) for v in values]} for name, values in (curves or {}).items()
        ],
        "autoplay": autoplay,
    }


def seen_joints(points: np.ndarray) -> np.ndarray:
    """(M, T, V) bool: which joints of (M, T, V, C) coordinates were seen."""
    finite = np.isfinite(points).all(axis=-1)
    nonzero = (points != 0).any(axis=-1)
    return finite & (nonzero if points.shape[-1] == 2 else nonzero.any(axis=-1, keepdims=True))


def view(points: np.ndarray, seen: np.ndarray, layout: Layout, up: str | None = None) -> np.ndarray:
    """Turn (M, T, V, C) coordinates to (right, up) or (right, up, towards the viewer)."""
    if points.shape[-1] == 2:
        return points * np.array([1, 1 if up == "y" else -1], np.float32)
    return points @ np.array(_VIEWS[up or _upward(points, seen, layout)], np.float32).T


def _upward(points: np.ndarray, seen: np.ndarray, layout: Layout) -> str:
    """The axis that the spine points along, most of the time."""
    if layout.spine is None:
        return "y"
    low, high = layout.spine
    both = seen[:, :, low] & seen[:, :, high]
    if not both.any():
        return "y"
    x, y, z = np.median((points[:, :, high] - points[:, :, low])[both], axis=0)
    if abs(z) > max(abs(x), abs(y)):
        return "z" if z > 0 else "-z"
    return "-y" if y < 0 and abs(y) >= abs(x) else "y"


def _centred(points: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Move the middle of all seen joints to 0 and scale the largest half extent to 1; return the half extents too."""
    if not seen.any():
        return np.zeros_like(points), [1.0, 1.0, 1.0][: points.shape[-1]]
    low, high = np.percentile(points[seen], [0.2, 99.8], axis=0)
    half = (high - low) / 2
    largest = float(half.max()) or 1.0
    scaled = (points - (low + high) / 2) / largest
    return scaled, [round(max(float(value) / largest, 0.15), 4) for value in half]


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
