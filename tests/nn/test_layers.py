"""Layers by themselves: shapes, options, initialisation."""

import json

import numpy as np
import paddle
import pytest

from paddleskel.convert.links import save_links
from paddleskel.convert.pyskl import link_model
from paddleskel.errors import UserError
from paddleskel.models.head import GCNHead
from paddleskel.models.losses import CrossEntropyLoss
from paddleskel.models.recognizer import build_model
from paddleskel.models.registry import BACKBONES
from paddleskel.nn.block import DataBN, plan_stages
from paddleskel.nn.spatial import GraphConv
from paddleskel.nn.temporal import MultiBranchConv, TemporalConv, branch_widths
from paddleskel.skeleton.graph import build_graph
from paddleskel.skeleton.layout import load_layout

COCO = load_layout("coco")
GRAPH = build_graph(COCO, "spatial")


@pytest.mark.parametrize("adaptive", ["init", "importance", "offset", None])
@pytest.mark.parametrize("conv_pos", ["pre", "post"])
@pytest.mark.parametrize("with_res", [True, False])
def test_graph_convolution_equals_its_formula(adaptive, conv_pos, with_res):
    """y = relu(BN(sum_k (W_k x + b_k) A_k) + residual), written with einsum."""
    paddle.seed(0)
    unit = GraphConv(4, 6, GRAPH, adaptive, conv_pos, with_res)
    unit.eval()
    unit.bn._mean.set_value(paddle.randn([6]))
    x = paddle.randn([2, 4, 5, 17])
    weight = unit.weight.reshape([6, 3, 4])
    mixed = paddle.einsum("oki,nitv,kvw->notw", weight, x, unit.adjacency())
    if unit.bias is not None:
        mixed = mixed + paddle.einsum("ok,kvw->ow", unit.bias.reshape([6, 3]), unit.adjacency()).reshape([1, 6, 1, 17])
    expected = unit.bn(mixed) + (unit.down(x) if with_res else 0)
    np.testing.assert_allclose(unit(x).numpy(), paddle.nn.functional.relu(expected).numpy(), atol=1e-5)
    assert (unit.bias is None) == (conv_pos == "post")


def test_which_graphs_are_trained():
    trained = {
        mode: sorted(
            name
            for name, p in GraphConv(3, 4, GRAPH, mode).named_parameters()
            if not p.stop_gradient and name in ("A", "PA")
        )
        for mode in ("init", "importance", "offset", None)
    }
    assert trained == {"init": ["A"], "importance": ["PA"], "offset": ["PA"], None: []}
    assert "A" in GraphConv(3, 4, GRAPH, None).state_dict()  # saved all the same


