"""Every pose format: toy clips written in it are read back the same within its precision; malformed files are told."""

import csv
import json
import pickle

import numpy as np
import pytest

from paddleskel.data.sources import SOURCES, ReadOptions, find_source, read_poses
from paddleskel.data.sources.openpose import write_openpose
from paddleskel.data.sources.toy import make_toy
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import load_layout
from paddleskel.skeleton.remap import apply_mapping, match_joints


@pytest.fixture(scope="module")
def toy():
    """{"2d": two clips of COCO joints, one with two people, "3d": two of Kinect's}"""
    clips = {}
    for dimensions in ("2d", "3d"):
        items = make_toy(dimensions, subjects=2, repeats=1, seed=3)["annotations"]
        one = min((item for item in items if len(item["keypoint"]) == 1), key=lambda item: item["total_frames"])
        two = min((item for item in items if len(item["keypoint"]) == 2), key=lambda item: item["total_frames"])
        clips[dimensions] = [one, two]
    return clips


def seen_frames(clip):
    """The clip cut to the frames between the first and the last with somebody in it."""
    points = np.asarray(clip["keypoint"], np.float32)
    present = np.flatnonzero(points.any(axis=(0, 2, 3)))
    cut = slice(present[0], present[-1] + 1)
    score = clip.get("keypoint_score")
    return points[:, cut], None if score is None else np.asarray(score, np.float32)[:, cut]


def same_people(read, points, score, tolerance):
    """The people agree frame by frame, whichever comes first."""
    ours = np.asarray(read["keypoint"], np.float32)
    assert ours.shape == points.shape
    distance = [
        np.abs(ours - points[list(order)]).max() for order in ([(0,)] if len(points) == 1 else [(0, 1), (1, 0)])
    ]
    order = int(np.argmin(distance))
    assert distance[order] <= tolerance
    if score is not None and "keypoint_score" in read:
        wanted = score if order == 0 else score[::-1]
        np.testing.assert_allclose(read["keypoint_score"], wanted, atol=2e-3)


def people_of(clip, frame):
    """(x, y, score) rows of everybody in a frame."""
    values = np.concatenate([clip["keypoint"][:, frame], clip["keypoint_score"][:, frame, :, None]], axis=-1)
    return [person for person in values.astype(np.float64) if person[:, :2].any()]


def rounded(values, digits=3):
    return [round(float(value), digits) for value in np.ravel(values)]


# ---- formats with people in frames ----


def openpose18(clip):
    mapping = match_joints(load_layout("coco").joints, load_layout("openpose").joints)
    return apply_mapping(clip, mapping, load_layout("openpose"))


def test_openpose(toy, tmp_path):
    for clip in toy["2d"]:
        clip = openpose18(clip)
        folder = tmp_path / clip["frame_dir"]
        write_openpose(clip, folder)
        (read,) = read_poses(folder)
        assert (read["layout"], read["frame_dir"]) == ("openpose", clip["frame_dir"])
        same_people(
            read, np.asarray(clip["keypoint"], np.float32), np.asarray(clip["keypoint_score"], np.float32), 1e-3
        )
    assert {item["frame_dir"] for item in read_poses(tmp_path)} == {clip["frame_dir"] for clip in toy["2d"]}


def test_openpose_clips_side_by_side_in_one_folder(toy, tmp_path):
    for name in ("a", "b"):
        write_openpose(openpose18(toy["2d"][0]), tmp_path / name)
        for file in sorted((tmp_path / name).iterdir()):
            file.rename(tmp_path / file.name)
        (tmp_path / name).rmdir()
    assert [item["frame_dir"] for item in read_poses(tmp_path, "openpose")] == ["a", "b"]


def coco_results(clip, track):
    results = []
    for frame in range(clip["total_frames"]):
        for number, person in enumerate(people_of(clip, frame)):
            result = {"image_id": f"{frame}.jpg", "category_id": 1, "keypoints": rounded(person), "score": 2.5}
            results.append(result | ({"idx": number + 1, "box": [0, 0, 9, 9]} if track else {}))
    return results


