"""What tools/convert_weights.py does."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.convert.torch_file import torch_file
from paddleskel.convert.weights import Foreign, convert, detect_network, read_any, to_peer
from paddleskel.engine.build import build_network
from paddleskel.engine.settings import load_settings, parse_settings
from paddleskel.errors import UserError
from paddleskel.files import write_atomically
from paddleskel.models.checkpoint import Checkpoint, load_into, save_checkpoint
from paddleskel.models.recognizer import Recognizer, build_model
from paddleskel.skeleton.layout import load_layout


def convert_file(source: str, output: Path, config: str | None, overrides: list[str], to: str | None) -> list[str]:
    """Convert a weights file; return the report's lines. Nothing is written unless everything fits."""
    endings = (".pth", ".npz") if to else (".pdparams",)
    if output.suffix not in endings:
        raise UserError(f"{output}: {'with --to, ' if to else ''}the output must end in {' or '.join(endings)}")
    found = read_any(source)
    model, about = _network(found, source, config, overrides)
    if isinstance(found, Foreign):
        state, report = convert(found, model, source)
        lines = report.lines()
    else:
        load_into(model, found, source)
        state, lines = found.state, ["source: paddleskel", f"loaded: {len(found.state)} arrays"]
    if to is None:
        load_into(model, Checkpoint(state, {}), source)
        save_checkpoint(output, model, {"converted_from": Path(source).name, **about})
    else:
        theirs = to_peer(model, state, to)
        write_atomically(output, torch_file(theirs) if output.suffix == ".pth" else _npz(theirs))
    network = f"network: {about['backbone']['name']}, layout {about['layout']}, {about['num_classes']} classes"
    return [network, *lines, f"wrote {output}"]


def _network(found: Checkpoint | Foreign, source: str, config: str | None, overrides: list[str]):
    """Return the network to fill, and what it is."""
    if config is not None:
        settings, _ = load_settings(config, overrides)
        return build_network(settings), _about(settings.MODEL.backbone, settings.layout, settings.num_classes)
    if isinstance(found, Foreign):
        try:
            about = detect_network(found.state)
        except (UserError, KeyError) as error:
            raise UserError(f"{source}: the network cannot be told: {error}") from error
        return _build(about), about
    if "config" in found.meta:
        settings = parse_settings(found.meta["config"], source)
        return build_network(settings), _about(settings.MODEL.backbone, settings.layout, settings.num_classes)
    if {"backbone", "layout", "num_classes"} <= found.meta.keys():
        about = {key: found.meta[key] for key in ("backbone", "layout", "num_classes")}
        return _build(about), about
    raise UserError(f"{source}: does not say which network it belongs to; name a config with -c")


def _about(backbone: dict, layout: Any, num_classes: int) -> dict[str, Any]:
    return {"backbone": backbone, "layout": layout, "num_classes": num_classes}


def _build(about: dict[str, Any]) -> Recognizer:
    model = {"backbone": about["backbone"], "head": "GCNHead"}
    return build_model(model, load_layout(about["layout"]), about["num_classes"])


def _npz(state: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **state)
    return buffer.getvalue()
