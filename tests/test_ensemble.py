"""Fusion of streams: by functions, and through tools/ensemble.py."""

import pickle

import numpy as np
import pytest

from paddleskel.ensemble import (
    Member,
    check_disjoint,
    fuse,
    join,
    preset_weights,
    search_weights,
)
from paddleskel.errors import UserError
from paddleskel.results import Results, read_results


def results(probs, ids="abcd", labels=(0, 1, 1, 0), stream="j"):
    probs = np.array(probs, np.float32)
    return Results(list(ids), np.array(labels), np.log(probs + 1e-6), probs, config={"stream": stream})


# joint and bone are each right about half, together about all
JOINT = results([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.45, 0.55]])
BONE = results([[0.4, 0.6], [0.1, 0.9], [0.55, 0.45], [0.9, 0.1]], stream="b")


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "j.pkl", tmp_path / "b.npz"]
    for path, result in zip(paths, (JOINT, BONE)):
        result.save(path)
    return paths


def test_streams_are_joined_by_id_whatever_their_order():
    shuffled = Member("bone", BONE.take([2, 0, 3, 1]))
    (joint, bone), remark = join([Member("joint", JOINT), shuffled])
    assert remark is None
    assert bone.results.ids == joint.results.ids == list("abcd")
    assert np.array_equal(bone.results.probs, BONE.probs)
    assert np.array_equal(bone.results.labels, BONE.labels)


def test_lists_without_ids_are_joined_by_position_and_say_so():
    nameless = Results(None, None, None, BONE.probs)
    for members in ([Member("x", nameless), Member("y", JOINT)], [Member("y", JOINT), Member("x", nameless)]):
        joined, remark = join(members)
        assert remark == "joined by position, as x say no sample ids"
        assert all(member.results.ids == list("abcd") for member in joined)
    # those with ids agree first
    joined, _ = join([Member("y", JOINT), Member("x", nameless), Member("z", BONE.take([3, 2, 1, 0]))])
    assert np.array_equal(joined[2].results.probs, BONE.probs)


def test_other_samples_labels_and_classes_are_refused():
    with pytest.raises(UserError, match=r"1 samples are only in joint, 1 only in bone \(such as 'd'\)"):
        join([Member("joint", JOINT), Member("bone", results(BONE.probs, ids="abcx"))])
    with pytest.raises(UserError, match="not of the same split"):
        join([Member("joint", JOINT), Member("bone", BONE.take([0, 1, 2]))])
    with pytest.raises(UserError, match="disagree about the labels of 1 samples, such as 'b'"):
        join([Member("joint", JOINT), Member("bone", results(BONE.probs, labels=(0, 0, 1, 0)))])
    with pytest.raises(UserError, match="3 classes"):
        join([Member("joint", JOINT), Member("three", results(np.eye(3)[[0, 1, 1, 0]]))])
    with pytest.raises(UserError, match="no file has labels"):
        join([Member("x", Results(None, None, None, JOINT.probs))])


def test_a_tie_counts_for_the_later_class():
    fused = fuse([np.array([[0.6, 0.4]]), np.array([[0.4, 0.6]])], [1, 1])
    from paddleskel.metrics import top_k_accuracy

    assert top_k_accuracy(fused, np.array([1])) == 1
    assert top_k_accuracy(fused, np.array([0])) == 0


def test_presets_go_by_stream_not_by_position():
    assert preset_weights("four-stream", ["bm", "j", "jm", "b"]) == [1, 2, 1, 2]
    assert preset_weights("six-stream", ["j", "b", "k", "jm", "bm", "km"]) == [2, 2, 2, 1, 1, 1]
    with pytest.raises(UserError, match="did you mean 'four-stream'"):
        preset_weights("four-streams", ["j"])
    with pytest.raises(UserError, match="fuses the streams j, b; given are j, j"):
        preset_weights("two-stream", ["j", "j"])
    with pytest.raises(UserError, match="--streams"):
        preset_weights("two-stream", ["j", None])