@pytest.mark.parametrize("track", [False, True], ids=["coco", "alphapose"])
def test_coco_style_results(toy, tmp_path, track):
    clip = toy["2d"][0]
    path = tmp_path / "clip.json"
    path.write_text(json.dumps(coco_results(clip, track)))
    (read,) = read_poses(path, options=ReadOptions(image_size=(1080, 1920)))
    points, score = seen_frames(clip)
    same_people({**read, "keypoint": seen_frames(read)[0], "keypoint_score": seen_frames(read)[1]}, points, score, 1e-3)
    assert (read["layout"], read["img_shape"]) == ("coco", (1080, 1920))


def test_coco_annotation_files_keep_frames_without_people(toy, tmp_path):
    clip = toy["2d"][0]
    images = [{"id": 100 + f, "file_name": f"v_{f:04d}.jpg", "height": 1080, "width": 1920} for f in range(5)]
    seen = lambda f: np.concatenate([clip["keypoint"][0, f + 10].astype(float), np.full((17, 1), 2.0)], axis=1)
    people = [{"image_id": 100 + f, "keypoints": rounded(seen(f))} for f in (0, 3)]
    path = tmp_path / "clip.json"
    path.write_text(json.dumps({"images": images, "annotations": people}))
    (read,) = read_poses(path)
    assert read["keypoint"].shape == (1, 5, 17, 2)
    assert read["keypoint"].any(axis=(0, 2, 3)).tolist() == [True, False, False, True, False]
    assert read["keypoint_score"].max() == 1
    assert read["img_shape"] == (1080, 1920)


def test_halpe_joints_are_recognised(tmp_path):
    rows = [{"image_id": f"{f}.jpg", "keypoints": rounded(np.arange(78) + f + 1), "score": 1} for f in range(4)]
    path = tmp_path / "clip.json"
    path.write_text(json.dumps(rows))
    assert read_poses(path)[0]["layout"] == "halpe26"


def test_paddledetection(toy, tmp_path):
    for clip in toy["2d"]:
        content = []
        for frame in range(clip["total_frames"]):
            people = people_of(clip, frame)
            boxes = [[0, 0, 10, 10] for _ in people]
            keypoints = [[[round(float(v), 3) for v in joint] for joint in person] for person in people]
            content.append([frame, boxes, [keypoints, [[0.9] for _ in people]]])
        path = tmp_path / "clip.json"
        path.write_text(json.dumps(content))
        (read,) = read_poses(path)
        same_people(
            read, np.asarray(clip["keypoint"], np.float32), np.asarray(clip["keypoint_score"], np.float32), 1e-3
        )


def test_kinetics(toy, tmp_path):
    clip = openpose18(toy["2d"][1])
    size = np.array([1920, 1080])
    person = lambda values: {"pose": rounded(values[:, :2] / size, 5), "score": rounded(values[:, 2])}
    data = [
        {"frame_index": frame + 1, "skeleton": [person(values) for values in people_of(clip, frame)]}
        for frame in range(clip["total_frames"])
    ]
    path = tmp_path / "-0abc.json"
    path.write_text(json.dumps({"data": data, "label": "clapping", "label_index": 7}))
    (read,) = read_poses(path, options=ReadOptions(image_size=(1080, 1920)))
    same_people(read, np.asarray(clip["keypoint"], np.float32), np.asarray(clip["keypoint_score"], np.float32), 0.02)
    assert (read["label"], read["label_name"], read["layout"]) == (7, "clapping", "openpose")


