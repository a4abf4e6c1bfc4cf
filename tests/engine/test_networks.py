"""Every published recipe builds, and every network learns."""

import paddle
import pytest
from conftest import ROOT

from paddleskel.data.transforms.stream import STREAMS
from paddleskel.engine.build import Data, build_network, expected_shape
from paddleskel.engine.settings import load_settings
from paddleskel.models.registry import LOSSES

CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs" / "recognition").rglob("*.yaml"))
NETWORKS = ("stgcn", "stgcn_plusplus", "agcn", "aagcn", "ctrgcn", "dgstgcn", "msg3d")


@pytest.fixture(scope="module")
def networks():
    """Networks by what they are built from; configs share most of them."""
    return {}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_runs_for_every_stream(config, networks, monkeypatch):
    monkeypatch.chdir(ROOT)
    for stream in STREAMS:
        settings, _ = load_settings(config, [f"stream={stream}"])
        key = str((settings.MODEL, settings.layout, settings.num_classes))
        if key not in networks:
            networks[key] = build_network(settings)
            networks[key].eval()
        persons, frames, joints, channels = expected_shape(settings, networks[key])
        with paddle.no_grad():  # few frames, for speed
            logits = networks[key](paddle.randn([1, persons, min(frames, 8), joints, channels]))
        assert logits.shape == [1, settings.num_classes]


def test_channels_follow_the_streams(monkeypatch):
    monkeypatch.chdir(ROOT)
    toy = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"
    channels = lambda *options: build_network(load_settings(toy, options)[0]).backbone.in_channels
    assert [channels(f"stream={stream}") for stream in ("j", "j+b", "[j, b, jm, bm]")] == [3, 6, 12]
    assert channels("stream=j+b", "MODEL.backbone.in_channels=4") == 4


@pytest.mark.parametrize("network", NETWORKS)
def test_two_steps_lower_the_loss(network, toy_file, monkeypatch):
    """On one batch of toy clips, at the width users train, with few frames."""
    monkeypatch.chdir(ROOT)
    splits = [f"DATASET.{part}.file={toy_file}" for part in ("train", "valid", "test")]
    settings, _ = load_settings(
        f"configs/recognition/{network}/{network}_toy.yaml", [*splits, "PIPELINE.UniformSample.clip_len=16"]
    )
    paddle.seed(0)
    model, loss = build_network(settings), LOSSES.build(settings.MODEL.loss, "MODEL.loss")
    dataset = Data(settings).dataset("train")
    samples = [dataset[i * len(dataset) // 12] for i in range(12)]
    x = paddle.to_tensor([sample[0][0] for sample in samples])
    labels = paddle.to_tensor([int(sample[1]) for sample in samples])
    optimizer = paddle.optimizer.Momentum(0.05, 0.9, model.parameters(), use_nesterov=True)
    losses = []
    for _ in range(3):
        value = loss(model(x), labels)
        losses.append(float(value))
        value.backward()
        optimizer.step()
        optimizer.clear_grad()
    assert losses[2] < losses[0]
