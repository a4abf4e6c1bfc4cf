"""Schedules and the optimiser's rule."""

import numpy as np
import paddle
import pytest

from paddleskel.engine.optim import SCHEDULES, build_optimizer
from paddleskel.errors import UserError


def test_cosine_follows_the_published_curve():
    rate = SCHEDULES.build({"name": "Cosine", "value": 0.1}, epochs=16, steps_per_epoch=1567)
    assert rate(0) == 0.1
    assert rate(1567) == pytest.approx(0.099039, abs=5e-7)
    assert rate(12536) == pytest.approx(0.05)
    assert rate(25071) == pytest.approx(0, abs=1e-8)


def test_cosine_with_warmup_and_floor():
    rate = SCHEDULES.build(
        {"name": "Cosine", "value": 1.0, "min_value": 0.2, "warmup_epochs": 2, "warmup_start": 0.5},
        epochs=10,
        steps_per_epoch=5,
    )
    assert rate(0) == 0.5
    assert rate(10) == pytest.approx(0.2 + 0.8 * (1 + np.cos(np.pi * 0.2)) / 2)
    assert rate(50) == pytest.approx(0.2)


def test_steps_follow_epochs():
    rate = SCHEDULES.build({"name": "Step", "value": 0.1, "milestones": [2, 10]}, epochs=16, steps_per_epoch=7)
    assert [rate(step) for step in (0, 13, 14, 69, 70)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_a_rate_must_be_positive():
    with pytest.raises(UserError, match="a learning rate must be positive"):
        SCHEDULES.build({"name": "Constant", "value": 0.0}, "OPTIMIZER.learning_rate")


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_equals_its_formula(nesterov):
    """g = grad + wd p; buf = 0.9 buf + g; p -= lr (g + 0.9 buf), or lr buf."""
    paddle.seed(0)
    layer = paddle.nn.Linear(3, 2)
    optimizer = build_optimizer(layer, 0.9, nesterov, 0.01, None)
    weight, buffer = layer.weight.numpy().astype(np.float64), 0.0
    for rate in (0.1, 0.05, 0.2):
        x = paddle.randn([4, 3])
        layer(x).square().sum().backward()
        g = layer.weight.grad.numpy() + 0.01 * weight
        buffer = 0.9 * buffer + g
        weight = weight - rate * (g + 0.9 * buffer if nesterov else buffer)
        optimizer.set_lr(rate)
        optimizer.step()
        optimizer.clear_grad()
        np.testing.assert_allclose(layer.weight.numpy(), weight, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    layer = paddle.nn.Linear(3, 2)
    optimizer = build_optimizer(layer, 0.0, False, 0.0, 1.0)
    optimizer.set_lr(1.0)
    before = [p.numpy() for p in layer.parameters()]
    (100 * layer(paddle.ones([1, 3])).sum()).backward()
    optimizer.step()
    moved = np.concatenate([(a - p.numpy()).ravel() for a, p in zip(before, layer.parameters())])
    assert np.linalg.norm(moved) == pytest.approx(1.0, rel=1e-4)
