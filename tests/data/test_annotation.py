"""Annotation files: three forms, every field checked."""

import pickle

import numpy as np
import pytest

from paddleskel.data.annotation import parse_annotation, read_annotations
from paddleskel.data.dataset import load_clips
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import load_layout

COCO = load_layout("coco")


def save(tmp_path, content):
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


def test_three_forms_are_read(tmp_path, annotation):
    whole = {"split": {"train": ["clip_a"]}, "annotations": [annotation], "class_names": ["x"]}
    file = read_annotations(save(tmp_path, whole))
    assert (file.splits, file.class_names, len(file.select("train"))) == ({"train": ["clip_a"]}, ["x"], 1)
    assert len(read_annotations(save(tmp_path, [annotation])).select(None)) == 1
    assert len(read_annotations(save(tmp_path, annotation)).select(None)) == 1


def test_a_valid_annotation_becomes_a_clip(annotation):
    clip = parse_annotation(annotation, "f", COCO, 60)
    assert clip.keypoint.shape == (2, 40, 17, 2)
    assert (clip.label, clip.id, clip.image_size, clip.num_frames) == (3, "clip_a", (1080, 1920), 40)
    assert clip.score.shape == (2, 40, 17)


def test_order_is_that_of_the_annotations_not_of_the_split(tmp_path, annotation):
    annotations = [{**annotation, "frame_dir": name} for name in "abc"]
    file = read_annotations(save(tmp_path, {"split": {"s": ["c", "a"]}, "annotations": annotations}))
    assert [item["frame_dir"] for item in file.select("s")] == ["a", "c"]


def test_older_names_and_numpy_labels(annotation):
    annotation["filename"] = annotation.pop("frame_dir")
    for label in (np.int64(3), np.array([3]), np.array(3)):
        clip = parse_annotation({**annotation, "label": label}, "f", COCO, 60)
        assert (clip.id, clip.label) == ("clip_a", 3)


def test_frames_beyond_total_frames_are_padding(annotation):
    clip = parse_annotation({**annotation, "total_frames": 30}, "f", COCO)
    assert clip.keypoint.shape[1] == clip.score.shape[1] == 30


def nan_at(array, value):
    array = array.copy()
    array[0, 1, 2] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("keypoint"), "no 'keypoint'; found frame_dir"),
        (lambda a: a.update(keypoint=a["keypoint"][0]), "keypoint: expected (persons, frames, joints, coordinates)"),
        (
            lambda a: a.update(keypoint=np.zeros((1, 40, 25, 2)), keypoint_score=None),
            "25 joints, but the layout 'coco'",
        ),
        (lambda a: a.update(keypoint=np.zeros((1, 40, 17, 4)), keypoint_score=None), "4 coordinates a joint"),
        (lambda a: a.update(keypoint=np.zeros((1, 0, 17, 2))), "keypoint: empty"),
        (lambda a: a.update(keypoint=[[1, 2], [3]]), "not an array of one shape"),
        (lambda a: a.update(keypoint=np.array([["x"]])), "keypoint: expected numbers"),
        (lambda a: a.update(keypoint=nan_at(a["keypoint"], np.nan)), "keypoint: 2 of 2720 values are NaN or infinite"),
        (lambda a: a.update(keypoint=nan_at(a["keypoint"], np.inf)), "NaN or infinite"),
        (lambda a: a.update(keypoint_score=nan_at(a["keypoint_score"], np.nan)), "keypoint_score: 1 of 1360 values"),
        (lambda a: a.update(keypoint_score=a["keypoint_score"][:1]), "keypoint_score: expected shape (2, 40, 17)"),
        (lambda a: a.pop("label"), "no 'label'"),
        (lambda a: a.update(label=60), "label 60 is outside 0 to 59, as num_classes is 60"),
        (lambda a: a.update(label=-1), "label -1 is outside"),
        (lambda a: a.update(label="wave"), "label: expected one whole number, found 'wave'"),
        (lambda a: a.update(label=1.5), "label: expected one whole number"),
        (lambda a: a.update(total_frames=41), "total_frames is 41, but keypoint has 40 frames"),
        (lambda a: a.update(img_shape=(1080, 1920, 3)), "img_shape: expected (height, width)"),
    ],
)
def test_each_fault_names_file_sample_and_field(annotation, change, message):
    change(annotation)
    with pytest.raises(UserError) as caught:
        parse_annotation(annotation, "data/x.pkl", COCO, 60)
    assert str(caught.value).startswith("data/x.pkl: sample 'clip_a'")
    assert message in str(caught.value)


def test_prediction_needs_no_label(annotation):
    del annotation["label"]
    assert parse_annotation(annotation, "f", COCO, need_label=False).label == -1


@pytest.mark.parametrize(
    ("content", "split", "message"),
    [
        ({"split": {"xsub_train": ["a"]}, "annotations": []}, "xsub_trian", "no split 'xsub_trian'; it has xsub_train"),
        ({"split": {"train": ["b"]}, "annotations": [{"frame_dir": "a"}]}, "train", "split 'train' holds no sample"),
        ([], None, "the file holds no sample"),
        ([{"frame_dir": "a"}], "train", "the file has no splits"),
        ({"keypoints": 1}, None, "not an annotation file"),
        (7, None, "not an annotation file"),
        ({"split": [1], "annotations": []}, None, "'split' must map"),
        ([3], None, "an annotation must be a mapping"),
    ],
)
def test_broken_files_are_explained(tmp_path, content, split, message):
    with pytest.raises(UserError) as caught:
        load_clips(str(save(tmp_path, content)), split, COCO, 5)
    assert str(tmp_path) in str(caught.value)
    assert message in str(caught.value)


def test_real_files_are_read(reference):
    file = read_annotations(reference / "data" / "mini_ntu60_hrnet.pkl")
    assert {name: len(ids) for name, ids in file.splits.items()} == {"xview_train": 5, "xview_val": 3}
    clips = [parse_annotation(item, file.path, COCO, 60) for item in file.select("xview_val")]
    assert [clip.label for clip in clips] == [0, 1, 2]
