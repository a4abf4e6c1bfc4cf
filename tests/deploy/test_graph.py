"""What goes into the graph: folded BatchNorms, streams computed from joints, fused networks, softmax."""

import numpy as np
import paddle
import pytest
from conftest import ROOT
from test_engines import IN_PROCESS, NETWORKS, randomize, tiny

from paddleskel.data.annotation import parse_annotation
from paddleskel.data.transforms import build_pipeline
from paddleskel.deploy.export import ExportOptions, export
from paddleskel.deploy.fold import fold
from paddleskel.deploy.members import Member
from paddleskel.deploy.predictor import Predictor
from paddleskel.engine.build import build_network
from paddleskel.engine.settings import load_settings
from paddleskel.errors import UserError
from paddleskel.metrics import softmax
from paddleskel.models.checkpoint import save_checkpoint
from paddleskel.skeleton.layout import load_layout

ONLY = ExportOptions(["paddle"], engines=["paddle"])


@pytest.mark.parametrize("network", NETWORKS)
def test_folding_keeps_the_function_and_leaves_few_batchnorms(network, tmp_path):
    settings, _ = tiny(network, tmp_path)
    model = build_network(settings)
    randomize(model)
    model.eval()
    before = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    folded = fold(model)
    inputs = paddle.to_tensor(np.random.RandomState(0).randn(2, 2, 8, 17, 3).astype(np.float32))
    expected = model(inputs).numpy()
    assert np.abs(folded(inputs).numpy() - expected).max() < 2e-5 * np.abs(expected).max()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])

    def count(net):
        return sum(type(layer).__name__.startswith("BatchNorm") for layer in net.sublayers())

    left = {"dgstgcn": 1 + 3, "ctrgcn": 1 + 1}.get(network, 1)  # the input's; where nothing commutes
    assert count(folded) <= left < count(model)


