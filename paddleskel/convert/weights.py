"""Published checkpoints into our networks, and ours into theirs.

Sources, told apart by their names: PYSKL and BRL (.pth), MMAction2 (.pth), PaddleVideo (.pdparams), ours (.pdparams),
and .npz files with any of these names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.convert.links import Link, load_links, save_links
from paddleskel.convert.pyskl import link_model
from paddleskel.convert.torch_file import read_torch
from paddleskel.data.npz import read_npz
from paddleskel.errors import UserError
from paddleskel.models.checkpoint import Checkpoint, read_checkpoint
from paddleskel.models.recognizer import Recognizer

_IGNORED = ("num_batches_tracked",)
LAYOUTS = {25: "nturgb+d", 17: "coco", 18: "openpose", 21: "handmp", 20: "nw_ucla"}


@dataclass(frozen=True)
class Foreign:
    """A checkpoint of another toolbox under PYSKL's names.

    source: "PYSKL", "MMAction2" or "PaddleVideo".
    """

    source: str
    state: dict[str, np.ndarray]


def read_any(path: str | Path) -> Checkpoint | Foreign:
    """Read a checkpoint file of ours or of another toolbox, by its content.

    Raises:
        UserError: unreadable, or of no known naming.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        checkpoint = Checkpoint(_read_npz(path), {})
    elif suffix in (".pth", ".pt", ".ckpt"):
        checkpoint = Checkpoint(_find_state(read_torch(path), path), {})
    else:
        checkpoint = read_checkpoint(path)
    state = {str(name).removeprefix("module."): array for name, array in checkpoint.state.items()}
    if any(name.startswith("backbone.blocks.") or name.startswith("backbone.stages.") for name in state):
        return Checkpoint(state, checkpoint.meta)
    if "cls_head.fc_cls.weight" in state:
        return Foreign("PYSKL", state)
    if "cls_head.fc.weight" in state:
        return Foreign("MMAction2", _renamed(state, "cls_head.fc.", "cls_head.fc_cls."))
    if "head.fc_cls.weight" in state:
        return Foreign("PaddleVideo", _from_paddlevideo(state))
    known = "cls_head.fc_cls (PYSKL, BRL), cls_head.fc (MMAction2), head.fc_cls (PaddleVideo), backbone.* (ours)"
    raise UserError(
        f"{path}: these are no weights of a known toolbox: none of its {len(state)} arrays is called {known}"
    )


def _read_npz(path: str | Path) -> dict[str, np.ndarray]:
    arrays = read_npz(path)
    prefix = "state/" if any(name.startswith("state/") for name in arrays) else ""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _find_state(content: Any, path: str | Path) -> dict[str, np.ndarray]:
    """Return the state dict inside the wrappers of mmcv, mmengine and others."""
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {}
    if isinstance(content, Mapping):
        state = {str(name): array for name, array in content.items() if isinstance(array, np.ndarray)}
    if not state:
        raise UserError(f"{path}: holds no state dict of tensors")
    return state


def _renamed(state: Mapping[str, np.ndarray], old: str, new: str) -> dict[str, np.ndarray]:
    return {new + name.removeprefix(old) if name.startswith(old) else name: array for name, array in state.items()}


