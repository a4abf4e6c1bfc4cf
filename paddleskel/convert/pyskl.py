"""Our units and networks against PYSKL's modules and checkpoint names. MMAction2 and BRL use the same names."""

from collections.abc import Callable, Iterator

import numpy as np
from paddle import nn

from paddleskel.convert.links import Link, batch_norm, bias_column, constant, conv_bn, copy, stacked, transposed
from paddleskel.models.agcn import AAGCN, AdaptiveGraphConv, Attention
from paddleskel.models.ctrgcn import CTRGCN, ChannelTopologyConv
from paddleskel.models.dgstgcn import DynamicGroupConv
from paddleskel.models.msg3d import MSG3D, ScaleConv, Stage, WindowConv
from paddleskel.models.recognizer import Recognizer
from paddleskel.nn.block import Block, DataBN
from paddleskel.nn.conv import BiasedConv
from paddleskel.nn.spatial import GraphConv
from paddleskel.nn.temporal import Branches, MultiBranchConv, MultiScaleConv, TemporalConv

Links = Iterator[Link]

# ---- temporal units ----


def temporal_conv(unit: TemporalConv, ours: str, theirs: str) -> Links:
    """Against unit_tcn."""
    yield from conv_bn(ours, f"{theirs}.conv", f"{theirs}.bn", unit.conv.weight.shape[0])


def branches(unit: Branches, ours: str, theirs: str, plain: str = "") -> Links:
    """The openings and the dilated convolutions. `plain`: what follows a "1x1" branch's name, "" or ".0"."""
    prefix = [f"{theirs}.branches.{i}" for i in range(len(unit.kinds))]
    opening = [f"{prefix[i]}.0" if i in unit.normed else f"{prefix[i]}{plain}" for i in unit.order]
    widths = [unit.widths[i] for i in unit.order]
    yield stacked(f"{ours}.open.weight", [f"{name}.weight" for name in opening], widths)
    norms = [(f"{prefix[i]}.1", [([f"{prefix[i]}.0.bias"], unit.widths[i])]) for i in unit.normed]
    yield from batch_norm(f"{ours}.open_bn", norms)
    for position, i in enumerate(dilated(unit)):
        yield copy(f"{ours}.convs.{position}.weight", f"{prefix[i]}.3.conv.weight")
        if isinstance(unit.convs[position], BiasedConv):
            yield bias_column(f"{ours}.convs.{position}.bias", [f"{prefix[i]}.3.conv.bias"], [unit.widths[i]])
    if unit.plain_bias is not None:
        plain_ones = unit.order[len(unit.normed) :]
        widths = [unit.widths[i] for i in plain_ones]
        names = [f"{prefix[i]}{plain}.bias" for i in plain_ones]
        yield stacked(f"{ours}.plain_bias", names, widths, (1, sum(widths), 1, 1))


def dilated(unit: Branches) -> list[int]:
    """Positions of the branches with a (k x 1) convolution, in order."""
    return [i for i, kind in enumerate(unit.kinds) if kind != "1x1" and kind[0] != "max"]


def multi_branch_conv(unit: MultiBranchConv, ours: str, theirs: str) -> Links:
    """Against mstcn and dgmstcn."""
    yield from branches(unit.branches, f"{ours}.branches", theirs)
    feeds = []
    for i, (kind, width) in enumerate(zip(unit.branches.kinds, unit.branches.widths)):
        prefix = f"{theirs}.branches.{i}"
        bias = [f"{prefix}.bias"] if kind == "1x1" else [f"{prefix}.3.conv.bias"] if i in dilated(unit.branches) else []
        feeds.append((bias if unit.add_coeff is None else [], width))
    if unit.add_coeff is not None:
        yield copy(f"{ours}.add_coeff", f"{theirs}.add_coeff")
    yield from batch_norm(f"{ours}.bn", [(f"{theirs}.transform.0", feeds)])
    yield from conv_bn(f"{ours}.mix", f"{theirs}.transform.2", f"{theirs}.bn", unit.mix.conv.weight.shape[0])