@pytest.mark.parametrize("config", ["stgcn_plusplus_toy", "stgcn_plusplus_toy_3d"])
@pytest.mark.parametrize("stream", ["j", "b", "jm", "bm", "k", "km", "j+bm"])
@pytest.mark.parametrize("order", ["motions, then clips", "clips, then motions"])
def test_streams_in_the_graph_equal_the_pipelines(config, stream, order, annotation):
    """Exactly, whether frames are sampled after the motions were computed or before."""
    from paddleskel.models.streams import Streams, coordinates, joints_pipeline, needs_following

    settings, _ = load_settings(ROOT / f"configs/recognition/stgcn_plusplus/{config}.yaml")
    layout, specs = settings.load_layout(), list(settings.PIPELINE)
    if order == "clips, then motions":
        specs.insert(-1, specs.pop([spec["name"] for spec in specs].index("Stream")))
    if layout.num_joints == 25:
        points = np.random.RandomState(0).randn(2, 60, 25, 3).astype(np.float32)
        annotation = {"frame_dir": "x", "keypoint": points}
    clip = parse_annotation(annotation, "x", layout, need_label=False)
    expected = build_pipeline(specs, layout, stream, num_clips=2)(clip, None)
    names = stream.split("+")
    joints = build_pipeline(joints_pipeline(specs, names), layout, "j", num_clips=2)(clip, None)
    _, scored = coordinates(specs, expected.shape[-1] // len(names))
    assert scored == (layout.num_joints == 17)
    got = Streams(names, layout, scored, needs_following(names))(paddle.to_tensor(joints)).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Settings, and four networks with random weights, one a stream."""
    folder = tmp_path_factory.mktemp("four")
    settings, _ = tiny("stgcn_plusplus", folder)
    members, models = [], []
    for number, (stream, share) in enumerate({"j": 2.0, "b": 2.0, "jm": 1.0, "bm": 1.0}.items()):
        paddle.seed(number)
        model = build_network(settings)
        weights = folder / f"{stream}.pdparams"
        save_checkpoint(weights, model, {"config": {"stream": stream}})
        model.eval()
        members.append(Member(stream, weights, share))
        models.append(model)
    return settings, members, models


def test_four_streams_become_one_model(four, toy_file, tmp_path):
    settings, members, models = four
    done = export(settings, members, tmp_path / "model", options=ExportOptions(engines=IN_PROCESS))
    assert all(row.usable for row in done.bundle.proof), "\n".join(done.lines)
    assert done.bundle.output == "probs"
    layout, expected = settings.load_layout(), 0
    for engine in dict.fromkeys(row.engine for row in done.bundle.proof):
        predictor = Predictor(tmp_path / "model", engine=engine, num_clips=3)
        clips = predictor.read(toy_file)[:8]
        expected = 0
        for member, model in zip(members, models):
            pipeline = build_pipeline(settings.PIPELINE, layout, member.stream, num_clips=3)
            logits = [model(paddle.to_tensor(pipeline(clip, None))).numpy() for clip in clips]
            expected = expected + member.share / 6 * softmax(np.array(logits)).mean(axis=1)
        got = [prediction.probs for prediction in predictor.predict(clips, 4)]
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_one_stream_in_the_graph_and_softmax(four, toy_file, tmp_path):
    settings, members, models = four
    options = ExportOptions(["paddle"], with_softmax=True, with_streams=True, engines=["paddle"])
    done = export(settings, [members[1]], tmp_path / "model", options=options)
    assert (done.bundle.output, done.bundle.in_graph_streams) == ("probs", ["b"])
    assert done.bundle.input_shape[-1] == 3  # bones need no following frame
    predictor = Predictor(tmp_path / "model")
    clip = predictor.read(toy_file)[0]
    pipeline = build_pipeline(settings.PIPELINE, settings.load_layout(), "b")
    expected = softmax(models[1](paddle.to_tensor(pipeline(clip, None))).numpy())[0]
    np.testing.assert_allclose(next(predictor.predict([clip])).probs, expected, atol=1e-6)


def test_weights_of_another_stream_are_refused(four, tmp_path):
    settings, members, _ = four
    with pytest.raises(UserError, match="trained on the stream b, given for j"):
        export(settings, [Member("j", members[1].weights)], tmp_path, options=ONLY)


def test_fusion_on_the_command_line(four, run, toy_options, tmp_path):
    _, members, _ = four
    from test_engines import TINY

    overrides = [part for option in TINY for part in ("--override", option)]
    config = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"
    pairs = [f"{member.stream}={member.weights}" for member in members]
    result = run("export_model", "-c", config, *overrides, "-o", tmp_path, "--format", "paddle", "--ensemble", *pairs)
    assert result.code == 0, result.err
    for mistake, said in (
        (["--ensemble", "j"], "expected STREAM=FILE"),
        (["--ensemble", pairs[0], "b=nowhere.pdparams"], "nowhere.pdparams: no such weights"),
        (["--ensemble", *pairs, "--ensemble_weights", "1", "2"], "expected 4 numbers"),
        (["--ensemble", pairs[0], pairs[1].replace("b=", "bone=", 1)], "unknown stream 'bone'"),
        (["--format", "tflite", "--ensemble", *pairs], "unknown format 'tflite'"),
    ):
        failed = run("export_model", "-c", config, *overrides, "-o", tmp_path / "x", *mistake)
        assert (failed.code, said in failed.err) == (2, True), failed.err


def test_both_of_paddles_formats_from_one_installation(tmp_path):
    for network in ("aagcn", "ctrgcn"):
        settings, weights = tiny(network, tmp_path)
        options = ExportOptions(["paddle", "pdmodel"], engines=["paddle"])
        done = export(settings, [Member("j", weights)], tmp_path / network, options=options)
        assert all(row.usable for row in done.bundle.proof)
        assert {model.format for model in done.bundle.models} >= {"pdmodel"}
        alone = export(settings, [Member("j", weights)], tmp_path / "alone", options=ExportOptions(["pdmodel"]))
        assert alone.bundle.models[0].files == ["inference.pdmodel", "inference.pdiparams"]


@pytest.mark.parametrize("layout", ["coco", "nturgb+d"])
def test_the_sample_checks_a_port(layout, tmp_path):
    """From its raw joints through the pipeline of inference.yml to its output."""
    name = "stgcn_plusplus_toy" if layout == "coco" else "stgcn_plusplus_toy_3d"
    options = ["MODEL.backbone.base_channels=8", "MODEL.backbone.num_stages=2"]
    settings, _ = load_settings(ROOT / f"configs/recognition/stgcn_plusplus/{name}.yaml", options)
    model = build_network(settings)
    save_checkpoint(tmp_path / "w.pdparams", model, {})
    export(settings, [Member("j", tmp_path / "w.pdparams")], tmp_path / "model", options=ONLY)
    predictor = Predictor(tmp_path / "model")
    with np.load(tmp_path / "model" / "sample.npz") as sample:
        raw = {"frame_dir": "s", "keypoint": sample["raw_keypoint"], "img_shape": sample.get("image_size")}
        raw["keypoint_score"] = sample.get("raw_score")
        clip = parse_annotation(raw, "sample", load_layout(layout), need_label=False)
        inputs = predictor.pipeline(clip, None)
        np.testing.assert_allclose(inputs, sample["input"], atol=1e-6)
        np.testing.assert_allclose(predictor.engine(sample["input"]), sample["output"], atol=1e-5)


@pytest.mark.parametrize(
    ("step", "frames"),
    [("{name: CropResize, clip_len: 12}", 12), ("{name: PadTo, length: 14}", 14), ("{name: Joints}", None)],
    ids=["CropResize", "PadTo", "none"],
)
def test_weights_without_a_record_take_what_the_pipeline_makes(step, frames, tmp_path):
    """Published weights do not say what they were trained on, so the pipeline itself is asked."""
    options = ["MODEL.backbone.base_channels=8", "MODEL.backbone.num_stages=2", f"PIPELINE.2={step}"]
    settings, _ = load_settings(ROOT / "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml", options)
    save_checkpoint(tmp_path / "w.pdparams", build_network(settings), {})
    write = lambda: export(settings, [Member("j", tmp_path / "w.pdparams")], tmp_path / "model", options=ONLY)
    if frames is None:
        with pytest.raises(UserError, match="no step gives all clips the same number of frames"):
            write()
        return
    assert write().bundle.input_shape == [2, frames, 17, 3]
