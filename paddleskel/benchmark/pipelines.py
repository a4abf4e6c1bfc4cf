"""The training pipelines of NTU's 2D and 3D configs, on toy clips of 30 to 300 frames."""

from collections.abc import Callable

SAMPLES = 64


def build(dimensions: str) -> Callable[[], None]:
    """Return a step that puts 64 samples through the "2d" or "3d" pipeline."""
    from paddleskel.data.annotation import parse_annotation
    from paddleskel.data.dataset import SkeletonDataset
    from paddleskel.data.sources.toy import make_toy
    from paddleskel.data.transforms import build_pipeline
    from paddleskel.skeleton.layout import load_layout

    layout = load_layout("coco" if dimensions == "2d" else "nturgb+d")
    specs = [f"PreNormalize{dimensions.upper()}", "Stream", {"name": "UniformSample", "clip_len": 100}, "Pack"]
    content = make_toy(dimensions, subjects=3, repeats=2)
    clips = [parse_annotation(item, "toy", layout) for item in content["annotations"][:SAMPLES]]
    dataset = SkeletonDataset(clips, build_pipeline(specs, layout, "j", training=True))

    def step() -> None:
        for position in range(SAMPLES):
            dataset[position, 0]

    return step
