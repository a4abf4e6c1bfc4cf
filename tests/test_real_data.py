"""Two real data sets train, test and predict with nothing but a config of ten lines; the loss falls."""

import json

import pytest
from conftest import ROOT

BASE = (
    f"_base_: [{ROOT}/configs/_base_/models/stgcn_plusplus.yaml, {ROOT}/configs/_base_/schedules/sgd_cosine_16e.yaml]"
)
SMALL = "base_channels: 8, num_stages: 3, inflate_stages: [2], down_stages: [2, 3]"
NW_UCLA = """
model_name: small
layout: nw_ucla
num_classes: 10
epochs: 2
MODEL: {{backbone: {{{small}}}}}
DATASET: {{num_workers: 0, train: {{file: {file}, split: xview_train}}, valid: {{file: {file}, split: xview_val}},
          test: {{file: {file}, split: xview_val}}}}
PIPELINE: [PreNormalize3D, Stream, {{name: UniformSample, clip_len: 16}}, {{name: Pack, num_person: 1}}]
"""
JHMDB = """
model_name: small
layout: {{joints: {{neck: belly, belly: belly, face: neck, right_shoulder: neck, left_shoulder: neck, right_hip: belly,
  left_hip: belly, right_elbow: right_shoulder, left_elbow: left_shoulder, right_knee: right_hip, left_knee: left_hip,
  right_wrist: right_elbow, left_wrist: left_elbow, right_ankle: right_knee, left_ankle: left_knee}}}}
num_classes: 14
epochs: 2
MODEL: {{backbone: {{in_channels: 2, {small}}}}}
DATASET: {{num_workers: 0, train: {{file: {file}, split: split1_train}}, valid: {{file: {file}, split: split1_val}},
          test: {{file: {file}, split: split1_val}}}}
PIPELINE: [Stream, {{name: UniformSample, clip_len: 16}}, {{name: Pack, num_person: 1}}]
"""


@pytest.mark.parametrize(("name", "config"), [("nw_ucla", NW_UCLA), ("jhmdb14_gt2d", JHMDB)])
def test_ten_lines_are_enough(reference, run, tmp_path, monkeypatch, name, config):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # the store goes there where the data are read-only
    file = tmp_path / f"{name}.pkl"
    file.symlink_to(reference / "data" / f"{name}.pkl")
    path = tmp_path / "config.yaml"
    path.write_text(BASE + config.format(file=file, small=SMALL))
    out = tmp_path / "out"
    result = run("main", "-c", path, "--validate", "-o", f"output_dir={out}", "-o", "log_interval=1000")
    assert result.code == 0, result.err
    first, last = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    assert last["train_loss"] < first["train_loss"]
    assert run("main", "-c", path, "--test", "-o", f"output_dir={out}").code == 0
    best = out / "small_best.pdparams"
    assert run("export_model", "-c", path, "-p", best, "-o", out).code == 0
    result = run("predict", "--model", out, "--input_file", file, "--batch_size", 64)
    assert result.code == 0, result.err
    assert result.out.count("top-1 class") == {"nw_ucla": 1484, "jhmdb14_gt2d": 609}[name]
