"""A moving average of a network's weights: what is validated, saved and deployed in place of the last step's."""

import paddle
from paddle import nn


class Average:
    """An exponential moving average of parameters and BatchNorm statistics.   (Polyak; Tarvainen and Valpola 2017)

    average += (1 - d) (weights - average) after every optimiser step, with d = min(decay, (1 + step) / (10 + step)), so
    that a young average is not mostly the random start.

    Args:
        model: the network in training. averaged: a network of the same structure, which takes the average.
    """

    def __init__(self, model: nn.Layer, averaged: nn.Layer, decay: float):
        self.network, self.decay = averaged, decay
        source, target = model.state_dict(), averaged.state_dict()
        self._pairs = [(source[name], tensor) for name, tensor in target.items() if tensor.is_floating_point()]
        for weights, average in self._pairs:
            average.set_value(weights.astype(average.dtype))

    def update(self, step: int) -> None:
        """Take in the weights after an optimiser step, counted from 0 over the whole run."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with paddle.no_grad():
            share = paddle.full([1], 1 - decay)  # which lerp_ would make of the number for each of the weights
            for weights, average in self._pairs:
                average.lerp_(weights.astype(average.dtype), share)
