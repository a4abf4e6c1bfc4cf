"""The moving average of the weights: its arithmetic, and that it is what a run scores and saves."""

import json

import numpy as np
import paddle
import pytest
from paddle import nn

from paddleskel.engine.average import Average
from paddleskel.models.checkpoint import read_checkpoint


def test_the_average_follows_the_weights_and_statistics():
    model, averaged = nn.BatchNorm1D(4), nn.BatchNorm1D(4)
    model.weight.set_value(paddle.full([4], 3.0))
    average = Average(model, averaged, decay=0.5)
    assert (averaged.weight.numpy() == 3).all()
    expected, mean = 3.0, 0.0
    for step in range(12):
        model.weight.set_value(paddle.full([4], float(step)))
        model._mean.set_value(paddle.full([4], 2.0 * step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected, mean = decay * expected + (1 - decay) * step, decay * mean + (1 - decay) * 2 * step
    np.testing.assert_allclose(averaged.weight.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(averaged._mean.numpy(), mean, rtol=1e-6)
    assert (model.weight.numpy() == 11).all()


def test_a_run_scores_and_saves_the_average(train, toy_options):
    _, plain = train("plain")
    _, moving = train("moving", "-o", "OPTIMIZER.ema=0.9", "--validate")
    state = read_checkpoint(moving / "STGCN_PlusPlus_toy_last.pdopt").state
    saved = read_checkpoint(moving / "STGCN_PlusPlus_toy_last.pdparams").state
    for name, array in read_checkpoint(plain / "STGCN_PlusPlus_toy_last.pdparams").state.items():
        np.testing.assert_array_equal(state[f"model|{name}"], array)  # training itself is as without
        np.testing.assert_array_equal(state[f"average|{name}"], saved[name])
    assert not np.array_equal(saved["head.fc.weight"], state["model|head.fc.weight"])
    assert "val_top1" in json.loads((moving / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("decay", ["0", "1", "1.5"])
def test_impossible_decays_are_refused(train, decay):
    result, _ = train("refused", "-o", f"OPTIMIZER.ema={decay}", code=2)
    assert "ema: a decay must lie between 0 and 1" in result.err
