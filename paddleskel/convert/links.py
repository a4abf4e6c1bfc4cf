"""Links between arrays of ours and arrays of theirs that hold the same function.

Our layers merge thin convolutions and have no bias in front of a BatchNorm. A `Link` says for a few arrays of ours
which arrays of theirs they correspond to, and converts in both directions. Going back, the biases that we do not have
are zero.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Link:
    """`ours` = load(*theirs) and `theirs` = save(*ours), by state names."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    load: Callable[..., Arrays]
    save: Callable[..., Arrays]


def copy(ours: str, theirs: str, shape: Sequence[int] | None = None) -> Link:
    """The same array under another name; `shape` is ours where it differs by axes of one."""
    their_shape = None if shape is None else [size for size in shape if size != 1]

    def reshaped(array: np.ndarray, to: Sequence[int] | None) -> Arrays:
        return (array if to is None else array.reshape(to),)

    return Link((ours,), (theirs,), lambda a: reshaped(a, shape), lambda a: reshaped(a, their_shape))


def transposed(ours: str, theirs: str) -> Link:
    """A linear layer's weight: (in, out) in Paddle, (out, in) in torch."""
    return Link((ours,), (theirs,), lambda array: (array.T,), lambda array: (array.T,))


def constant(theirs: str, value: np.ndarray) -> Link:
    """An array of theirs that is no part of our state."""
    return Link((), (theirs,), lambda array: (), lambda: (value,))


def stacked(ours: str, theirs: Sequence[str], widths: Sequence[int], shape: Sequence[int] | None = None) -> Link:
    """Several arrays of theirs, of `widths` rows, one below the other; for vectors, `shape` is ours if it differs."""
    cuts = np.cumsum(widths)[:-1]

    def load(*arrays: np.ndarray) -> Arrays:
        whole = np.concatenate(arrays)
        return (whole if shape is None else whole.reshape(shape),)

    def save(array: np.ndarray) -> Arrays:
        return tuple(np.split(array if shape is None else array.reshape(sum(widths)), cuts))

    return Link((ours,), tuple(theirs), load, save)


def bias_column(ours: str, theirs: Sequence[str], widths: Sequence[int]) -> Link:
    """The biases of several convolutions as the (rows, 1, 1, 1) bias of a `BiasedConv`."""
    return stacked(ours, theirs, widths, (sum(widths), 1, 1, 1))


# A BatchNorm of theirs: its name, and what feeds it - the biases added to each run of its channels, and their number.
Feed = tuple[Sequence[str], int]
Norm = tuple[str, Sequence[Feed]]


def batch_norm(ours: str, norms: Sequence[Norm]) -> Iterator[Link]:
    """One BatchNorm of ours against theirs, side by side on the channels."""
    names = [name for name, _ in norms]
    widths = [sum(width for _, width in feeds) for _, feeds in norms]
    for key, theirs in (("weight", "weight"), ("bias", "bias"), ("_variance", "running_var")):
        yield stacked(f"{ours}.{key}", [f"{name}.{theirs}" for name in names], widths)
    yield _absorbed_mean(f"{ours}._mean", norms)


def _absorbed_mean(ours: str, norms: Sequence[Norm]) -> Link:
    """Our running mean: theirs minus the biases of the convolutions before the BatchNorm."""
    means = [f"{name}.running_mean" for name, _ in norms]
    biases = list(dict.fromkeys(bias for _, feeds in norms for names, _ in feeds for bias in names))
    sizes = {bias: width for _, feeds in norms for names, width in feeds for bias in names}
    cuts = np.cumsum([sum(width for _, width in feeds) for _, feeds in norms])[:-1]

    def load(*arrays: np.ndarray) -> Arrays:
        given = dict(zip(means + biases, arrays))
        added = [
            sum((given[bias] for bias in names), np.zeros(width, np.float32))
            for _, feeds in norms
            for names, width in feeds
        ]
        return (np.concatenate([given[mean] for mean in means]) - np.concatenate(added),)

    def save(mean: np.ndarray) -> Arrays:
        return (*np.split(mean, cuts), *(np.zeros(sizes[bias], mean.dtype) for bias in biases))

    return Link((ours,), tuple(means + biases), load, save)


def conv_bn(ours: str, conv: str, bn: str, channels: int) -> Iterator[Link]:
    """A convolution with bias and its BatchNorm."""
    yield copy(f"{ours}.conv.weight", f"{conv}.weight")
    yield from batch_norm(f"{ours}.bn", [(bn, [([f"{conv}.bias"], channels)])])


def load_links(links: Sequence[Link], theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert a state of theirs to ours; every array the links name must be there."""
    state: dict[str, np.ndarray] = {}
    for link in links:
        state |= dict(zip(link.ours, link.load(*(theirs[name] for name in link.theirs))))
    return state


def save_links(links: Sequence[Link], ours: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert our state to theirs."""
    state: dict[str, np.ndarray] = {}
    for link in links:
        state |= dict(zip(link.theirs, link.save(*(ours[name] for name in link.ours))))
    return state
