"""Export and prediction: the exported folder alone gives what the trained network gives."""

import pickle
import re
import shutil

import numpy as np
import pytest
import yaml
from conftest import TOY_CONFIG

NAME = "STGCN_PlusPlus_toy"


def network_probs(weights, toy_options, toy_file, num_clips):
    """Scores of the trained network itself, in the order of the file."""
    import paddle

    from paddleskel.data.annotation import read_annotations
    from paddleskel.data.dataset import load_clips
    from paddleskel.data.transforms import build_pipeline
    from paddleskel.engine.build import build_network
    from paddleskel.engine.settings import load_settings
    from paddleskel.metrics import softmax
    from paddleskel.models.checkpoint import load_into, read_checkpoint

    settings, _ = load_settings(TOY_CONFIG, toy_options[1::2])
    model = build_network(settings)
    load_into(model, read_checkpoint(weights), weights)
    model.eval()
    layout = settings.load_layout()
    pipeline = build_pipeline(settings.PIPELINE, layout, settings.stream, num_clips=num_clips)
    clips = load_clips(read_annotations(toy_file), None, layout, 12)
    probs = [softmax(model(paddle.to_tensor(pipeline(clip, None))).numpy()).mean(0) for clip in clips]
    return [clip.id for clip in clips], np.array(probs)


def test_the_folder_holds_all_that_is_needed(exported):
    folder, _ = exported
    names = {path.name for path in folder.iterdir()}
    assert {"inference.pdiparams", "inference.yml"} <= names
    assert names & {"inference.json", "inference.pdmodel"}
    described = yaml.safe_load((folder / "inference.yml").read_text())
    for model in described["models"]:
        assert model["input"] == {"name": "keypoint", "shape": [-1, 2, 16, 17, 3], "dtype": "float32"}
        assert set(model["files"]) <= names
    assert described["class_names"][0] == "raise arms"
    assert described["stream"] == "j"
    assert described["layout"]["joints"]["left_wrist"] == "left_elbow"
    assert [step["name"] for step in described["transforms"]] == ["PreNormalize2D", "Stream", "UniformSample", "Pack"]
    assert set(described["versions"]) == {"paddleskel", "paddlepaddle", "numpy"}


@pytest.mark.parametrize(("batch_size", "num_clips"), [(1, 1), (5, 1), (2, 3)])
def test_prediction_equals_the_trained_network(exported, run, toy_file, toy_options, batch_size, num_clips):
    from paddleskel.deploy.predictor import Predictor

    folder, weights = exported
    ids, expected = network_probs(weights, toy_options, toy_file, num_clips)
    predictor = Predictor(folder, num_clips=num_clips)
    predictions = list(predictor.predict(predictor.read(toy_file), batch_size))
    assert [p.id for p in predictions] == ids
    np.testing.assert_allclose([p.probs for p in predictions], expected, atol=1e-5)


def test_predict_prints_paddlevideos_lines(exported, run, toy_file, tmp_path):
    folder, _ = exported
    one = tmp_path / "one.pkl"
    annotation = pickle.loads(toy_file.read_bytes())["annotations"][7]
    del annotation["label"]
    one.write_bytes(pickle.dumps(annotation))
    result = run(
        "predict", "--config", TOY_CONFIG, "--use_gpu=True", f"--model_file={folder}/inference.pdmodel",
        f"--params_file={folder}/inference.pdiparams", "--batch_size=1", f"--input_file={one}",
    )  # fmt: skip
    assert result.code == 0
    assert "a GPU was asked for" in result.err
    lines = result.out.splitlines()
    assert lines[0] == f"Inference model({NAME})..."
    assert lines[1] == f"Current video file: {one}"
    assert re.fullmatch(r"\ttop-1 class: \d+", lines[2])
    assert re.fullmatch(r"\ttop-1 score: 0\.\d+", lines[3])
    assert re.fullmatch(r"\ttop-1 label: [a-z ]+", lines[4])
    result = run("predict", "--model", folder, "-i", one, "--topk", "3")
    assert "\ttop-3 class: " in result.out


def test_predict_takes_several_files_and_folders(exported, run, toy_file, tmp_path):
    folder, _ = exported
    annotations = pickle.loads(toy_file.read_bytes())["annotations"]
    inside = tmp_path / "a folder"
    inside.mkdir()
    for number in (1, 2):
        (inside / f"{number}.pkl").write_bytes(pickle.dumps(annotations[number]))
    result = run("predict", "--model", folder, "--input_file", inside, inside / "1.pkl")
    assert result.out.count("Current video file: ") == 3
    whole = run("predict", "--model", folder, "--input_file", toy_file, "--batch_size", "10")
    assert whole.out.count("Current video file: ") == len(annotations)
    assert f"Current video file: {toy_file} [S001R001A001]" in whole.out