def multi_scale_conv(unit: MultiScaleConv, ours: str, theirs: str) -> Links:
    """Against MSTCN, which normalises each branch by itself."""
    yield from branches(unit.branches, f"{ours}.branches", theirs, plain=".0")
    norms = []
    for i, (kind, width) in enumerate(zip(unit.branches.kinds, unit.branches.widths)):
        prefix = f"{theirs}.branches.{i}"
        if kind == "1x1":
            norms.append((f"{prefix}.1", [([f"{prefix}.0.bias"], width)]))
        elif kind[0] == "max":
            norms.append((f"{prefix}.4", [([], width)]))
        else:
            norms.append((f"{prefix}.3.bn", [([f"{prefix}.3.conv.bias"], width)]))
    yield from batch_norm(f"{ours}.bn", norms)
    yield from residual(unit.residual, ours, theirs)


def residual(unit: nn.Layer | None, ours: str, theirs: str) -> Links:
    """The 1x1 convolution of a residual, where there is one."""
    if unit is not None:
        channels = unit.conv.weight.shape[0]
        yield from conv_bn(f"{ours}.residual", f"{theirs}.residual.conv", f"{theirs}.residual.bn", channels)


# ---- spatial units ----


def down(unit: nn.Layer, ours: str, theirs: str) -> Links:
    """The 1x1 convolution of a residual inside a graph convolution."""
    if unit.down is not None:
        channels = unit.down.conv.weight.shape[0]
        yield from conv_bn(f"{ours}.down", f"{theirs}.down.0", f"{theirs}.down.1", channels)


def graph_conv(unit: GraphConv, ours: str, theirs: str) -> Links:
    """Against unit_gcn."""
    subsets, out = unit.A.shape[0], unit.weight.shape[0]
    if unit.bias is None:
        yield copy(f"{ours}.weight", f"{theirs}.conv.weight")
        yield from batch_norm(f"{ours}.bn", [(f"{theirs}.bn", [([f"{theirs}.conv.bias"], out)])])
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
        yield from batch_norm(f"{ours}.bn", [(f"{theirs}.bn", [([], out)])])
    yield copy(f"{ours}.A", f"{theirs}.A")
    if unit.adaptive in ("importance", "offset"):
        yield copy(f"{ours}.PA", f"{theirs}.PA")
    yield from down(unit, ours, theirs)


def adaptive_graph_conv(unit: AdaptiveGraphConv, ours: str, theirs: str) -> Links:
    """Against unit_aagcn."""
    subsets, out = unit.subsets, unit.weight.shape[0]
    yield copy(f"{ours}.A", f"{theirs}.A")
    if unit.adaptive:
        name = "PA" if unit.similarity == "softmax" else "alpha"
        yield copy(f"{ours}.{name}", f"{theirs}.{name}")
        embeds = [f"{theirs}.conv_{letter}.{k}" for letter in "ab" for k in range(subsets)]
        widths = [unit.inner] * len(embeds)
        yield stacked(f"{ours}.embed.weight", [f"{name}.weight" for name in embeds], widths)
        yield bias_column(f"{ours}.embed.bias", [f"{name}.bias" for name in embeds], widths)
    values = [f"{theirs}.conv_d.{k}" for k in range(subsets)]
    yield _columns(f"{ours}.weight", [f"{name}.weight" for name in values])
    yield from batch_norm(f"{ours}.bn", [(f"{theirs}.bn", [([f"{name}.bias" for name in values], out)])])
    yield from down(unit, ours, theirs)
    if unit.attention is not None:
        yield from attention(unit.attention, f"{ours}.attention", theirs)


