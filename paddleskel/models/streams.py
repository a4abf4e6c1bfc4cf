"""Streams computed from joints on the device, and networks on streams of their own fused into one."""

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddleskel.data.transforms.stream import STREAMS
from paddleskel.errors import UserError
from paddleskel.registry import split_spec
from paddleskel.skeleton.layout import Layout


class Streams(nn.Layer):
    """Joints to a stream, as the transform Stream computes it before the network.

    Shape: (N, M, T, V, C) -> (N, M, T, V, len(names) * C), with each joint's coordinates and confidence on the channel
    axis; (N, M, T, V, 2 C) where `following`: the same in the frame after it as well, which motions need.

    Args:
        names: of the streams, see STREAMS. scored: whether the last of the C channels is a confidence.
    """

    def __init__(self, names: Sequence[str], layout: Layout, scored: bool, following: bool):
        super().__init__()
        self.names, self.scored, self.following = list(names), scored, following
        for hops in {STREAMS[name][0] for name in names} - {0}:
            self.register_buffer(f"start_{hops}", paddle.to_tensor(layout.ancestors(hops)))

    def forward(self, x):
        now, after = paddle.split(x, 2, axis=-1) if self.following else (x, None)
        features = []
        for hops, motion in (STREAMS[name] for name in self.names):
            feature = self._vectors(now, hops)
            features.append(self._motion(feature, self._vectors(after, hops)) if motion else feature)
        return features[0] if len(features) == 1 else paddle.concat(features, axis=-1)

    def _vectors(self, joints, hops: int):
        """Joints, or vectors from the joint `hops` bones nearer the root, confidences averaged."""
        if not hops:
            return joints
        start = paddle.index_select(joints, getattr(self, f"start_{hops}"), axis=3)
        return self._with_score(joints - start, joints, start)

    def _motion(self, now, after):
        return self._with_score(after - now, now, after)

    def _with_score(self, difference, one, other):
        if not self.scored:
            return difference
        channels = difference.shape[-1] - 1
        score = (one[..., channels:] + other[..., channels:]) * 0.5
        return paddle.concat([difference[..., :channels], score], axis=-1)


class Fused(nn.Layer):
    """Networks on streams of their own: sum_s w_s softmax(network_s(stream_s)) / sum_s w_s, (N, classes).

    With one network and softmax=False: its logits.
    """

    def __init__(
        self, networks: Sequence[nn.Layer], streams: Sequence[nn.Layer], weights: Sequence[float], softmax: bool
    ):
        super().__init__()
        self.networks, self.streams = nn.LayerList(list(networks)), nn.LayerList(list(streams))
        self.weights, self.softmax = [weight / sum(weights) for weight in weights], softmax

    def forward(self, x):
        outputs = [network(stream(x)) for network, stream in zip(self.networks, self.streams)]
        if not self.softmax:
            return outputs[0]
        probs = [F.softmax(output, axis=-1) * weight for output, weight in zip(outputs, self.weights)]
        return probs[0] if len(probs) == 1 else paddle.add_n(probs)


def needs_following(names: Sequence[str]) -> bool:
    """Whether a stream among these is a motion."""
    return any(STREAMS[name][1] for name in names)


def joints_pipeline(transforms: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Return a config's PIPELINE with joints in place of the stream, for a graph that computes it.

    Raises:
        UserError: there is no Stream in it.
    """
    steps = [split_spec(spec, "PIPELINE")[0] for spec in transforms]
    if "Stream" not in steps:
        raise UserError("PIPELINE: has no Stream, so there is nothing to compute in the graph")
    place = steps.index("Stream")
    _, arguments = split_spec(transforms[place], "PIPELINE")
    use_score = arguments.get("use_score", True)
    joints = {"name": "Joints", "use_score": use_score, "following": needs_following(names)}
    return [*transforms[:place], joints, *transforms[place + 1 :]]


def coordinates(transforms: Sequence[Any], channels: int) -> tuple[int, bool] | None:
    """Return how many coordinates a stream's channels hold and whether a confidence is among them.

    Told from the normalisation and the number of channels; None where that does not say.
    """
    names = {split_spec(spec, "PIPELINE")[0] for spec in transforms}
    for name, dimensions in (("PreNormalize3D", 3), ("PreNormalize2D", 2)):
        if name in names:
            return dimensions, channels == dimensions + 1
    return {2: (2, False), 4: (3, True)}.get(channels)
