"""A backbone and a head."""

from collections.abc import Mapping

from paddle import nn

from paddleskel.errors import UserError
from paddleskel.models.registry import BACKBONES, HEADS
from paddleskel.skeleton.layout import Layout


class Recognizer(nn.Layer):
    """Shape: (N, M, T, V, C) -> (N, num_classes) logits."""

    def __init__(self, backbone: nn.Layer, head: nn.Layer):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return self.head(self.backbone(x), x)


def build_model(model: Mapping, layout: Layout, num_classes: int) -> Recognizer:
    """Build the network of a config's MODEL section."""
    backbone = BACKBONES.build(model["backbone"], "MODEL.backbone", layout=layout)
    head = HEADS.build(model["head"], "MODEL.head", in_channels=backbone.out_channels, num_classes=num_classes)
    if num_classes < 2:
        raise UserError(f"num_classes: {num_classes}: a classifier needs at least 2")
    return Recognizer(backbone, head)
