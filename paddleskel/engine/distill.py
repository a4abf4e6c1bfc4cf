"""Distillation: a network learns, beside the labels, what trained networks of several streams make of each clip."""

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F

from paddleskel.data.transforms import TRANSFORMS
from paddleskel.data.transforms.stream import parse_stream
from paddleskel.engine.build import build_network
from paddleskel.engine.pieces import in_pieces
from paddleskel.engine.settings import Settings, parse_settings
from paddleskel.errors import UserError
from paddleskel.models.checkpoint import load_into, read_checkpoint
from paddleskel.models.streams import Fused, Streams, coordinates, joints_pipeline, needs_following


class Teacher:
    """Fused networks, and the loss of differing from them: share T^2 KL(p || q) + (1 - share) (the loss on the labels),
    p and q softened by the temperature T.   (Hinton, Vinyals and Dean 2015)

    Teacher and student look at the same clips: training hands over joints, and each network's stream is computed from
    those. What mixing makes of a batch, the teacher sees too.

    Attributes:
        transforms: the PIPELINE of training clips, with joints in place of the stream.

    Raises:
        UserError: weights without their config, or of other joints, classes or data pipelines.
    """

    def __init__(self, settings: Settings, in_channels: int):
        rule, layout, own = settings.MODEL.teacher, settings.load_layout(), parse_stream(settings.stream)
        members = [_read(path, settings) for path in rule.weights]
        groups = [parse_stream(theirs.stream) for theirs, _ in members]
        names = [name for group in [own, *groups] for name in group]
        dimensions = coordinates(settings.PIPELINE, in_channels // len(own))
        if dimensions is None:
            raise UserError(
                "MODEL.teacher: without PreNormalize2D or PreNormalize3D in the PIPELINE it is not known whether the "
                "data have confidences, so the teachers' streams cannot be computed"
            )
        self.share, self.temperature, following = rule.share, rule.temperature, needs_following(names)
        self.transforms = joints_pipeline(settings.PIPELINE, names)
        streams = [Streams(group, layout, dimensions[1], following) for group in [own, *groups]]
        self.student_stream = streams[0]
        networks = [network for _, network in members]
        self.fused = Fused(networks, streams[1:], rule.weigh or [1.0] * len(networks), softmax=True)
        self.fused.eval()

    def __call__(self, joints: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """(N, M, T, V, C) joints -> the student's input and the teacher's probabilities, (N, classes)."""
        with paddle.no_grad(), in_pieces(self.fused) as fused:
            return self.student_stream(joints), fused(joints)

    def loss(self, logits: paddle.Tensor, probs: paddle.Tensor, loss: paddle.Tensor) -> paddle.Tensor:
        """Return the student's whole loss. loss: that on the labels."""
        soft = F.softmax(paddle.log(probs.clip(min=1e-12)) / self.temperature)
        difference = F.kl_div(F.log_softmax(logits / self.temperature), soft, reduction="batchmean")
        return self.share * self.temperature**2 * difference + (1 - self.share) * loss


def _read(path: str, settings: Settings) -> tuple[Settings, paddle.nn.Layer]:
    """Load one of the networks, by the config that its weights carry."""
    where = f"MODEL.teacher.weights: {path}"
    checkpoint = read_checkpoint(path)
    if "config" not in checkpoint.meta:
        raise UserError(f"{where}: does not say which network it is of; give weights that this project trained")
    theirs = parse_settings(checkpoint.meta["config"], where)
    for what, mine, other in (
        ("joints", settings.load_layout().joints, theirs.load_layout().joints),
        ("classes", settings.num_classes, theirs.num_classes),
        ("PIPELINE, augmentations aside,", _fixed(settings.PIPELINE), _fixed(theirs.PIPELINE)),
    ):
        if mine != other:
            raise UserError(f"{where}: was trained on other {what} than this config has: {other}, not {mine}")
    network = build_network(theirs)
    load_into(network, checkpoint, path)
    return theirs, network


def _fixed(transforms: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The transforms that are no augmentations."""
    return [spec for spec in transforms if not getattr(TRANSFORMS.get(spec["name"]), "training_only", False)]
