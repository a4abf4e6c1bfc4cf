"""What all the networks share: the input BatchNorm, the plan of stages, and the residual block."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from paddle import nn

from paddleskel.nn.activation import relu
from paddleskel.nn.conv import ConvBN, Init

DataBNType = Literal["VC", "MVC"]


class DataBN(nn.Layer):
    """Normalise each joint's coordinates over batch and time, and fold persons into the batch.

    Shape: (N, M, T, V, C) -> (N * M, C, T, V).

    Args:
        kind: "VC" shares statistics between persons, "MVC" does not (then `num_person` is fixed), None skips them.
    """

    def __init__(self, channels: int, num_joints: int, num_person: int = 2, kind: DataBNType | None = "VC"):
        super().__init__()
        self.kind = kind
        persons = num_person if kind == "MVC" else 1
        self.bn = nn.BatchNorm1D(persons * num_joints * channels) if kind else None

    def forward(self, x):
        _, persons, frames, joints, channels = x.shape
        x = x.transpose([0, 1, 3, 4, 2])  # (N, M, V, C, T)
        if self.bn is not None:
            rows = persons * joints * channels if self.kind == "MVC" else joints * channels
            x = self.bn(x.reshape([-1, rows, frames]))
        return x.reshape([-1, joints, channels, frames]).transpose([0, 2, 3, 1])


class Stage(NamedTuple):
    """One block of a backbone."""

    in_channels: int
    out_channels: int
    stride: int
    residual: bool


def plan_stages(
    in_channels: int,
    base_channels: int = 64,
    num_stages: int = 10,
    inflate_stages: Sequence[int] = (5, 8),
    down_stages: Sequence[int] = (5, 8),
    ratio: float = 2.0,
) -> list[Stage]:
    """Return the blocks of a backbone.   (PYSKL: 64 channels, doubled in stages 5 and 8, where time is halved too)

    The first block lifts the input to `base_channels` and has no residual; it is left out where the input is that wide.

    Args:
        inflate_stages, down_stages: counted from 1.
    """
    if in_channels == base_channels:
        stages, channels = [], in_channels
    else:
        stages, channels = [Stage(in_channels, base_channels, 1, False)], base_channels
    inflations = 0
    for number in range(2, num_stages + 1):
        inflations += number in inflate_stages
        out = int(base_channels * ratio**inflations + 1e-4)
        stages.append(Stage(channels, out, 2 if number in down_stages else 1, True))
        channels = out
    return stages


class Block(nn.Layer):
    """relu(temporal(spatial(x)) + residual(x)).   (ST-GCN, section 3.6)

    Shape: (N, C_in, T, V) -> (N, C_out, T', V).

    Args:
        spatial, temporal: the two units.
        init: of the residual's 1x1 convolution, which is there where channels or frames change.
    """

    def __init__(self, stage: Stage, spatial: nn.Layer, temporal: nn.Layer, init: Init = "torch"):
        super().__init__()
        self.gcn, self.tcn = spatial, temporal
        self.has_residual = stage.residual
        same = stage.in_channels == stage.out_channels and stage.stride == 1
        self.residual = None
        if stage.residual and not same:
            self.residual = ConvBN(stage.in_channels, stage.out_channels, stride=stage.stride, init=init)

    def forward(self, x):
        y = self.tcn(self.gcn(x))
        if self.has_residual:
            y = y + (x if self.residual is None else self.residual(x))
        return relu(y)
