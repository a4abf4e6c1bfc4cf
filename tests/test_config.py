"""Configs: inheritance, overrides, the schema and its messages."""

import pytest
import yaml

from paddleskel.config import load_config, merge, override, parse_yaml
from paddleskel.engine.settings import load_settings, parse_settings
from paddleskel.errors import UserError

TOY = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_bases_merge_in_order_and_the_child_wins(tmp_path):
    write(tmp_path, "a.yaml", "x: {p: 1, q: 1}\nlist: [1, 2]\n")
    write(tmp_path, "b.yaml", "x: {q: 2}\ny: 2\n")
    child = write(tmp_path, "child.yaml", "_base_: [a.yaml, b.yaml]\ny: 3\nlist: [9]\n")
    assert load_config(child) == {"x": {"p": 1, "q": 2}, "list": [9], "y": 3}


def test_a_mapping_changes_part_of_a_list_of_components():
    pipeline = ["Stream", {"name": "UniformSample", "clip_len": 100}]
    assert merge(pipeline, {"UniformSample": {"clip_len": 64}, "Stream": {"use_score": False}}, "x") == [
        {"name": "Stream", "use_score": False},
        {"name": "UniformSample", "clip_len": 64},
    ]
    assert pipeline[0] == "Stream"  # the parent is untouched


def test_another_component_does_not_inherit_arguments():
    parent = {"backbone": {"name": "STGCN", "tcn_dropout": 0.5}}
    assert merge(parent, {"backbone": {"name": "STGCNPlusPlus"}}, "x") == {"backbone": {"name": "STGCNPlusPlus"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-4", 5e-4), ("1E3", 1000.0), (".5e-1", 0.05), ("12", 12), ("off", False), ("[1, 2]", [1, 2]), ("jm", "jm")],
)
def test_yaml_values_have_the_types_people_mean(text, value):
    parsed = parse_yaml(text, "x")
    assert parsed == value
    assert type(parsed) is type(value)


def test_overrides_reach_into_lists_by_position_and_by_name():
    config = {"P": ["Stream", {"name": "UniformSample", "clip_len": 100}], "L": [1, 2, 3]}
    config = override(config, "P.UniformSample.clip_len", 64, "-o")
    config = override(config, "P.0.use_score", False, "-o")
    config = override(config, "L.1", 9, "-o")
    assert config == {
        "P": [{"name": "Stream", "use_score": False}, {"name": "UniformSample", "clip_len": 64}],
        "L": [1, 9, 3],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "line 2: not valid YAML"),
        ("a: 1\na: 2\n", "the key 'a' is given twice"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("_base_: missing.yaml\n", "missing.yaml: no such config"),
        ("_base_: self.yaml\n", "inherits from itself"),
        ("- 1\n", "a config is a mapping"),
    ],
)
def test_broken_files_are_named(tmp_path, text, message):
    path = write(tmp_path, "self.yaml", text)
    with pytest.raises(UserError, match=r"\.yaml") as caught:
        load_config(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("MODEL.backbone.gcn_adaptve=init", "MODEL.backbone.gcn_adaptve: unknown key for STGCNPlusPlus (did you mean "
         "'gcn_adaptive'?)"),
        ("MODEL.backbone.gcn_adaptive=inti", "MODEL.backbone.gcn_adaptive: 'inti' is not one of init, importance, "
         "offset (did you mean 'init'?)"),
        ("MODEL.backbone.name=STGCN_PP", "MODEL.backbone: unknown backbone 'STGCN_PP' (did you mean 'STGCN'?)"),
        ("MODEL.backbone.num_stages=ten", "MODEL.backbone.num_stages: expected a whole number, not 'ten'"),
        ("DATASET.batch_sise=4", "DATASET.batch_sise: unknown key for DatasetSettings (did you mean 'batch_size'?)"),
        ("DATASET.batch_size=0", "DATASET.batch_size: must be at least 1, not 0"),
        ("DATASET.batch_size=true", "DATASET.batch_size: expected a whole number, not True"),
        ("epoch=3", "epoch: unknown key for a config (did you mean 'epochs'?)"),
        ("epochs=0", "epochs: must be at least 1, not 0"),
        ("stream=x", "stream: unknown stream 'x'"),
        ("layout=coco18", "layout: unknown layout 'coco18' (did you mean 'coco'?)"),
        ("PIPELINE.UniformSample.cliplen=4", "PIPELINE.2.cliplen: unknown key for UniformSample"),
        ("PIPELINE.UniformSampel.clip_len=4", "no 'UniformSampel' in the list (did you mean 'UniformSample'?)"),
        ("OPTIMIZER.learning_rate.value=big", "OPTIMIZER.learning_rate.value: expected a number, not 'big'"),
        ("OPTIMIZER.learning_rate.name=Cosin", "unknown learning-rate schedule 'Cosin' (did you mean 'Cosine'?)"),
        ("METRIC.average_clips=mean", "METRIC.average_clips: 'mean' is not one of prob, score"),
    ],
)  # fmt: skip
def test_mistakes_are_found_at_start_up_with_the_nearest_name(setting, message):
    with pytest.raises(UserError) as caught:
        load_settings(TOY, [setting])[0].load_layout()
    assert message in str(caught.value)


def test_the_schema_names_what_is_missing():
    values = load_config(TOY)
    del values["num_classes"]
    with pytest.raises(UserError, match=r"toy\.yaml: num_classes: missing"):
        parse_settings(values, "toy.yaml")


def test_resolved_values_load_back_as_the_same_settings():
    settings, values = load_settings(TOY, ["stream=[j, b]", "DATASET.batch_size=4"])
    assert parse_settings(yaml.safe_load(yaml.safe_dump(values)), "again") == settings


def test_output_folders_of_streams_differ():
    assert str(load_settings(TOY)[0].output) == "output/STGCN_PlusPlus_toy"
    assert str(load_settings(TOY, ["stream=bm"])[0].output) == "output/STGCN_PlusPlus_toy_bm"
