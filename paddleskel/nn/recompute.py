"""Less memory for more time: blocks whose inner results are computed again for the gradient instead of being kept."""

import contextlib
from collections.abc import Iterable, Iterator

import paddle
from paddle import nn
from paddle.distributed.fleet.utils import recompute


def recompute_blocks(blocks: Iterable[nn.Layer]) -> None:
    """Let each block keep its input alone. Gradients, statistics and random numbers are those without it."""
    for block in blocks:
        block.forward = _twice(block, block.forward)


def _twice(block: nn.Layer, forward):
    def again_or_first(x):
        if not paddle.is_grad_enabled():  # the first of the two passes
            return forward(x)
        with _counted_statistics(block):
            return forward(x)

    def run(x):
        if not block.training or not paddle.is_grad_enabled():
            return forward(x)
        return recompute(again_or_first, x)

    return run


@contextlib.contextmanager
def _counted_statistics(block: nn.Layer) -> Iterator[None]:
    """BatchNorm in the block leaves its running statistics alone: the first pass has counted the batch."""
    norms = [layer for layer in block.sublayers() if isinstance(layer, nn.layer.norm._BatchNormBase)]
    momenta = [norm._momentum for norm in norms]
    for norm in norms:
        norm._momentum = 1.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm._momentum = momentum
