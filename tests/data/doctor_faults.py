"""Ways to spoil a clean set, each with what the doctor must say about it; test_doctor.py tries them."""

import numpy as np

from paddleskel.skeleton.layout import load_layout

FAULTS = {}  # name: (dimensions, what spoils the content, kinds expected, arguments of examine)


def fault(*expected, dimensions="2d", **arguments):
    def add(spoil):
        FAULTS[spoil.__name__] = (dimensions, spoil, set(expected), arguments)
        return spoil

    return add


def change(content, number, **fields):
    content["annotations"][number] = {**content["annotations"][number], **fields}


@fault("malformed")
def no_keypoint(content):
    del content["annotations"][3]["keypoint"]


@fault("malformed")
def wrong_number_of_axes(content):
    change(content, 3, keypoint=content["annotations"][3]["keypoint"][0])


@fault("malformed")
def scores_of_another_shape(content):
    change(content, 3, keypoint_score=content["annotations"][3]["keypoint_score"][:, :-1])


@fault("not-finite")
def nan(content):
    content["annotations"][3]["keypoint"][0, 5, 2] = np.nan


@fault("not-finite")
def infinite_score(content):
    content["annotations"][3]["keypoint_score"][0, 5, 2] = np.inf


@fault("wrong-length")
def total_frames_beyond_the_data(content):
    change(content, 3, total_frames=999)


@fault("empty")
def zeros(content):
    item = content["annotations"][3]
    change(content, 3, keypoint=item["keypoint"] * 0)


@fault("one-frame")
def one_frame(content):
    item = content["annotations"][3]
    change(
        content, 3, keypoint=item["keypoint"][:, 10:11], keypoint_score=item["keypoint_score"][:, 10:11], total_frames=1
    )


@fault("mostly-empty")
def nobody_in_most_frames(content):
    item = content["annotations"][3]
    item["keypoint"][:, : round(0.7 * item["total_frames"])] = 0


@fault("frozen")
def standing_still(content):
    item = content["annotations"][3]
    item["keypoint"][:] = item["keypoint"][:, 10:11]


@fault("long-outliers")
def one_very_long_sample(content):
    item = content["annotations"][3]
    times = 5000 // item["total_frames"]
    change(content, 3, keypoint=np.tile(item["keypoint"], (1, times, 1, 1)), total_frames=times * item["total_frames"],
           keypoint_score=np.tile(item["keypoint_score"], (1, times, 1)))  # fmt: skip


@fault("unused-person")
def an_empty_place(content):
    item = content["annotations"][3]
    grow = lambda array: np.concatenate([array, np.zeros_like(array[:1])])
    change(content, 3, keypoint=grow(item["keypoint"]), keypoint_score=grow(item["keypoint_score"]))


@fault("many-people")
def a_crowd(content):
    item = content["annotations"][3]
    change(content, 3, keypoint=np.concatenate([item["keypoint"]] * 6),
           keypoint_score=np.concatenate([item["keypoint_score"]] * 6))  # fmt: skip


@fault("mixed-joints")
def a_sample_of_another_layout(content):
    item = content["annotations"][3]
    change(content, 3, keypoint=item["keypoint"][:, :, :14], keypoint_score=item["keypoint_score"][:, :, :14])


@fault("wrong-layout", layout=load_layout("openpose"))
def the_configs_layout_is_another(content):
    pass


@fault("dead-joint")
def a_joint_that_is_never_found(content):
    for item in content["annotations"]:
        item["keypoint"][:, :, 9] = 0


@fault("twin-joints")
def a_joint_written_twice(content):
    for item in content["annotations"]:
        item["keypoint"][:, :, 4] = item["keypoint"][:, :, 3]


@fault("teleport")
def two_people_mixed_up(content):
    item = content["annotations"][3]
    item["keypoint"][:, ::3, :, 0] = (item["keypoint"][:, ::3, :, 0] + np.float16(700)) % 1900


@fault("swapped-size")
def width_before_height(content):
    for item in content["annotations"]:
        item["img_shape"] = (1920, 1080)
        item["keypoint"][..., 0] += np.where(item["keypoint"][..., 0] != 0, np.float16(150), 0)


