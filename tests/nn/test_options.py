"""The options of the networks against their formulas, written with einsum; the initialisation families."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddleskel.models.agcn import AdaptiveGraphConv
from paddleskel.models.ctrgcn import ChannelTopologyConv
from paddleskel.models.dgstgcn import DynamicGroupConv
from paddleskel.models.recognizer import build_model
from paddleskel.models.registry import BACKBONES
from paddleskel.skeleton.graph import build_graph
from paddleskel.skeleton.layout import load_layout

COCO = load_layout("coco")
GRAPH = build_graph(COCO, "spatial")
X = (2, 6, 5, 17)


def randomize(unit):
    """Weights that are not at their special starting values."""
    paddle.seed(1)
    for name, parameter in unit.named_parameters():
        value = paddle.randn(parameter.shape) * 0.3
        parameter.set_value(value.abs() + 0.5 if name.endswith("_variance") else value)
    unit.eval()
    return unit


def conv(layer, x):
    """A 1x1 convolution with its bias, as einsum."""
    y = paddle.einsum("oi,nitv->notv", layer.weight[:, :, 0, 0], x)
    return y + layer.bias.reshape([1, -1, 1, 1])


@pytest.mark.parametrize("similarity", ["tanh", "softmax"])
@pytest.mark.parametrize("out", [6, 8])
def test_adaptive_graphs(similarity, out):
    """2s-AGCN: the original's softmax over source joints and fixed A, and the tanh of AAGCN."""
    unit = randomize(AdaptiveGraphConv(6, out, GRAPH, attention=False, similarity=similarity, coff_embedding=2))
    x = paddle.randn(X)
    a, b = paddle.split(conv(unit.embed, x).reshape([2, 2, 3, out // 2, 5, 17]), 2, axis=1)
    alike = paddle.einsum("nkctu,nkctv->nkuv", a.squeeze(1), b.squeeze(1)) / (out // 2 * 5)
    if similarity == "softmax":
        graph = unit.A + unit.PA + paddle.exp(alike) / paddle.exp(alike).sum(axis=2, keepdim=True)
    else:
        graph = unit.A + unit.alpha * paddle.tanh(alike)
    weight = unit.weight[:, :, 0, 0].reshape([out, 3, 6])
    y = unit.bn(paddle.einsum("oki,nitu,nkuv->notv", weight, x, graph))
    expected = F.relu(y + (x if unit.down is None else unit.down(x)))
    np.testing.assert_allclose(unit(x).numpy(), expected.numpy(), atol=2e-5)
    trained = {name for name, p in unit.named_parameters() if not p.stop_gradient}
    assert ("A" in trained) == (similarity == "tanh")


def test_static_graphs_of_agcn():
    unit = randomize(AdaptiveGraphConv(6, 6, GRAPH, adaptive=False, attention=False))
    x = paddle.randn(X)
    weight = unit.weight[:, :, 0, 0].reshape([6, 3, 6])
    y = unit.bn(paddle.einsum("oki,nitu,kuv->notv", weight, x, paddle.to_tensor(GRAPH)))
    np.testing.assert_allclose(unit(x).numpy(), F.relu(y + x).numpy(), atol=2e-5)


def test_channel_topologies():
    """CTR-GCN in PYSKL's contraction: the averages are taken after the thin convolutions, which is the same."""
    unit = randomize(ChannelTopologyConv(6, 8, GRAPH))
    x = paddle.randn(X)
    x1, x2 = paddle.split(conv(unit.embed, x).mean(axis=2).reshape([2, 2, 3, 8, 17]), 2, axis=1)
    relation = paddle.tanh(x1.squeeze(1).unsqueeze(-1) - x2.squeeze(1).unsqueeze(-2))
    refined = paddle.einsum("koc,nkcuv->nkouv", unit.refine, relation) + unit.refine_bias.reshape([1, 3, 8, 1, 1])
    graph = refined * unit.alpha + unit.A.reshape([1, 3, 1, 17, 17])
    x3 = conv(unit.feature, x).reshape([2, 3, 8, 5, 17])
    y = unit.bn(paddle.einsum("nkouv,nkotu->notv", graph, x3))
    np.testing.assert_allclose(unit(x).numpy(), F.relu(y + unit.down(x)).numpy(), atol=5e-5)


@pytest.mark.parametrize("subset_wise", [False, True])
@pytest.mark.parametrize(
    ("ctr", "ada"), [("T", "T"), ("NA", "T"), ("NA", "NA"), ("T", None), (None, "T"), ("NA", None), (None, None)]
)
def test_dynamic_groups(ctr, ada, subset_wise):
    unit = randomize(DynamicGroupConv(6, 6, GRAPH, 0.5, ctr, ada, subset_wise, ctr_act="relu", ada_act="sigmoid"))
    x = paddle.randn(X)
    value = F.relu(unit.pre(x)).reshape([2, 3, 3, 5, 17])
    graph = unit.A.reshape([1, 3, 1, 1, 17, 17])
    scale = {name: getattr(unit, name) if subset_wise else getattr(unit, name)[:1] for name in ("alpha", "beta")}
    if ctr or ada:
        x1, x2 = paddle.split(conv(unit.embed, x).reshape([2, 2, 3, 3, 5, 17]), 2, axis=1)
        x1, x2 = x1.squeeze(1), x2.squeeze(1)
        if "NA" not in (ctr, ada):
            x1, x2 = x1.mean(axis=3, keepdim=True), x2.mean(axis=3, keepdim=True)
        if ctr:
            relation = F.relu(x1.unsqueeze(-1) - x2.unsqueeze(-2))
            graph = graph + relation * scale["alpha"].reshape([1, -1, 1, 1, 1, 1])
        if ada:
            alike = F.sigmoid(paddle.einsum("nkctu,nkctv->nktuv", x1, x2)).unsqueeze(2)
            graph = graph + alike * scale["beta"].reshape([1, -1, 1, 1, 1, 1])
    graph = graph.expand([2, 3, 3, 5, 17, 17])
    y = unit.post(paddle.einsum("nkctu,nkctuv->nkctv", value, graph).reshape([2, 9, 5, 17]))
    np.testing.assert_allclose(unit(x).numpy(), F.relu(y + x).numpy(), atol=5e-5)


def test_group_width_from_the_number_of_groups():
    assert DynamicGroupConv(6, 12, GRAPH, ratio=None).width == 4
    assert DynamicGroupConv(6, 16, GRAPH, ratio=0.125).width == 2


def test_softmax_of_dg_sums_to_one_over_source_joints():
    unit = randomize(DynamicGroupConv(6, 6, GRAPH, 0.5, None, "T"))
    unit.A.set_value(paddle.zeros(unit.A.shape))
    unit.beta.set_value(paddle.ones(unit.beta.shape))
    np.testing.assert_allclose(unit.graphs(paddle.randn(X)).sum(axis=-2).numpy(), 1.0, atol=1e-5)


# ---- initialisation families ----


def std_of(model, name):
    return float(model.state_dict()[name].numpy().std())


def build(name, **options):
    paddle.seed(0)
    return build_model({"backbone": {"name": name, **options}, "head": "GCNHead"}, COCO, 60)


def test_mmaction_draws_temporal_convolutions_by_fan_out():
    he = (2 / (256 * 9)) ** 0.5
    uniform = 1 / (256 * 9) ** 0.5 / 3**0.5
    name = "backbone.blocks.9.tcn.conv.weight"
    assert std_of(build("STGCN", init="mmaction"), name) == pytest.approx(he, rel=0.02)
    assert std_of(build("STGCN"), name) == pytest.approx(uniform, rel=0.02)


@pytest.mark.parametrize("network", ["STGCN", "AAGCN", "CTRGCN"])
def test_residuals_differ_between_the_families(network):
    name = "backbone.blocks.7.residual.conv.weight"
    assert std_of(build(network, init="mmaction"), name) == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert std_of(build(network), name) == pytest.approx(1 / 128**0.5 / 3**0.5, rel=0.02)


def test_msg3d_of_mmaction_draws_its_multi_scale_convolutions_by_fan_out():
    model = build("MSG3D", init="mmaction")
    assert std_of(model, "backbone.stages.2.tcn.branches.convs.0.weight") == pytest.approx(
        (2 / (64 * 3)) ** 0.5, rel=0.03
    )


def test_paddlevideo_draws_every_convolution_by_fan_in():
    model = build("STGCNPlusPlus", init="paddlevideo")
    assert std_of(model, "backbone.blocks.9.gcn.weight") == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert std_of(model, "backbone.blocks.7.residual.conv.weight") == pytest.approx((2 / 128) ** 0.5, rel=0.02)


def test_dropout_starts_at_the_second_block():
    """The vanilla ST-GCN recipe: 0.5 everywhere but in the first block."""
    blocks = BACKBONES.build({"name": "STGCN", "tcn_dropout": 0.5}, layout=COCO).blocks
    assert [hasattr(block.tcn, "dropout") for block in blocks] == [False] + [True] * 9


def test_agcn_may_have_multi_branch_temporal_convolutions():
    model = build("AAGCN", tcn_type="mstcn", num_stages=3, inflate_stages=[2], down_stages=[2], base_channels=16)
    assert model(paddle.randn([1, 2, 8, 17, 3])).shape == [1, 60]
