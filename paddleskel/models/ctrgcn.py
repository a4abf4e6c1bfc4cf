"""CTR-GCN (Chen et al., ICCV 2021): a graph of its own for every channel."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddleskel.models.registry import BACKBONES
from paddleskel.models.stgcn import per_stage
from paddleskel.nn.activation import relu
from paddleskel.nn.aggregation import aggregate_by_channel
from paddleskel.nn.block import Block, DataBN, plan_stages
from paddleskel.nn.conv import BiasedConv, ConvBN, mean_over_frames
from paddleskel.nn.pairs import pairwise_difference
from paddleskel.nn.temporal import MultiScaleConv
from paddleskel.skeleton.graph import GraphMode, GraphSpec, build_graph
from paddleskel.skeleton.layout import Layout


class ChannelTopologyConv(nn.Layer):
    """y = relu(BN(sum_k x3_k D_k) + residual), a (V, V) graph D_k for every output channel.   (CTR-GCN, eq. 1 to 4)

        x1, x2 = 1x1 convolutions to r channels of x averaged over time;  x3 = 1x1 convolution to C_out channels
        D_k[u, v] = alpha W4 tanh(x1[u] - x2[v]) + A_k[u, v]

    Averaging first and convolving then is the same and saves the convolution over all frames. The convolutions of the K
    subsets are one; bias and A enter the product with W4 as two more rows.

    Shape: (N, C_in, T, V) -> (N, C_out, T, V).

    Args:
        graph: (K, V, V), trained from there on.
    """

    def __init__(self, in_channels: int, out_channels: int, graph: np.ndarray):
        super().__init__()
        self.subsets, self.out_channels = len(graph), out_channels
        self.relative = relative_channels(in_channels)
        kaiming = {"init": "kaiming"}
        # x1 of all subsets, then x2 of all subsets
        self.embed = BiasedConv(in_channels, 2 * self.subsets * self.relative, groups_out=2 * self.subsets, **kaiming)
        self.feature = BiasedConv(in_channels, self.subsets * out_channels, groups_out=self.subsets, **kaiming)
        std = (2 / out_channels) ** 0.5
        self.refine = self.create_parameter(
            [self.subsets, out_channels, self.relative], default_initializer=nn.initializer.Normal(0.0, std)
        )
        zero = nn.initializer.Constant(0.0)
        self.refine_bias = self.create_parameter([self.subsets, out_channels, 1], default_initializer=zero)
        self.A = self.create_parameter(graph.shape, default_initializer=nn.initializer.Assign(graph))
        self.alpha = self.create_parameter([1], default_initializer=zero)
        self.bn = nn.BatchNorm2D(out_channels, weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(1e-6)))
        self.down = ConvBN(in_channels, out_channels, **kaiming) if in_channels != out_channels else None

    def graphs(self, x):
        """(N, K, C_out, V, V)."""
        joints, pairs = x.shape[3], x.shape[3] ** 2
        x1, x2 = paddle.split(self.embed(mean_over_frames(x)).squeeze(2), 2, axis=1)  # (N, K r, V)
        relation = F.tanh(pairwise_difference(x1, x2)).reshape([-1, self.subsets, self.relative, pairs])
        fixed = paddle.concat([paddle.ones([self.subsets, 1, pairs], self.A.dtype), self.A.reshape([-1, 1, pairs])], 1)
        fixed = paddle.full_like(relation[:, :1, :1, :1], 1.0) * fixed.unsqueeze(0)  # one copy a sample
        ones = paddle.full_like(self.refine_bias, 1.0)
        weight = paddle.concat([self.refine * self.alpha, self.refine_bias * self.alpha, ones], axis=2)
        graph = paddle.matmul(weight.unsqueeze(0), paddle.concat([relation, fixed], axis=2))
        return graph.reshape([-1, self.subsets, self.out_channels, joints, joints])

    def forward(self, x):
        y = aggregate_by_channel(x, self.graphs(x), self.feature)
        return relu(self.bn(y) + (x if self.down is None else self.down(x)))


def relative_channels(in_channels: int) -> int:
    """Width of the relation features: 8 for narrow inputs, an eighth of the others."""
    return 8 if in_channels <= 16 else in_channels // 8


@BACKBONES
class CTRGCN(nn.Layer):
    """Ten blocks of a channel-wise graph convolution and a multi-scale temporal convolution, in PYSKL's form.

    Shape: (N, M, T, V, C) -> (N * M, C_out, T', V) with T' = T / 4, rounded up twice.

    Args:
        graph: adjacency mode. in_channels, base_channels, num_stages, inflate_stages, down_stages: see `plan_stages`.
        num_person: persons, each with input statistics of its own.
        tcn_kernel_size, tcn_dilations, tcn_dropout: see `MultiScaleConv`; tcn_dropout also as a list, one a stage.
        init: whose initialisation; they differ in the residual's 1x1 convolutions only.
    """

    def __init__(
        self,
        layout: Layout,
        graph: GraphMode | GraphSpec = "spatial",
        in_channels: int = 3,
        base_channels: int = 64,
        num_stages: int = 10,
        inflate_stages: Sequence[int] = (5, 8),
        down_stages: Sequence[int] = (5, 8),
        num_person: int = 2,
        tcn_kernel_size: int = 5,
        tcn_dilations: Sequence[int] = (1, 2),
        tcn_dropout: float | list[float] = 0.0,
        init: Literal["pyskl", "mmaction"] = "pyskl",
    ):
        super().__init__()
        self.graph = adjacency = build_graph(layout, graph)
        stages = plan_stages(in_channels, base_channels, num_stages, inflate_stages, down_stages)
        self.num_joints, self.in_channels, self.out_channels = layout.num_joints, in_channels, stages[-1].out_channels
        self.num_person = num_person
        self.data_bn = DataBN(in_channels, layout.num_joints, num_person, "MVC")
        self.blocks = nn.LayerList()
        for i, stage in enumerate(stages):
            temporal = MultiScaleConv(
                stage.out_channels,
                stage.out_channels,
                tcn_kernel_size,
                stage.stride,
                tcn_dilations,
                residual=False,
                dropout=per_stage(tcn_dropout, i, num_stages) if stage.residual else 0.0,
                init="kaiming",
            )
            spatial = ChannelTopologyConv(stage.in_channels, stage.out_channels, adjacency)
            self.blocks.append(Block(stage, spatial, temporal, init="torch" if init == "pyskl" else "kaiming"))

    def forward(self, x):
        x = self.data_bn(x)
        for block in self.blocks:
            x = block(x)
        return x
