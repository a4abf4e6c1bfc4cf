"""MS-G3D (Liu et al., CVPR 2020): graph convolutions over many distances, in space and in windows of space-time."""

from typing import Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddleskel.models.registry import BACKBONES
from paddleskel.nn.activation import relu
from paddleskel.nn.aggregation import aggregate
from paddleskel.nn.block import DataBN
from paddleskel.nn.conv import ConvBN, Init
from paddleskel.nn.place import eager_on_cpu
from paddleskel.nn.rows import reorder
from paddleskel.nn.temporal import MultiScaleConv
from paddleskel.skeleton.graph import build_graph, k_adjacency, normalize_columns
from paddleskel.skeleton.layout import Layout


def scale_graphs(adjacency: np.ndarray, scales: int) -> np.ndarray:
    """(scales, V, V): for each distance k the joints exactly k edges away and oneself, columns normalised.   (eq. 3, 4)

    adjacency: (V, V) of zeros and ones.
    """
    graphs = [normalize_columns(k_adjacency(adjacency, k, with_self=True)) for k in range(scales)]
    return np.stack(graphs).astype(np.float32)


class ScaleConv(nn.Layer):
    """y = relu(BN(W concat_k x (A_k + PA_k))), A_k fixed, PA_k trained from noise.   (MS-G3D, eq. 4)

    Shape: (N, C_in, T, V) -> (N, C_out, T, V).
    """

    def __init__(self, in_channels: int, out_channels: int, graphs: np.ndarray):
        super().__init__()
        self.register_buffer("A", paddle.to_tensor(graphs))
        self.PA = self.create_parameter(graphs.shape, default_initializer=nn.initializer.Uniform(-1e-6, 1e-6))
        self.mlp = ConvBN(len(graphs) * in_channels, out_channels)

    def forward(self, x):
        return relu(self.mlp.bn(aggregate(x, (self.A + self.PA).unsqueeze(0), self.mlp.conv.weight)))


