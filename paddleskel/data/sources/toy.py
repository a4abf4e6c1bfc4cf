"""Toy data: procedural human motion, so that everything can be tried without a download.

Bodies of different build act in front of a camera; what it sees becomes COCO-17 poses in pixels with confidences, or
Kinect-like 25-joint poses in metres. Actions come in pairs with the same mean pose that differ only in how they move
(an action and its reverse, a movement and its pause, in step and out of step), so that a classifier must look at time.
Splits are by subject. Everything is drawn from one seed.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from paddleskel.errors import UserError
from paddleskel.skeleton.layout import load_layout

CLASS_NAMES = [
    "raise arms",
    "lower arms",
    "sit down",
    "stand up",
    "wave",
    "hold hand up",
    "clap",
    "punch",
    "march",
    "jump",
    "approach",
    "back away",
]
IMAGE_SIZE = (1080, 1920)  # height, width
FRAMES_PER_SECOND = 30
_FOCAL_LENGTH = 1400.0  # pixels
_CAMERA_HEIGHT = 1.1  # metres
_WAVING = 1.1  # radians that a waving forearm swings to either side

Random = np.random.RandomState
Pose = dict[str, np.ndarray]  # joint angles in radians and offsets in metres, (T,) each; "left_" and "right_" for limbs


def make_toy(
    dimensions: Literal["2d", "3d"] = "2d",
    subjects: int = 16,
    repeats: int = 5,
    seed: int = 0,
    val_fraction: float = 0.25,
) -> dict[str, Any]:
    """Return an annotation file's content with the splits "train" and "val".

    Args:
        dimensions: "2d" for COCO-17 pixels with confidences, "3d" for 25 joints in metres.
        subjects: bodies; the last `val_fraction` of them are the validation split.
        repeats: clips of each action by each subject.
    """
    if subjects < 2 or repeats < 1 or not 0 < val_fraction < 1:
        raise UserError("toy: give at least 2 subjects, 1 repeat and a val fraction between 0 and 1")
    validating = max(1, round(subjects * val_fraction))
    annotations, split = [], {"train": [], "val": []}
    for subject in range(subjects):
        for action in range(len(CLASS_NAMES)):
            for repeat in range(repeats):
                name = f"S{subject + 1:03d}R{repeat + 1:03d}A{action + 1:03d}"
                rng = Random([seed % 2**32, subject, action, repeat])
                body = Body(Random([seed % 2**32, subject]))
                annotations.append({"frame_dir": name, "label": action, **_record(action, body, rng, dimensions)})
                split["val" if subject >= subjects - validating else "train"].append(name)
    return {"split": split, "annotations": annotations, "class_names": CLASS_NAMES}


# ---- bodies ----


class Body:
    """A subject's build and manner: segment lengths in metres, tempo, and how large the movements are."""

    def __init__(self, rng: Random):
        height = rng.uniform(1.5, 1.95)

        def share(fraction: float, spread: float = 0.08) -> float:
            return height * fraction * rng.uniform(1 - spread, 1 + spread)

        self.thigh, self.shank, self.foot = share(0.245), share(0.246), share(0.12)
        self.torso, self.neck, self.head = share(0.29), share(0.06), share(0.11)
        self.upper_arm, self.forearm, self.hand = share(0.175), share(0.145), share(0.09)
        self.shoulder, self.hip = share(0.115, 0.15), share(0.055, 0.15)  # half widths
        self.tempo, self.reach, self.slouch = rng.uniform(0.8, 1.25), rng.uniform(0.85, 1.12), rng.uniform(-0.05, 0.12)


def _direction(elevation: np.ndarray, azimuth: np.ndarray, side: int) -> np.ndarray:
    """(T, 3) unit vectors in the body's axes (x to its left, y up, z ahead); elevation 0 hangs down, azimuth 0
    points ahead.
    """
    flat = np.sin(elevation)
    return np.stack([side * flat * np.sin(azimuth), -np.cos(elevation), flat * np.cos(azimuth)], axis=-1)


