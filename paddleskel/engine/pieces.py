"""A batch through a network in pieces, at the same time on all cores of a CPU.

Many of Paddle's CPU kernels use one thread, whatever their number: BatchNorms, activations, concatenations. Pieces of a
batch, each computed by one thread, keep all cores busy. For evaluation, of teachers in distillation too, where the
scores of a clip do not depend on the other clips of its batch.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import paddle
from paddle import nn
from paddle.base import core

from paddleskel.engine.mixed import has_gpu
from paddleskel.nn.conv import fixed_weights
from paddleskel.runtime import cpu_threads

_PIECES = 4  # at least, if large enough: one, two and four threads compute the same pieces, to the bit
# joints x frames x persons of a piece: of smaller ones Python takes too large a part, larger ones leave the cache
_LEAST_POINTS, _MOST_POINTS = 6_000, 16_384
_SMALL = 300_000  # parameters of a network whose batches stay whole, as its pieces would be too quick


@contextlib.contextmanager
def in_pieces(network: nn.Layer) -> Iterator[Callable[[paddle.Tensor], paddle.Tensor]]:
    """Yield what computes the scores of clips, (N, M, T, V, C) -> (N, num_classes); to be called without gradients.

    The network's weights must stay as they are until the end. On a GPU what is yielded is the network itself.
    """
    if has_gpu():
        yield network
        return
    threads = cpu_threads()
    small = sum(parameter.size for parameter in network.parameters()) < _SMALL

    def forward(clips: paddle.Tensor) -> paddle.Tensor:
        pieces = [clips] if small else split(clips, threads)
        if len(pieces) == 1:
            return network(clips)
        core.set_num_threads(1)
        try:
            return paddle.concat(list(pool.map(network, pieces)))
        finally:
            core.set_num_threads(threads)

    try:
        with fixed_weights(network), ThreadPoolExecutor(threads, "piece", _start_thread) as pool:
            yield forward
    finally:
        core.set_num_threads(threads)  # again: a thread may have started late


def split(clips: paddle.Tensor, threads: int) -> list[paddle.Tensor]:
    """(N, M, T, V, C) -> pieces that differ by one clip at most; the batch itself if it is too small."""
    count, points = len(clips), clips[0].size // clips.shape[-1]
    most = max(1, _MOST_POINTS // points)  # clips of a piece
    least = max(_PIECES, threads)  # pieces
    pieces = min(count, -(-count // (most * least)) * least, max(1, count * points // _LEAST_POINTS))
    sizes = [count // pieces + (i < count % pieces) for i in range(pieces)]
    return paddle.split(clips, sizes) if pieces > 1 else [clips]


def _start_thread() -> None:
    """Settings of paddle that a thread has for itself."""
    core.set_num_threads(1)
    paddle.set_device("cpu")
    paddle.set_grad_enabled(False)
