"""`<name>_last.pdopt`: all that training needs to go on as if it had never stopped, in one file.

Besides the optimiser's state it holds the parameters and statistics, so that a kill between two files cannot leave a
pair that does not belong together, and the records of metrics.jsonl. Random streams need not be saved: each is seeded
from the seed, the epoch and the step or sample.
"""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddleskel.errors import UserError
from paddleskel.models.checkpoint import Checkpoint, load_into, parse_checkpoint, write_arrays
from paddleskel.registry import conform

_MODEL, _AVERAGE = "model|", "average|"


@dataclass
class Progress:
    """How far training is.

    Attributes:
        epoch: whole epochs done. step: steps done of the epoch under way.
        sums: of the epoch under way: loss and hits over samples, samples, seconds.
        records: what metrics.jsonl holds, a mapping an epoch.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_top1: float = -1.0
    best_epoch: int = 0
    records: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class SavedRun:
    """The content of a .pdopt file. setup: what the run was: config, data, global batch."""

    path: Path
    progress: Progress
    setup: dict[str, Any]
    scaler: dict[str, Any]
    arrays: Checkpoint


def save_run(
    path: Path,
    model: nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    scaler: paddle.amp.GradScaler,
    progress: Progress,
    setup: dict[str, Any],
    averaged: nn.Layer | None = None,
    restored: SavedRun | None = None,
    previous: Path | None = None,
) -> None:
    """Write the state of a run.

    Args:
        averaged: the network that holds the moving average of the weights.
        restored: what it was resumed from: Paddle's optimisers take up their state at their first step, and know
            nothing of it before.
        previous: name under which to keep the file that is replaced.
    """
    arrays = {key: array for key, array in restored.arrays.state.items() if _is_slot(key)} if restored else {}
    for prefix, network in ((_MODEL, model), (_AVERAGE, averaged)):
        if network is not None:
            arrays |= {f"{prefix}{name}": _array(tensor) for name, tensor in network.state_dict().items()}
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    state = optimizer.state_dict()
    for owner, tensor in state.pop("master_weights", {}).items():
        arrays[f"{names[owner]}|master"] = _array(tensor)
    for key, value in state.items():
        owner = max((name for name in names if key.startswith(f"{name}_")), key=len, default=None)
        if owner is not None and isinstance(value, paddle.Tensor):
            arrays[f"{names[owner]}|{key[len(owner) + 1 :]}"] = _array(value)
    scale = {key: float(np.asarray(value).item()) for key, value in scaler.state_dict().items()}
    write_arrays(path, arrays, {"progress": asdict(progress), "setup": setup, "scaler": scale}, previous)


def _is_slot(key: str) -> bool:
    """Whether an array belongs to the optimiser."""
    return "|" in key and not key.startswith((_MODEL, _AVERAGE))


def _array(tensor: paddle.Tensor) -> np.ndarray:
    return tensor.astype("float32").numpy()  # exact for the half types, which numpy may not have


def parse_run(data: bytes, path: Path) -> SavedRun:
    """Read the bytes of a .pdopt file.

    Raises:
        UserError: damaged, or not written by `save_run`.
    """
    saved = parse_checkpoint(data, path)
    meta = saved.meta
    if not {"progress", "setup", "scaler"} <= meta.keys():
        raise UserError(f"{path}: not the state of a training run; --resume needs the .pdopt file of one")
    known = {item.name for item in fields(Progress)}
    given = {key: value for key, value in meta["progress"].items() if key in known}
    return SavedRun(path, conform(given, Progress, f"{path}: progress"), meta["setup"], meta["scaler"], saved)


def restore_run(
    saved: SavedRun,
    model: nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    scaler: paddle.amp.GradScaler,
    averaged: nn.Layer | None = None,
) -> None:
    """Set parameters, statistics, optimiser, loss scale and the moving average, which begins anew with the parameters
    if the saved run had none.

    Raises:
        UserError: they are of another network.
    """
    own = saved.arrays.state
    for prefix, network in ((_MODEL, model), (_AVERAGE, averaged)):
        part = prefix if any(name.startswith(prefix) for name in own) else _MODEL
        weights = {name.removeprefix(part): array for name, array in own.items() if name.startswith(part)}
        if network is not None:
            load_into(network, Checkpoint(weights, {"config": saved.setup.get("config", {})}), saved.path)
    parameters = dict(model.named_parameters())
    state: dict[str, Any] = {}
    masters = {}
    for key, array in own.items():
        name, _, slot = key.rpartition("|")
        if not _is_slot(key):
            continue
        if name not in parameters:
            raise UserError(f"{saved.path}: holds optimiser state of '{name}', which this network does not have")
        tensor = paddle.to_tensor(np.ascontiguousarray(array))
        if slot == "master":
            tensor.name = f"{parameters[name].name}_fp32_master_0"
            masters[parameters[name].name] = tensor
        else:
            state[f"{parameters[name].name}_{slot}"] = tensor
    if masters:
        state["master_weights"] = masters
    optimizer.set_state_dict(state)
    if saved.scaler:
        scaler.load_state_dict(_scaler_state(saved.scaler))


def _scaler_state(saved: dict[str, float]) -> dict[str, Any]:
    whole = ("incr_every_n_steps", "decr_every_n_nan_or_inf", "incr_count", "decr_count")
    state: dict[str, Any] = {key: int(value) if key in whole else value for key, value in saved.items()}
    state["scale"] = np.array([saved["scale"]], np.float32)
    state["use_dynamic_loss_scaling"] = bool(saved["use_dynamic_loss_scaling"])
    return state
