"""What a network costs: parameters, multiply-accumulates, frames it sees at once, memory."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import paddle
from paddle import nn
from paddle.base import core

from paddleskel.convert.weights import published_parameters
from paddleskel.models.agcn import AdaptiveGraphConv
from paddleskel.models.ctrgcn import ChannelTopologyConv
from paddleskel.models.dgstgcn import DynamicGroupConv
from paddleskel.models.msg3d import ScaleConv, Stage
from paddleskel.models.recognizer import Recognizer
from paddleskel.nn.block import Block
from paddleskel.nn.conv import BiasedConv
from paddleskel.nn.spatial import GraphConv
from paddleskel.nn.temporal import Branches, TemporalConv

# ---- multiply-accumulates ----
# Counted for the published form of each unit, so that the figures compare with papers; layers that compute the same in
# a cheaper order are not credited for it. Each rule leaves out what the unit's own sublayers count.


def _graph_conv(unit: GraphConv, x, y) -> int:
    subsets, (n, inputs, frames, joints), outputs = unit.A.shape[0], x.shape, y.shape[1]
    spread = outputs if unit.bias is not None else inputs  # "pre" aggregates outputs, "post" inputs
    return n * frames * joints * subsets * (inputs * outputs + spread * joints)


def _adaptive_graph_conv(unit: AdaptiveGraphConv, x, y) -> int:
    n, inputs, frames, joints = x.shape
    alike = joints * unit.inner if unit.adaptive else 0
    return n * frames * joints * unit.subsets * (inputs * y.shape[1] + inputs * joints + alike)


def _channel_topology_conv(unit: ChannelTopologyConv, x, y) -> int:
    n, inputs, frames, joints = x.shape
    # published: the two thin convolutions see every frame before the average; `embed` counts one frame
    embed = 2 * unit.relative * inputs * joints * (frames - 1)
    refine = unit.relative * y.shape[1] * joints * joints
    return n * unit.subsets * (embed + refine + y.shape[1] * frames * joints * joints)


def _dynamic_group_conv(unit: DynamicGroupConv, x, y) -> int:
    n, _, frames, joints = x.shape
    graphs = frames if "NA" in (unit.ctr, unit.ada) else 1
    alike = graphs if unit.ada else 0
    return n * unit.groups * unit.width * joints * joints * (frames + alike)


def _scale_conv(unit: ScaleConv, x, y) -> int:
    n, inputs, frames, joints = x.shape
    return n * unit.A.shape[0] * inputs * frames * joints * (y.shape[1] + joints)


def _branches(unit: Branches, x, y) -> int:
    # the plain branches are opened at every frame together with the others; published, at every stride-th
    plain = sum(unit.widths) - sum(unit.widths[i] for i in unit.normed)
    n, inputs, frames, joints = x.shape
    return -n * plain * inputs * joints * (frames - y.shape[2])


def _convolution(layer: nn.Layer, x, y) -> int:
    return y.size * math.prod(layer.weight.shape[1:])


def _linear(layer: nn.Linear, x, y) -> int:
    return y.size * layer.weight.shape[0]


_MACS: dict[type[nn.Layer], Callable[..., int]] = {
    GraphConv: _graph_conv,
    AdaptiveGraphConv: _adaptive_graph_conv,
    ChannelTopologyConv: _channel_topology_conv,
    DynamicGroupConv: _dynamic_group_conv,
    ScaleConv: _scale_conv,
    Branches: _branches,
    BiasedConv: _convolution,
    nn.Conv2D: _convolution,
    nn.Conv1D: _convolution,
    nn.Linear: _linear,
}

# ---- receptive field ----


def _reach(unit: nn.Layer) -> tuple[int, int]:
    """(frames a temporal unit sees at once, its stride)."""
    if isinstance(unit, TemporalConv):
        return unit.conv.weight.shape[2], unit.conv._stride[0]
    branches: Branches = unit.branches
    spans = [1 if kind == "1x1" else kind[1] if kind[0] == "max" else _span(*kind) for kind in branches.kinds]
    return max(spans), branches.stride


def _span(kernel: int, dilation: int) -> int:
    return (kernel - 1) * dilation + 1


def receptive_field(backbone: nn.Layer) -> int | None:
    """Return how many input frames the convolutions of a backbone let one output frame see; None if it is not built of
    the blocks here.

    Averages over the whole clip (attention, graphs that depend on the sample, the head) are left aside.
    """
    frames, step = 1, 1
    units = getattr(backbone, "blocks", None) or getattr(backbone, "stages", ())
    for unit in units:
        if isinstance(unit, Block):
            path = [unit.tcn]
        elif isinstance(unit, Stage):
            # the window paths see less: 5 frames, the two convolutions beside them 9 each
            path = [unit.sgcn[1], unit.sgcn[2], unit.tcn]
        else:
            return None
        for temporal in path:
            span, stride = _reach(temporal)
            frames, step = frames + (span - 1) * step, step * stride
    return frames if units else None


# ---- the summary ----


@dataclass(frozen=True)
class Row:
    """One part of a network: a block, or a unit inside it.

    Attributes:
        shape: of its output, for one clip. params: trained values. macs: for one clip.
    """

    name: str
    kind: str
    shape: list[int]
    params: int
    macs: int


@dataclass
class Summary:
    """What one clip of shape (M, T, V, C) costs.

    Attributes:
        params: trained values. published_params: those of the published form, which has biases in front of BatchNorms
            that change nothing. macs: multiply-accumulates of the published form.
        batch_norm: operations of BatchNorm (two a value), which MMAction2 adds to its FLOPs.
        receptive_field: frames, see `receptive_field`. whole_clip: something averages over all frames on the way.
        weights_mb, inference_mb, training_mb: memory of the weights, and at the peak of a forward pass and of a
            training step with one clip, beyond the weights; measured on the CPU, in MiB.
    """

    input_shape: list[int]
    rows: list[Row] = field(default_factory=list)
    params: int = 0
    published_params: int = 0
    macs: int = 0
    batch_norm: int = 0
    receptive_field: int | None = None
    whole_clip: bool = False
    weights_mb: float = 0.0
    inference_mb: float = 0.0
    training_mb: float = 0.0


def summarize(model: Recognizer, shape: tuple[int, int, int, int]) -> Summary:
    """Run one clip of shape (M, T, V, C) through a network, and note what every part of it costs."""
    summary = Summary(list(shape))
    names = {id(layer): name for name, layer in model.named_sublayers()}
    macs, shapes = dict.fromkeys(names.values(), 0), {}

    def note(layer, inputs, output):
        name = names[id(layer)]
        shapes[name] = list(output.shape)
        if rule := next((_MACS[kind] for kind in type(layer).__mro__ if kind in _MACS), None):
            macs[name] += int(rule(layer, inputs[0], output))
        if isinstance(layer, (nn.BatchNorm1D, nn.BatchNorm2D)):
            summary.batch_norm += 2 * int(output.size)

    hooks = [layer.register_forward_post_hook(note) for layer in model.sublayers()]
    model.eval()
    x = paddle.randn([1, *shape])
    with paddle.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    for name, layer in (*_parts(model.backbone, "backbone", 2), ("head", model.head)):
        inside = [macs[other] for other in macs if other == name or other.startswith(f"{name}.")]
        params = sum(int(p.size) for p in layer.parameters() if not p.stop_gradient)
        summary.rows.append(Row(name, type(layer).__name__, shapes.get(name, []), params, sum(inside)))
    summary.params = sum(int(p.size) for p in model.parameters() if not p.stop_gradient)
    summary.published_params = sum(published_parameters(model).values())
    summary.macs = sum(macs.values())
    summary.receptive_field = receptive_field(model.backbone)
    kinds = (AdaptiveGraphConv, ChannelTopologyConv, DynamicGroupConv)
    summary.whole_clip = any(isinstance(layer, kinds) for layer in model.sublayers())
    summary.weights_mb = sum(p.size * p.element_size() for p in model.parameters()) / 2**20
    summary.inference_mb, summary.training_mb = _peaks(model, x)
    return summary


def _parts(layer: nn.Layer, name: str, levels: int) -> Iterator[tuple[str, nn.Layer]]:
    """The layers inside one, `levels` deep; a list of layers is no level."""
    for leaf, child in layer.named_children():
        path = f"{name}.{leaf}"
        if isinstance(child, nn.LayerList):
            yield from _parts(child, path, levels)
            continue
        yield path, child
        if levels > 1:
            yield from _parts(child, path, levels - 1)


def _peaks(model: Recognizer, x: paddle.Tensor) -> tuple[float, float]:
    """Peak memory of a forward pass and of a training step beyond what was held before, in MiB."""
    model.eval()
    with paddle.no_grad():
        forward = _peak(lambda: model(x))
    model.train()
    step = _peak(lambda: model(x).sum().backward())
    model.clear_gradients()
    return forward, step


def _peak(work: Callable[[], object]) -> float:
    if not hasattr(core, "host_memory_stat_reset_peak_value"):  # Paddle 2.6 cannot tell
        return math.nan
    core.host_memory_stat_reset_peak_value("Allocated", 0)
    before = core.host_memory_stat_current_value("Allocated", 0)
    work()
    return (core.host_memory_stat_peak_value("Allocated", 0) - before) / 2**20