class FrameConv(nn.Conv2D):
    """Convolve over the frames of a window. Frame i stands V columns after frame i - 1: a dilation of V.

    On a CPU it is a 1x1 convolution of the frames side by side on the channel axis, which Paddle need not unfold.

    Shape: (N, C_in, T, window * V) -> (N, C_out, T, V).
    """

    def __init__(self, in_channels: int, out_channels: int, window: int, joints: int):
        bound = 1 / (in_channels * window) ** 0.5
        uniform = paddle.ParamAttr(initializer=nn.initializer.Uniform(-bound, bound))
        super().__init__(
            in_channels, out_channels, (1, window), dilation=(1, joints), weight_attr=uniform, bias_attr=False
        )

    def forward(self, x):
        if not eager_on_cpu(x):
            return super().forward(x)
        n, channels, frames, columns = x.shape
        window = self.weight.shape[3]
        x = reorder(x.reshape([n, channels, frames, window, columns // window]), (0, 1, 3, 2))
        x = x.reshape([n, channels * window, frames, -1])
        return F.conv2d(x, self.weight.reshape([-1, channels * window, 1, 1]))


class WindowConv(nn.Layer):
    """Graph convolution over windows of frames: a joint is linked to its neighbours in every frame.   (MS-G3D, eq. 6)

        x -> windows (T', window * V) -> ScaleConv -> convolution over the frames of a window -> BN

    Shape: (N, C_in, T, V) -> (N, C_out, floor((T - 1) / stride) + 1, V).

    Args:
        embed_channels: C between the graph convolution and the one over the window.
    """

    def __init__(
        self,
        in_channels: int,
        embed_channels: int,
        out_channels: int,
        adjacency: np.ndarray,
        scales: int,
        window: int,
        stride: int,
    ):
        super().__init__()
        self.window, self.stride, self.joints = window, stride, len(adjacency)
        linked = np.tile(adjacency + np.eye(self.joints), (window, window))
        self.spread = ScaleConv(in_channels, embed_channels, scale_graphs(linked, scales))
        self.merge = FrameConv(embed_channels, out_channels, window, self.joints)
        self.bn = nn.BatchNorm2D(out_channels)

    def windows(self, x):
        """(N, C, T, V) -> (N, C, T', window * V), zeros beyond the ends."""
        channels, frames = x.shape[1:3]
        steps = (frames - 1) // self.stride + 1
        padding = [(self.window - 1) // 2, 0]
        x = F.unfold(x, [self.window, 1], [self.stride, 1], padding)
        x = reorder(x.reshape([-1, channels, self.window, steps, self.joints]), (0, 1, 3, 2))
        return x.reshape([-1, channels, steps, self.window * self.joints])

    def forward(self, x):
        return self.bn(self.merge(self.spread(self.windows(x))))


class Stage(nn.Layer):
    """relu(spatial path + window paths), then a temporal convolution.   (MS-G3D, fig. 3)

    Shape: (N, C_in, T, V) -> (N, C_out, floor((T - 1) / stride) + 1, V).
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        embed_channels: int,
        out_channels: int,
        stride: int,
        adjacency: np.ndarray,
        gcn_scales: int,
        g3d_scales: int,
        windows: tuple[int, ...],
        dropout: float,
        init: Init,
    ):
        super().__init__()
        inits = {"init": init, "residual_init": init}
        self.sgcn = nn.Sequential(
            ScaleConv(in_channels, mid_channels, scale_graphs(adjacency, gcn_scales)),
            MultiScaleConv(mid_channels, out_channels, stride=stride, **inits),
            MultiScaleConv(out_channels, out_channels, activation=False, **inits),
        )
        self.gcn3d = nn.LayerList(
            WindowConv(in_channels, embed_channels, out_channels, adjacency, g3d_scales, window, stride)
            for window in windows
        )
        self.tcn = MultiScaleConv(out_channels, out_channels, dropout=dropout, **inits)

    def forward(self, x):
        return self.tcn(relu(self.sgcn(x) + sum(path(x) for path in self.gcn3d)))


@BACKBONES
class MSG3D(nn.Layer):
    """Three stages of 96, 192 and 384 channels, in PYSKL's form (graphs normalised by columns).

    Shape: (N, M, T, V, C) -> (N * M, C_out, T', V) with T' = T / 4, rounded up twice.

    Args:
        num_person: persons, each with input statistics of its own.
        base_channels: of the first stage. num_gcn_scales, num_g3d_scales: distances in space and in space-time.
        tcn_dropout: after each stage's last temporal convolution.
        init: whose initialisation: PyTorch's defaults (pyskl), or Kaiming for the temporal convolutions (mmaction).
    """

    def __init__(
        self,
        layout: Layout,
        in_channels: int = 3,
        base_channels: int = 96,
        num_gcn_scales: int = 13,
        num_g3d_scales: int = 6,
        num_person: int = 2,
        tcn_dropout: float = 0.0,
        init: Literal["pyskl", "mmaction"] = "pyskl",
    ):
        super().__init__()
        self.graph = adjacency = build_graph(layout, "binary_adj")[0]
        widths = [base_channels, 2 * base_channels, 4 * base_channels]
        self.num_joints, self.in_channels, self.out_channels = layout.num_joints, in_channels, widths[-1]
        self.num_person = num_person
        self.data_bn = DataBN(in_channels, layout.num_joints, num_person, "MVC")
        self.stages = nn.LayerList()
        for number, (narrow, wide) in enumerate(zip([in_channels, *widths], widths)):
            first = number == 0
            self.stages.append(
                Stage(
                    narrow,
                    base_channels if first else narrow,
                    wide if first else narrow,
                    wide,
                    1 if first else 2,
                    adjacency,
                    num_gcn_scales,
                    num_g3d_scales,
                    (3, 5),
                    tcn_dropout,
                    "torch" if init == "pyskl" else "kaiming",
                )
            )

    @property
    def blocks(self) -> nn.LayerList:
        """What the other networks call their stages."""
        return self.stages

    def forward(self, x):
        x = self.data_bn(x)
        for stage in self.stages:
            x = stage(x)
        return x
