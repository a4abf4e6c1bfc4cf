"""The demo page: drop a pose file, watch the skeleton with the scores of its classes over time."""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.data.clip import Clip
from paddleskel.deploy.predictor import Predictor
from paddleskel.deploy.window import name_of
from paddleskel.report.player import player_assets, player_data

_TEMPLATE = Path(__file__).with_name("page.html")
_CURVES = 4  # classes drawn over time
_WINDOWS = 60  # at most, so that an hour of frames is answered as fast as a minute


def render_page(predictor: Predictor) -> str:
    """The page as HTML, complete in itself."""
    bundle = predictor.bundle
    facts = f"{bundle.num_classes} actions, {predictor.layout.num_joints} joints ({predictor.layout.name})"
    values = {
        "ASSETS": player_assets(),
        "MODEL": escape(bundle.model_name),
        "FACTS": escape(f"{facts}, {predictor.engine_name}"),
        "SAMPLE": "" if predictor.sample is not None else "hidden",
        "CLASSES": "".join(f"<li>{escape(bundle.label(index))}</li>" for index in range(bundle.num_classes)),
    }
    page = _TEMPLATE.read_text(encoding="utf-8")
    for name, value in values.items():
        page = page.replace(f"<!--{name}-->", value)
    return page


def analysis(predictor: Predictor, clips: list[Clip], whole: np.ndarray, fps: float = 30.0) -> dict[str, Any]:
    """What the page shows about the first clip: scores of the whole, the player's data, segments.

    whole: (classes,) probabilities of the whole clip.
    """
    clip, bundle = clips[0], predictor.bundle
    window = min(predictor.frames, max(2, clip.num_frames // 2))
    stride = max(1, window // 4, clip.num_frames // _WINDOWS)
    line = predictor.timelines(clip, window, stride)[0]
    best = np.argsort(-whole, kind="stable")[:5]
    drawn = list(dict.fromkeys([*best[:2], *np.argsort(-line.scores.max(axis=0))[:_CURVES]]))[:_CURVES]
    places = np.linspace(0, clip.num_frames - 1, min(clip.num_frames, 120)).round().astype(int)
    curves = {bundle.label(int(index)): line.scores[places, index] for index in drawn}
    names = bundle.class_names or []
    return {
        "id": clip.id,
        "samples": len(clips),
        "frames": clip.num_frames,
        "top": [{"label": bundle.label(int(index)), "score": float(whole[index])} for index in best],
        "segments": [
            {"start": part.start, "end": part.end, "label": name_of(part, names), "score": part.score}
            for part in line.segments
        ],
        "player": player_data(clip.keypoint, predictor.layout, clip.score, clip.id, curves, fps, 300),
    }
