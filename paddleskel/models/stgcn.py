"""ST-GCN (Yan et al., AAAI 2018) and ST-GCN++ (Duan et al., 2022)."""

from collections.abc import Sequence
from typing import Any, Literal

from paddle import nn

from paddleskel.models.registry import BACKBONES
from paddleskel.nn.block import Block, DataBN, DataBNType, plan_stages
from paddleskel.nn.spatial import GraphConv
from paddleskel.nn.temporal import DEFAULT_BRANCHES, MultiBranchConv, TemporalConv
from paddleskel.skeleton.graph import GraphMode, GraphSpec, build_graph
from paddleskel.skeleton.layout import Layout

Adaptive = Literal["init", "importance", "offset"]
# whose initialisation: (all convolutions, the k x 1 temporal ones and the residual's)
INITS = {
    "pyskl": ("torch", "torch"),
    "mmaction": ("torch", "kaiming"),
    "paddlevideo": ("kaiming_fan_in", "kaiming_fan_in"),
}


@BACKBONES
class STGCN(nn.Layer):
    """Spatial-temporal graph convolutions: ten blocks of a graph convolution and a temporal convolution.

    Shape: (N, M, T, V, C) -> (N * M, C_out, T', V) with T' = T / 4, rounded up twice.

    Under the name STGCNPlusPlus the defaults are those of ST-GCN++: trained graphs, a residual inside the graph
    convolution, multi-branch temporal convolutions, the "spatial" graph.

    Args:
        graph: adjacency mode, see skeleton/graph.py.
        in_channels: C. 3 for (x, y, z) and for (x, y, score).
        base_channels, num_stages, inflate_stages, down_stages, ch_ratio: see `plan_stages`.
        data_bn_type, num_person: see `DataBN`.
        gcn_adaptive, gcn_conv_pos, gcn_with_res: see `GraphConv`.
        tcn_type: "unit_tcn" (one 9 x 1 convolution) or "mstcn" (multi-branch).
        tcn_kernel_size: of unit_tcn.
        tcn_ms_cfg, tcn_mid_channels: branches of mstcn and their width, see `MultiBranchConv`.
        tcn_dropout: from the second block on.
        init: whose initialisation: pyskl, mmaction or paddlevideo.

    The gcn_* and tcn_* options take a list of `num_stages` values too, one a stage.
    """

    def __init__(
        self,
        layout: Layout,
        graph: GraphMode | GraphSpec = "stgcn_spatial",
        in_channels: int = 3,
        base_channels: int = 64,
        num_stages: int = 10,
        inflate_stages: Sequence[int] = (5, 8),
        down_stages: Sequence[int] = (5, 8),
        ch_ratio: float = 2.0,
        data_bn_type: DataBNType | None = "VC",
        num_person: int = 2,
        gcn_adaptive: Adaptive | list[Adaptive | None] | None = "importance",
        gcn_conv_pos: Literal["pre", "post"] | list[Literal["pre", "post"]] = "pre",
        gcn_with_res: bool | list[bool] = False,
        tcn_type: Literal["unit_tcn", "mstcn"] = "unit_tcn",
        tcn_kernel_size: int | list[int] = 9,
        tcn_ms_cfg: Sequence[Any] = DEFAULT_BRANCHES,
        tcn_mid_channels: int | float | list[int | float] | None = None,
        tcn_dropout: float | list[float] = 0.0,
        init: Literal["pyskl", "mmaction", "paddlevideo"] = "pyskl",
    ):
        super().__init__()
        adjacency = build_graph(layout, graph)
        stages = plan_stages(in_channels, base_channels, num_stages, inflate_stages, down_stages, ch_ratio)
        conv_init, unit_init = INITS[init]
        self.num_joints, self.in_channels, self.out_channels = layout.num_joints, in_channels, stages[-1].out_channels
        self.data_bn = DataBN(in_channels, layout.num_joints, num_person, data_bn_type)
        self.blocks = nn.LayerList()
        for i, stage in enumerate(stages):
            spatial = GraphConv(
                stage.in_channels,
                stage.out_channels,
                adjacency,
                adaptive=per_stage(gcn_adaptive, i, num_stages),
                conv_pos=per_stage(gcn_conv_pos, i, num_stages),
                with_res=per_stage(gcn_with_res, i, num_stages),
                init=conv_init,
            )
            dropout = per_stage(tcn_dropout, i, num_stages) if stage.residual else 0.0
            if tcn_type == "unit_tcn":
                kernel = per_stage(tcn_kernel_size, i, num_stages)
                temporal = TemporalConv(stage.out_channels, stage.stride, kernel, dropout, init=unit_init)
            else:
                temporal = MultiBranchConv(
                    stage.out_channels,
                    stage.stride,
                    tcn_ms_cfg,
                    per_stage(tcn_mid_channels, i, num_stages),
                    dropout,
                    init=conv_init,
                    branch_init=unit_init,
                )
            self.blocks.append(Block(stage, spatial, temporal, init=unit_init))

    def forward(self, x):
        x = self.data_bn(x)
        for block in self.blocks:
            x = block(x)
        return x


BACKBONES.add("STGCNPlusPlus", STGCN, graph="spatial", gcn_adaptive="init", gcn_with_res=True, tcn_type="mstcn")


def per_stage(value: Any, stage: int, num_stages: int) -> Any:
    """Return an option's value at a stage: the value itself, or its entry where it is a list of one a stage."""
    if not isinstance(value, (list, tuple)):
        return value
    if len(value) != num_stages:
        raise ValueError(f"a list of values must have one for each of the {num_stages} stages, not {len(value)}")
    return value[stage]
