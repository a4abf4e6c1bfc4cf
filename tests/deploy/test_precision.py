"""Half precision and INT8: exported beside fp32, scored on the validation split, chosen in prediction."""

import numpy as np
import pytest
from conftest import TOY_CONFIG

from paddleskel.deploy.bundle import Accuracy, Proof, read_bundle
from paddleskel.deploy.formats import why_no_onnx
from paddleskel.deploy.precision import judge
from paddleskel.deploy.predictor import Predictor

pytestmark = pytest.mark.skipif(why_no_onnx() is not None, reason=f"no ONNX: {why_no_onnx()}")


@pytest.fixture(scope="module")
def small(exported, toy_options, tmp_path_factory):
    """The toy model in all precisions."""
    import export_model
    from conftest import ROOT

    folder = tmp_path_factory.mktemp("small")
    overrides = ["--override" if part == "-o" else part for part in toy_options]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        command = ["-c", TOY_CONFIG, *overrides, "-p", str(exported[1]), "-o", str(folder), "--format", "onnx"]
        assert export_model.main([*command, "--precision", "fp16,bf16,int8"]) == 0
    return folder


def test_every_precision_is_written_proved_and_scored(small):
    bundle = read_bundle(small / "inference.yml")
    assert [model.precision for model in bundle.models] == ["fp32", "fp16", "bf16", "int8"]
    size = {model.precision: (small / model.files[0]).stat().st_size for model in bundle.models}
    assert max(size["fp16"], size["bf16"]) < size["fp32"]
    scored = {(row.precision, row.engine): row for row in bundle.accuracy}
    for row in bundle.accuracy:
        assert row.samples == 24
        assert row.size == size[row.precision]
        assert row.milliseconds > 0
        if bundle.is_usable(next(m for m in bundle.models if m.precision == row.precision), row.engine):
            assert scored["fp32", row.engine].top1 - row.top1 <= 0.01


def test_prediction_takes_the_precision_asked_for(small, toy_file):
    exact = Predictor(small)
    assert exact.model.precision == "fp32"
    clips = exact.read(toy_file)[:16]
    expected = exact.probs(clips)
    for precision, tolerance in (("fp16", 0.01), ("bf16", 0.01), ("int8", 0.05)):
        rough = Predictor(small, precision=precision, engine="onnxruntime")
        np.testing.assert_allclose(rough.probs(clips), expected, atol=tolerance)
        assert (rough.probs(clips) != expected).any()


def test_a_precision_that_loses_accuracy_is_marked():
    proof = [Proof("onnx", kind, "onnxruntime", "1", 1, 0.0, True) for kind in ("fp32", "int8", "bf16")]
    tops = {"fp32": 0.90, "int8": 0.88, "bf16": 0.89}
    scores = [Accuracy("onnx", kind, "onnxruntime", top, 100, 1.0, 1) for kind, top in tops.items()]
    assert [row.usable for row in judge(proof, scores)] == [True, False, True]
    assert "loses 2.0% of top-1" in judge(proof, scores)[1].note


def test_int8_needs_clips_to_calibrate_on(exported, run, toy_options, tmp_path):
    overrides = ["--override" if part == "-o" else part for part in toy_options]
    command = ["-c", TOY_CONFIG, *overrides, "-p", exported[1], "-o", tmp_path]
    result = run("export_model", *command, "--precision", "int8", "--override", "DATASET.train.file=nowhere.pkl")
    assert result.code == 2
    assert "the calibration needs training clips: nowhere.pkl" in result.err
    result = run("export_model", *command, "--precision", "int4")
    assert "unknown precision 'int4'" in result.err
    result = run("export_model", *command, "--precision", "bf16", "--format", "paddle")
    assert "is written as ONNX" in result.err
