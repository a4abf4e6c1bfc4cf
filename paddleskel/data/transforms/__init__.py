"""Transforms: Clip -> Clip, with parameters in the constructor and randomness from a generator that is passed in."""

from paddleskel.data.transforms import augment, augment_time, normalize, pack, stream, temporal
from paddleskel.data.transforms.pipeline import TRANSFORMS, Pipeline, Transform, build_pipeline

__all__ = [
    "TRANSFORMS",
    "Pipeline",
    "Transform",
    "augment",
    "augment_time",
    "build_pipeline",
    "normalize",
    "pack",
    "stream",
    "temporal",
]