def skeleton_points(body: Body, pose: Pose) -> dict[str, np.ndarray]:
    """Forward kinematics: (T, 3) world positions in metres of every joint of both layouts, feet on the floor (y =
    0).
    """
    zero = np.zeros_like(pose["lean"])
    points = {"spine_base": np.zeros((len(zero), 3))}
    up = np.stack([zero, np.cos(pose["lean"]), np.sin(pose["lean"])], axis=-1)
    ahead = np.stack([zero, -np.sin(pose["lean"]), np.cos(pose["lean"])], axis=-1)
    left = np.tile([1.0, 0.0, 0.0], (len(zero), 1))
    points["spine_mid"] = up * body.torso * 0.5
    points["spine_shoulder"] = up * body.torso
    points["neck"] = points["spine_shoulder"] + up * body.neck
    points["head"] = points["neck"] + up * body.head
    face = points["neck"] + up * body.head * 0.45
    points["nose"] = face + ahead * body.head * 0.6
    for name, side in (("left", 1), ("right", -1)):
        points[f"{name}_eye"] = face + up * 0.035 + ahead * body.head * 0.45 + side * left * 0.032
        points[f"{name}_ear"] = face + up * 0.02 + side * left * 0.075
        shoulder = points["spine_shoulder"] + side * left * body.shoulder - up * 0.03
        upper = _direction(pose[f"{name}_arm"] - pose["lean"], pose[f"{name}_arm_out"], side)
        fore = _direction(pose[f"{name}_forearm"] - pose["lean"], pose[f"{name}_forearm_out"], side)
        points[f"{name}_shoulder"] = shoulder
        points[f"{name}_elbow"] = shoulder + upper * body.upper_arm
        points[f"{name}_wrist"] = points[f"{name}_elbow"] + fore * body.forearm
        points[f"{name}_hand"] = points[f"{name}_wrist"] + fore * body.hand * 0.5
        points[f"{name}_hand_tip"] = points[f"{name}_wrist"] + fore * body.hand
        points[f"{name}_thumb"] = points[f"{name}_hand"] - side * left * 0.03 + ahead * 0.02
        hip = side * left * body.hip
        thigh = _direction(pose[f"{name}_thigh"], zero + 0.05, side)
        shank = _direction(pose[f"{name}_thigh"] - pose[f"{name}_knee"], zero + 0.05, side)
        points[f"{name}_hip"] = hip
        points[f"{name}_knee"] = hip + thigh * body.thigh
        points[f"{name}_ankle"] = points[f"{name}_knee"] + shank * body.shank
        points[f"{name}_foot"] = points[f"{name}_ankle"] + np.stack([zero, zero - 0.03, zero + body.foot], axis=-1)
    lowest = np.minimum(points["left_foot"][:, 1], points["right_foot"][:, 1])
    rise = np.stack([zero, pose["jump"] - lowest, zero], axis=-1)
    cosine, sine = np.cos(pose["turn"]), np.sin(pose["turn"])
    for name, point in points.items():
        x, y, z = (point + rise).T
        points[name] = np.stack([cosine * x + sine * z + pose["x"], y, cosine * z - sine * x + pose["z"]], axis=-1)
    return points


# ---- actions: phase s in [0, 1] and angle of a repeated movement -> changes of the standing pose ----


def _stand(body: Body, rng: Random, frames: int) -> Pose:
    """Standing at ease: small drifts of everything."""
    time = np.arange(frames) / FRAMES_PER_SECOND

    def drift(center: float, size: float) -> np.ndarray:
        return center + size * np.sin(2 * np.pi * (time * rng.uniform(0.1, 0.4) + rng.rand()))

    pose = {"lean": drift(body.slouch, 0.03), "turn": drift(0.0, 0.04), "x": drift(0.0, 0.02), "z": drift(0.0, 0.02)}
    pose["jump"] = np.zeros(frames)
    for side in ("left_", "right_"):
        pose |= {side + "arm": drift(rng.uniform(0.1, 0.25), 0.04), side + "arm_out": drift(1.2, 0.1)}
        pose |= {side + "forearm": drift(rng.uniform(0.2, 0.4), 0.05), side + "forearm_out": drift(0.5, 0.1)}
        pose |= {side + "thigh": drift(0.03, 0.02), side + "knee": drift(0.06, 0.02)}
    return pose


