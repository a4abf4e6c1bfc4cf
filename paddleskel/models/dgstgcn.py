"""DG-STGCN (Duan et al., 2022): graphs learned from noise, refined for every sample and group of channels."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddleskel.models.registry import BACKBONES
from paddleskel.models.stgcn import per_stage
from paddleskel.nn.activation import relu
from paddleskel.nn.block import Block, DataBN, DataBNType, plan_stages
from paddleskel.nn.conv import BiasedConv, ConvBN, mean_over_frames
from paddleskel.nn.pairs import pairwise_difference
from paddleskel.nn.temporal import DEFAULT_BRANCHES, MultiBranchConv
from paddleskel.skeleton.graph import GraphMode, GraphSpec, build_graph
from paddleskel.skeleton.layout import Layout

RANDOM = GraphSpec("random", subsets=8)
Pooling = Literal["T", "NA"]
ACTIVATIONS = {"tanh": F.tanh, "relu": relu, "sigmoid": F.sigmoid, "softmax": lambda x: F.softmax(x, axis=-2)}
Activation = Literal["tanh", "relu", "sigmoid", "softmax"]


class DynamicGroupConv(nn.Layer):
    """y = relu(BN(post(pre(x) G)) + residual), a graph for every group k and channel c of it.   (DG-STGCN, section 3.2)

        G[k, c, u, v] = A[k, u, v] + alpha tanh(x1[k, c, u] - x2[k, c, v])
                                   + beta softmax_u(sum_c x1[k, c, u] x2[k, c, v])

    x1, x2: 1x1 convolutions of x averaged over time ("T") or frame by frame ("NA").

    Shape: (N, C_in, T, V) -> (N, C_out, T, V).

    Args:
        graph: (K, V, V), trained from there on; K groups.
        ratio: channels of a group over C_out; None for 1 / K.
        ctr, ada: how the channel-wise and the group-wise term see time, None to leave the term out.
        subset_wise: an alpha and a beta for each group instead of one for all.
        ctr_act, ada_act: the activations in place of tanh and softmax.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        graph: np.ndarray,
        ratio: float | None = 0.25,
        ctr: Pooling | None = "T",
        ada: Pooling | None = "T",
        subset_wise: bool = False,
        ctr_act: Activation = "tanh",
        ada_act: Activation = "softmax",
    ):
        super().__init__()
        self.groups = len(graph)
        self.width = int((1 / self.groups if ratio is None else ratio) * out_channels)
        self.ctr, self.ada, self.subset_wise = ctr, ada, subset_wise
        self.ctr_act, self.ada_act = ACTIVATIONS[ctr_act], ACTIVATIONS[ada_act]
        total, zero = self.groups * self.width, nn.initializer.Constant(0.0)
        self.A = self.create_parameter(graph.shape, default_initializer=nn.initializer.Assign(graph))
        self.alpha = self.create_parameter([self.groups], default_initializer=zero)
        self.beta = self.create_parameter([self.groups], default_initializer=zero)
        self.pre = ConvBN(in_channels, total)
        self.post = ConvBN(total, out_channels)
        self.embed = BiasedConv(in_channels, 2 * total) if ctr or ada else None  # x1, then x2
        self.down = ConvBN(in_channels, out_channels) if in_channels != out_channels else None

    def graphs(self, x):
        """(N or 1, K, C' or 1, T or 1, V, V)."""
        joints = x.shape[3]
        graph = self.A.reshape([self.groups, 1, 1, joints, joints])
        if self.embed is None:
            return graph.unsqueeze(0)
        pooled = x if "NA" in (self.ctr, self.ada) else mean_over_frames(x)
        shape = [-1, self.groups, self.width, pooled.shape[2], joints]
        x1, x2 = (part.reshape(shape) for part in paddle.split(self.embed(pooled), 2, axis=1))
        if self.ada:
            by_frame = x1.transpose([0, 1, 3, 4, 2]), x2.transpose([0, 1, 3, 2, 4])  # (.., V, C'), (.., C', V)
            alike = self.ada_act(paddle.matmul(*by_frame)).unsqueeze(2)
            graph = graph + alike * (self.beta.reshape([1, -1, 1, 1, 1, 1]) if self.subset_wise else self.beta[0])
        if self.ctr:
            relation = self.ctr_act(pairwise_difference(x1, x2))
            if not self.ada:  # one copy a sample
                graph = paddle.full_like(relation[:, :1, :1], 1.0) * graph
            # alpha relation + graph for every channel, in one product
            alpha = (self.alpha if self.subset_wise else self.alpha[:1]).reshape([-1, 1, 1])
            scaled = alpha * paddle.eye(self.width, dtype=alpha.dtype)
            weight = paddle.concat([scaled, paddle.full_like(scaled[..., :1], 1.0)], axis=2)
            rows = paddle.concat([relation, graph], axis=2)
            size = rows.shape[3:]
            rows = rows.reshape([-1, self.groups, self.width + 1, size[0] * joints * joints])
            graph = paddle.matmul(weight.unsqueeze(0), rows).reshape([-1, self.groups, self.width, *size])
        return graph

    def forward(self, x):
        frames, joints = x.shape[2:]
        value = relu(self.pre(x))
        graph = self.graphs(x)
        if graph.shape[3] == 1:  # one graph for all frames
            value = value.reshape([-1, self.groups, self.width, frames, joints])
            y = paddle.matmul(value, graph.squeeze(3))
        else:
            value = value.reshape([-1, self.groups, self.width, frames, 1, joints])
            y = paddle.matmul(value, graph).squeeze(4)
        y = self.post(y.reshape([-1, self.groups * self.width, frames, joints]))
        return relu(y + (x if self.down is None else self.down(x)))


