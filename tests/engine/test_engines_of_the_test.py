"""Testing on an inference engine (--engine): the network's scores, or a refusal."""

import numpy as np
import pytest
from conftest import TOY_CONFIG

from paddleskel.deploy import standin
from paddleskel.deploy.engines import ENGINES, OnnxRuntimeEngine
from paddleskel.deploy.formats import why_no_onnx
from paddleskel.results import read_results
from paddleskel.runtime import cpuinfo, has_bfloat16


@pytest.fixture
def scores(run, exported, toy_options, tmp_path):
    """Test the trained toy network; return what was printed and the file of its scores."""

    def call(*arguments):
        out = tmp_path / "scores.npz"
        where = ["-o", f"output_dir={tmp_path}", "--out", out]
        return run("main", "-c", TOY_CONFIG, *toy_options, "--test", "-w", exported[1], *where, *arguments), out

    return call


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "paddle"])
def test_scores_are_the_networks(scores, engine):
    if ENGINES[engine].version is None or ("onnx" in ENGINES[engine].formats and why_no_onnx()):
        pytest.skip(f"needs {engine}, paddle2onnx for onnxruntime and openvino")
    result, out = scores()
    assert result.code == 0, result.err
    expected = read_results(out)
    result, out = scores("--engine", engine)
    assert result.code == 0, result.err
    found = read_results(out)
    assert found.ids == expected.ids
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4 * np.abs(expected.logits).max())
    assert not np.array_equal(found.logits, expected.logits)  # computed elsewhere indeed


@pytest.mark.skipif(
    ENGINES["openvino"].version is None or why_no_onnx() is not None or not has_bfloat16(cpuinfo()),
    reason="needs openvino, paddle2onnx and a processor that computes with bfloat16",
)
def test_bfloat16_is_close_and_not_the_same(scores):
    expected = read_results(scores()[1])
    result, out = scores("--engine", "openvino", "--precision", "bf16")
    assert result.code == 0, result.err
    found = read_results(out)
    difference = np.abs(found.logits - expected.logits).max() / np.abs(expected.logits).max()
    assert 1e-4 < difference < 0.05


def test_bfloat16_needs_openvino_and_a_processor_for_it(scores, monkeypatch):
    assert "--precision bf16: is an engine's; add --engine openvino" in scores("--precision", "bf16")[0].err
    result, out = scores("--engine", "paddle", "--precision", "bf16")
    assert result.code == 2
    assert "--precision bf16: paddle tests in fp32 alone; add --engine openvino" in result.err
    monkeypatch.setitem(ENGINES, "openvino", ENGINES["paddle"])  # installed
    monkeypatch.setattr(standin, "has_bfloat16", lambda text: False)
    result, _ = scores("--engine", "openvino", "--precision", "bf16")
    assert "this processor has no units for bfloat16" in result.err
    assert not out.exists()


def test_an_engine_that_computes_something_else_is_refused(scores, monkeypatch):
    if why_no_onnx():
        pytest.skip("needs onnxruntime and paddle2onnx")
    right = OnnxRuntimeEngine.__call__
    monkeypatch.setattr(OnnxRuntimeEngine, "__call__", lambda self, inputs: right(self, inputs) * 1.01)
    result, out = scores("--engine", "onnxruntime")
    assert result.code == 2
    assert "--engine onnxruntime: its scores differ from the network's by 1.0e-02 of the largest" in result.err
    assert not out.exists()


def test_what_an_engine_needs_is_named_before_training(train, monkeypatch):
    monkeypatch.setattr(standin, "why_no_onnx", lambda: "paddle2onnx not installed: pip install paddle2onnx")
    result, folder = train("run", "--test-last", "--engine", "onnxruntime", code=2)
    needs = "takes the network as ONNX, but paddle2onnx not installed: pip install paddle2onnx"
    assert f"--engine onnxruntime: {needs}" in result.err
    assert not folder.exists()


def test_unknown_engines_are_refused_before_training(train):
    result, folder = train("run", "--test-last", "--engine", "onnxrumtime", code=2)
    assert "unknown engine 'onnxrumtime' (did you mean 'onnxruntime'?)" in result.err
    assert not folder.exists()


def test_an_engine_without_a_test_is_refused(train):
    result, _ = train("run", "--engine", "onnxruntime", code=2)
    assert "--engine: is for testing" in result.err
