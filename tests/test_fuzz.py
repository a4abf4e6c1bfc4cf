"""A short run of tests/fuzz.py: what hypothesis finds first, it makes small."""

import pickle
import random

import numpy as np
import pytest

hypothesis = pytest.importorskip("hypothesis", reason="pip install hypothesis")

import fuzz  # noqa: E402
from hypothesis import HealthCheck, given, settings, strategies  # noqa: E402

TARGETS = {target.name: target for target in fuzz.targets()}


@pytest.mark.parametrize("name", TARGETS)
def test_valid_files_are_read_or_refused(name, tmp_path):
    outcomes = [fuzz.try_file(TARGETS[name], data, tmp_path) for data in TARGETS[name].seeds]
    assert set(outcomes) <= {"read", "refused"}, outcomes
    assert "read" in outcomes or " as " in name  # a format read under another's name may be refused


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(name=strategies.sampled_from(sorted(TARGETS)), seed=strategies.integers(0, 2**32))
def test_damaged_files_are_read_or_refused(tmp_path_factory, name, seed):
    data = fuzz.mutate(random.Random(seed), TARGETS[name].seeds)
    folder = tmp_path_factory.getbasetemp()
    assert fuzz.try_file(TARGETS[name], data, folder) in ("read", "refused")


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(name=strategies.sampled_from(sorted(TARGETS)), data=strategies.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, name, data):
    assert fuzz.try_file(TARGETS[name], data, tmp_path_factory.getbasetemp()) in ("read", "refused")


def test_a_finding_is_noticed(tmp_path):
    """The fuzzer itself can fail."""
    broken = fuzz.Target("broken", ".x", lambda path: {}[path.read_bytes()], [b"x"])
    assert "KeyError" in fuzz.try_file(broken, b"x", tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("layout", b"name: x\njoints: {nose: nose, ~: nose, eye: nos}\ncenter: eyes\n"),
        ("annotations", pickle.dumps([{"keypoint": np.ones((1, 2, 3, 2)), "label": [1, [2, 3]]}])),
        ("annotations", pickle.dumps([{"keypoint": np.ones((1, 2, 3, 2)), "label": 1, "img_shape": (1, (2, 3))}])),
        ("any weights", pickle.dumps({("a", "b"): np.ones(3)})),
        ("results .json", b'{"ids": 3, "probs": [[0.5, 0.5]]}'),
        ("pickle", b"\x80\x02]q\x00h\x00a."),
        ("poses .skeleton", b"9" * 5000 + b"\n1\n"),
    ],
)
def test_what_was_found_once_is_refused(tmp_path, name, content):
    assert fuzz.try_file(TARGETS[name], content, tmp_path) == "refused"
