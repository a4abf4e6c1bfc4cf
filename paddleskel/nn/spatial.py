"""Graph convolutions: how joints listen to each other."""

from typing import Literal

import numpy as np
import paddle
from paddle import nn

from paddleskel.nn.activation import relu
from paddleskel.nn.aggregation import aggregate
from paddleskel.nn.conv import ConvBN, Init, bias_init, weight_init


class GraphConv(nn.Layer):
    """Convolve joints over K neighbourhoods, then BatchNorm and ReLU:

        y = relu(BN(sum_k (W_k x + b_k) A_k) [+ residual])                     (ST-GCN, eq. 10)

    Computed as one 1x1 convolution of the K aggregated inputs x A_k, which is the same sum in another order.

    Shape: (N, C_in, T, V) -> (N, C_out, T, V).

    Args:
        graph: (K, V, V) array; column w of graph[k] weighs the joints that joint w listens to.
        adaptive: "init" trains A, starting from `graph`; "importance" keeps it and trains factors PA, A * PA;
            "offset" trains an addition, A + PA; None keeps A.
        conv_pos: where the published code puts its convolution, "pre" or "post" the aggregation. Only the bias differs:
            after the aggregation it is one a channel, which BatchNorm removes.
        with_res: add the input (through a 1x1 convolution and BatchNorm where the channels differ) before the ReLU.
        init: initialisation of the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        graph: np.ndarray,
        adaptive: Literal["init", "importance", "offset"] | None = "importance",
        conv_pos: Literal["pre", "post"] = "pre",
        with_res: bool = False,
        init: Init = "torch",
    ):
        super().__init__()
        subsets = len(graph)
        fan_in = in_channels if conv_pos == "pre" else in_channels * subsets
        fan_out = out_channels * subsets if conv_pos == "pre" else out_channels
        self.adaptive = adaptive
        self.weight = self.create_parameter(
            [out_channels, subsets * in_channels, 1, 1], default_initializer=weight_init(init, fan_in, fan_out)
        )
        self.bias = None
        if conv_pos == "pre":
            self.bias = self.create_parameter(
                [out_channels, subsets, 1, 1], default_initializer=bias_init(init, fan_in)
            )
        if adaptive == "init":
            self.A = self.create_parameter(graph.shape, default_initializer=nn.initializer.Assign(graph))
        else:
            self.register_buffer("A", paddle.to_tensor(graph))
        if adaptive in ("importance", "offset"):
            start = nn.initializer.Constant(1.0) if adaptive == "importance" else nn.initializer.Uniform(-1e-6, 1e-6)
            self.PA = self.create_parameter(graph.shape, default_initializer=start)
        self.bn = nn.BatchNorm2D(out_channels)
        self.with_res = with_res
        self.down = ConvBN(in_channels, out_channels, init=init) if with_res and in_channels != out_channels else None

    def adjacency(self) -> paddle.Tensor:
        """(K, V, V) as it is used."""
        if self.adaptive == "importance":
            return self.A * self.PA
        return self.A + self.PA if self.adaptive == "offset" else self.A

    def forward(self, x):
        y = self.bn(aggregate(x, self.adjacency().unsqueeze(0), self.weight, self.bias))
        if self.with_res:
            y = y + (x if self.down is None else self.down(x))
        return relu(y)
