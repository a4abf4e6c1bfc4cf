"""Evaluation in pieces, on all cores: the network's scores, whatever the number of threads."""

import threading
import time

import numpy as np
import paddle
import pytest

from paddleskel.engine import pieces
from paddleskel.engine.pieces import in_pieces, split
from paddleskel.models.recognizer import build_model
from paddleskel.skeleton.layout import load_layout

NETWORKS = ["STGCN", "STGCNPlusPlus", "AGCN", "AAGCN", "CTRGCN", "DGSTGCN", "MSG3D"]


class Mean(paddle.nn.Layer):
    """The smallest network: (N, M, T, V, C) -> (N, C)."""

    def __init__(self):
        super().__init__()
        self.factor = self.create_parameter([1])

    def forward(self, clips):
        return clips.mean(axis=[1, 2, 3]) * self.factor


@pytest.fixture
def small_pieces(monkeypatch):
    """Let pieces of tiny networks pay."""
    monkeypatch.setattr(pieces, "_SMALL", 0)
    monkeypatch.setattr(pieces, "_LEAST_POINTS", 1)


@pytest.fixture
def scores(monkeypatch, small_pieces):
    """Scores of clips with so many threads."""

    def compute(network, clips: paddle.Tensor, threads: int) -> np.ndarray:
        monkeypatch.setattr(pieces, "cpu_threads", lambda: threads)
        with paddle.no_grad(), in_pieces(network) as forward:
            return forward(clips).numpy()

    return compute


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_the_networks_and_the_same_with_any_threads(name, scores):
    paddle.seed(3)
    network = build_model({"backbone": {"name": name, "base_channels": 16}, "head": "GCNHead"}, load_layout("coco"), 5)
    network.train()
    with paddle.no_grad():  # statistics of these clips, so that no scale is extreme
        clips = paddle.randn([10, 2, 24, 17, 3])
        for _ in range(30):
            network(clips)
    network.eval()
    with paddle.no_grad():
        whole = network(clips).numpy()
    one, two, four = (scores(network, clips, threads) for threads in (1, 2, 4))
    np.testing.assert_allclose(one, whole, rtol=1e-4, atol=1e-5 * abs(whole).max())
    assert np.array_equal(one, two)
    assert np.array_equal(one, four)


@pytest.mark.parametrize(
    ("clips", "frames", "threads", "sizes"),
    [
        (16, 100, 2, [4, 4, 4, 4]),
        (10, 100, 1, [3, 3, 2, 2]),
        (10, 100, 4, [3, 3, 2, 2]),
        (4, 100, 2, [2, 2]),
        (1, 100, 2, [1]),
        (64, 20, 2, [16, 16, 16, 16]),
        (17, 20, 8, [17]),  # pieces of less than 6000 points do not pay; a clip has 680
        (40, 20, 8, [10, 10, 10, 10]),
        (20, 100, 2, [3, 3, 3, 3, 2, 2, 2, 2]),  # five clips of 3400 points are too many for a piece
        (5, 2000, 2, [1] * 5),
    ],
)
def test_pieces_depend_on_the_batch(clips, frames, threads, sizes):
    batch = paddle.rand([clips, 2, frames, 17, 3])
    found = split(batch, threads)
    assert [len(piece) for piece in found] == sizes
    assert np.array_equal(paddle.concat(found).numpy(), batch.numpy())


def test_several_threads_compute_and_none_makes_a_gradient(scores):
    seen, together = {}, threading.Barrier(2, timeout=20)

    class Watched(Mean):
        def forward(self, clips):
            together.wait()  # breaks unless another piece is computed at the same time
            scores = super().forward(clips)
            seen[threading.get_ident()] = scores.stop_gradient
            return scores

    assert scores(Watched(), paddle.rand([8, 1, 4, 17, 3]), 2).shape == (8, 3)
    assert list(seen.values()) == [True, True]
    assert paddle.is_grad_enabled()


def test_a_small_network_takes_whole_batches(monkeypatch):
    def refuse(*_):
        raise AssertionError("split")

    monkeypatch.setattr(pieces, "split", refuse)
    with in_pieces(Mean()) as forward:
        assert forward(paddle.rand([64, 2, 100, 17, 3])).shape == [64, 3]


def test_a_thread_that_starts_late_leaves_kernels_their_threads(monkeypatch, small_pieces):
    counts, first = [], threading.Lock()

    def start_late():
        if not first.acquire(blocking=False):  # all but one, which computes everything meanwhile
            time.sleep(0.5)
        counts.append(1)

    monkeypatch.setattr(pieces, "cpu_threads", lambda: 8)
    monkeypatch.setattr(pieces, "_start_thread", start_late)
    monkeypatch.setattr(pieces.core, "set_num_threads", counts.append)
    with in_pieces(Mean()) as forward:
        forward(paddle.rand([8, 1, 4, 17, 3]))
    assert counts.count(1) > 2  # threads, and the batch
    assert counts[-1] == 8


def test_a_failure_in_a_piece_is_the_batchs(monkeypatch, small_pieces):
    counts = []
    monkeypatch.setattr(pieces, "cpu_threads", lambda: 2)
    monkeypatch.setattr(pieces.core, "set_num_threads", counts.append)

    class Failing(Mean):
        def forward(self, clips):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"), in_pieces(Failing()) as forward:
        forward(paddle.rand([8, 1, 4, 17, 3]))
    assert counts[-1] == 2  # kernels have all threads again
