"""Labels, splits, frame rates, remapping, merging: the steps and the command."""

import pickle

import numpy as np
import pytest

from paddleskel.data import prepare
from paddleskel.data.annotation import AnnotationFile, read_annotations
from paddleskel.data.writing import merge, write_annotations
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import load_layout
from paddleskel.skeleton.remap import match_joints, remap


def samples(count, classes=3):
    return [
        {"frame_dir": f"S{n % 4}/clip{n}", "label": n % classes, "total_frames": 5, "keypoint": np.ones((1, 5, 17, 2))}
        for n in range(count)
    ]


def ids(items):
    return [item["frame_dir"] for item in items]


# ---- labels ----


def test_labels_from_a_table(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("id,label\nclip0.json,wave\nS1/clip1,clap\nclip2,wave\n")
    labelled, names, without = prepare.set_labels(samples(4), prepare.read_table(table))
    assert [item["label"] for item in labelled] == [1, 0, 1]
    assert (names, without) == (["clap", "wave"], ["S3/clip3"])


def test_labels_as_numbers_from_a_pattern_from_a_folder():
    labelled, names, _ = prepare.set_labels(samples(4), pattern=r"clip(\d)")
    assert ([item["label"] for item in labelled], names) == ([0, 1, 2, 3], None)
    labelled, names, _ = prepare.set_labels(samples(4), from_folder=True)
    assert names == ["S0", "S1", "S2", "S3"]
    labelled, names, _ = prepare.set_labels(samples(4), from_folder=True, known_names=["S3", "S2", "S1", "S0"])
    assert [item["label"] for item in labelled] == [3, 2, 1, 0]
    with pytest.raises(UserError, match="'S3' is not among"):
        prepare.set_labels(samples(4), from_folder=True, known_names=["S0", "S1", "S2"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [("name,label\na,1\n", "no 'id'"), ("id,label\na,1\na,2\n", "stands in it twice"), ("id,label\n", "no rows")],
)
def test_bad_tables(tmp_path, text, problem):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=problem):
        prepare.read_table(tmp_path / "t.csv")


def test_classes_are_renamed_and_joined(tmp_path):
    (tmp_path / "map").write_text("# old,new\nwave,hands\nclap,hands\n2,legs\n")
    kept, names, left = prepare.map_labels(samples(8, 4), ["wave", "clap", "kick", "sit"], tmp_path / "map")
    assert (names, left) == (["hands", "legs"], 2)
    assert [item["label"] for item in kept] == [0, 0, 1, 0, 0, 1]
    (tmp_path / "other").write_text("x,y\n")
    with pytest.raises(UserError, match="names no class"):
        prepare.map_labels(samples(3), ["wave", "clap", "kick"], tmp_path / "other")


# ---- splits ----


def test_stratified_splits_have_every_class():
    items = samples(50, 5) + [{**samples(1)[0], "frame_dir": "lonely", "label": 9}]
    split = prepare.stratified(items, 0.2, seed=1)
    assert sorted(split["train"] + split["val"]) == sorted(ids(items))
    label = {item["frame_dir"]: item["label"] for item in items}
    assert np.bincount([label[name] for name in split["val"]]).tolist() == [2] * 5
    assert "lonely" in split["train"]
    assert split == prepare.stratified(items[::-1], 0.2, seed=1) | {"train": split["train"], "val": split["val"]}
    assert split != prepare.stratified(items, 0.2, seed=2)


def test_subjects_stay_together():
    items = samples(40)
    subjects = prepare.find_subjects(items, None, r"^(S\d)")
    split = prepare.by_subject(items, subjects, ["S2"])
    assert {name[:2] for name in split["val"]} == {"S2"}
    drawn = prepare.by_subject(items, subjects, val_fraction=0.5)
    assert len({name[:2] for name in drawn["val"]}) == 2
    assert not {name[:2] for name in drawn["val"]} & {name[:2] for name in drawn["train"]}
    with pytest.raises(UserError, match="no sample of subject 'S9'"):
        prepare.by_subject(items, subjects, ["S9"])
    with pytest.raises(UserError, match="has no subject"):
        prepare.find_subjects(items, None, "nothing")


def test_splits_from_lists(tmp_path):
    (tmp_path / "a.txt").write_text("clip0\nS1/clip1\nghost\n")
    split, lacking = prepare.from_lists(samples(3), {"train": tmp_path / "a.txt"})
    assert (split, lacking) == ({"train": ["S0/clip0", "S1/clip1"]}, {"train": 1})


# ---- time and joints ----


def test_resampling_interpolates_and_respects_absence():
    t = np.arange(31.0)
    points = np.stack([np.stack([t, 2 * t], -1)] * 3, axis=1)[None] + 1
    points[0, :, 2] = 0
    points[0, 10:12, 1] = 0
    item = {"frame_dir": "a", "keypoint": points, "keypoint_score": np.ones((1, 31, 3)), "total_frames": 31}
    slow = prepare.resample(item, 30, 20)
    assert slow["keypoint"].shape == (1, 21, 3, 2)
    assert slow["total_frames"] == 21
    np.testing.assert_allclose(slow["keypoint"][0, :, 0, 0], 1.5 * np.arange(21) + 1)
    assert not slow["keypoint"][0, :, 2].any()
    assert slow["keypoint"][0, 7, 1].tolist() in ([0, 0], [13, 25])  # between one seen and one not: the nearer
    assert prepare.resample(item, 30, 60)["keypoint"].shape[1] == 62
    with pytest.raises(UserError, match="must be positive"):
        prepare.resample(item, 30, 0)


def test_remapping_by_name():
    coco, openpose = load_layout("coco"), load_layout("openpose")
    mapping = match_joints(coco.joints, openpose.joints)
    assert not mapping.missing
    assert mapping.derived == {"neck": ("left_shoulder", "right_shoulder")}
    points = np.random.RandomState(0).rand(1, 4, 17, 2)
    points[0, 2, 5] = 0
    filled, score = remap(points, np.full((1, 4, 17), 0.5), mapping)
    np.testing.assert_allclose(filled[0, 0, 1], points[0, 0, 5:7].mean(axis=0), rtol=1e-6)
    assert not filled[0, 2, 1].any()  # a neck needs both shoulders
    back = match_joints(openpose.joints, coco.joints)
    np.testing.assert_allclose(remap(filled, score, back)[0], points, rtol=1e-6)


def test_remapping_reports_what_is_missing():
    mapping = match_joints(load_layout("coco").joints, load_layout("nturgb+d").joints)
    assert "left_foot" in mapping.missing
    assert {"spine_base", "neck", "spine_mid"} <= set(mapping.derived)
    assert "missing, left at zero:" in mapping.report("coco", "nturgb+d")


# ---- merging and writing ----


def file_of(path, items, names, splits):
    return AnnotationFile(path, items, splits, names)


def test_merging_matches_classes_by_name_and_renames_clashing_ids():
    a = file_of("x/a.pkl", samples(2), ["p", "q", "r"], {"train": ["S0/clip0"], "val": ["S1/clip1"]})
    b = file_of("x/b.pkl", samples(2)[1:], ["r", "q"], {"train": ["S1/clip1"]})
    content = merge([a, b])
    assert ids(content["annotations"]) == ["S0/clip0", "a/S1/clip1", "b/S1/clip1"]
    assert [item["label"] for item in content["annotations"]] == [0, 1, 1]
    assert content["class_names"] == ["p", "q", "r"]
    assert content["split"] == {"train": ["S0/clip0", "b/S1/clip1"], "val": ["a/S1/clip1"]}
    with pytest.raises(UserError, match="has no class names"):
        merge([a, file_of("c.pkl", samples(1), None, {})])
    other = [{**samples(1)[0], "keypoint": np.ones((1, 5, 25, 3))}]
    with pytest.raises(UserError, match="need --remap"):
        merge([a, file_of("c.pkl", other, ["p"], {})])


def test_an_id_twice_is_not_written(tmp_path):
    with pytest.raises(UserError, match="1 ids stand for several samples"):
        write_annotations(tmp_path / "a.pkl", {"split": {}, "annotations": samples(1) * 2})
    assert not list(tmp_path.iterdir())


def test_any_numpy_can_read_what_is_written(tmp_path):
    item = {**samples(1)[0], "label": np.int64(2), "keypoint": np.ones((1, 5, 17, 2), np.float16)}
    write_annotations(tmp_path / "a.pkl", {"split": {}, "annotations": [item]})
    assert b"numpy._core" not in (tmp_path / "a.pkl").read_bytes()
    assert read_annotations(tmp_path / "a.pkl").annotations[0]["label"] == 2
    assert pickle.loads(pickle.dumps(np.ones(3))).sum() == 3  # and everything is as it was


# ---- the command ----


@pytest.fixture(scope="module")
def poses(tmp_path_factory):
    """A folder of OpenPose files with their labels, as `toy --as openpose` writes it."""
    import prepare_data

    folder = tmp_path_factory.mktemp("poses") / "poses"
    assert prepare_data.main(["toy", "--as", "openpose", "--subjects", "2", "--repeats", "1", "-o", str(folder)]) == 0
    return folder


def test_pose_files_become_an_annotation_file(run, poses, tmp_path):
    out = tmp_path / "mine.pkl"
    labels = poses.with_suffix(".csv")
    result = run("prepare_data", "auto", poses, "--labels", labels, "--image_size", 1080, 1920, "--split", "subject",
                 "--val_subjects", "S002", "--remap", "coco", "--fps", 30, "--to_fps", 15, "-o", out)  # fmt: skip
    assert result.code == 0, result.err
    assert "24 clips (12 in 'train', 12 in 'val'), 12 classes, 17 joints in 2D" in result.out
    assert "openpose -> coco: 17 of 17 joints" in result.err
    file = read_annotations(out)
    item = file.annotations[0]
    assert {"frame_dir", "label", "total_frames", "keypoint", "keypoint_score", "img_shape"} < set(item)
    assert not {"layout", "joints", "split"} & set(item)
    assert {name[:4] for name in file.splits["val"]} == {"S002"}
    assert file.class_names == sorted(file.class_names)
    # and again from the file: other splits, other precision
    result = run("prepare_data", "pickle", out, "--split", "stratified", "--val_fraction", 0.5, "--dtype", "float16",
                 "-o", tmp_path / "again.pkl")  # fmt: skip
    assert result.code == 0, result.err
    again = read_annotations(tmp_path / "again.pkl")
    assert again.class_names == file.class_names
    assert again.annotations[0]["keypoint"].dtype == np.float16
    result = run("prepare_data", "merge", out, tmp_path / "again.pkl", "-o", tmp_path / "both.pkl")
    assert "48 clips" in result.out


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "none of the 24 samples has a label"),
        (["--label_from_folder", "--val_fraction", "1.5"], "--val_fraction: must lie"),
        (["--label_pattern", "A(\\d+)", "--fps", "30"], "go together"),
        (["--label_pattern", "A(\\d+)", "--layout", "coco"], "the samples have 18 joints, it has 17"),
        (["--label_pattern", "A(\\d+)", "--split_list", "train"], "expected NAME=FILE"),
        (["--label_pattern", "A(\\d+)", "--split", "subject"], "has no subject"),
        (["--label_pattern", "A(\\d+)", "--remap", "handmp"], "have no joint in common"),
        (["--label_pattern", "A(\\d+", "--val_fraction", "0.5"], "--label_pattern A(\\d+: not a regular expression"),
        (["--label_pattern", "A(\\d+)", "--subject_pattern", "["], "--subject_pattern [: not a regular expression"),
        (["--label_pattern", "A(\\d+)", "--fps", "nan", "--to_fps", "10"], "frame rates must be positive"),
        (["--label_pattern", "A(\\d+)", "--num_person", "0"], "--num_person: must be at least 1"),
        (["--label_pattern", "A(\\d+)", "--image_size", "0", "9"], "--image_size: height and width must be at least 1"),
        (["--label_pattern", "A(\\d+)", "--class_names", "EMPTY"], "holds no class names"),
        (["--label_pattern", "A(\\d+)", "--class_names", "ONE"], "1 class names, but the labels go from 0 to 12"),
        (["--labels", "FOLDER"], "cannot be read: Is a directory"),
        (["--labels", "none.csv"], "none.csv: no such file"),
    ],
)
def test_mistakes_leave_nothing_written(run, poses, tmp_path, flags, problem):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "one.txt").write_text("wave\n")
    files = {"EMPTY": tmp_path / "empty.txt", "ONE": tmp_path / "one.txt", "FOLDER": tmp_path}
    flags = [files.get(flag, flag) for flag in flags]
    result = run("prepare_data", "openpose", poses, *flags, "-o", tmp_path / "mine.pkl")
    assert result.code == 2
    assert problem in result.err
    assert not (tmp_path / "mine.pkl").exists()


