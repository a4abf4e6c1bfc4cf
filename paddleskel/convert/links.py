"""How the arrays of our layers correspond to those of PYSKL's modules (MMAction2 uses the same names).

Our layers merge thin convolutions and have no bias in front of a BatchNorm; a `Link` says for a few arrays of ours
which arrays of theirs hold the same function, and converts in both directions. Going back, the biases that we do not
have are zero.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from paddle import nn

from paddleskel.models.recognizer import Recognizer
from paddleskel.nn.block import Block, DataBN
from paddleskel.nn.conv import ConvBN
from paddleskel.nn.spatial import GraphConv
from paddleskel.nn.temporal import MultiBranchConv, TemporalConv

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Link:
    """`ours` = load(*theirs) and `theirs` = save(*ours), by state names."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    load: Callable[..., Arrays]
    save: Callable[..., Arrays]


def copy(ours: str, theirs: str) -> Link:
    """The same array under another name."""
    return Link((ours,), (theirs,), lambda array: (array,), lambda array: (array,))


def transposed(ours: str, theirs: str) -> Link:
    """A linear layer's weight: (in, out) in Paddle, (out, in) in torch."""
    return Link((ours,), (theirs,), lambda array: (array.T,), lambda array: (array.T,))


def batch_norm(ours: str, parts: list[tuple[str, str | None, int]]) -> Iterator[Link]:
    """One BatchNorm of ours against theirs, concatenated on channels.

    parts: (their BatchNorm, the bias of the convolution before it or None, its channels).
    """
    names = [name for name, _, _ in parts]
    cuts = np.cumsum([width for _, _, width in parts])[:-1]

    def joined(key: str, theirs: str) -> Link:
        return Link(
            (f"{ours}.{key}",),
            tuple(f"{name}.{theirs}" for name in names),
            lambda *arrays: (np.concatenate(arrays),),
            lambda array: tuple(np.split(array, cuts)),
        )

    yield joined("weight", "weight")
    yield joined("bias", "bias")
    yield joined("_variance", "running_var")
    yield absorbed_mean(f"{ours}._mean", [(f"{name}.running_mean", [(bias, width)]) for name, bias, width in parts])


def absorbed_mean(ours: str, parts: list[tuple[str, list[tuple[str | None, int]]]]) -> Link:
    """Our running mean: theirs minus the biases of the convolutions before the BatchNorm.

    parts: (their running mean, [(bias or None, channels), ...] of the convolutions that feed it, in order).
    """
    means = [mean for mean, _ in parts]
    biases = [bias for _, feeds in parts for bias, _ in feeds if bias]
    widths = [sum(width for _, width in feeds) for _, feeds in parts]

    def load(*arrays: np.ndarray) -> Arrays:
        given = dict(zip(means + biases, arrays))
        zero = np.zeros
        bias = [given[name] if name else zero(width, np.float32) for _, feeds in parts for name, width in feeds]
        return (np.concatenate([given[mean] for mean in means]) - np.concatenate(bias),)

    def save(mean: np.ndarray) -> Arrays:
        sizes = [width for _, feeds in parts for name, width in feeds if name]
        return (*np.split(mean, np.cumsum(widths)[:-1]), *(np.zeros(size, mean.dtype) for size in sizes))

    return Link((ours,), tuple(means + biases), load, save)


def conv_bn(ours: str, conv: str, bn: str, channels: int) -> Iterator[Link]:
    """A convolution with bias and its BatchNorm."""
    yield copy(f"{ours}.conv.weight", f"{conv}.weight")
    yield from batch_norm(f"{ours}.bn", [(bn, f"{conv}.bias", channels)])


def graph_conv(unit: GraphConv, ours: str, theirs: str) -> Iterator[Link]:
    """`GraphConv` against unit_gcn."""
    subsets, out = unit.A.shape[0], unit.weight.shape[0]
    if unit.bias is None:
        yield copy(f"{ours}.weight", f"{theirs}.conv.weight")
        yield from batch_norm(f"{ours}.bn", [(f"{theirs}.bn", f"{theirs}.conv.bias", out)])
    else:
        # theirs: row k * out + c; ours: row c, column k * in + i
        yield Link(
            (f"{ours}.weight", f"{ours}.bias"),
            (f"{theirs}.conv.weight", f"{theirs}.conv.bias"),
            lambda weight, bias: (
                weight.reshape(subsets, out, -1).swapaxes(0, 1).reshape(out, -1, 1, 1),
                bias.reshape(subsets, out).T.reshape(out, subsets, 1, 1),
            ),
            lambda weight, bias: (
                weight.reshape(out, subsets, -1).swapaxes(0, 1).reshape(subsets * out, -1, 1, 1),
                bias.reshape(out, subsets).T.reshape(-1),
            ),
        )
        yield from batch_norm(f"{ours}.bn", [(f"{theirs}.bn", None, out)])
    yield copy(f"{ours}.A", f"{theirs}.A")
    if unit.adaptive in ("importance", "offset"):
        yield copy(f"{ours}.PA", f"{theirs}.PA")
    if unit.down is not None:
        yield from conv_bn(f"{ours}.down", f"{theirs}.down.0", f"{theirs}.down.1", out)


