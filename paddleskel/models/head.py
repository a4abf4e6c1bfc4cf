"""Heads: features to class scores."""

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddleskel.models.registry import HEADS


@HEADS
class GCNHead(nn.Layer):
    """Average over frames, joints and persons, then one linear layer.   (ST-GCN, section 3.6)

    Shape: (N * M, C, T, V) -> (N, num_classes) logits.

    Args:
        dropout: before the linear layer.
        ignore_absent: leave persons that are zero throughout out of the average. The published networks count them.
        init_std: of the weight; the original 2s-AGCN and CTR-GCN code takes sqrt(2 / num_classes).
        cosine_scale: logits are this times the cosine of features and a class's weight, without a bias.   (LDAM)
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        dropout: float = 0.0,
        ignore_absent: bool = False,
        init_std: float = 0.01,
        cosine_scale: float | None = None,
    ):
        super().__init__()
        self.ignore_absent = ignore_absent
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.cosine_scale = cosine_scale
        self.fc = nn.Linear(
            in_channels,
            num_classes,
            weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, init_std)),
            bias_attr=None if cosine_scale is None else False,
        )

    def forward(self, features, inputs):
        """features: (N * M, C, T, V) of the backbone. inputs: (N, M, T, V, C), to see which persons are there."""
        persons, (_, channels, frames, joints) = inputs.shape[1], features.shape
        # the mean over frames and joints as a matrix product: the gradient of mean() is forty times slower on a CPU
        weights = paddle.full([frames * joints, 1], 1 / (frames * joints), dtype=features.dtype)
        pooled = paddle.matmul(features.reshape([-1, channels, frames * joints]), weights)
        pooled = pooled.reshape([-1, persons, channels])
        if self.ignore_absent:
            present = (inputs.abs().sum(axis=[2, 3, 4]) > 0).astype(pooled.dtype).unsqueeze(-1)  # (N, M, 1)
            pooled = (pooled * present).sum(axis=1) / present.sum(axis=1).clip(min=1.0)
        else:
            pooled = pooled.mean(axis=1)
        pooled = pooled if self.dropout is None else self.dropout(pooled)
        if self.cosine_scale is None:
            return self.fc(pooled)
        return self.cosine_scale * F.linear(F.normalize(pooled, axis=-1), F.normalize(self.fc.weight, axis=0))
