"""`<name>.pdopt`: what training needs beside the weights to go on."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddleskel.errors import UserError
from paddleskel.files import write_atomically
from paddleskel.models.checkpoint import META, read_checkpoint


def save_progress(path: Path, optimizer: paddle.optimizer.Optimizer, model: nn.Layer, progress: dict[str, Any]) -> None:
    """Write the optimiser's state under the parameters' own names, and a JSON-able record of how far training is."""
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    state = {}
    for key, value in optimizer.state_dict().items():
        owner = max((name for name in names if key.startswith(f"{name}_")), key=len, default=None)
        if owner is not None and isinstance(value, paddle.Tensor):
            state[names[owner], key[len(owner) + 1 :]] = value.numpy()
    state = {f"{name}|{slot}": array for (name, slot), array in state.items()}
    write_atomically(path, pickle.dumps({**state, META: json.dumps(progress)}, protocol=4))


def load_progress(path: Path, optimizer: paddle.optimizer.Optimizer, model: nn.Layer) -> dict[str, Any]:
    """Restore what `save_progress` wrote; return the record."""
    saved = read_checkpoint(path)
    parameters = dict(model.named_parameters())
    state = {}
    for key, array in saved.state.items():
        name, _, slot = key.rpartition("|")
        if name not in parameters:
            raise UserError(f"{path}: holds optimiser state of '{name}', which this network does not have")
        state[f"{parameters[name].name}_{slot}"] = paddle.to_tensor(np.ascontiguousarray(array))
    optimizer.set_state_dict(state)
    return saved.meta
