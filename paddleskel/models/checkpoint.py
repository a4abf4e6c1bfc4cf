"""Weights files: `<name>.pdparams` holds a network.

A .pdparams file is what `paddle.save(model.state_dict())` writes, a pickled mapping of arrays, and `paddle.load` reads
it; one more entry, "paddleskel", holds the config, the epoch and the scores as JSON text, and a checksum follows the
pickle. Files are read by a reader that cannot run code.
"""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddleskel.data.safe_pickle import explain, parse_pickle
from paddleskel.errors import UserError
from paddleskel.files import seal, unseal, write_atomically

META = "paddleskel"


@dataclass(frozen=True)
class Checkpoint:
    """Arrays of a network by name, and what was recorded about them (empty for foreign files)."""

    state: dict[str, np.ndarray]
    meta: dict[str, Any]


def save_checkpoint(path: Path, model: nn.Layer, meta: dict[str, Any]) -> None:
    """Write a network's parameters and buffers and a JSON-able record about them."""
    state = {name: tensor.astype("float32").numpy() for name, tensor in model.state_dict().items()}
    write_arrays(path, state, meta)


def write_arrays(path: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any], previous: Path | None = None) -> None:
    """Write arrays and a JSON-able record atomically, with a checksum. previous: keep the old file under this name."""
    write_atomically(path, seal(pickle.dumps({**arrays, META: json.dumps(meta)}, protocol=4)), previous)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a .pdparams file of ours or of any Paddle program.

    Raises:
        UserError: missing, truncated, damaged, or not a mapping of arrays.
    """
    with explain(path):
        return parse_checkpoint(Path(path).read_bytes(), path)


def parse_checkpoint(data: bytes, path: str | Path) -> Checkpoint:
    """Read the bytes of a .pdparams or .pdopt file; `path` is for messages."""
    content = parse_pickle(unseal(data, path), path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint: expected a mapping of arrays, found a {type(content).__name__}")
    meta = content.pop(META, None)
    state = {name: np.asarray(_array(value)) for name, value in content.items() if _array(value) is not None}
    if not state:
        raise UserError(f"{path}: not a checkpoint: holds no arrays")
    try:
        meta = json.loads(meta) if meta else {}
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: its record is damaged: {error}") from error
    if not isinstance(meta, dict):
        raise UserError(f"{path}: its record is damaged: a {type(meta).__name__} in place of a mapping")
    return Checkpoint(state, meta)


def _array(value: Any) -> np.ndarray | None:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], np.ndarray):
        value = value[1]  # (name, array): how paddle.save writes a tensor that is not in a state dict
    return value if isinstance(value, np.ndarray) else None


def load_into(model: nn.Layer, checkpoint: Checkpoint, path: str | Path) -> None:
    """Set a network's parameters and buffers.

    Raises:
        UserError: names what is missing, left over or of another shape; the network is not touched then.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: array.shape for name, array in checkpoint.state.items()}
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    if missing or extra or wrong:
        problems = [
            f"{len(names)} {what} ({names[0]}, ...)"
            for names, what in ((missing, "missing"), (extra, "unknown"))
            if names
        ]
        problems += [f"{name} has shape {found[name]} where the network has {expected[name]}" for name in wrong[:1]]
        trained = checkpoint.meta.get("config", {}).get("model_name")
        hint = f"; it was trained as '{trained}'" if trained else ""
        raise UserError(f"{path}: these weights are not of this config's network: {', '.join(problems)}{hint}")
    model.set_state_dict(
        {name: paddle.to_tensor(np.ascontiguousarray(array)) for name, array in checkpoint.state.items()}
    )