def test_search_finds_the_stream_that_knows():
    rng = np.random.RandomState(0)
    labels = rng.randint(0, 5, 200)
    good, noise = np.eye(5)[labels] + rng.rand(200, 5) * 0.9, 3 * rng.rand(200, 5)
    weights = search_weights([noise, good], labels)
    assert weights[1] > weights[0]
    fused = fuse([noise, good], weights)
    assert (fused.argmax(1) == labels).mean() == 1


def test_weights_are_never_found_where_they_are_reported():
    check_disjoint(JOINT, results(BONE.probs, ids="wxyz"))
    with pytest.raises(UserError, match="1 samples, such as 'a'"):
        check_disjoint(JOINT, results(BONE.probs, ids="axyz"))
    with pytest.raises(UserError, match="without sample ids"):
        check_disjoint(JOINT, Results(None, None, None, BONE.probs))


# ---- the command ----


def test_the_command_prints_each_pair_and_the_whole(run, files, tmp_path):
    out = tmp_path / "fused.npz"
    third = tmp_path / "third.json"
    results(np.full((4, 2), 0.5), stream="jm").save(third)
    result = run("ensemble", *files, third, "--weights", "1", "1", "0.5", "--out", out)
    assert result.code == 0, result.err
    rows = [line.split("  ") for line in result.out.splitlines()]
    assert [row[0].strip() for row in rows[1:-1]] == [
        "j", "b", "third", "j + b", "j + third", "b + third", "j + b + third",
    ]  # fmt: skip
    lines = result.out.splitlines()
    assert " 50.00 %" in lines[1]
    assert "100.00 %" in lines[4]
    assert "1 : 1 : 0.5" in lines[7]
    fused = read_results(out)
    np.testing.assert_allclose(fused.probs, (JOINT.probs + BONE.probs + 0.25) / 2.5, atol=1e-6)
    assert fused.ids == JOINT.ids
    assert fused.config["ensemble"]["weights"] == [1, 1, 0.5]


def test_files_of_one_name_are_told_apart_by_their_folders(run, tmp_path):
    paths = [tmp_path / "seed1" / stream / "test.npz" for stream in "jb"]
    for path, result in zip(paths, (JOINT, BONE)):
        path.parent.mkdir(parents=True)
        result.save(path)
    first_column = lambda *files: [line.split("  ")[0] for line in run("ensemble", *files).out.splitlines()[1:]]
    assert first_column(*paths) == ["j", "b", "j + b"]
    assert first_column(paths[0], paths[0]) == [str(paths[0])] * 2 + [f"{paths[0]} + {paths[0]}"]


def test_the_command_takes_presets_and_other_scores(run, files):
    result = run("ensemble", *files, "--preset", "two-stream", "--scores", "score")
    assert result.code == 0
    assert "100.00 %" in result.out.splitlines()[3]
    result = run("ensemble", *files, "--apply-softmax")
    assert result.code == 0
    result = run("ensemble", *files, "--preset", "four-stream")
    assert result.code == 2
    assert "fuses the streams j, b, jm, bm; given are j, b" in result.err


def test_plain_lists_take_ids_and_labels_from_annotations(run, tmp_path, annotation):
    names = {"d": 0, "b": 1, "c": 1, "a": 0}  # the split's order is the file's, whatever its list says
    content = {
        "split": {"val": ["a", "b", "c", "d"]},
        "annotations": [{**annotation, "frame_dir": name, "label": label} for name, label in names.items()],
    }
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(content))
    (tmp_path / "bone.pkl").write_bytes(pickle.dumps(list(BONE.take([3, 1, 2, 0]).probs)))
    JOINT.save(tmp_path / "joint.csv")
    flags = ["--annotations", tmp_path / "data.pkl", "--split", "val"]
    result = run("ensemble", tmp_path / "joint.csv", tmp_path / "bone.pkl", *flags)
    assert result.code == 0, result.err
    assert "by position" not in result.out
    assert "100.00 %" in result.out.splitlines()[-1]
    result = run("ensemble", tmp_path / "joint.csv", tmp_path / "bone.pkl")
    assert "joined by position" in result.out


