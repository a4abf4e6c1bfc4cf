"""Recomputation: the same numbers to the bit, for every network; less memory is measured by tools/benchmark.py."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddleskel.models.checkpoint import read_checkpoint
from paddleskel.models.recognizer import build_model
from paddleskel.nn.recompute import recompute_blocks
from paddleskel.skeleton.layout import load_layout

NARROW = {"base_channels": 8, "num_stages": 4, "inflate_stages": [2], "down_stages": [2]}
NETWORKS = {
    "STGCN": NARROW,
    "STGCNPlusPlus": {**NARROW, "tcn_dropout": 0.3},
    "AGCN": NARROW,
    "AAGCN": NARROW,
    "CTRGCN": NARROW,
    "DGSTGCN": NARROW,
    "MSG3D": {"base_channels": 12, "num_gcn_scales": 2, "num_g3d_scales": 2},
}


def step(network, recomputing):
    """Loss, gradients and statistics after a training step."""
    paddle.seed(0)
    spec = {"backbone": {"name": network, **NETWORKS[network]}, "head": "GCNHead"}
    model = build_model(spec, load_layout("coco"), 10)
    model.train()
    if recomputing:
        recompute_blocks(model.backbone.blocks)
    paddle.seed(5)
    inputs = paddle.to_tensor(np.random.RandomState(0).randn(4, 2, 20, 17, 3).astype(np.float32))
    loss = F.cross_entropy(model(inputs), paddle.to_tensor([0, 1, 2, 3]))
    loss.backward()
    grads = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return float(loss), grads, {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_changes(network):
    loss, grads, state = step(network, recomputing=False)
    again, grads_again, state_again = step(network, recomputing=True)
    assert again == loss
    assert grads.keys() == grads_again.keys()
    for name in grads:
        np.testing.assert_array_equal(grads_again[name], grads[name], err_msg=name)
    for name in state:
        np.testing.assert_array_equal(state_again[name], state[name], err_msg=name)


def test_a_run_with_it_is_the_run_without(train):
    name = "STGCN_PlusPlus_toy_last.pdparams"
    a, b = (
        read_checkpoint(train(folder, "--validate", *extra)[1] / name).state
        for folder, extra in (("plain", ()), ("recomputed", ("-o", "MODEL.recompute=true")))
    )
    assert all(np.array_equal(a[key], b[key]) for key in a)
