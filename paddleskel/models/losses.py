"""Losses on logits."""

import paddle.nn.functional as F
from paddle import nn

from paddleskel.models.registry import LOSSES


@LOSSES
class CrossEntropyLoss(nn.Layer):
    """Mean softmax cross entropy.

    Shape: (N, classes) logits, (N,) int64 labels -> scalar.

    Args:
        label_smoothing: share of the target that is spread evenly over all classes.
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), not {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, logits, labels):
        if not self.label_smoothing:
            return F.cross_entropy(logits, labels)
        targets = F.label_smooth(F.one_hot(labels, logits.shape[-1]), epsilon=self.label_smoothing)
        return F.cross_entropy(logits, targets, soft_label=True)
