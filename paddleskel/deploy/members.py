"""The trained networks that go into a model, put together into the one that is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddleskel.convert.weights import read_weights
from paddleskel.data.transforms.stream import parse_stream
from paddleskel.deploy.fold import fold
from paddleskel.engine.build import build_network, expected_shape
from paddleskel.engine.settings import Settings
from paddleskel.ensemble import PRESETS
from paddleskel.errors import UserError
from paddleskel.models.checkpoint import load_into
from paddleskel.models.streams import Fused, Streams, coordinates, joints_pipeline, needs_following


@dataclass(frozen=True)
class Member:
    """One trained network of a model: the stream it was trained on, its weights, and its share in a fusion."""

    stream: str | list[str]
    weights: Path
    share: float = 1.0


@dataclass(frozen=True)
class Graph:
    """The network that is exported, and what belongs to it.

    Attributes:
        network: as trained; folded: as it is written.
        shape: of its input, (M, T, V, C). transforms: the config's PIPELINE that makes it.
        dimensions: see `coordinates`. streams: those that it computes itself. meta: of the first member's weights.
    """

    network: paddle.nn.Layer
    folded: paddle.nn.Layer
    shape: list[int]
    transforms: list[Any]
    dimensions: tuple[int, bool] | None
    streams: list[str] | None
    meta: dict[str, Any]


def find_members(
    settings: Settings, weights: str | None, ensemble: Sequence[str], streams: Sequence[str], shares: Sequence[float]
) -> list[Member]:
    """Return the networks to export.

    Args:
        weights: of a single network; default: the best of the config's output folder.
        ensemble: STREAM=FILE each. streams: names, for the best weights of each stream's own output folder.
        shares: one for each of these; default: the published weights of their fusion, or equal ones.
    """
    if not ensemble and not streams:
        return [Member(settings.stream, _existing(Path(weights) if weights else settings.checkpoint("best")))]
    pairs = [(name, str(replace(settings, stream=name).checkpoint("best"))) for name in streams]
    for text in ensemble:
        name, equals, path = text.partition("=")
        if not equals:
            raise UserError(
                f"--ensemble {text}: expected STREAM=FILE, as in --ensemble j=joint.pdparams b=bone.pdparams"
            )
        pairs.append((name, path))
    names = [name for name, _ in pairs]
    published = next((preset for preset in PRESETS.values() if sorted(preset) == sorted(names)), {})
    shares = list(shares) or [published.get(name, 1.0) for name in names]
    if len(shares) != len(pairs) or any(share < 0 for share in shares) or not sum(shares):
        raise UserError(f"--ensemble_weights: expected {len(pairs)} numbers from 0 up, not all 0")
    return [Member(name, _existing(Path(path)), share) for (name, path), share in zip(pairs, shares)]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such weights; train first, or name a file with -p")
    return path


def build_graph(settings: Settings, members: Sequence[Member], with_streams: bool, with_softmax: bool) -> Graph:
    """Load the members' weights and put together the network to export.

    Args:
        with_streams: take joints and compute the stream in the graph; several members always do.
        with_softmax: give probabilities; several members always do.

    Raises:
        UserError: weights of another network or stream; a pipeline whose streams cannot be computed in a graph.
    """
    with_streams, with_softmax = with_streams or len(members) > 1, with_softmax or len(members) > 1
    networks, metas = [], []
    for member in members:
        model = build_network(settings)
        checkpoint, _ = read_weights(member.weights, model)
        load_into(model, checkpoint, member.weights)
        _check_stream(member, checkpoint.meta)
        model.eval()
        networks.append(model)
        metas.append(checkpoint.meta)
    shape = list(metas[0].get("input_shape") or expected_shape(settings, networks[0]))
    streams = [parse_stream(member.stream) for member in members]
    transforms, names = settings.PIPELINE, None
    channels = shape[-1] // len(streams[0])
    dimensions = coordinates(transforms, channels)
    in_graph = [nn.Identity() for _ in members]
    if with_streams:
        if dimensions is None:
            raise UserError(
                "PIPELINE: without PreNormalize2D or PreNormalize3D it is not known whether the data have confidences, "
                "so the streams cannot be computed in the graph"
            )
        names = [name for group in streams for name in group]
        transforms, following = joints_pipeline(transforms, names), needs_following(names)
        layout = settings.load_layout()
        in_graph = [Streams(group, layout, dimensions[1], following) for group in streams]
        shape = [*shape[:-1], channels * (2 if following else 1)]
    shares = [member.share for member in members]

    def put_together(parts: Sequence[nn.Layer]) -> nn.Layer:
        return Fused(parts, in_graph, shares, with_softmax) if with_softmax or names else parts[0]

    whole, folded = put_together(networks), put_together([fold(network) for network in networks])
    whole.eval()
    folded.eval()
    return Graph(whole, folded, shape, transforms, dimensions, names, metas[0])


def _check_stream(member: Member, meta: dict[str, Any]) -> None:
    """Weights that say what they were trained on must not be given for another stream."""
    trained = meta.get("config", {}).get("stream")
    if trained is not None and parse_stream(trained) != parse_stream(member.stream):
        wanted, trained = "+".join(parse_stream(member.stream)), "+".join(parse_stream(trained))
        raise UserError(f"{member.weights}: trained on the stream {trained}, given for {wanted}; set stream={trained}")


def run_network(model: paddle.nn.Layer, inputs: np.ndarray) -> np.ndarray:
    """(N, M, T, V, C) float32 -> (N, classes) by the network itself."""
    with paddle.no_grad():
        return model(paddle.to_tensor(inputs)).numpy()
