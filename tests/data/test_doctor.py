"""The doctor on deliberately broken sets: each fault is found, and nothing else; on clean data it is silent."""

import copy
import json
import pickle

import numpy as np
import pytest
from doctor_faults import FAULTS, a_copy_in_the_test_split, nan, width_before_height

from paddleskel.data.annotation import AnnotationFile, read_annotations
from paddleskel.data.doctor import KINDS, examine
from paddleskel.data.doctor.repair import repair
from paddleskel.data.doctor.set_checks import split_pairs
from paddleskel.data.sources.toy import make_toy
from paddleskel.skeleton.layout import load_layout


@pytest.fixture(scope="module")
def clean():
    """{"2d", "3d": the content of a toy file with four subjects}"""
    return {d: make_toy(d, subjects=4, repeats=2) for d in ("2d", "3d")}


def read(content):
    return AnnotationFile("f", content["annotations"], content["split"], content.get("class_names"))


def test_there_are_at_least_fifteen_kinds_and_all_are_tried():
    tried = set().union(*(expected for _, _, expected, _ in FAULTS.values()))
    assert tried == set(KINDS)
    assert len(KINDS) >= 15


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_nothing_else(clean, name):
    dimensions, spoil, expected, arguments = FAULTS[name]
    content = copy.deepcopy(clean[dimensions])
    spoil(content)
    found = {finding.kind for finding in examine(read(content), **arguments).findings}
    assert found == expected


@pytest.mark.parametrize("dimensions", ["2d", "3d"])
def test_clean_data_are_silent(clean, dimensions):
    layout = load_layout({"2d": "coco", "3d": "nturgb+d"}[dimensions])
    assert examine(read(clean[dimensions]), layout, 12).findings == []


def test_real_data(reference):
    """Northwestern-UCLA as it is passed around has 95 recordings both among the training and the test clips."""
    report = examine(read_annotations(reference / "data" / "nw_ucla.pkl"))
    found = {finding.kind: finding for finding in report.findings}
    assert set(found) == {"leak", "one-frame", "teleport"}
    assert len(found["leak"].names) == 190
    assert len(found["one-frame"].names) == 2
    assert examine(read_annotations(reference / "data" / "jhmdb14_gt2d.pkl")).findings == []


def test_splits_are_paired_by_name():
    pairs = split_pairs(["xsub_train", "xsub_val", "xview_train", "xview_val", "train1", "test1", "train2", "misc"])
    assert pairs == [("xsub_train", "xsub_val"), ("xview_train", "xview_val"), ("train1", "test1")]


# ---- mending ----

MENDED = [name for name, (_, _, expected, _) in FAULTS.items() if all(KINDS[kind][3] for kind in expected)]


@pytest.mark.parametrize("name", MENDED)
def test_what_can_be_mended_is(clean, name):
    dimensions, spoil, _, arguments = FAULTS[name]
    content = copy.deepcopy(clean[dimensions])
    spoil(content)
    before = pickle.dumps(content)
    mended, done = repair(read(content))
    assert done
    assert pickle.dumps(content) == before  # what was read stays as it was
    # leaving samples out may leave a class short; nothing else is wrong
    assert {f.kind for f in examine(read(mended), **arguments).findings} <= {"few-samples", "class-not-tested"}
    assert len(mended["annotations"]) >= len(content["annotations"]) - 1


def test_clean_data_pass_through_mending_unchanged(clean):
    mended, done = repair(read(clean["2d"]))
    assert done == []
    for a, b in zip(clean["2d"]["annotations"], mended["annotations"]):
        np.testing.assert_array_equal(a["keypoint"], b["keypoint"])
    assert mended["split"] == clean["2d"]["split"]


# ---- the command ----


@pytest.fixture
def broken_file(clean, tmp_path):
    content = copy.deepcopy(clean["2d"])
    nan(content)
    a_copy_in_the_test_split(content)
    width_before_height(content)
    path = tmp_path / "broken.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


def test_the_command_finds_explains_and_mends(run, broken_file, tmp_path):
    fixed = tmp_path / "fixed.pkl"
    result = run("check_data", broken_file, "--fix", fixed)
    assert result.code == 1
    for sign in (
        "ERROR: leak",
        "ERROR: swapped-size",
        "ERROR: not-finite",
        "what it does",
        "how to mend it",
        "(--fix does)",
    ):
        assert sign in result.out
    assert "2 of 96" not in result.err
    assert "95 of 96 samples" in result.err
    result = run("check_data", fixed, "-c", "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml")
    assert (result.code, "0 errors, 0 warnings" in result.out) == (0, True)


def test_the_command_speaks_json(run, broken_file):
    result = run("check_data", broken_file, "--json")
    content = json.loads(result.out)
    assert {item["kind"] for item in content["findings"]} == {"leak", "swapped-size", "not-finite"}
    assert content["summary"]["samples"] == 96
    assert all(item["effect"] and item["cure"] for item in content["findings"])


def test_stores_and_pose_files_are_looked_through_too(run, toy_file, tmp_path):
    assert run("prepare_data", "store", toy_file, "-o", tmp_path / "s").code == 0
    result = run("check_data", tmp_path / "s")
    assert (result.code, "0 errors, 0 warnings, 0 notes" in result.out) == (0, True)
    np.save(tmp_path / "a.npy", np.random.RandomState(0).rand(30, 15, 2) * 500)
    assert "no-label" in run("check_data", tmp_path / "a.npy").out


def test_the_page_in_a_browser(run, broken_file, tmp_path, browser):
    page = tmp_path / "page.html"
    assert run("check_data", broken_file, "--html", page, "--samples", 1).code == 1
    browser.open(page)
    assert browser.evaluate("document.querySelectorAll('details').length") == 3
    assert browser.evaluate("document.querySelectorAll('h3').length") == 12
    browser.until("document.querySelectorAll('h3 + .grid canvas').length == 12")
    assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    browser.evaluate("document.querySelector('summary').click()")
    browser.until("document.querySelector('details').open")
    assert "http" not in page.read_text().replace("http://www.w3.org", "")