def _from_paddlevideo(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PaddleVideo's names are Paddle's: statistics are called otherwise, linear weights are transposed."""
    renamed = {}
    for name, array in state.items():
        name = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        if name.endswith((".fc_cls.weight", ".fc1c.weight", ".fc2c.weight")):
            array = array.T
        renamed["cls_head." + name.removeprefix("head.") if name.startswith("head.") else name] = array
    return renamed


def detect_network(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the config of the network that a state under PYSKL's names belongs to.

    Keys: "backbone" (its component), "layout", "num_classes".
    """
    fc = state["cls_head.fc_cls.weight"]
    names = set(state)
    if "backbone.sgcn1.0.PA" in names:
        first = state["backbone.sgcn1.0.mlp.layers.1.weight"]
        spec: dict[str, Any] = {"name": "MSG3D", "base_channels": len(first)}
        spec["num_gcn_scales"] = len(state["backbone.sgcn1.0.PA"])
        spec["num_g3d_scales"] = len(state["backbone.gcn3d1.gcn3d.0.gcn3d.1.PA"])
        joints = state["backbone.sgcn1.0.PA"].shape[-1]
    else:
        group, gcn = ("net", "gcn1") if any(name.startswith("backbone.net.0.") for name in names) else ("gcn", "gcn")
        first = f"backbone.{group}.0.{gcn}"
        if f"{first}.bn.weight" not in names or (f"{first}.A" not in names and f"{first}.conv.weight" not in names):
            raise UserError("its backbone is of none of the networks here")
        spec = {"name": _block_kind(names, group, first)}
        spec |= _stages(state, group, gcn)
        if spec["name"] == "STGCN":
            spec["gcn_adaptive"] = "importance" if f"{first}.PA" in names else None
        if spec["name"] == "DGSTGCN":
            spec["graph"] = {"mode": "random", "subsets": len(state[f"{first}.A"])}
            spec["gcn_ratio"] = len(state[f"{first}.pre.1.weight"]) / len(state[f"{first}.A"]) / spec["base_channels"]
        joints = state[f"{first}.A"].shape[-1] if f"{first}.A" in names else None
    columns = state["backbone.data_bn.weight"].size
    if joints is None:  # PaddleVideo does not save A
        joints = next(v for v in (17, 25) if columns % v == 0)
    channels = columns // joints
    multi = spec["name"] in ("AAGCN", "AGCN", "CTRGCN", "MSG3D")
    spec["in_channels"] = channels // 2 if multi else channels
    if joints not in LAYOUTS:
        raise UserError(f"it has {joints} joints; name the layout with -c CONFIG")
    return {"backbone": spec, "layout": LAYOUTS[joints], "num_classes": len(fc)}


def _block_kind(names: set[str], group: str, first: str) -> str:
    if group == "net":
        return "CTRGCN"
    if f"{first}.pre.0.weight" in names:
        return "DGSTGCN"
    if f"{first}.conv_d.0.weight" in names:
        return "AAGCN" if f"{first}.conv_ta.weight" in names else "AGCN"
    return "STGCNPlusPlus" if "backbone.gcn.0.tcn.branches.0.0.weight" in names else "STGCN"


def _stages(state: Mapping[str, np.ndarray], group: str, gcn: str) -> dict[str, Any]:
    """Channels and stages, from the widths of the blocks; a block that widens also halves time in every published
    network.
    """
    widths = []
    while f"backbone.{group}.{len(widths)}.{gcn}.bn.weight" in state:
        widths.append(state[f"backbone.{group}.{len(widths)}.{gcn}.bn.weight"].size)
    wider = [i + 1 for i in range(1, len(widths)) if widths[i] != widths[i - 1]]
    return {
        "base_channels": widths[0],
        "num_stages": len(widths),
        "inflate_stages": wider,
        "down_stages": wider,
    }


@dataclass(frozen=True)
class Report:
    """What became of a foreign checkpoint's arrays.

    Attributes:
        loaded: our names. filled: our names that the source does not save, taken from the network. unused: theirs.
    """

    source: str
    loaded: list[str]
    filled: list[str]
    unused: list[str]
    missing: list[str]
    shapes: dict[str, tuple[int, ...]]

    def lines(self) -> list[str]:
        said = [f"source: {self.source}", f"loaded: {len(self.loaded)} arrays"]
        for title, names in (
            ("filled from the network, not in the source", self.filled),
            ("unused", self.unused),
            ("missing", self.missing),
        ):
            if names:
                said.append(f"{title}: {len(names)}")
                said += [f"    {name} {list(self.shapes[name])}" for name in names]
        return said


def convert(foreign: Foreign, model: Recognizer, path: str | Path) -> tuple[dict[str, np.ndarray], Report]:
    """Return our state for a network from a foreign checkpoint, and a report.

    Raises:
        UserError: an array is missing or has the wrong shape; nothing is returned then.
    """
    links = link_model(model)
    ours = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    own = save_links(links, ours)
    given = dict(foreign.state)
    filled = []
    if foreign.source == "PaddleVideo":  # its graphs are fixed and not saved
        filled = [name for name in own if name.endswith(".A") and name not in given]
        given |= {name: own[name] for name in filled}
    given |= {name: array for name, array in own.items() if name in _constants(links)}
    missing = [name for name in own if name not in given]
    unused = [name for name in foreign.state if name not in own and not name.endswith(_IGNORED)]
    shapes = {name: array.shape for name, array in {**own, **foreign.state}.items()}
    report = Report(foreign.source, [n for n in own if n in foreign.state], filled, unused, missing, shapes)
    wrong = [name for name in own if name in given and given[name].shape != own[name].shape]
    if missing or wrong:
        raise UserError(f"{path}: {_mismatch(foreign, own, missing, unused, wrong)}")
    state = {name: np.ascontiguousarray(array, np.float32) for name, array in load_links(links, given).items()}
    return state, report


def _constants(links: list[Link]) -> set[str]:
    return {name for link in links if not link.ours for name in link.theirs}


def _mismatch(foreign: Foreign, own: dict, missing: list[str], unused: list[str], wrong: list[str]) -> str:
    """One sentence on why a checkpoint does not fit a network."""
    here = f"this {foreign.source} checkpoint does not fit the network"
    if wrong and not missing:
        joints = [name for name in wrong if name.endswith(".A") or name.endswith(".PA")]
        if joints:
            theirs, ours = foreign.state[joints[0]].shape[-1], own[joints[0]].shape[-1]
            return f"{here}: it is for {theirs} joints, the config's layout has {ours}"
        name = wrong[0]
        return f"{here}: {name} has shape {list(foreign.state[name].shape)}, the network has {list(own[name].shape)}"
    parts = [f"{len(missing)} arrays are missing ({missing[0]}, ...)"] if missing else []
    parts += [f"{len(unused)} are unknown to it ({unused[0]}, ...)"] if unused else []
    return f"{here}: {', '.join(parts)}; it is of another model, or incomplete"


def read_weights(path: str | Path, model: Recognizer, fresh_head: bool = False) -> tuple[Checkpoint, list[str]]:
    """Read weights of any source for a network, as a checkpoint of ours; also return remarks to pass on.

    fresh_head: keep the network's own last layer where the weights are for another number of classes (fine-tuning).
    """
    found, notes = read_any(path), []
    foreign = isinstance(found, Foreign)
    if fresh_head:
        own = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        own = save_links(link_model(model), own) if foreign else own
        name = "cls_head.fc_cls" if foreign else "head.fc"
        given = found.state.get(f"{name}.bias")
        if given is not None and given.shape != own[f"{name}.bias"].shape:
            found.state.update({key: own[key] for key in (f"{name}.weight", f"{name}.bias")})
            notes.append(
                f"note: {path} is for {len(given)} classes, this network has {len(own[f'{name}.bias'])}; its last "
                "layer starts afresh"
            )
    if not foreign:
        return found, notes
    state, report = convert(found, model, path)
    notes.append(f"converted {len(report.loaded)} arrays of a {report.source} checkpoint")
    if report.filled:
        notes.append(f"{len(report.filled)} arrays it does not save were filled in ({report.filled[0]}, ...)")
    return Checkpoint(state, {"converted_from": report.source}), notes


def to_peer(model: Recognizer, state: dict[str, np.ndarray], peer: str) -> dict[str, np.ndarray]:
    """Return our state under the names of PYSKL ("pyskl") or MMAction2 ("mmaction"), complete with their counters."""
    theirs = save_links(link_model(model), state)
    for name in [name for name in theirs if name.endswith("running_mean")]:
        theirs[name.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    return theirs if peer == "pyskl" else _renamed(theirs, "cls_head.fc_cls.", "cls_head.fc.")


def published_parameters(model: Recognizer) -> dict[str, int]:
    """Return the trained values of a network by PYSKL's names, with the biases that we leave to BatchNorm."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    trained = {name for name, p in model.named_parameters() if not p.stop_gradient}
    counts = {}
    for link in link_model(model):
        absorbs = bool(link.ours) and link.ours[0].endswith("_mean")  # the mean has taken the biases in
        if absorbs or (link.ours and set(link.ours) <= trained):
            counts |= {name: a.size for name, a in zip(link.theirs, link.save(*(state[name] for name in link.ours)))}
    return {name: count for name, count in counts.items() if not name.endswith("running_mean")}