def temporal_conv(unit: TemporalConv, ours: str, theirs: str) -> Iterator[Link]:
    """`TemporalConv` against unit_tcn."""
    yield from conv_bn(ours, f"{theirs}.conv", f"{theirs}.bn", unit.conv.weight.shape[0])


def multi_branch_conv(unit: MultiBranchConv, ours: str, theirs: str) -> Iterator[Link]:
    """`MultiBranchConv` against mstcn."""
    prefix = [f"{theirs}.branches.{i}" for i in range(len(unit.branches))]
    normed = [i for i in unit.order if unit.branches[i] != "1x1"]
    opening = [f"{prefix[i]}.0" if i in normed else prefix[i] for i in unit.order]
    cuts = np.cumsum([unit.widths[i] for i in unit.order])[:-1]
    yield Link(
        (f"{ours}.open.weight",),
        tuple(f"{name}.weight" for name in opening),
        lambda *arrays: (np.concatenate(arrays),),
        lambda array: tuple(np.split(array, cuts)),
    )
    yield from batch_norm(
        f"{ours}.open_bn", [(f"{prefix[i]}.1", f"{prefix[i]}.0.bias", unit.widths[i]) for i in normed]
    )
    dilated = [i for i in normed if unit.branches[i][0] != "max"]
    for position, i in enumerate(dilated):
        yield copy(f"{ours}.convs.{position}.weight", f"{prefix[i]}.3.conv.weight")
    feeds = []
    for i, width in enumerate(unit.widths):
        bias = f"{prefix[i]}.bias" if unit.branches[i] == "1x1" else f"{prefix[i]}.3.conv.bias"
        feeds.append((bias if i in dilated or unit.branches[i] == "1x1" else None, width))
    for key, name in (("weight", "weight"), ("bias", "bias"), ("_variance", "running_var")):
        yield copy(f"{ours}.mix_bn.{key}", f"{theirs}.transform.0.{name}")
    yield absorbed_mean(f"{ours}.mix_bn._mean", [(f"{theirs}.transform.0.running_mean", feeds)])
    yield from conv_bn(f"{ours}.mix", f"{theirs}.transform.2", f"{theirs}.bn", unit.mix.conv.weight.shape[0])


def data_bn(unit: DataBN, ours: str, theirs: str) -> Iterator[Link]:
    """`DataBN` against data_bn."""
    if unit.bn is not None:
        yield from batch_norm(f"{ours}.bn", [(theirs, None, unit.bn.weight.shape[0])])


_UNITS: dict[type[nn.Layer], Callable[..., Iterator[Link]]] = {
    GraphConv: graph_conv,
    TemporalConv: temporal_conv,
    MultiBranchConv: multi_branch_conv,
}


def block(unit: Block, ours: str, theirs: str) -> Iterator[Link]:
    """`Block` against STGCNBlock."""
    yield from _UNITS[type(unit.gcn)](unit.gcn, f"{ours}.gcn", f"{theirs}.gcn")
    yield from _UNITS[type(unit.tcn)](unit.tcn, f"{ours}.tcn", f"{theirs}.tcn")
    if isinstance(unit.residual, ConvBN):
        channels = unit.residual.conv.weight.shape[0]
        yield from conv_bn(f"{ours}.residual", f"{theirs}.residual.conv", f"{theirs}.residual.bn", channels)


def link_model(model: Recognizer) -> list[Link]:
    """Return the links of a whole network, theirs under PYSKL's names."""
    links = list(data_bn(model.backbone.data_bn, "backbone.data_bn", "backbone.data_bn"))
    for i, unit in enumerate(model.backbone.blocks):
        links += block(unit, f"backbone.blocks.{i}", f"backbone.gcn.{i}")
    links.append(transposed("head.fc.weight", "cls_head.fc_cls.weight"))
    links.append(copy("head.fc.bias", "cls_head.fc_cls.bias"))
    return links


def load_state(model: Recognizer, theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert a PYSKL state to ours."""
    state = {}
    for link in link_model(model):
        state |= dict(zip(link.ours, link.load(*(theirs[name] for name in link.theirs))))
    return state


def save_state(model: Recognizer, ours: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert our state to PYSKL's."""
    state = {}
    for link in link_model(model):
        state |= dict(zip(link.theirs, link.save(*(ours[name] for name in link.ours))))
    return state