def test_weights_are_found_on_another_split(run, files, tmp_path):
    others = [tmp_path / "jv.pkl", tmp_path / "bv.pkl"]
    for path, source in zip(others, (JOINT, BONE)):
        results(source.probs, ids="wxyz").save(path)
    result = run("ensemble", *files, "--search-on", *others)
    assert result.code == 0, result.err
    assert "weights found on 4 held-out samples" in result.out
    result = run("ensemble", *files, "--search-on", *files)
    assert result.code == 2
    assert "would flatter it" in result.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to fuse"),
        (["j.pkl", "b.npz", "--weights", "1"], "1 weights for 2"),
        (["j.pkl", "b.npz", "--weights", "-1", "2"], "from 0 up"),
        (["j.pkl", "b.npz", "--weights", "0", "0"], "not all 0"),
        (["j.pkl", "b.npz", "--weights", "1", "1", "--preset", "two-stream"], "--weights and --preset both"),
        (["j.pkl", "b.npz", "--preset", "two-stream", "--search-on", "x.pkl"], "--preset and --search-on both"),
        (["j.pkl", "b.npz", "--search-on", "j.pkl"], "1 files for 2 streams"),
        (["j.pkl", "b.npz", "--streams", "j"], "1 names for 2 files"),
        (["j.pkl", "none.pkl"], "no such file"),
        (["j.pkl", "--out", "x.txt"], "must end in one of"),
        (["j.pkl", "-c", "x.yaml"], "not both"),
        (["-c", "x.yaml"], "which streams to test"),
        (["j.pkl", "--weights-dir", "x"], "go with -c"),
    ],
)
def test_mistakes_are_explained(run, files, flags, message):
    folder = files[0].parent
    flags = [folder / flag if flag.endswith((".pkl", ".npz")) else flag for flag in flags]
    result = run("ensemble", *flags)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


def test_real_scores_give_their_published_accuracies(run, reference, tmp_path):
    """Three streams of TD-GCN on two folds of DHG-14: each alone, and their equal sum, as logits."""
    data = np.load(reference / "data" / "dhg14_tdgcn_fold_scores.npz")
    expected = {"s15": [97.14, 87.86, 90.71, 98.57], "s19": [97.86, 92.14, 96.43, 98.57]}
    for fold, accuracies in expected.items():
        labels = data[f"label_{fold}"]
        ids = [f"{fold}_{i}" for i in range(len(labels))]
        order = np.random.RandomState(0).permutation(len(labels))
        paths = []
        for stream in ("joint", "bone", "motion"):
            logits = data[f"{stream}_{fold}"]
            whole = Results(ids, labels, logits, np.full_like(logits, 1 / 14))
            paths.append(tmp_path / f"{stream}.npz")
            (whole.take(order) if stream == "bone" else whole).save(paths[-1])
        result = run("ensemble", *paths, "--scores", "score")
        lines = {line.split("  ")[0].strip(): line for line in result.out.splitlines()}
        for name, value in zip(("joint", "bone", "motion", "joint + bone + motion"), accuracies):
            assert f"{value:.2f} %" in lines[name].split("%")[0] + "%", (fold, name, lines[name])


def test_a_config_is_tested_stream_by_stream(run, toy_options, tmp_path):
    """tools/train_streams.sh, then tools/ensemble.py -c, as a user does."""
    import os
    import subprocess
    import sys

    from conftest import ROOT, TOY_CONFIG

    quick = ["-o", "epochs=1", "--max_iters", "2", "-o", "DATASET.num_workers=0"]
    script = ROOT / "tools" / "train_streams.sh"
    environment = {**os.environ, "PYTHON": sys.executable, "STREAMS": "j b"}
    config = ROOT / TOY_CONFIG
    done = subprocess.run(
        ["bash", script, config, *toy_options, *quick], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-800:]
    folder = tmp_path / "output"
    assert {path.name for path in folder.iterdir()} == {"STGCN_PlusPlus_toy", "STGCN_PlusPlus_toy_b"}
    flags = ["-c", TOY_CONFIG, *toy_options, "--weights-dir", folder, "--streams"]
    result = run("ensemble", *flags, "b", "j", "--preset", "two-stream", "--out", tmp_path / "fused.json")
    assert result.code == 0, result.err
    assert "b + j" in result.out
    assert len(read_results(tmp_path / "fused.json")) == 24
    result = run("ensemble", *flags, "j", "bm")
    assert result.code == 2
    assert "no weights of stream bm: looked for" in result.err
