"""Adjacency matrices of a layout: what joint listens to what, in K subsets.

Convention everywhere: y[..., w] = sum_v x[..., v] A[k, v, w], so row v is the source joint and column w the
destination.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from paddleskel.skeleton.layout import Layout

GraphMode = Literal[
    "spatial",
    "stgcn_spatial",
    "binary_adj",
    "random",
    "k_adjacency",
    "paddlevideo_spatial",
    "paddlevideo_stgcn_spatial",
]


def edge_matrix(edges: list[tuple[int, int]], num_joints: int) -> np.ndarray:
    """(V, V) with E[head, tail] = 1 for every edge (tail, head)."""
    matrix = np.zeros((num_joints, num_joints))
    for tail, head in edges:
        matrix[head, tail] = 1
    return matrix


def normalize_columns(matrix: np.ndarray) -> np.ndarray:
    """Divide each column by its sum; columns that sum to zero stay zero."""
    sums = matrix.sum(axis=-2, keepdims=True)
    return np.divide(matrix, sums, out=np.zeros_like(matrix), where=sums > 0)


def hop_distance(edges: list[tuple[int, int]], num_joints: int, max_hop: int) -> np.ndarray:
    """(V, V) number of edges between two joints, infinite beyond `max_hop`."""
    adjacency = edge_matrix(edges, num_joints)
    adjacency = adjacency + adjacency.T + np.eye(num_joints)
    distance = np.full((num_joints, num_joints), np.inf)
    for hop in range(max_hop, -1, -1):
        distance[np.linalg.matrix_power(adjacency, hop) > 0] = hop
    return distance


def spatial(layout: Layout) -> np.ndarray:
    """(3, V, V): the joint itself, its parent (inward), its children (outward).   (2s-AGCN, section 4.3)"""
    inward = edge_matrix(layout.edges, layout.num_joints)
    return np.stack([np.eye(layout.num_joints), normalize_columns(inward), normalize_columns(inward.T)])


def stgcn_spatial(layout: Layout, max_hop: int = 1) -> np.ndarray:
    """(1 + 2 max_hop, V, V): ST-GCN's partition into root, centripetal and centrifugal neighbours.   (ST-GCN, section
    3.3)

    As in the published code distances to the centre are known only up to `max_hop`, so a neighbour counts as farther
    from the centre only next to the centre itself; the published weights were trained so.
    """
    hops = hop_distance(layout.edges, layout.num_joints, max_hop)
    adjacency = normalize_columns((hops <= max_hop).astype(float))
    from_center = hops[:, layout.root]
    closer = (
        from_center[:, None] >= from_center[None, :]
    )  # row joint is at least as far from the centre as the column's
    subsets = []
    for hop in range(max_hop + 1):
        ring = np.where(hops == hop, adjacency, 0)
        subsets += [ring] if hop == 0 else [np.where(closer, ring, 0), np.where(closer, 0, ring)]
    return np.stack(subsets)


def binary_adjacency(layout: Layout) -> np.ndarray:
    """(1, V, V): one where two joints share an edge, no self links."""
    inward = edge_matrix(layout.edges, layout.num_joints)
    return (inward + inward.T)[None]


def random_graph(layout: Layout, subsets: int, mean: float, std: float, rng: np.random.RandomState) -> np.ndarray:
    """(subsets, V, V) drawn from N(mean, std^2): DG-STGCN learns its graphs from noise."""
    return rng.randn(subsets, layout.num_joints, layout.num_joints) * std + mean


def k_adjacency(adjacency: np.ndarray, k: int, with_self: bool = False) -> np.ndarray:
    """(V, V): one where the shortest path between two joints has exactly k edges (plus the identity if `with_self`).

    adjacency: (V, V) of zeros and ones.   (MS-G3D, eq. 3)
    """
    identity = np.eye(len(adjacency))
    if k == 0:
        return identity
    reach = adjacency + identity
    within = [np.minimum(np.linalg.matrix_power(reach, hop), 1) for hop in (k - 1, k)]
    return within[1] - within[0] + (identity if with_self else 0)


def k_adjacency_stack(layout: Layout, subsets: int) -> np.ndarray:
    """(subsets, V, V): joints exactly 0, 1, ... edges away, columns normalised."""
    adjacency = binary_adjacency(layout)[0]
    return np.stack([normalize_columns(k_adjacency(adjacency, k)) for k in range(subsets)])


@dataclass(frozen=True)
class GraphSpec:
    """A graph and its parameters, for modes that have some.

    Attributes:
        subsets: K, of the modes random and k_adjacency.
        mean, std, seed: of the random mode.
    """

    mode: GraphMode
    subsets: int = 3
    mean: float = 0.04
    std: float = 0.02
    seed: int = 0


def build_graph(layout: Layout, spec: "GraphMode | GraphSpec") -> np.ndarray:
    """Return the (K, V, V) float32 graph of a mode.

    PaddleVideo uses the names spatial and stgcn_spatial the other way round; the modes that begin with its name
    translate.
    """
    spec = GraphSpec(spec) if isinstance(spec, str) else spec
    builders = {
        "spatial": spatial,
        "stgcn_spatial": stgcn_spatial,
        "binary_adj": binary_adjacency,
        "paddlevideo_spatial": stgcn_spatial,
        "paddlevideo_stgcn_spatial": spatial,
        "k_adjacency": lambda layout: k_adjacency_stack(layout, spec.subsets),
        "random": lambda layout: random_graph(
            layout, spec.subsets, spec.mean, spec.std, np.random.RandomState(spec.seed)
        ),
    }
    return builders[spec.mode](layout).astype(np.float32)
