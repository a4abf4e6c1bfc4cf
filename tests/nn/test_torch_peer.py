"""Our networks against the plain ones in torch that are the benchmark's peer, on the same random weights."""

import numpy as np
import paddle
import pytest
from conftest import ROOT

from paddleskel.benchmark.worker import load
from paddleskel.convert.weights import to_peer
from paddleskel.models.recognizer import build_model
from paddleskel.skeleton.layout import load_layout

torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
peer = load(str(ROOT / "tools" / "torch_peer.py"))

NETWORKS = ("STGCN", "STGCNPlusPlus", "AGCN", "AAGCN", "CTRGCN", "DGSTGCN")
TINY = {"base_channels": 16, "num_stages": 4, "inflate_stages": [3], "down_stages": [3]}
THEIRS = {"base": 16, "blocks": 4, "wider": (3,)}


def pair(network, layout, options, theirs):
    """Both networks with the same weights: random, those that start at zero too."""
    layout = load_layout(layout)
    ours = build_model({"backbone": {"name": network, **options}, "head": "GCNHead"}, layout, 7)
    random = np.random.RandomState(0)
    state = {}
    for name, tensor in ours.state_dict().items():
        noise = random.randn(*tensor.shape).astype(np.float32)
        state[name] = np.abs(1 + 0.1 * noise) if name.endswith("_variance") else tensor.numpy() + 0.1 * noise
    ours.set_state_dict({name: paddle.to_tensor(array) for name, array in state.items()})
    plain = peer.Network(network, layout.num_joints, 7, **theirs)
    state = to_peer(ours, state, "pyskl")
    plain.load_state_dict({name: torch.as_tensor(np.array(array)) for name, array in state.items()}, strict=True)
    return ours, plain, np.random.RandomState(1).randn(3, 2, 20, layout.num_joints, 3).astype(np.float32)


def check(ours, plain, clips):
    for training in (False, True):
        (ours.train if training else ours.eval)()
        plain.train(training)
        with torch.no_grad():
            expected = plain(torch.as_tensor(clips)).numpy()
        found = ours(paddle.to_tensor(clips)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("layout", ["coco", "nturgb+d"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_weights_give_the_same_logits(network, layout):
    check(*pair(network, layout, TINY, THEIRS))


def test_the_same_weights_give_the_same_logits_in_ms_g3d():
    options = {"base_channels": 12, "num_gcn_scales": 4, "num_g3d_scales": 3}
    check(*pair("MSG3D", "coco", options, {"base": 12, "scales": 4, "window_scales": 3}))


@pytest.mark.parametrize("network", [*NETWORKS, "MSG3D"])
def test_they_are_of_the_published_size(network):
    ours = build_model({"backbone": {"name": network}, "head": "GCNHead"}, load_layout("coco"), 60)
    state = {name: tensor.numpy() for name, tensor in ours.state_dict().items()}
    shapes = {name: tuple(array.shape) for name, array in to_peer(ours, state, "pyskl").items()}
    assert {name: tuple(tensor.shape) for name, tensor in peer.Network(network, 17).state_dict().items()} == shapes


@pytest.mark.parametrize("name", ["train/STGCN/coco/2x2x8", "eval/MSG3D/coco/1x2x8"])
def test_what_the_benchmark_runs(name):
    peer.build(name)()
