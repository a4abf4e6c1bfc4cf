"""2s-AGCN (Shi et al., CVPR 2019) and AAGCN (Shi et al., TIP 2020): graphs that depend on the sample."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddleskel.models.registry import BACKBONES
from paddleskel.models.stgcn import per_stage
from paddleskel.nn.activation import relu
from paddleskel.nn.aggregation import aggregate
from paddleskel.nn.block import Block, DataBN, DataBNType, plan_stages
from paddleskel.nn.conv import BiasedConv, ConvBN, ConvToOne, mean_over_frames
from paddleskel.nn.temporal import DEFAULT_BRANCHES, MultiBranchConv, TemporalConv
from paddleskel.skeleton.graph import GraphMode, GraphSpec, build_graph
from paddleskel.skeleton.layout import Layout

Similarity = Literal["tanh", "softmax"]


class AdaptiveGraphConv(nn.Layer):
    """y = relu(BN(sum_k W_k x G_k) + residual), where G_k adds to a graph how alike two joints are in this sample.

        S_k = a_k(x)^T b_k(x) / (C' T)        a_k, b_k: 1x1 convolutions to C' = C_out / 4 channels   (2s-AGCN, eq. 3)
        G_k = A_k + alpha tanh(S_k)           "tanh": A trained, alpha trained from 0; AAGCN, and MMAction2's 2s-AGCN
        G_k = A_k + PA_k + softmax(S_k)       "softmax": A fixed, PA trained from 1e-6; 2s-AGCN as published
        G_k = A_k                             adaptive=False

    Shape: (N, C_in, T, V) -> (N, C_out, T, V).

    Args:
        graph: (K, V, V).
        attention: see `Attention`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        graph: np.ndarray,
        adaptive: bool = True,
        attention: bool = True,
        similarity: Similarity = "tanh",
        coff_embedding: int = 4,
    ):
        super().__init__()
        self.subsets, self.adaptive, self.similarity = len(graph), adaptive, similarity
        self.inner = out_channels // coff_embedding
        if adaptive and similarity == "tanh":
            self.A = self.create_parameter(graph.shape, default_initializer=nn.initializer.Assign(graph))
            self.alpha = self.create_parameter([1], default_initializer=nn.initializer.Constant(0.0))
        else:
            self.register_buffer("A", paddle.to_tensor(graph))
        if adaptive and similarity == "softmax":
            self.PA = self.create_parameter(graph.shape, default_initializer=nn.initializer.Constant(1e-6))
        if adaptive:
            rows = 2 * self.subsets * self.inner  # a_1 ... a_K, b_1 ... b_K
            self.embed = BiasedConv(in_channels, rows, init="kaiming", groups_out=2 * self.subsets)
        # branch initialisation of the published code: N(0, sqrt(2 / (C_out C_in K)))
        std = (2 / (out_channels * in_channels * self.subsets)) ** 0.5
        self.weight = self.create_parameter(
            [out_channels, self.subsets * in_channels, 1, 1], default_initializer=nn.initializer.Normal(0.0, std)
        )
        self.bn = nn.BatchNorm2D(out_channels, weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(1e-6)))
        self.down = ConvBN(in_channels, out_channels, init="kaiming") if in_channels != out_channels else None
        self.attention = Attention(out_channels, graph.shape[-1]) if attention else None

    def graphs(self, x):
        """(N, K, V, V) of a batch, or (1, K, V, V)."""
        if not self.adaptive:
            return self.A.unsqueeze(0)
        frames, joints = x.shape[2:]
        left, right = paddle.split(self.embed(x), 2, axis=1)
        left = left.reshape([-1, self.subsets, self.inner * frames, joints])
        right = right.reshape([-1, self.subsets, self.inner * frames, joints])
        alike = paddle.matmul(left, right, transpose_x=True) / (self.inner * frames)
        if self.similarity == "tanh":
            return self.A + F.tanh(alike) * self.alpha
        return self.A + self.PA + F.softmax(alike, axis=-2)

    def forward(self, x):
        y = self.bn(aggregate(x, self.graphs(x), self.weight))
        y = relu(y + (x if self.down is None else self.down(x)))
        return y if self.attention is None else self.attention(y)