def _columns(ours: str, theirs: list[str]) -> Link:
    """Convolutions whose outputs are summed, as one over all their inputs."""
    return Link(
        (ours,),
        tuple(theirs),
        lambda *arrays: (np.concatenate(arrays, axis=1),),
        lambda array: tuple(np.split(array, len(theirs), axis=1)),
    )


def attention(unit: Attention, ours: str, theirs: str) -> Links:
    """The three gates of unit_aagcn."""
    for name in ("conv_sa", "conv_ta"):
        yield copy(f"{ours}.{name}.weight", f"{theirs}.{name}.weight")
        yield copy(f"{ours}.{name}.bias", f"{theirs}.{name}.bias")
    for name in ("fc1c", "fc2c"):
        yield transposed(f"{ours}.{name}.weight", f"{theirs}.{name}.weight")
        yield copy(f"{ours}.{name}.bias", f"{theirs}.{name}.bias")


def channel_topology_conv(unit: ChannelTopologyConv, ours: str, theirs: str) -> Links:
    """Against unit_ctrgcn."""
    subsets, out, relative = unit.subsets, unit.out_channels, unit.relative
    convs = [f"{theirs}.convs.{k}" for k in range(subsets)]
    embeds = [f"{name}.conv{number}" for number in (1, 2) for name in convs]
    for layer, names, width in (("embed", embeds, relative), ("feature", [f"{name}.conv3" for name in convs], out)):
        widths = [width] * len(names)
        yield stacked(f"{ours}.{layer}.weight", [f"{name}.weight" for name in names], widths)
        yield bias_column(f"{ours}.{layer}.bias", [f"{name}.bias" for name in names], widths)
    for layer, leaf, width in (("refine", "weight", relative), ("refine_bias", "bias", 1)):
        yield _subsets(f"{ours}.{layer}", [f"{name}.conv4.{leaf}" for name in convs], (out, width), leaf)
    yield copy(f"{ours}.A", f"{theirs}.A")
    yield copy(f"{ours}.alpha", f"{theirs}.alpha")
    yield from batch_norm(f"{ours}.bn", [(f"{theirs}.bn", [([], out)])])
    yield from down(unit, ours, theirs)


def _subsets(ours: str, theirs: list[str], shape: tuple[int, int], leaf: str) -> Link:
    """Weights (out, r, 1, 1) or biases (out,) of the subsets, as one (K, out, r or 1)."""
    their_shape = (*shape, 1, 1) if leaf == "weight" else shape[:1]
    return Link(
        (ours,),
        tuple(theirs),
        lambda *arrays: (np.stack([array.reshape(shape) for array in arrays]),),
        lambda array: tuple(row.reshape(their_shape) for row in array),
    )


def dynamic_group_conv(unit: DynamicGroupConv, ours: str, theirs: str) -> Links:
    """Against dggcn."""
    for name in ("A", "alpha", "beta"):
        yield copy(f"{ours}.{name}", f"{theirs}.{name}")
    total, out = unit.pre.conv.weight.shape[0], unit.post.conv.weight.shape[0]
    yield from conv_bn(f"{ours}.pre", f"{theirs}.pre.0", f"{theirs}.pre.1", total)
    yield from conv_bn(f"{ours}.post", f"{theirs}.post", f"{theirs}.bn", out)
    if unit.embed is not None:
        names, widths = [f"{theirs}.conv1", f"{theirs}.conv2"], [total, total]
        yield stacked(f"{ours}.embed.weight", [f"{name}.weight" for name in names], widths)
        yield bias_column(f"{ours}.embed.bias", [f"{name}.bias" for name in names], widths)
    yield from down(unit, ours, theirs)


def scale_conv(unit: ScaleConv, ours: str, theirs: str) -> Links:
    """Against MSGCN and ST_MSGCN."""
    yield copy(f"{ours}.A", f"{theirs}.A")
    yield copy(f"{ours}.PA", f"{theirs}.PA")
    channels = unit.mlp.conv.weight.shape[0]
    yield from conv_bn(f"{ours}.mlp", f"{theirs}.mlp.layers.0", f"{theirs}.mlp.layers.1", channels)


