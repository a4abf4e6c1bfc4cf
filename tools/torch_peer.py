"""The seven networks written plainly in torch: a peer for tools/benchmark.py.

    pip install torch
    python tools/benchmark.py train --model all --peer tools/torch_peer.py

Each follows its paper operation by operation, as PYSKL does: einsum over the graph, a bias in every convolution, a
convolution of its own for each branch and subset. Layers are called as in PYSKL's checkpoints, so that
tests/nn/test_torch_peer.py can give them our weights and compare what comes out.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from paddleskel.benchmark.subjects import Subject
from paddleskel.skeleton.layout import load_layout


def over_time(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A (k x 1) convolution, padded so that T shrinks by the stride alone."""
    return nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1), (dilation * (kernel // 2), 0), (dilation, 1))


class Temporal(nn.Module):
    """A convolution over time, and BatchNorm unless `norm` is off."""

    def __init__(self, inputs: int, outputs: int, kernel=9, stride=1, dilation=1, norm=True):
        super().__init__()
        self.conv = over_time(inputs, outputs, kernel, stride, dilation)
        self.bn = nn.BatchNorm2d(outputs) if norm else None

    def forward(self, x):
        y = self.conv(x)
        return y if self.bn is None else self.bn(y)


def opening(inputs: int, outputs: int) -> list[nn.Module]:
    """What a branch starts with."""
    return [over_time(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU()]


def add(y: Tensor, residual: nn.Module | None, x: Tensor) -> Tensor:
    """y, and the residual of x where there is one."""
    return y if residual is None else y + residual(x)


def largest_of_three(stride: int) -> nn.Module:
    return nn.MaxPool2d((3, 1), (stride, 1), (1, 0))


class MultiBranch(nn.Module):
    """ST-GCN++'s temporal unit; with coefficients DG-STGCN's, where the mean of all joints runs along as one more."""

    def __init__(self, channels: int, stride: int, coefficients: int = 0):
        super().__init__()
        thin = channels // 6
        widths = [channels - 5 * thin, thin, thin, thin]
        branches: list[nn.Module] = []
        for dilation, width in enumerate(widths, start=1):
            dilated = Temporal(width, width, 3, stride, dilation, norm=False)
            branches.append(nn.Sequential(*opening(channels, width), dilated))
        branches.append(nn.Sequential(*opening(channels, thin), largest_of_three(stride)))
        branches.append(over_time(channels, thin, stride=stride))
        self.branches = nn.ModuleList(branches)
        self.transform = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), over_time(channels, channels))
        self.bn = nn.BatchNorm2d(channels)
        self.add_coeff = nn.Parameter(torch.zeros(coefficients)) if coefficients else None

    def forward(self, x):
        joints = x.shape[3]
        if self.add_coeff is not None:
            x = torch.cat([x, x.mean(dim=3, keepdim=True)], dim=3)
        y = torch.cat([branch(x) for branch in self.branches], dim=1)
        if self.add_coeff is not None:
            y = y[..., :joints] + torch.einsum("nct,v->nctv", y[..., joints], self.add_coeff[:joints])
        return self.bn(self.transform(y))


class MultiScale(nn.Module):
    """The temporal unit of CTR-GCN and MS-G3D, each branch with a BatchNorm at its end."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        kernel: int = 3,
        dilations: Sequence[int] = (1, 2, 3, 4),
        residual: bool = True,
        activation: bool = True,
    ):
        super().__init__()
        thin = outputs // (len(dilations) + 2)
        last = outputs - thin * (len(dilations) + 1)
        branches = [
            nn.Sequential(*opening(inputs, thin), Temporal(thin, thin, kernel, stride, dilation))
            for dilation in dilations
        ]
        branches.append(nn.Sequential(*opening(inputs, thin), largest_of_three(stride), nn.BatchNorm2d(thin)))
        branches.append(nn.Sequential(over_time(inputs, last, stride=stride), nn.BatchNorm2d(last)))
        self.branches = nn.ModuleList(branches)
        self.activation, self.residual = activation, None
        if residual:
            same = inputs == outputs and stride == 1
            self.residual = nn.Identity() if same else Temporal(inputs, outputs, 1, stride)

    def forward(self, x):
        y = add(torch.cat([branch(x) for branch in self.branches], dim=1), self.residual, x)
        return torch.relu(y) if self.activation else y


class Spatial(nn.Module):
    """A graph convolution: BatchNorm of what `heard` gives, a residual, ReLU."""

    def __init__(self, inputs: int, outputs: int, residual: bool = True):
        super().__init__()
        self.bn, self.down = nn.BatchNorm2d(outputs), None
        if residual:
            lifted = nn.Sequential(over_time(inputs, outputs), nn.BatchNorm2d(outputs))
            self.down = nn.Identity() if inputs == outputs else lifted

    def heard(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x):
        return torch.relu(add(self.bn(self.heard(x)), self.down, x))


class GraphConv(Spatial):
    """ST-GCN's, a fixed graph and trained weights of its edges, or ST-GCN++'s, a trained graph and a residual."""

    def __init__(self, inputs: int, outputs: int, graph: Tensor, plus_plus: bool):
        super().__init__(inputs, outputs, residual=plus_plus)
        self.conv = over_time(inputs, outputs * len(graph))
        if plus_plus:
            self.A, self.PA = nn.Parameter(graph.clone()), None
        else:
            self.register_buffer("A", graph.clone())
            self.PA = nn.Parameter(torch.ones_like(graph))

    def heard(self, x):
        graph = self.A if self.PA is None else self.A * self.PA
        values = self.conv(x).unflatten(1, (len(graph), -1))
        return torch.einsum("nkctv,kvw->nctw", values, graph)


class AdaptiveGraphConv(Spatial):
    """2s-AGCN's, or with attention AAGCN's."""

    def __init__(self, inputs: int, outputs: int, graph: Tensor, attention: bool):
        super().__init__(inputs, outputs)
        subsets, joints = graph.shape[:2]
        self.A, self.alpha = nn.Parameter(graph.clone()), nn.Parameter(torch.zeros(1))
        self.conv_a = nn.ModuleList(over_time(inputs, outputs // 4) for _ in range(subsets))
        self.conv_b = nn.ModuleList(over_time(inputs, outputs // 4) for _ in range(subsets))
        self.conv_d = nn.ModuleList(over_time(inputs, outputs) for _ in range(subsets))
        self.attention = attention
        if attention:
            kernel = joints - 1 + joints % 2
            self.conv_sa = nn.Conv1d(outputs, 1, kernel, padding=kernel // 2)
            self.conv_ta = nn.Conv1d(outputs, 1, 9, padding=4)
            self.fc1c, self.fc2c = nn.Linear(outputs, outputs // 2), nn.Linear(outputs // 2, outputs)

    def heard(self, x):
        n, channels, frames, joints = x.shape
        total = 0
        for graph, conv_a, conv_b, conv_d in zip(self.A, self.conv_a, self.conv_b, self.conv_d):
            left = conv_a(x).permute(0, 3, 1, 2).flatten(2)  # (N, V, C' T)
            right = conv_b(x).flatten(1, 2)  # (N, C' T, V)
            alike = torch.tanh(left @ right / left.shape[2])
            mixed = x.reshape(n, channels * frames, joints) @ (graph + self.alpha * alike)
            total = total + conv_d(mixed.view(x.shape))
        return total

    def forward(self, x):
        y = super().forward(x)
        if self.attention:
            y = y * torch.sigmoid(self.conv_sa(y.mean(dim=2))).unsqueeze(2) + y
            y = y * torch.sigmoid(self.conv_ta(y.mean(dim=3))).unsqueeze(3) + y
            gate = torch.sigmoid(self.fc2c(torch.relu(self.fc1c(y.mean(dim=(2, 3))))))
            y = y * gate[:, :, None, None] + y
        return y


class ChannelTopology(nn.Module):
    """CTR-GCN's graph for every channel, of one subset."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        relative = 8 if inputs <= 16 else inputs // 8
        self.conv1, self.conv2 = over_time(inputs, relative), over_time(inputs, relative)
        self.conv3, self.conv4 = over_time(inputs, outputs), over_time(relative, outputs)

    def forward(self, x, graph, alpha):
        left, right = self.conv1(x).mean(dim=2), self.conv2(x).mean(dim=2)
        relation = self.conv4(torch.tanh(left.unsqueeze(3) - right.unsqueeze(2)))
        return torch.einsum("nctu,ncuv->nctv", self.conv3(x), alpha * relation + graph)


class ChannelTopologyConv(Spatial):
    def __init__(self, inputs: int, outputs: int, graph: Tensor):
        super().__init__(inputs, outputs)
        self.convs = nn.ModuleList(ChannelTopology(inputs, outputs) for _ in graph)
        self.A, self.alpha = nn.Parameter(graph.clone()), nn.Parameter(torch.zeros(1))

    def heard(self, x):
        return sum(conv(x, graph, self.alpha) for conv, graph in zip(self.convs, self.A))


class DynamicGroupConv(Spatial):
    """DG-STGCN's: a graph for every group and channel of it."""

    def __init__(self, inputs: int, outputs: int, graph: Tensor):
        super().__init__(inputs, outputs)
        self.groups, total = len(graph), len(graph) * (outputs // 8)
        self.A = nn.Parameter(graph.clone())
        self.alpha, self.beta = nn.Parameter(torch.zeros(self.groups)), nn.Parameter(torch.zeros(self.groups))
        self.pre = nn.Sequential(*opening(inputs, total))
        self.conv1, self.conv2 = over_time(inputs, total), over_time(inputs, total)
        self.post = over_time(total, outputs)

    def heard(self, x):
        mean, in_groups = x.mean(dim=2, keepdim=True), (self.groups, -1)
        left = self.conv1(mean).squeeze(2).unflatten(1, in_groups)  # (N, K, C', V)
        right = self.conv2(mean).squeeze(2).unflatten(1, in_groups)
        by_channel = torch.tanh(left.unsqueeze(4) - right.unsqueeze(3))
        by_group = torch.softmax(torch.einsum("nkcu,nkcv->nkuv", left, right), dim=2)
        graph = self.A.unsqueeze(1) + self.alpha[0] * by_channel + self.beta[0] * by_group.unsqueeze(2)
        y = torch.einsum("nkctu,nkcuv->nkctv", self.pre(x).unflatten(1, in_groups), graph)
        return self.post(y.flatten(1, 2))


class Block(nn.Module):
    """A graph convolution, a temporal one, a residual, ReLU. names: what the two are called."""

    def __init__(self, gcn: nn.Module, tcn: nn.Module, names: tuple[str, str], residual: nn.Module | None):
        super().__init__()
        self.names, self.residual = names, residual
        self.add_module(names[0], gcn)
        self.add_module(names[1], tcn)

    def forward(self, x):
        gcn, tcn = (self.get_submodule(name) for name in self.names)
        return torch.relu(add(tcn(gcn(x)), self.residual, x))


class Backbone(nn.Module):
    """Input BatchNorm, then whatever `body` makes of (N M, C, T, V).

    by_person: whether the persons have statistics of their own.
    """

    def __init__(self, joints: int, by_person: bool, persons: int):
        super().__init__()
        self.by_person = by_person
        self.data_bn = nn.BatchNorm1d(3 * joints * (persons if by_person else 1))

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, clips):
        n, persons, frames, joints, channels = clips.shape
        x = clips.permute(0, 1, 3, 4, 2)
        x = self.data_bn(x.reshape(n if self.by_person else n * persons, -1, frames))
        x = x.view(n * persons, joints, channels, frames).permute(0, 2, 3, 1)
        return self.body(x).unflatten(0, (n, persons))


class Stacked(Backbone):
    """Blocks of `base` channels, doubled in those of `wider`, counted from 1, where time is halved."""

    def __init__(self, network: str, graph: Tensor, base: int, blocks: int, wider: Sequence[int], persons: int):
        by_person = network in ("AGCN", "AAGCN", "CTRGCN")
        super().__init__(graph.shape[-1], by_person, persons)
        if by_person:
            self.register_buffer("A", graph.clone())
        spatial: dict[str, Callable[[int, int], nn.Module]] = {
            "STGCN": lambda i, o: GraphConv(i, o, graph, plus_plus=False),
            "STGCNPlusPlus": lambda i, o: GraphConv(i, o, graph, plus_plus=True),
            "AGCN": lambda i, o: AdaptiveGraphConv(i, o, graph, attention=False),
            "AAGCN": lambda i, o: AdaptiveGraphConv(i, o, graph, attention=True),
            "CTRGCN": lambda i, o: ChannelTopologyConv(i, o, graph),
            "DGSTGCN": lambda i, o: DynamicGroupConv(i, o, graph),
        }
        temporal: dict[str, Callable[[int, int], nn.Module]] = {
            "STGCNPlusPlus": lambda o, stride: MultiBranch(o, stride),
            "DGSTGCN": lambda o, stride: MultiBranch(o, stride, coefficients=max(25, graph.shape[-1])),
            "CTRGCN": lambda o, stride: MultiScale(o, o, stride, 5, (1, 2), residual=False),
        }
        names = ("gcn1", "tcn1") if network == "CTRGCN" else ("gcn", "tcn")
        made, inputs, outputs = nn.ModuleList(), 3, base
        for number in range(1, blocks + 1):
            stride = 2 if number in wider else 1
            outputs *= stride
            gcn = spatial[network](inputs, outputs)
            tcn = temporal.get(network, lambda o, s: Temporal(o, o, 9, s))(outputs, stride)
            residual = None if number == 1 else nn.Identity()
            if number > 1 and stride > 1:
                residual = Temporal(inputs, outputs, 1, stride)
            made.append(Block(gcn, tcn, names, residual))
            inputs = outputs
        self.name, self.width = "net" if network == "CTRGCN" else "gcn", outputs
        self.add_module(self.name, made)

    def body(self, x):
        for block in self.get_submodule(self.name):
            x = block(x)
        return x


class Scales(nn.Module):
    """MS-G3D's graph convolution over many distances."""

    def __init__(self, inputs: int, outputs: int, scales: int, nodes: int):
        super().__init__()
        self.register_buffer("A", torch.rand(scales, nodes, nodes) / nodes)
        self.PA = nn.Parameter(torch.empty(scales, nodes, nodes).uniform_(-1e-6, 1e-6))
        self.mlp = nn.Module()
        self.mlp.layers = nn.Sequential(*opening(scales * inputs, outputs))

    def forward(self, x):
        heard = torch.einsum("kvu,nctv->nkctu", self.A + self.PA, x)
        return self.mlp.layers(heard.flatten(1, 2))


class Windows(nn.Module):
    """(N, C, T, V) -> (N, C, T', window V)."""

    def __init__(self, window: int, stride: int):
        super().__init__()
        self.window, self.unfold = window, nn.Unfold((window, 1), 1, (window // 2, 0), (stride, 1))

    def forward(self, x):
        n, channels, _, joints = x.shape
        x = self.unfold(x).view(n, channels, self.window, -1, joints)
        return x.permute(0, 1, 3, 2, 4).flatten(3)


class WindowPath(nn.Module):
    def __init__(self, inputs: int, embed: int, outputs: int, scales: int, window: int, stride: int, joints: int):
        super().__init__()
        self.window, self.joints = window, joints
        self.gcn3d = nn.Sequential(Windows(window, stride), Scales(inputs, embed, scales, window * joints))
        self.out_conv, self.out_bn = nn.Conv3d(embed, outputs, (1, window, 1)), nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.gcn3d(x).unflatten(3, (self.window, self.joints))
        return self.out_bn(self.out_conv(y).squeeze(3))


class MSG3D(Backbone):
    def __init__(self, joints: int, base: int, scales: int, window_scales: int, persons: int):
        super().__init__(joints, True, persons)
        self.register_buffer("A", torch.zeros(joints, joints))
        widths = [3, base, 2 * base, 4 * base]
        self.width = widths[-1]
        for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            stride, first = min(number, 2), number == 1
            mid, embed = (base, outputs) if first else (inputs, inputs)
            paths = nn.Module()
            paths.gcn3d = nn.ModuleList(
                WindowPath(inputs, embed, outputs, window_scales, window, stride, joints) for window in (3, 5)
            )
            spatial = nn.Sequential(
                Scales(inputs, mid, scales, joints),
                MultiScale(mid, outputs, stride),
                MultiScale(outputs, outputs, activation=False),
            )
            self.add_module(f"gcn3d{number}", paths)
            self.add_module(f"sgcn{number}", spatial)
            self.add_module(f"tcn{number}", MultiScale(outputs, outputs))

    def body(self, x):
        for number in (1, 2, 3):
            sgcn, paths, tcn = (self.get_submodule(f"{name}{number}") for name in ("sgcn", "gcn3d", "tcn"))
            x = tcn(torch.relu(sgcn(x) + sum(path(x) for path in paths.gcn3d)))
        return x


class Network(nn.Module):
    """(N, M, T, V, 3) -> (N, num_classes). Graphs are random: whoever compares outputs loads weights first.

    Args:
        wider: blocks, counted from 1, whose channels double and whose frames halve.
        scales, window_scales: distances of MS-G3D, in space and in windows of space and time.
    """

    def __init__(
        self,
        network: str,
        joints: int,
        num_classes: int = 60,
        base: int | None = None,
        blocks: int = 10,
        wider: Sequence[int] = (5, 8),
        scales: int = 13,
        window_scales: int = 6,
        persons: int = 2,
    ):
        super().__init__()
        if network == "MSG3D":
            self.backbone = MSG3D(joints, base or 96, scales, window_scales, persons)
        else:
            graph = torch.rand(8 if network == "DGSTGCN" else 3, joints, joints) / joints
            self.backbone = Stacked(network, graph, base or 64, blocks, wider, persons)
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(self.backbone.width, num_classes)

    def forward(self, clips):
        return self.cls_head.fc_cls(self.backbone(clips).mean(dim=(3, 4)).mean(dim=1))


def build(name: str) -> Callable[[], object]:
    """Return the step of that name, see paddleskel/benchmark/subjects.py: training, or else a forward pass."""
    subject = Subject.parse(name)
    joints = load_layout(subject.layout).num_joints
    torch.manual_seed(0)
    model = Network(subject.network, joints, subject.classes, persons=subject.persons)
    inputs = torch.randn(subject.batch, subject.persons, subject.frames, joints, 3)
    labels = torch.randint(0, subject.classes, (subject.batch,))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)

    def train() -> None:
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    def evaluate() -> None:
        with torch.no_grad():
            model(inputs)

    model.train(subject.kind == "train")
    return train if subject.kind == "train" else evaluate