def _smooth(s: np.ndarray, start: float, end: float) -> np.ndarray:
    ramp = np.clip((s - start) / (end - start), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _raise_arms(pose: Pose, s: np.ndarray, angle: np.ndarray, body: Body, rng: Random) -> None:
    done = _smooth(s, rng.uniform(0, 0.3), rng.uniform(0.7, 1.0))
    out = rng.uniform(0.2, 1.5)
    for side in ("left_", "right_"):
        pose[side + "arm"] = pose[side + "arm"] + done * 2.5 * body.reach
        pose[side + "forearm"] = pose[side + "forearm"] + done * 2.4 * body.reach
        pose[side + "arm_out"] = pose[side + "forearm_out"] = np.full_like(s, out)


def _sit_down(pose: Pose, s: np.ndarray, angle: np.ndarray, body: Body, rng: Random) -> None:
    done = _smooth(s, rng.uniform(0, 0.3), rng.uniform(0.7, 1.0))
    pose["lean"] = pose["lean"] + 0.6 * body.reach * np.sin(np.pi * done) + 0.1 * done
    for side in ("left_", "right_"):
        pose[side + "thigh"] = pose[side + "thigh"] + 1.45 * done
        pose[side + "knee"] = pose[side + "knee"] + 1.45 * done
        pose[side + "forearm"] = pose[side + "forearm"] + 0.7 * done


def _hand_up(pose: Pose, s: np.ndarray, swing: np.ndarray, rng: Random) -> None:
    """One hand beside the head, the forearm swinging about the vertical."""
    side = rng.choice(["left_", "right_"])
    pose[side + "arm"] = pose[side + "arm"] + 1.3 + 0.2 * swing
    pose[side + "arm_out"] = np.full_like(s, 1.3)
    pose[side + "forearm"] = np.pi + swing + 0.1 * np.sin(2 * np.pi * (s + rng.rand()))
    pose[side + "forearm_out"] = np.full_like(s, 1.4)


def _wave(pose: Pose, s: np.ndarray, angle: np.ndarray, body: Body, rng: Random) -> None:
    _hand_up(pose, s, _WAVING * body.reach * np.sin(angle), rng)


def _hold_hand_up(pose: Pose, s: np.ndarray, angle: np.ndarray, body: Body, rng: Random) -> None:
    # tilted as far to either side as keeps the mean height of a waving hand
    _hand_up(pose, s, np.full_like(s, rng.choice([-1, 1]) * _WAVING * body.reach / np.sqrt(2)), rng)


def _clap(pose: Pose, s: np.ndarray, angle: np.ndarray, body: Body, rng: Random) -> None:
    lift = rng.choice([-1, 1]) * body.reach / np.sqrt(2)  # held as far off the middle as a punching arm is on average
    for side in ("left_", "right_"):
        pose[side + "arm"] = pose[side + "arm"] + 0.75 + 0.6 * lift
        pose[side + "arm_out"] = np.full_like(s, 0.35)
        pose[side + "forearm"] = np.full_like(s, 1.65 - 0.45 * lift)
        pose[side + "forearm_out"] = -0.15 + 0.7 * body.reach * np.sin(angle)


def _punch(pose: Pose, s: np.ndarray, angle: np.ndarray, body: Body, rng: Random) -> None:
    inward = rng.choice([-1, 1]) * 0.7 * body.reach / np.sqrt(2)  # and the reverse for clapping hands
    for side, phase in (("left_", 0.0), ("right_", np.pi)):
        reach = body.reach * np.sin(angle + phase)
        pose[side + "arm"] = pose[side + "arm"] + 0.75 + 0.6 * reach
        pose[side + "arm_out"] = np.full_like(s, 0.35)
        pose[side + "forearm"] = 1.65 - 0.45 * reach
        pose[side + "forearm_out"] = np.full_like(s, -0.15 + inward)


def _lift_knees(pose: Pose, angle: np.ndarray, body: Body, phases: tuple[float, float]) -> None:
    for side, phase in zip(("left_", "right_"), phases):
        lift = body.reach * np.maximum(0, np.sin(angle + phase))
        pose[side + "thigh"] = pose[side + "thigh"] + 0.9 * lift
        pose[side + "knee"] = pose[side + "knee"] + 1.3 * lift


def _march(pose: Pose, s: np.ndarray, angle: np.ndarray, body: Body, rng: Random) -> None:
    _lift_knees(pose, angle, body, (0.0, np.pi))
    pose["jump"] = pose["jump"] + 0.04


def _jump(pose: Pose, s: np.ndarray, angle: np.ndarray, body: Body, rng: Random) -> None:
    _lift_knees(pose, angle, body, (0.0, 0.0))
    pose["jump"] = pose["jump"] + 0.3 * body.reach * np.maximum(0, -np.sin(angle))


def _walk(pose: Pose, distance: np.ndarray) -> None:
    """Move ahead by `distance` (T,) metres, swinging legs and arms with the steps."""
    step = distance / 0.7 * np.pi
    for side, other, phase in (("left_", "right_", 0.0), ("right_", "left_", np.pi)):
        pose[side + "thigh"] = pose[side + "thigh"] + 0.45 * np.sin(step + phase)
        pose[side + "knee"] = pose[side + "knee"] + 0.5 * np.maximum(0, np.cos(step + phase))
        pose[other + "arm"] = np.abs(0.5 * np.sin(step + phase)) + 0.05
        pose[other + "arm_out"] = np.where(np.sin(step + phase) > 0, 0.1, np.pi - 0.1)


_SINGLE: dict[str, Callable] = {
    "raise arms": _raise_arms,
    "sit down": _sit_down,
    "wave": _wave,
    "hold hand up": _hold_hand_up,
    "clap": _clap,
    "punch": _punch,
    "march": _march,
    "jump": _jump,
}
_REVERSED = {"lower arms": "raise arms", "stand up": "sit down", "back away": "approach"}


def _act(name: str, body: Body, rng: Random, frames: int) -> list[dict[str, np.ndarray]]:
    """Return the joint positions of each person, in metres around the origin, facing +z."""
    if name in _REVERSED:
        forward = _act(_REVERSED[name], body, rng, frames)
        return [{joint: points[::-1] for joint, points in person.items()} for person in forward]
    s = np.linspace(0, 1, frames)
    seconds = frames / FRAMES_PER_SECOND
    cycles = np.clip(rng.uniform(0.7, 1.5) * body.tempo * seconds, 2.0, 5.0)
    angle = 2 * np.pi * (cycles * s + rng.rand())
    if name != "approach":
        pose = _stand(body, rng, frames)
        _SINGLE[name](pose, s, angle, body, rng)
        return [skeleton_points(body, pose)]
    persons, gap = [], rng.uniform(2.2, 3.2)
    walked = (gap - rng.uniform(0.7, 1.0)) / 2 * _smooth(s, rng.uniform(0, 0.25), rng.uniform(0.75, 1.0))
    for facing, figure in ((1, body), (-1, Body(rng))):
        pose = _stand(figure, rng, frames)
        _walk(pose, walked)
        pose["x"] = pose["x"] + facing * (walked - gap / 2)
        pose["turn"] = pose["turn"] + facing * np.pi / 2
        persons.append(skeleton_points(figure, pose))
    return persons


def _passer_by(rng: Random, frames: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Somebody who crosses the picture behind the action and leaves: positions, and in which frames they are seen."""
    figure, facing = Body(rng), rng.choice([-1, 1])
    pose = _stand(figure, rng, frames)
    walked = np.arange(frames) / FRAMES_PER_SECOND * rng.uniform(0.6, 1.2)
    _walk(pose, walked)
    pose["x"] = pose["x"] + facing * (walked - rng.uniform(0.5, 1.5))
    pose["z"] = pose["z"] - rng.uniform(0.8, 1.5)
    pose["turn"] = pose["turn"] + facing * np.pi / 2
    leaves = rng.randint(frames // 4, frames)
    return skeleton_points(figure, pose), np.arange(frames) < leaves


# ---- camera and sensor ----


def _record(action: int, body: Body, rng: Random, dimensions: str) -> dict[str, Any]:
    """Perform, film and measure one clip; return the fields of its annotation."""
    frames = round(np.exp(rng.uniform(np.log(30), np.log(300))))
    people = [(points, np.ones(frames, bool)) for points in _act(CLASS_NAMES[action], body, rng, frames)]
    if len(people) == 1 and rng.rand() < 0.3:
        people.append(_passer_by(rng, frames))
    layout = load_layout("coco" if dimensions == "2d" else "nturgb+d")
    world = np.stack([np.stack([points[joint] for joint in layout.joints], axis=1) for points, _ in people])
    present = np.stack([seen for _, seen in people])  # (M, T)
    for person in range(len(people)):
        if rng.rand() < 0.15:  # lost by the tracker at one end of the clip
            lost = rng.randint(1, max(2, frames // 4))
            present[person, slice(0, lost) if rng.rand() < 0.5 else slice(frames - lost, None)] &= person > 0
    camera = _to_camera(world, rng)
    if dimensions == "3d":
        keypoint = camera + rng.randn(*camera.shape) * 0.012
        keypoint[~present] = 0
        return {"total_frames": frames, "keypoint": keypoint.astype(np.float32)}
    return {"total_frames": frames, **_photograph(camera, present, rng)}


def _to_camera(world: np.ndarray, rng: Random) -> np.ndarray:
    """Turn the scene by a random angle and put it in front of the camera: (..., 3) in the Kinect's axes.

    x points to the camera's left, y up, z is the depth; people who face +z in the world face the camera.
    """
    yaw, distance = rng.uniform(-0.9, 0.9), rng.uniform(3.2, 5.0)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    x, y, z = np.moveaxis(world, -1, 0)
    x, z = cosine * x + sine * z, cosine * z - sine * x
    return np.stack([rng.uniform(-0.4, 0.4) - x, y - _CAMERA_HEIGHT, distance - z], axis=-1)


def _photograph(camera: np.ndarray, present: np.ndarray, rng: Random) -> dict[str, Any]:
    """Project to pixels with an estimator's noise: jitter, confidences, joints that drop out for a while."""
    persons, frames, joints, _ = camera.shape
    height, width = IMAGE_SIZE
    depth = np.maximum(camera[..., 2], 0.5)
    pixels = np.stack(
        [width / 2 - camera[..., 0] / depth * _FOCAL_LENGTH, height / 2 - camera[..., 1] / depth * _FOCAL_LENGTH], -1
    )
    score = np.clip(0.9 - 0.08 * np.abs(rng.randn(persons, frames, joints)), 0.3, 1.0)
    pixels += rng.randn(*pixels.shape) * 3.0 * (1 + 2 * (0.9 - score))[..., None]
    for _ in range(rng.poisson(1.5)):
        person, joint, start = rng.randint(persons), rng.randint(joints), rng.randint(frames)
        gone = slice(start, start + rng.randint(3, max(4, frames // 3)))
        pixels[person, gone, joint] = 0
        score[person, gone, joint] = 0
    beyond = ((pixels < 0) | (pixels > (width, height))).any(axis=-1)  # nothing is found outside the picture
    gone = beyond | ~present[..., None]
    pixels[gone] = 0
    score[gone] = 0
    return {
        "keypoint": pixels.astype(np.float16),
        "keypoint_score": score.astype(np.float16),
        "img_shape": IMAGE_SIZE,
        "original_shape": IMAGE_SIZE,
    }
