"""Layouts and graphs."""

import numpy as np
import pytest

from paddleskel.errors import UserError
from paddleskel.skeleton.graph import GraphSpec, build_graph, k_adjacency
from paddleskel.skeleton.layout import guess_layout, layout_names, load_layout

# sums and non-zeros of each subset, and the checksum sum A[k, i, j] (k+1)(i+1)(j+2), computed with the published code
GRAPHS = {
    ("nturgb+d", "spatial"): ([25, 24, 18], [25, 24, 24], 22273.5),
    ("nturgb+d", "stgcn_spatial"): ([9.116667, 13.133333, 2.75], [25, 40, 8], 7876.2667),
    ("nturgb+d", "binary_adj"): ([48], [48], 7601),
    ("coco", "spatial"): ([17, 16, 11], [17, 16, 16], 8731),
    ("coco", "stgcn_spatial"): ([6.366667, 7.133333, 3.5], [17, 22, 10], 3035.2167),
    ("coco", "binary_adj"): ([32], [32], 2930),
    ("openpose", "spatial"): ([18, 17, 12], [18, 17, 17], 9385.5),
    ("openpose", "stgcn_spatial"): ([6.666667, 8.583333, 2.75], [18, 25, 9], 3288.1667),
    ("openpose", "binary_adj"): ([34], [34], 3003),
    ("handmp", "spatial"): ([21, 20, 16], [21, 20, 20], 16932),
    ("handmp", "stgcn_spatial"): ([7.666667, 10, 3.333333], [21, 30, 10], 5557),
    ("handmp", "binary_adj"): ([40], [40], 5440),
}


@pytest.mark.parametrize(("layout", "mode"), GRAPHS)
def test_graphs_equal_the_published_ones(layout, mode):
    sums, nonzeros, checksum = GRAPHS[layout, mode]
    graph = build_graph(load_layout(layout), mode).astype(np.float64)
    k, i, j = np.indices(graph.shape)
    np.testing.assert_allclose(graph.sum((1, 2)), sums, atol=1e-5)
    assert np.count_nonzero(graph, (1, 2)).tolist() == nonzeros
    assert (graph * (k + 1) * (i + 1) * (j + 2)).sum() == pytest.approx(checksum, abs=1e-3)


def test_only_neighbours_of_the_centre_count_as_farther():
    further = build_graph(load_layout("nturgb+d"), "stgcn_spatial")[2]
    found = {(int(i), int(j)): round(float(further[i, j]), 4) for i, j in zip(*np.nonzero(further))}
    third = 0.3333
    expected = {(1, 0): 0.25, (2, 3): 0.5, (4, 5): third, (8, 9): third}
    expected |= {(20, 1): third, (20, 2): third, (20, 4): third, (20, 8): third}
    assert found == expected


def test_random_graph_follows_the_legacy_generator():
    graph = build_graph(load_layout("nturgb+d"), GraphSpec("random", subsets=8))
    assert graph.shape == (8, 25, 25)
    assert graph.astype(np.float64).mean() == pytest.approx(0.0397055, abs=1e-7)
    assert graph.astype(np.float64).std() == pytest.approx(0.0197067, abs=1e-7)
    np.testing.assert_allclose(graph[0, 0, :3], [0.07528105, 0.04800314, 0.05957476], atol=1e-8)


def test_other_names_and_modes():
    layout = load_layout("coco")
    for alias, mode in (("spatial", "stgcn_spatial"), ("stgcn_spatial", "spatial")):
        np.testing.assert_array_equal(build_graph(layout, f"paddlevideo_{alias}"), build_graph(layout, mode))
    rings = build_graph(layout, GraphSpec("k_adjacency", subsets=4))
    assert rings.shape == (4, 17, 17)
    np.testing.assert_allclose(rings.sum(1).max(), 1)


def test_bones_of_openpose_start_at_the_nose_though_its_graph_centres_on_the_neck():
    layout = load_layout("openpose")
    assert (layout.root, layout.bone_parents[:3]) == (1, (0, 0, 1))
    assert load_layout("ntu-rgb+d").parents[21] == 22  # the original graphs chain the hand's joints


def test_k_adjacency_holds_the_pairs_at_exactly_k_edges():
    adjacency = build_graph(load_layout("coco"), "binary_adj")[0]
    rings = [k_adjacency(adjacency, k) for k in range(12)]
    assert (rings[0] == np.eye(17)).all()
    assert (rings[1] == adjacency).all()
    assert (sum(rings) == 1).all()  # a connected graph: each pair at one distance