def window_conv(unit: WindowConv, ours: str, theirs: str) -> Links:
    """Against one path of MW_MSG3DBlock."""
    yield from scale_conv(unit.spread, f"{ours}.spread", f"{theirs}.gcn3d.1")
    out, embed, _, window = unit.merge.weight.shape
    yield Link(
        (f"{ours}.merge.weight",),
        (f"{theirs}.out_conv.weight",),
        lambda array: (array.reshape(out, embed, 1, window),),
        lambda array: (array.reshape(out, embed, 1, window, 1),),
    )
    yield from batch_norm(f"{ours}.bn", [(f"{theirs}.out_bn", [([f"{theirs}.out_conv.bias"], out)])])


def msg3d_stage(unit: Stage, ours: str, number: int) -> Links:
    """Stage `number`, from 1: sgcn<n>, gcn3d<n> and tcn<n>."""
    for path, window in enumerate(unit.gcn3d):
        yield from window_conv(window, f"{ours}.gcn3d.{path}", f"backbone.gcn3d{number}.gcn3d.{path}")
    yield from scale_conv(unit.sgcn[0], f"{ours}.sgcn.0", f"backbone.sgcn{number}.0")
    for position in (1, 2):
        yield from multi_scale_conv(unit.sgcn[position], f"{ours}.sgcn.{position}", f"backbone.sgcn{number}.{position}")
    yield from multi_scale_conv(unit.tcn, f"{ours}.tcn", f"backbone.tcn{number}")


# ---- networks ----

_UNITS: dict[type[nn.Layer], Callable[..., Links]] = {
    GraphConv: graph_conv,
    AdaptiveGraphConv: adaptive_graph_conv,
    ChannelTopologyConv: channel_topology_conv,
    DynamicGroupConv: dynamic_group_conv,
    TemporalConv: temporal_conv,
    MultiBranchConv: multi_branch_conv,
    MultiScaleConv: multi_scale_conv,
}


def data_bn(unit: DataBN) -> Links:
    """Against data_bn."""
    if unit.bn is not None:
        yield from batch_norm("backbone.data_bn.bn", [("backbone.data_bn", [([], unit.bn.weight.shape[0])])])


def block(unit: Block, ours: str, theirs: str, gcn: str, tcn: str) -> Links:
    """Against STGCNBlock, AAGCNBlock, CTRGCNBlock and DGBlock, whose units are called `gcn` and `tcn`."""
    yield from _UNITS[type(unit.gcn)](unit.gcn, f"{ours}.gcn", f"{theirs}.{gcn}")
    yield from _UNITS[type(unit.tcn)](unit.tcn, f"{ours}.tcn", f"{theirs}.{tcn}")
    yield from residual(unit.residual, ours, theirs)


def link_model(model: Recognizer) -> list[Link]:
    """Return the links of a whole network."""
    backbone = model.backbone
    links = list(data_bn(backbone.data_bn))
    if isinstance(backbone, (AAGCN, CTRGCN, MSG3D)):  # a copy of the graph that nothing reads
        links.append(constant("backbone.A", backbone.graph))
    if isinstance(backbone, MSG3D):
        for i, stage in enumerate(backbone.stages):
            links += msg3d_stage(stage, f"backbone.stages.{i}", i + 1)
    else:
        is_ctr = isinstance(backbone, CTRGCN)
        group, gcn, tcn = ("net", "gcn1", "tcn1") if is_ctr else ("gcn", "gcn", "tcn")
        for i, unit in enumerate(backbone.blocks):
            links += block(unit, f"backbone.blocks.{i}", f"backbone.{group}.{i}", gcn, tcn)
    links.append(transposed("head.fc.weight", "cls_head.fc_cls.weight"))
    links.append(copy("head.fc.bias", "cls_head.fc_cls.bias"))
    return links