@BACKBONES
class DGSTGCN(nn.Layer):
    """Ten blocks of a dynamic group graph convolution and a multi-branch temporal convolution with a global joint.

    Shape: (N, M, T, V, C) -> (N * M, C_out, T', V) with T' = T / 4, rounded up twice.

    Args:
        graph: adjacency mode; the published networks draw one random graph of 8 groups and start every block from it.
        in_channels, base_channels, num_stages, inflate_stages, down_stages, ch_ratio: see `plan_stages`.
        data_bn_type, num_person: see `DataBN`.
        gcn_ratio, gcn_ctr, gcn_ada, gcn_subset_wise, gcn_ctr_act, gcn_ada_act: see `DynamicGroupConv`.
        tcn_ms_cfg, tcn_mid_channels, tcn_dropout: see `MultiBranchConv`; tcn_dropout also as a list, one a stage.
        tcn_num_joints: coefficients of the global joint, at least V; the published weights have 25.
    """

    def __init__(
        self,
        layout: Layout,
        graph: GraphMode | GraphSpec = RANDOM,
        in_channels: int = 3,
        base_channels: int = 64,
        num_stages: int = 10,
        inflate_stages: Sequence[int] = (5, 8),
        down_stages: Sequence[int] = (5, 8),
        ch_ratio: float = 2.0,
        data_bn_type: DataBNType | None = "VC",
        num_person: int = 2,
        gcn_ratio: float | None = 0.125,
        gcn_ctr: Pooling | None = "T",
        gcn_ada: Pooling | None = "T",
        gcn_subset_wise: bool = False,
        gcn_ctr_act: Activation = "tanh",
        gcn_ada_act: Activation = "softmax",
        tcn_ms_cfg: Sequence[Any] = DEFAULT_BRANCHES,
        tcn_mid_channels: int | float | None = None,
        tcn_dropout: float | list[float] = 0.0,
        tcn_num_joints: int = 25,
    ):
        super().__init__()
        adjacency = build_graph(layout, graph)
        stages = plan_stages(in_channels, base_channels, num_stages, inflate_stages, down_stages, ch_ratio)
        self.num_joints, self.in_channels, self.out_channels = layout.num_joints, in_channels, stages[-1].out_channels
        self.num_person = num_person if data_bn_type == "MVC" else None
        self.data_bn = DataBN(in_channels, layout.num_joints, num_person, data_bn_type)
        self.blocks = nn.LayerList()
        for i, stage in enumerate(stages):
            spatial = DynamicGroupConv(
                stage.in_channels,
                stage.out_channels,
                adjacency,
                gcn_ratio,
                gcn_ctr,
                gcn_ada,
                gcn_subset_wise,
                gcn_ctr_act,
                gcn_ada_act,
            )
            temporal = MultiBranchConv(
                stage.out_channels,
                stage.stride,
                tcn_ms_cfg,
                tcn_mid_channels,
                per_stage(tcn_dropout, i, num_stages) if stage.residual else 0.0,
                joint_coefficients=max(tcn_num_joints, layout.num_joints),
            )
            self.blocks.append(Block(stage, spatial, temporal))

    def forward(self, x):
        x = self.data_bn(x)
        for block in self.blocks:
            x = block(x)
        return x