@pytest.mark.parametrize("frames", [1, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_temporal_units_shrink_time_by_the_stride(frames, stride):
    x = paddle.randn([2, 24, frames, 5])
    for unit in (TemporalConv(24, stride), MultiBranchConv(24, stride, dropout=0.1)):
        assert unit(x).shape == [2, 24, (frames - 1) // stride + 1, 5]


@pytest.mark.parametrize(
    "branches", [["1x1", (3, 1), ("max", 3)], [(3, 1), (5, 2)], [("max", 3)], ["1x1", "1x1", (3, 2)]]
)
def test_branches_may_stand_in_any_order(branches):
    unit = MultiBranchConv(16, 2, branches)
    assert unit(paddle.randn([2, 16, 9, 5])).shape == [2, 16, 5, 5]


def test_branch_widths():
    assert branch_widths(64, 6) == [14, 10, 10, 10, 10, 10]
    assert branch_widths(256, 6) == [46, 42, 42, 42, 42, 42]
    assert branch_widths(64, 6, 0.25) == [16] * 6


def test_data_bn_shares_or_separates_persons():
    x = paddle.randn([4, 2, 6, 5, 3])
    assert DataBN(3, 5, kind="VC")(x).shape == [8, 3, 6, 5]
    assert DataBN(3, 5, kind="MVC").bn.weight.shape == [30]
    plain = DataBN(3, 5, kind=None)(x)
    np.testing.assert_array_equal(plain.numpy(), x.numpy().transpose(0, 1, 4, 2, 3).reshape(8, 3, 6, 5))
    # channel v * C + c of VC is joint v, coordinate c
    unit = DataBN(3, 5)
    unit.eval()
    unit.bn._mean.set_value(paddle.arange(15, dtype="float32"))
    moved = unit(paddle.zeros([1, 1, 2, 5, 3])).numpy()[0, :, 0]
    np.testing.assert_allclose(moved, -np.arange(15).reshape(5, 3).T / np.sqrt(1 + 1e-5), rtol=1e-5)


def test_stages():
    stages = plan_stages(3)
    assert [stage.out_channels for stage in stages] == [64] * 4 + [128] * 3 + [256] * 3
    assert [i for i, stage in enumerate(stages) if stage.stride == 2] == [4, 7]
    assert [stage.residual for stage in stages] == [False] + [True] * 9
    assert len(plan_stages(64)) == 9  # an input as wide as the base needs no lifting


def test_options_may_change_by_stage():
    adaptive = ["importance"] * 2 + ["init"]
    spec = {
        "name": "STGCN",
        "num_stages": 3,
        "base_channels": 8,
        "gcn_adaptive": adaptive,
        "tcn_dropout": [0.0, 0.1, 0.2],
    }
    blocks = BACKBONES.build(spec, layout=COCO).blocks
    assert [block.gcn.adaptive for block in blocks] == adaptive
    assert [hasattr(block.tcn, "dropout") for block in blocks] == [False, True, True]
    with pytest.raises(UserError, match="one for each of the 3 stages, not 2"):
        BACKBONES.build({**spec, "tcn_dropout": [0.1, 0.2]}, "MODEL.backbone", layout=COCO)


def test_the_head_averages_persons_or_only_those_present():
    features = paddle.randn([4, 6, 3, 5])  # 2 samples of 2 persons
    inputs = paddle.ones([2, 2, 3, 5, 3])
    inputs[1, 1] = 0.0
    head = GCNHead(6, 7, ignore_absent=True)
    plain = GCNHead(6, 7)
    plain.set_state_dict(head.state_dict())
    pooled = features.numpy().mean((2, 3)).reshape(2, 2, 6)
    weight, bias = head.fc.weight.numpy(), head.fc.bias.numpy()
    np.testing.assert_allclose(plain(features, inputs).numpy(), pooled.mean(1) @ weight + bias, atol=1e-6)
    pooled[1] = pooled[1, :1]
    np.testing.assert_allclose(head(features, inputs).numpy(), pooled.mean(1) @ weight + bias, atol=1e-6)
    empty = head(features, paddle.zeros([2, 2, 3, 5, 3])).numpy()
    np.testing.assert_allclose(empty, np.tile(bias, (2, 1)), atol=1e-6)


def test_label_smoothing():
    logits, labels = paddle.randn([5, 4]), paddle.to_tensor([0, 1, 2, 3, 0])
    log_probs = paddle.nn.functional.log_softmax(logits).numpy()
    target = np.eye(4)[labels.numpy()] * 0.9 + 0.1 / 4
    assert float(CrossEntropyLoss(0.1)(logits, labels)) == pytest.approx(-(target * log_probs).sum(1).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="label_smoothing"):
        CrossEntropyLoss(1.0)


def test_a_network_reports_impossible_options():
    with pytest.raises(UserError, match=r"MODEL\.backbone\.layout: missing"):
        BACKBONES.build("STGCN", "MODEL.backbone")


def agrees(array, stats):
    """Compare sample statistics within five standard errors (a tenth at least for tiny arrays)."""
    count, std = array.size, stats["std"]
    assert array.mean() == pytest.approx(stats["mean"], abs=max(5 * std * np.sqrt(2 / count), 1e-7) + 1e-7)
    if count > 30:
        assert array.std() == pytest.approx(std, rel=0.1 + 5 / np.sqrt(count), abs=1e-7)


INITIALISED = {
    "STGCN": "stgcn",
    "STGCNPlusPlus": "stgcnpp",
    "AGCN": "agcn",
    "AAGCN": "aagcn",
    "CTRGCN": "ctrgcn",
    "DGSTGCN": "dgstgcn",
    "MSG3D": "msg3d",
}


@pytest.mark.parametrize(("network", "name"), INITIALISED.items())
@pytest.mark.parametrize(("layout", "suffix"), [("coco", "coco2d"), ("nturgb+d", "ntu3d")])
def test_initialisation_agrees_with_the_reference(reference, network, name, layout, suffix):
    stats = json.loads((reference / "ref" / f"init_stats_{name}_{suffix}.json").read_text())
    paddle.seed(0)
    model = build_model({"backbone": network, "head": "GCNHead"}, load_layout(layout), 60)
    trained = {name for name, p in model.named_parameters() if not p.stop_gradient}
    constants = {name for link in link_model(model) if not link.ours for name in link.theirs}
    flags = {n: np.full(t.shape, n in trained, np.float32) for n, t in model.state_dict().items()}
    is_trained = save_links(link_model(model), flags)
    state = save_links(link_model(model), {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    for key, entry in stats.items():
        if key.endswith("num_batches_tracked") or (not is_trained[key].any() and key.endswith(".bias")):
            continue  # a bias in front of a BatchNorm, which we do not have
        assert (entry["kind"] == "param") == (bool(is_trained[key].any()) and key not in constants), key
        agrees(state[key], entry)