def test_samples_of_a_pickle_that_cannot_be_read_are_left_out_and_named(run, toy_file, tmp_path):
    content = pickle.loads(toy_file.read_bytes())
    del content["annotations"][3]["keypoint"]
    content["annotations"][5] = 7
    content["annotations"][8]["filename"] = content["annotations"][8].pop("frame_dir")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(content))
    result = run("prepare_data", "pickle", tmp_path / "bad.pkl", "-o", tmp_path / "good.pkl")
    assert result.code == 0, result.err
    assert "bad.pkl: sample 'S001R002A002' left out: no 'keypoint'" in result.err
    assert "bad.pkl: sample '5' left out: an annotation must be a mapping, found a int" in result.err
    assert len(read_annotations(tmp_path / "good.pkl").annotations) == 94


@pytest.mark.parametrize("command", ["pickle", "store", "merge"])
def test_pickles_of_something_else_are_refused(run, toy_file, tmp_path, command):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps([1, 2]))
    files = [toy_file, tmp_path / "bad.pkl"] if command == "merge" else [tmp_path / "bad.pkl"]
    result = run("prepare_data", command, *files, "-o", tmp_path / "out")
    assert result.code == 2
    assert "bad.pkl: " in result.err
    assert "an annotation must be a mapping, found a int" in result.err
    assert not (tmp_path / "out").exists()


def test_pickles_keep_their_splits(run, toy_file, tmp_path):
    assert run("prepare_data", "pickle", toy_file, "-o", tmp_path / "copy.pkl").code == 0
    original = pickle.loads(toy_file.read_bytes())
    assert read_annotations(tmp_path / "copy.pkl").splits == original["split"]
