"""Draw docs/pictures/augmentations.png: what each augmentation does to a toy clip.

python docs/pictures/draw_augmentations.py
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from matplotlib import pyplot

from paddleskel.data.clip import Clip
from paddleskel.data.sources.toy import CLASS_NAMES, make_toy
from paddleskel.data.transforms import TRANSFORMS
from paddleskel.data.transforms.normalize import PreNormalize2D
from paddleskel.skeleton.layout import load_layout

LAYOUT = load_layout("coco")
POSES = ["RandomRot", "RandomScale", "RandomGaussianNoise", "Shear", "Flip", "SwapSides", "MaskAxis", "MaskJoints",
         "MaskParts"]  # fmt: skip
TIMES = ["TemporalCrop", "TemporalShift", "TemporalReverse", "DropFrames", "TemporalBlur"]
SETTINGS = {
    "RandomRot": {"theta": 0.5},
    "RandomGaussianNoise": {"sigma": 0.04},
    "DropFrames": {"keep": [0.5, 0.5]},
    "TemporalBlur": {"sigma": [4.0, 4.0], "taps": 21, "p": 1.0},
    **{name: {"p": 1.0} for name in ("Flip", "SwapSides", "MaskAxis", "MaskJoints", "MaskParts", "TemporalShift")},
    "TemporalReverse": {"p": 1.0},
}
LEFT, RIGHT, MIDDLE, BEFORE = "#d1495b", "#2e6fb7", "#444444", "#c4c4c4"


def augmented(name: str, clip: Clip, seed: int) -> Clip:
    transform = TRANSFORMS.build({"name": name, **SETTINGS.get(name, {})}, "", layout=LAYOUT)
    return transform(clip, np.random.RandomState(seed))


def draw_pose(axes, points: np.ndarray, before: bool) -> None:
    for child, parent in LAYOUT.edges:
        bone = points[[child, parent]]
        if bone.any(axis=1).all():
            side = LAYOUT.joints[child].split("_")[0]
            colour = BEFORE if before else {"left": LEFT, "right": RIGHT}.get(side, MIDDLE)
            axes.plot(bone[:, 0], -bone[:, 1], color=colour, linewidth=3 if before else 1.8, solid_capstyle="round")


def main() -> None:
    content = make_toy(subjects=2, repeats=1, seed=5)
    item = next(a for a in content["annotations"] if a["label"] == CLASS_NAMES.index("wave"))
    clip = Clip(item["keypoint"][:1], item["keypoint_score"][:1], image_size=item["img_shape"])
    clip = PreNormalize2D()(clip, None)
    points = clip.keypoint - clip.keypoint[:, :, 11:13].mean(axis=(1, 2), keepdims=True)
    clip = clip.with_(keypoint=points * (16 / 9, 1))  # square pixels
    figure, grid = pyplot.subplots(2, 7, figsize=(14, 5.6), constrained_layout=True)
    grid = grid.ravel()
    frame = clip.num_frames // 3
    for axes, name in zip(grid, POSES):
        draw_pose(axes, clip.keypoint[0, frame], before=True)
        draw_pose(axes, augmented(name, clip, 3).keypoint[0, frame], before=False)
        axes.set(title=name, xlim=(-0.45, 0.45), ylim=(-0.75, 0.65), xticks=[], yticks=[], aspect="equal")
    wrists = [LAYOUT.joints.index(f"{side}_wrist") for side in ("left", "right")]
    wrist = max(wrists, key=lambda joint: clip.keypoint[0, :, joint, 0].std())
    for axes, name in zip(grid[len(POSES) :], TIMES):
        axes.plot(clip.keypoint[0, :, wrist, 0], color=BEFORE, linewidth=3)
        axes.plot(augmented(name, clip, 4).keypoint[0, :, wrist, 0], color=RIGHT, linewidth=1.5)
        axes.set(title=name, xlabel="frame", ylabel="x of a waving wrist", yticks=[])
    for axes in grid[len(POSES) + len(TIMES) :]:
        axes.axis("off")
    figure.savefig(Path(__file__).with_name("augmentations.png"), dpi=80)


if __name__ == "__main__":
    main()