def test_kpfiles(toy, tmp_path):
    listed, kpfile = [], {}
    for clip in toy["2d"]:
        rows = [(f, person) for f in range(clip["total_frames"]) for person in people_of(clip, f)]
        name = clip["frame_dir"]
        kpfile[name] = {"keypoint": np.stack([person for _, person in rows]).astype(np.float16)}
        listed.append({"frame_dir": name, "label": clip["label"], "img_shape": (1080, 1920), "raw_file": "x/k.pkl",
                       "total_frames": 999, "frame_inds": np.array([f for f, _ in rows]),
                       "box_score": np.ones(len(rows), np.float16)})  # fmt: skip
    (tmp_path / "kpfiles").mkdir()
    (tmp_path / "kpfiles" / "k.pkl").write_bytes(pickle.dumps(kpfile))
    path = tmp_path / "k400.pkl"
    path.write_bytes(pickle.dumps({"split": {"train": []}, "annotations": listed}))
    for clip, read in zip(toy["2d"], read_poses(path)):
        keep = np.asarray(clip["keypoint"]).any(axis=(0, 2, 3))
        points = np.asarray(clip["keypoint"], np.float32)[:, keep]
        same_people(read, points, np.asarray(clip["keypoint_score"], np.float32)[:, keep], 0.6)
        assert (read["label"], read["img_shape"]) == (clip["label"], (1080, 1920))


# ---- formats with one sequence a file ----


def test_nw_ucla(toy, tmp_path):
    points = toy["3d"][0]["keypoint"][0, :, :20]
    for name in ("a03_s01_e02_v01", "a03_s01_e02_v03"):
        content = {
            "file_name": name,
            "skeletons": [[rounded(joint, 5) for joint in frame] for frame in points],
            "label": 3,
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    read = read_poses(tmp_path)
    np.testing.assert_allclose(read[1]["keypoint"][0], points, atol=1e-5)
    assert (read[0]["label"], read[0]["layout"]) == (2, "nw_ucla")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_joint_with_a_number_that_is_none_was_not_found(tmp_path, value):
    """1e300 is a number to the file and none to the network."""
    points = np.ones((4, 17, 2))
    points[1, 5, 0] = value
    np.save(tmp_path / "a.npy", points)
    (read,) = read_poses(tmp_path / "a.npy")
    points[1, 5] = 0
    np.testing.assert_array_equal(read["keypoint"], points[None])


@pytest.mark.parametrize("joints", [33, 21])
@pytest.mark.parametrize("form", ["npy", "flat.npy", "csv", "long.csv", "json", "people.json"])
def test_mediapipe(tmp_path, joints, form):
    rng = np.random.RandomState(0)
    points, seen = rng.rand(9, joints, 3).round(5), rng.rand(9, joints, 1).round(5)
    values = np.concatenate([points, seen], axis=-1)
    path = tmp_path / f"clip.{form.split('.')[-1]}"
    landmarks = [[dict(zip(("x", "y", "z", "visibility"), joint)) for joint in frame] for frame in values.tolist()]
    if form == "npy":
        np.save(path, values)
    elif form == "flat.npy":
        np.save(path, values.reshape(9, -1))
    elif form == "csv":
        header = [f"{axis}{joint}" for joint in range(joints) for axis in ("x", "y", "z", "v")]
        np.savetxt(path, values.reshape(9, -1), delimiter=",", header=",".join(header), comments="", fmt="%.5f")
    elif form == "long.csv":
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["frame", "landmark", "x", "y", "z", "visibility"])
            rows.writerows([f, j, *values[f, j]] for f in range(9) for j in range(joints))
    elif form == "json":
        path.write_text(json.dumps(landmarks))
    else:
        path.write_text(json.dumps({"frames": [{"pose_landmarks": [frame]} for frame in landmarks]}))
    assert find_source(path).name == "mediapipe"
    (read,) = read_poses(path)
    np.testing.assert_allclose(read["keypoint"][0], points, atol=1e-5)
    np.testing.assert_allclose(read["keypoint_score"][0], seen[..., 0], atol=1e-5)
    assert read["layout"] == {33: "mediapipe_pose", 21: "handmp"}[joints]


