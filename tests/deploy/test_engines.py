"""Every network, in every format, on every engine installed; and what becomes of an engine that is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from paddleskel.deploy.bundle import read_bundle, write_bundle
from paddleskel.deploy.engines import ENGINES, EngineOptions
from paddleskel.deploy.export import ExportOptions, export
from paddleskel.deploy.formats import why_no_onnx
from paddleskel.deploy.members import Member
from paddleskel.deploy.predictor import Predictor
from paddleskel.engine.build import build_network
from paddleskel.engine.settings import load_settings
from paddleskel.errors import UserError
from paddleskel.models.checkpoint import save_checkpoint

NETWORKS = ["stgcn_plusplus", "stgcn", "agcn", "aagcn", "ctrgcn", "dgstgcn", "msg3d"]
TINY = [
    "MODEL.backbone.base_channels=12",
    "MODEL.backbone.num_stages=3",
    "MODEL.backbone.inflate_stages=[2]",
    "MODEL.backbone.down_stages=[3]",
    "PIPELINE.UniformSample.clip_len=8",
]
IN_PROCESS = [name for name, kind in ENGINES.items() if not kind.isolate]


def randomize(model):
    """Give every parameter and statistic a value at which mistakes show."""
    import paddle

    rng = np.random.RandomState(0)
    for name, tensor in model.state_dict().items():
        noise = rng.uniform(0.5, 1.5, tensor.shape) if "variance" in name else rng.randn(*tensor.shape) * 0.2
        keep = tensor.numpy() if not name.endswith(("_mean", "_variance", "alpha", "beta")) else 0
        tensor.set_value(paddle.to_tensor((keep + noise).astype(np.float32)))


def tiny(network, folder):
    """Settings of a tiny network of a kind, and random weights for it."""
    options = TINY if network != "msg3d" else [TINY[0], TINY[-1]]
    settings, _ = load_settings(ROOT / f"configs/recognition/{network}/{network}_toy.yaml", options)
    model = build_network(settings)
    randomize(model)
    weights = folder / f"{network}.pdparams"
    save_checkpoint(weights, model, {})
    return settings, weights


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_is_right_on_every_engine(network, tmp_path):
    settings, weights = tiny(network, tmp_path)
    done = export(
        settings, [Member(settings.stream, weights)], tmp_path / "model", options=ExportOptions(engines=IN_PROCESS)
    )
    rows = done.bundle.proof
    assert all(row.usable and row.difference <= 1e-4 for row in rows), "\n".join(done.lines)
    tried = {(row.engine, row.batch) for row in rows}
    installed = [name for name in IN_PROCESS if ENGINES[name].version and (name == "paddle" or not why_no_onnx())]
    assert tried == {(name, batch) for name in installed for batch in (1, 3)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """An export proved on all engines, those in a process of their own too."""
    folder = tmp_path_factory.mktemp("bundle")
    settings, weights = tiny("stgcn_plusplus", folder)
    export(settings, [Member(settings.stream, weights)], folder / "model")
    return folder / "model"


def test_the_table_covers_onednn_whatever_it_does(bundle):
    rows = [row for row in read_bundle(bundle / "inference.yml").proof if row.engine == "paddle-onednn"]
    assert [row.batch for row in rows] == [1, 3]
    assert all(row.usable == (row.difference is not None and row.difference <= 1e-4) for row in rows)
    assert all(row.usable or row.note for row in rows)


def mark_wrong(bundle, folder, *engines):
    import shutil

    shutil.copytree(bundle, folder)
    content = read_bundle(folder / "inference.yml")
    proof = [
        replace(row, usable=False, note="wrong numbers") if row.engine in engines else row for row in content.proof
    ]
    write_bundle(folder / "inference.yml", replace(content, proof=proof))
    return folder


def test_a_wrong_engine_is_never_chosen(bundle, tmp_path):
    usable = [name for name in ENGINES if any(r.engine == name and r.usable for r in proof_of(bundle))]
    first, second, *_ = usable
    assert Predictor(bundle).engine_name == first
    folder = mark_wrong(bundle, tmp_path / "a", first)
    assert Predictor(folder).engine_name == second
    with pytest.raises(UserError, match=r"not proved right .*wrong numbers"):
        Predictor(folder, engine=first)
    with pytest.raises(UserError, match="no engine that was proved right"):
        Predictor(mark_wrong(bundle, tmp_path / "b", *ENGINES))
    with pytest.raises(UserError, match="did you mean 'onnxruntime'"):
        Predictor(folder, engine="onnxruntme")


def proof_of(folder):
    return read_bundle(folder / "inference.yml").proof


def test_engines_agree_with_one_another_and_with_themselves_at_any_batch(bundle):
    content = read_bundle(bundle / "inference.yml")
    inputs = np.random.RandomState(1).randn(5, *content.input_shape).astype(np.float32)
    outputs = {}
    for name, kind in ENGINES.items():
        for model in content.models:
            if model.format in kind.formats and content.is_usable(model, name):
                engine = kind.make([bundle / file for file in model.files], EngineOptions(threads=1))
                outputs[name] = engine(inputs)
                np.testing.assert_allclose(engine(inputs[3:4]), outputs[name][3:4], atol=1e-5)
    first = next(iter(outputs.values()))
    for output in outputs.values():
        np.testing.assert_allclose(output, first, atol=1e-4)


@pytest.mark.skipif(why_no_onnx() is not None, reason=f"no ONNX: {why_no_onnx()}")
def test_onnx_is_standard_and_describes_itself(bundle):
    import onnx

    model = onnx.load(bundle / "inference.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13)]
    assert model.graph.input[0].name == "keypoint"
    assert model.graph.output[0].name == "logits"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["model_name"] == "STGCN_PlusPlus_toy"
    assert "left_wrist" in properties["joints"]


def test_a_crash_marks_an_engine_unusable(tmp_path, monkeypatch):
    from paddleskel.deploy import proof

    settings, weights = tiny("stgcn", tmp_path)
    monkeypatch.setattr(proof.sys, "executable", "/bin/false")
    options = ExportOptions(["paddle"], engines=["paddle", "paddle-onednn"])
    done = export(settings, [Member(settings.stream, weights)], tmp_path / "model", options=options)
    assert [row.usable for row in done.bundle.proof] == [True, True, False, False]


def test_an_engine_that_is_wrong_on_this_machine_is_refused(bundle, monkeypatch):
    real = ENGINES["paddle"].make

    def make(files, options):
        engine = real(files, options)
        return lambda inputs: engine(inputs) + 1

    monkeypatch.setitem(ENGINES, "paddle", replace(ENGINES["paddle"], make=make))
    with pytest.raises(UserError, match="computes something else on this machine"):
        Predictor(bundle, engine="paddle")