class Attention(nn.Layer):
    """Weigh joints, frames and channels one after the other, each as y <- y gate + y.   (AAGCN, section III-D)

        joints:   gate = sigmoid(conv over joints of the mean over frames)
        frames:   gate = sigmoid(conv over frames of the mean over joints)
        channels: gate = sigmoid(W2 relu(W1 mean over both))

    Shape: (N, C, T, V) -> the same.
    """

    def __init__(self, channels: int, num_joints: int):
        super().__init__()
        kernel = num_joints if num_joints % 2 else num_joints - 1
        xavier, zero = nn.initializer.XavierNormal(), nn.initializer.Constant(0.0)
        self.conv_sa = ConvToOne(channels, kernel, _attr(xavier))
        self.conv_ta = ConvToOne(channels, 9, _attr(zero))
        he = nn.initializer.Normal(0.0, (2 / channels) ** 0.5)
        self.fc1c = nn.Linear(channels, channels // 2, weight_attr=_attr(he))
        self.fc2c = nn.Linear(channels // 2, channels, weight_attr=_attr(zero))

    def forward(self, y):
        # each mean is taken of what the gates before it would have made of y, without making it; a product of small
        # matrices spreads the three gates over y, because an elementwise product that broadcasts is slow on a CPU
        channels, frames, joints = y.shape[1:]
        by_joint = 1 + F.sigmoid(self.conv_sa(mean_over_frames(y).squeeze(2)))  # (N, 1, V)
        gated = paddle.matmul(y.reshape([-1, channels * frames, joints]), by_joint.transpose([0, 2, 1]) / joints)
        gated = gated.reshape([-1, channels, frames])  # mean over joints
        by_frame = 1 + F.sigmoid(self.conv_ta(gated))  # (N, 1, T)
        gated = paddle.matmul(gated, by_frame.transpose([0, 2, 1]) / frames).squeeze(2)  # mean over frames too
        by_channel = 1 + F.sigmoid(self.fc2c(relu(self.fc1c(gated))))  # (N, C)
        by_place = paddle.matmul(by_frame.transpose([0, 2, 1]), by_joint).reshape([-1, 1, frames * joints])
        return y * paddle.matmul(by_channel.unsqueeze(2), by_place).reshape([-1, channels, frames, joints])


def _attr(initializer) -> paddle.ParamAttr:
    return paddle.ParamAttr(initializer=initializer)


@BACKBONES
class AAGCN(nn.Layer):
    """Ten blocks of an adaptive graph convolution and a temporal convolution.

    Under the name AGCN attention is off: "2s-AGCN" as MMAction2 trains it. With gcn_similarity "softmax" as well it is
    2s-AGCN as its authors published it.

    Shape: (N, M, T, V, C) -> (N * M, C_out, T', V) with T' = T / 4, rounded up twice.

    Args:
        graph: adjacency mode. in_channels, base_channels, num_stages, inflate_stages, down_stages: see `plan_stages`.
        data_bn_type, num_person: see `DataBN`.
        gcn_adaptive, gcn_attention, gcn_similarity, gcn_coff_embedding: see `AdaptiveGraphConv`.
        tcn_type, tcn_ms_cfg, tcn_dropout: see `STGCN`.
        init: whose initialisation; they differ in the residual's 1x1 convolutions only.

    The gcn_* and tcn_* options take a list of `num_stages` values too, one a stage.
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
        data_bn_type: DataBNType | None = "MVC",
        num_person: int = 2,
        gcn_adaptive: bool | list[bool] = True,
        gcn_attention: bool | list[bool] = True,
        gcn_similarity: Similarity = "tanh",
        gcn_coff_embedding: int = 4,
        tcn_type: Literal["unit_tcn", "mstcn"] = "unit_tcn",
        tcn_ms_cfg: Sequence[Any] = DEFAULT_BRANCHES,
        tcn_dropout: float | list[float] = 0.0,
        init: Literal["pyskl", "mmaction"] = "pyskl",
    ):
        super().__init__()
        self.graph = adjacency = build_graph(layout, graph)
        stages = plan_stages(in_channels, base_channels, num_stages, inflate_stages, down_stages)
        self.num_joints, self.in_channels, self.out_channels = layout.num_joints, in_channels, stages[-1].out_channels
        self.num_person = num_person if data_bn_type == "MVC" else None
        self.data_bn = DataBN(in_channels, layout.num_joints, num_person, data_bn_type)
        self.blocks = nn.LayerList()
        for i, stage in enumerate(stages):
            spatial = AdaptiveGraphConv(
                stage.in_channels,
                stage.out_channels,
                adjacency,
                per_stage(gcn_adaptive, i, num_stages),
                per_stage(gcn_attention, i, num_stages),
                gcn_similarity,
                gcn_coff_embedding,
            )
            dropout = per_stage(tcn_dropout, i, num_stages) if stage.residual else 0.0
            if tcn_type == "unit_tcn":
                temporal = TemporalConv(stage.out_channels, stage.stride, dropout=dropout, init="kaiming")
            else:
                temporal = MultiBranchConv(stage.out_channels, stage.stride, tcn_ms_cfg, dropout=dropout)
            self.blocks.append(Block(stage, spatial, temporal, init="torch" if init == "pyskl" else "kaiming"))

    def forward(self, x):
        x = self.data_bn(x)
        for block in self.blocks:
            x = block(x)
        return x


BACKBONES.add("AGCN", AAGCN, gcn_attention=False)
