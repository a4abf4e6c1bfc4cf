"""What networks cost, against figures derived from the published networks for 2 persons, 100 frames, 60 classes."""

import json
import math

import paddle
import pytest

from paddleskel.engine.summary import receptive_field, summarize
from paddleskel.models.recognizer import build_model
from paddleskel.nn import spectral
from paddleskel.skeleton.layout import load_layout

# network, joints: parameters, G MACs, G MACs with BatchNorm
COSTS = {
    ("STGCN", 17): (3088704, 3.8117, 3.8222),
    ("STGCN", 25): (3098832, 5.6976, 5.7130),
    ("STGCNPlusPlus", 17): (1393016, 1.9263, 1.9477),
    ("STGCNPlusPlus", 25): (1403144, 2.9250, 2.9564),
    ("AGCN", 17): (3459344, 4.3361, 4.3487),
    ("AGCN", 25): (3469520, 6.4691, 6.4877),
    ("AAGCN", 17): (3760228, 4.3388, 4.3515),
    ("AAGCN", 25): (3781668, 6.4728, 6.4914),
    ("CTRGCN", 17): (1436496, 1.9355, 1.9520),
    ("CTRGCN", 25): (1446672, 2.9716, 2.9960),
    ("DGSTGCN", 17): (1674244, 1.6852, 1.7120),
    ("DGSTGCN", 25): (1701172, 2.4962, 2.5355),
    ("MSG3D", 17): (2975763, 6.8101, 6.8396),
    ("MSG3D", 25): (3194595, 10.9241, 10.9675),
}


def build(name, layout="coco", **options):
    return build_model({"backbone": {"name": name, **options}, "head": "GCNHead"}, load_layout(layout), 60)


def test_the_gates_of_aagcn_are_counted():
    """Convolutions over 17 joints and 9 of 20 frames, both to one channel, and two linear layers, for two persons."""
    with_gates, without = (
        summarize(build(network, num_stages=1), (2, 20, 17, 3)).macs for network in ("AAGCN", "AGCN")
    )
    assert with_gates - without == 2 * 64 * (17 * 17 + 9 * 20 + 2 * 32)


@pytest.mark.parametrize(("network", "joints"), COSTS)
def test_costs_of_the_published_networks(network, joints):
    params, macs, with_norms = COSTS[network, joints]
    summary = summarize(build(network, {17: "coco", 25: "nturgb+d"}[joints]), (2, 100, joints, 3))
    assert summary.published_params == params
    assert summary.macs / 1e9 == pytest.approx(macs, rel=1e-3)
    assert (summary.macs + summary.batch_norm) / 1e9 == pytest.approx(with_norms, rel=1e-3)
    blocks = [row for row in summary.rows if row.name.split(".")[-1].isdigit() and row.name.count(".") == 2]
    outside = [row for row in summary.rows if row.name in ("backbone.data_bn", "head")]
    assert sum(row.macs for row in blocks + outside) == summary.macs
    assert sum(row.params for row in blocks + outside) == summary.params
    if not math.isnan(summary.training_mb):  # Paddle 2.6 does not measure it
        assert summary.training_mb > summary.inference_mb > 0


def test_macs_grow_with_frames_and_persons_alone():
    model = build("STGCN", num_stages=3, inflate_stages=[2], down_stages=[2], base_channels=8)
    one = summarize(model, (1, 20, 17, 3)).macs
    head = 16 * 60
    assert summarize(model, (3, 20, 17, 3)).macs - head == 3 * (one - head)
    assert summarize(model, (1, 40, 17, 3)).macs - head == 2 * (one - head)


SMALL = {"num_stages": 4, "inflate_stages": [3], "down_stages": [3], "base_channels": 24}


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("STGCN", SMALL),
        ("STGCNPlusPlus", SMALL),
        ("AGCN", {**SMALL, "gcn_adaptive": False}),
        ("MSG3D", {"base_channels": 12, "num_gcn_scales": 2, "num_g3d_scales": 2}),
    ],
)
def test_the_receptive_field_is_where_gradients_reach(network, options, monkeypatch):
    """An output frame in the middle depends on exactly the stated number of input frames."""
    monkeypatch.setattr(spectral, "pays", lambda *_: False)  # its rounding reaches all frames
    paddle.seed(0)
    model = build(network, **options)
    model.eval()
    for name, p in model.named_parameters():
        if name.endswith("bn.weight"):  # adaptive graphs start at 1e-6
            p.set_value(paddle.ones(p.shape))
    frames = receptive_field(model.backbone)
    x = paddle.randn([1, 2, 2 * frames + 40, 17, 3])
    x.stop_gradient = False
    y = model.backbone(x)
    y[:, :, y.shape[2] // 2].square().sum().backward()
    reached = (x.grad.abs().sum(axis=[0, 1, 3, 4]) > 0).numpy().nonzero()[0]
    assert reached.max() - reached.min() + 1 == frames


def test_the_tool_prints_a_table_or_json(run):
    config = "configs/recognition/stgcn_plusplus/stgcn_plusplus_ntu60_xsub_2d.yaml"
    shown = run("summary", "-c", config)
    assert shown.code == 0
    assert "1,393,016 with the biases of the published code" in shown.out
    assert "MACs: 1.926 G a clip, 19.26 G a 10-clip test" in shown.out
    summary = json.loads(run("summary", "-c", config, "--json").out)
    assert summary["input_shape"] == [2, 100, 17, 3]
    assert summary["receptive_field"] == 153


def test_a_pipeline_that_does_not_fit_is_told(run):
    config = "configs/recognition/stgcn_plusplus/stgcn_plusplus_ntu60_xsub_2d.yaml"
    refused = run("summary", "-c", config, "-o", "MODEL.backbone.in_channels=5")
    assert refused.code == 2
    assert "in_channels is 5, but the pipeline makes" in refused.err