def test_skip_bones_reach_past_the_parent():
    layout = load_layout("nturgb+d")
    two = [20, 1, 2, 20, 4, 20, 4, 5, 8, 20, 8, 9, 1, 0, 12, 13, 1, 0, 16, 17, 20, 7, 6, 11, 10]
    assert layout.ancestors(2).tolist() == two  # BRL's pairs
    assert layout.ancestors(3)[[6, 7, 10, 12, 21, 24]].tolist() == [20, 4, 20, 20, 6, 9]
    assert layout.ancestors(4)[[7, 11, 13, 14, 21]].tolist() == [20, 20, 20, 1, 5]


def test_flip_exchanges_left_and_right():
    flip = load_layout("nturgb+d").flip.tolist()
    assert flip == [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22]


@pytest.mark.parametrize("name", layout_names())
def test_shipped_layouts_survive_being_written_and_read(name):
    layout = load_layout(name)
    assert load_layout(layout.to_dict()) == layout
    covered = sorted(joint for part in layout.parts.values() for joint in part)
    assert covered == list(range(layout.num_joints))


def test_inline_and_file_layouts(tmp_path):
    spec = {"joints": {"hip": "hip", "head": "hip", "hand": "head"}}
    layout = load_layout(spec)
    assert (layout.root, layout.edges) == (0, [(1, 0), (2, 1)])
    path = tmp_path / "stick.yaml"
    path.write_text("joints: {hip: hip, head: hip, hand: head}\n")
    assert load_layout(str(path)) == layout


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"joints": {"a": "b"}}, "layout.joints.a: no joint 'b'"),
        ({"joints": {"a": "a", "b": "b"}}, "2 roots (a, b)"),
        ({"joints": {"a": "a", "b": "c", "c": "b"}}, "'b' never reaches the root 'a'"),
        ({"joints": {"a": "b", "b": "a"}}, "no root"),
        ({"joints": {"a": "a", "b": "a"}, "pairs": [["a", "x"]]}, "layout.pairs: no joint 'x'"),
        ({"joints": {"a": "a", "b": "a", "c": "b"}, "pairs": [["b", "c"]]}, "their parents are not mirror images"),
        ({"joints": {"a": "a", "b": "a", "c": "a"}, "pairs": [["b", "c"], ["c", "a"]]}, "more than one pair"),
        ({"joints": {"a": "a"}, "joint": 1}, "layout.joint: unknown key for a layout (did you mean 'joints'?)"),
        ({"joints": ["a"]}, "layout.joints: expected a mapping"),
    ],
)
def test_broken_layouts_are_explained(spec, message):
    with pytest.raises(UserError) as caught:
        load_layout(spec)
    assert message in str(caught.value)


# joints, root: as the makers of each format document them
SHIPPED = {
    "coco": (17, "nose"),
    "coco_wholebody": (133, "nose"),
    "h36m": (17, "pelvis"),
    "halpe26": (26, "neck"),
    "handmp": (21, "wrist"),
    "jhmdb": (15, "belly"),
    "mediapipe_pose": (33, "nose"),
    "nturgb+d": (25, "spine_shoulder"),
    "nturgb+d_chain": (25, "spine_shoulder"),
    "nw_ucla": (20, "shoulder_center"),
    "openpose": (18, "neck"),
    "openpose25": (25, "mid_hip"),
    "smpl": (24, "pelvis"),
}


def test_the_layouts_that_come_along():
    found = {
        name: (load_layout(name).num_joints, load_layout(name).joints[load_layout(name).root])
        for name in layout_names()
    }
    assert found == SHIPPED


def test_a_mirrored_face_is_a_face():
    layout = load_layout("coco_wholebody")
    flip = layout.flip
    assert (flip[flip] == np.arange(133)).all()
    assert layout.joints[flip[23]] == "face_16"  # the ends of the jaw
    assert layout.joints[flip[91]] == "right_hand_root"


def test_a_guessed_layout_has_the_joints_of_the_data():
    guesses = {(joints, axes): guess_layout([joints], [axes]) for joints in range(1, 140) for axes in (2, 3)}
    known = {shape: layout for shape, layout in guesses.items() if layout}
    assert all(layout.num_joints == joints for (joints, _), layout in known.items())
    assert len(known) == 14
    assert known[17, 2].name == "coco"
    assert known[17, 3].name == "h36m"
    assert known[25, 3].name == "nturgb+d"
    assert guess_layout([17, 25], [2]) is None
    assert guess_layout([17], [2, 3]) is None