def test_plain_arrays(toy, tmp_path):
    clip = toy["2d"][1]
    np.save(tmp_path / "a.npy", clip["keypoint"])
    np.savez(tmp_path / "b.npz", keypoint=clip["keypoint"], keypoint_score=clip["keypoint_score"])
    np.save(tmp_path / "c.npy", np.concatenate([clip["keypoint"], clip["keypoint_score"][..., None]], axis=-1)[0])
    a, b, c = read_poses(tmp_path, options=ReadOptions(image_size=(1080, 1920), last_is_score=True))
    np.testing.assert_array_equal(a["keypoint"], clip["keypoint"])
    np.testing.assert_array_equal(b["keypoint_score"], clip["keypoint_score"])
    np.testing.assert_array_equal(c["keypoint"][0], clip["keypoint"][0])
    np.testing.assert_array_equal(c["keypoint_score"][0], clip["keypoint_score"][0])
    assert (a["frame_dir"], b["img_shape"]) == ("a", (1080, 1920))


def test_csv_with_joint_names_is_matched_by_name(toy, tmp_path):
    names = list(load_layout("coco").joints)
    points = np.asarray(toy["2d"][0]["keypoint"][0], np.float64)
    order = names[::-1]
    path = tmp_path / "clip.csv"
    header = [f"{name}_{axis}" for name in order for axis in "xy"]
    np.savetxt(path, points[:, ::-1].reshape(len(points), -1), delimiter=",", header=",".join(header), comments="")
    (read,) = read_poses(path, layout=load_layout("coco"))
    np.testing.assert_allclose(read["keypoint"][0], points, atol=1e-3)


def array_set(clips, frames=300):
    """(N, C, T, V, M), padded with zeros."""
    data = np.zeros((len(clips), 3, frames, 25, 2), np.float32)
    for number, clip in enumerate(clips):
        points = np.asarray(clip["keypoint"], np.float32)
        data[number, :, : points.shape[1], :, : len(points)] = points.transpose(3, 1, 2, 0)
    return data


def cut(clip):
    """Frames up to the last one with somebody in it."""
    points = np.asarray(clip["keypoint"], np.float32)
    return points[:, : np.flatnonzero(points.any(axis=(0, 2, 3)))[-1] + 1]


@pytest.mark.parametrize("label_form", ["st-gcn", "list", "npy"])
def test_arrays(toy, tmp_path, label_form):
    clips = toy["3d"]
    np.save(tmp_path / "train_data_joint.npy", array_set(clips))
    labels = [clip["label"] for clip in clips]
    if label_form == "npy":
        np.save(tmp_path / "train_label.npy", np.array(labels))
    else:
        content = (["a.skeleton", "b.skeleton"], labels) if label_form == "st-gcn" else labels
        (tmp_path / "train_label.pkl").write_bytes(pickle.dumps(content))
    read = read_poses(tmp_path)
    for clip, item in zip(clips, read):
        np.testing.assert_array_equal(item["keypoint"], cut(clip))
        assert (item["label"], item["split"]) == (clip["label"], "train")
    assert label_form != "st-gcn" or [item["frame_dir"] for item in read] == ["a", "b"]


def test_ctrgcn_npz(toy, tmp_path):
    flat = array_set(toy["3d"]).transpose(0, 2, 4, 3, 1).reshape(2, 300, 150)
    labels = np.eye(12)[[clip["label"] for clip in toy["3d"]]]
    np.savez(tmp_path / "NTU60_CS.npz", x_train=flat[:1], y_train=labels[:1], x_test=flat[1:], y_test=labels[1:])
    read = read_poses(tmp_path / "NTU60_CS.npz")
    assert [item["split"] for item in read] == ["train", "test"]
    for clip, item in zip(toy["3d"], read):
        np.testing.assert_array_equal(item["keypoint"], cut(clip))
        assert item["label"] == clip["label"]


def test_annotation_pickles(toy_file):
    assert len(read_poses(toy_file)) == 96
    assert len(read_poses(toy_file.parent)) == 96


# ---- malformed ----