@fault("outside")
def a_smaller_picture(content):
    for item in content["annotations"]:
        item["img_shape"] = (480, 640)


@fault("no-size")
def no_image_size(content):
    del content["annotations"][3]["img_shape"]


@fault("not-pixels")
def normalised_already(content):
    for item in content["annotations"]:
        item["keypoint"] = (item["keypoint"].astype(np.float32) / 1920).astype(np.float32)


@fault("not-metres", dimensions="3d")
def millimetres(content):
    for item in content["annotations"]:
        item["keypoint"] = item["keypoint"] * 1000


@fault("score-as-z")
def confidence_as_a_coordinate(content):
    for item in content["annotations"]:
        score = item.pop("keypoint_score")
        item["keypoint"] = np.concatenate([item["keypoint"], score[..., None]], axis=-1)


@fault("score-range")
def percent(content):
    item = content["annotations"][3]
    change(content, 3, keypoint_score=item["keypoint_score"] * 100)


@fault("mixed-scores")
def a_sample_without_scores(content):
    del content["annotations"][3]["keypoint_score"]


@fault("no-label")
def no_label(content):
    del content["annotations"][3]["label"]


@fault("no-label")
def a_label_that_is_text(content):
    change(content, 3, label="wave")


@fault("label-range", num_classes=11)
def more_labels_than_classes(content):
    pass


@fault("label-gap", "class-names")
def labels_from_one(content):
    for item in content["annotations"]:
        item["label"] += 1


@fault("one-class", "duplicate-content")
def all_labels_equal(content):
    for item in content["annotations"]:
        item["label"] = 0
    a_copy(content)


@fault("few-samples", "class-not-trained")
def a_rare_class(content):
    keep = [i for i in content["annotations"] if i["label"] != 5 or i["frame_dir"] in content["split"]["val"][:12]]
    content["annotations"] = [*keep]
    kept = {item["frame_dir"] for item in keep}
    content["split"] = {name: [i for i in ids if i in kept] for name, ids in content["split"].items()}


@fault("imbalance")
def a_long_tail(content):
    more = []
    for item in content["annotations"]:
        if item["label"] == 0 and item["frame_dir"] in content["split"]["train"]:
            for number in range(40):
                keypoint = item["keypoint"] + np.float16(number + 1) * (item["keypoint"] != 0)
                more.append({**item, "frame_dir": f"{item['frame_dir']}_{number}", "keypoint": keypoint})
    content["annotations"] += more
    content["split"]["train"] += [item["frame_dir"] for item in more]


@fault("duplicate-id", "no-split")
def an_id_twice(content):
    old = content["annotations"][3]["frame_dir"]
    content["annotations"][3]["frame_dir"] = content["annotations"][4]["frame_dir"]
    for ids in content["split"].values():
        ids[:] = [name for name in ids if name != old]
    change(content, 9, frame_dir="nowhere")
    content["split"]["train"].remove("S001R002A005")


@fault("duplicate-content")
def a_copy(content):
    a, b = content["annotations"][3:5]
    content["annotations"][4] = {**a, "frame_dir": b["frame_dir"]}


@fault("leak")
def a_copy_in_the_test_split(content):
    a, b = content["annotations"][3], content["annotations"][-4]
    content["annotations"][-4] = {**a, "frame_dir": b["frame_dir"]}


@fault("split-overlap")
def a_sample_in_both_splits(content):
    content["split"]["val"].append(content["split"]["train"][0])


@fault("split-unknown")
def an_id_of_nothing(content):
    content["split"]["val"].append("ghost")


@fault("split-unknown", "split-empty")
def a_split_of_ghosts(content):
    content["split"]["extra"] = ["ghost"]


@fault("no-split")
def a_sample_in_no_split(content):
    content["split"]["train"].pop()


@fault("class-not-tested")
def a_class_that_is_not_tested(content):
    label = {item["frame_dir"]: item["label"] for item in content["annotations"]}
    gone = {name for name in content["split"]["val"] if label[name] == 0}
    content["split"]["val"] = [name for name in content["split"]["val"] if name not in gone]
    content["split"]["train"] += sorted(gone)