def copy_of(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported[0], folder)
    return folder


def test_prediction_says_what_is_wrong(exported, run, toy_file, tmp_path):
    folder = copy_of(exported, tmp_path)

    def error(*arguments):
        result = run("predict", *arguments)
        assert result.code == 2
        assert "Traceback" not in result.err
        return result.err

    assert "give --model FOLDER" in error("-i", toy_file)
    assert "no such model" in error("--model", tmp_path / "nowhere", "-i", toy_file)
    assert "x.pkl: no such file" in error("--model", folder, "-i", tmp_path / "x.pkl")
    (tmp_path / "empty").mkdir()
    assert "not a pose format that is known" in error("--model", folder, "-i", tmp_path / "empty")
    other = {**pickle.loads(toy_file.read_bytes())["annotations"][0], "keypoint": np.ones((1, 5, 25, 2))}
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({**other, "keypoint_score": None, "total_frames": 5}))
    assert "25 joints, but the layout 'coco' has 17" in error("--model", folder, "-i", tmp_path / "other.pkl")
    unscored = {**pickle.loads(toy_file.read_bytes())["annotations"][0], "keypoint_score": None}
    (tmp_path / "unscored.pkl").write_bytes(pickle.dumps(unscored))
    assert "does it have confidences" in error("--model", folder, "-i", tmp_path / "unscored.pkl")
    with open(folder / "inference.pdiparams", "ab") as file:
        file.write(b"x")
    assert "differs from the file that was exported" in error("--model", folder, "-i", toy_file, "--engine", "paddle")
    (folder / "inference.yml").write_text("format: 99\n")
    assert "export the model again" in error("--model", folder, "-i", toy_file)
    (folder / "inference.yml").unlink()
    assert "holds no inference.yml" in error("--model", folder, "-i", toy_file)


def test_export_refuses_a_model_that_differs(exported, run, toy_options, tmp_path, monkeypatch):
    """And leaves the folder as it was."""
    from paddleskel.deploy import export

    folder, weights = copy_of(exported, tmp_path), exported[1]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(export, "run_network", lambda model, inputs: np.ones((len(inputs), 12), np.float32))
    overrides = ["--override" if part == "-o" else part for part in toy_options]
    result = run("export_model", "-c", TOY_CONFIG, *overrides, "-p", weights, "-o", folder)
    assert result.code == 2
    assert "no engine computes what the trained network does" in result.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_export_refuses_an_empty_file(exported, run, toy_options, tmp_path, monkeypatch):
    import paddle

    real = paddle.jit.save

    def save_nothing(model, path):
        real(model, path)
        open(path + ".pdiparams", "wb").close()

    monkeypatch.setattr(paddle.jit, "save", save_nothing)
    overrides = ["--override" if part == "-o" else part for part in toy_options]
    result = run("export_model", "-c", TOY_CONFIG, *overrides, "-p", exported[1], "-o", tmp_path / "x")
    assert result.code == 2
    assert "inference.pdiparams, or an empty one" in result.err
    assert not (tmp_path / "x" / "inference.yml").exists()


def test_export_and_reexport_leave_one_model_file(exported, run, toy_options, tmp_path):
    folder, weights = copy_of(exported, tmp_path), exported[1]
    suffix = ".pdmodel" if (folder / "inference.json").exists() else ".json"
    (folder / f"inference{suffix}").write_text("of another Paddle")
    overrides = ["--override" if part == "-o" else part for part in toy_options]
    result = run("export_model", "-c", TOY_CONFIG, *overrides, "-p", weights, "-o", folder)
    assert result.code == 0
    assert re.search(r"paddle +\d.* right", result.out)
    assert not (folder / f"inference{suffix}").exists()


@pytest.mark.parametrize("name", ["", "a/b", ".hidden"])
def test_names_that_are_none_of_a_file_are_refused(run, tmp_path, name):
    result = run("export_model", "-c", TOY_CONFIG, "-o", tmp_path / "out", "--save_name", name)
    assert result.code == 2
    assert f"--save_name '{name}': expected the name of a file" in result.err
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_named(run, toy_options, tmp_path):
    result = run("export_model", "-c", TOY_CONFIG, "-p", tmp_path / "none.pdparams")
    assert result.code == 2
    assert "none.pdparams: no such weights" in result.err