MALFORMED = {
    "openpose": ("a_000_keypoints.json", '{"people": [{"pose_keypoints_2d": [1, 2]}]}', "expected any x 3 numbers"),
    "coco": ("a.json", '[{"keypoints": [1, 2, 3]}]', "no 'image_id'"),
    "paddledetection": ("a.json", "[[0, [], [[[[1, 2, 3]]]]]]", r"expected \[keypoints, scores\]"),
    "kinetics": ("a.json", '{"data": [{"frame_index": "x"}]}', "frame_index 'x'"),
    "nw_ucla": ("a.json", '{"skeletons": [[[1, 2, 3]]]}', "expected any x 20 x 3 numbers"),
    "mediapipe": ("a.json", '[[{"x": 1, "y": "q"}]]', "needs numbers x, y and z"),
    "files": ("a.csv", "x0,y0\n1,2\n3\n", "row 2 has 1 cells"),
    "arrays": ("a.npy", "text", "expected an array of shape"),
    "pickle": ("a.pkl", "text", "a.pkl"),
    "kpfiles": ("a.pkl", "text", "a.pkl"),
    "ntu": ("a.skeleton", "<html>not found</html>", "no Kinect skeleton file"),
}


def test_every_source_has_a_malformed_case():
    assert set(MALFORMED) == set(SOURCES)


@pytest.mark.parametrize("source", MALFORMED)
def test_malformed_files_are_named(tmp_path, source):
    name, text, problem = MALFORMED[source]
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=problem) as error:
        read_poses(tmp_path / name, source)
    assert name in str(error.value) or name.split("_")[0] in str(error.value)


@pytest.mark.parametrize("source", ["openpose", "coco", "paddledetection", "kinetics", "nw_ucla", "mediapipe"])
def test_truncated_json_is_named(tmp_path, source):
    (tmp_path / "a_000_keypoints.json").write_text('{"people": [{"pose_')
    with pytest.raises(UserError, match=r"a_000_keypoints\.json: not readable JSON"):
        read_poses(tmp_path, source)


ONE, TWO = [1, 2, 1], [1, 2, 1, 3, 4, 1]  # keypoints of two people
UNEQUAL = {
    "openpose": {"people": [{"pose_keypoints_2d": ONE}, {"pose_keypoints_2d": TWO}]},
    "coco": [{"image_id": 0, "keypoints": ONE}, {"image_id": 0, "keypoints": TWO}],
    "paddledetection": [[0, [], [[ONE, TWO], [1, 1]]]],
    "kinetics": {"data": [{"frame_index": 1, "skeleton": [
        {"pose": [1, 2], "score": [1]}, {"pose": [1, 2, 3, 4], "score": [1, 1]},
    ]}]},
}  # fmt: skip


@pytest.mark.parametrize("source", UNEQUAL)
def test_people_of_unequal_skeletons_in_a_frame_are_named(tmp_path, source):
    file = tmp_path / "a_000_keypoints.json"
    file.write_text(json.dumps(UNEQUAL[source]))
    with pytest.raises(UserError, match=r"a_000_keypoints\.json.*: people with different numbers of keypoints"):
        read_poses(file, source)


def test_one_bad_file_among_good_ones_is_noted(toy, tmp_path):
    np.save(tmp_path / "good.npy", toy["2d"][0]["keypoint"])
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY junk")
    options = ReadOptions()
    assert [item["frame_dir"] for item in read_poses(tmp_path, options=options)] == ["good"]
    assert len(options.problems) == 1
    assert "bad.npy" in options.problems[0]


def test_unknown_files_and_formats(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_poses(tmp_path / "none.json")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UserError, match="not a pose format"):
        read_poses(tmp_path / "a.txt")
    with pytest.raises(UserError, match="did you mean 'openpose'"):
        read_poses(tmp_path, "openpos")


def test_a_layout_that_cannot_be_filled_is_refused(toy, tmp_path):
    write_openpose(openpose18(toy["2d"][0]), tmp_path / "clip")
    (read,) = read_poses(tmp_path / "clip", layout=load_layout("coco"))
    assert read["keypoint"].shape[2] == 17
    with pytest.raises(UserError, match=r"lacks .*left_foot"):
        read_poses(tmp_path / "clip", layout=load_layout("nturgb+d"))
