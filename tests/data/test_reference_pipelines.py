"""Whole pipelines against arrays that the published ones made of real and synthetic clips (skipped without them)."""

import numpy as np
import pytest

from paddleskel.data.clip import Clip
from paddleskel.data.transforms import build_pipeline
from paddleskel.data.transforms.augment import RandomGaussianNoise, RandomRot, RandomScale
from paddleskel.data.transforms.normalize import PreNormalize2D, PreNormalize3D
from paddleskel.data.transforms.stream import Stream
from paddleskel.data.transforms.temporal import UniformSample
from paddleskel.skeleton.layout import load_layout

FLAT = ["ex2d", "mini0", "mini1", "mini4", "two2d", "long2d"]
DEEP = ["ntu3d_130", "ntu3d_250", "ntu3d_one", "ntu3d_swap"]
STREAMS = ["j", "b", "jm", "bm"]
Seeded = np.random.RandomState


@pytest.fixture
def sample(reference, request):
    """(clip, layout, arrays of PYSKL, of MMAction2, of PaddleVideo or None)"""
    name = request.param
    arrays = np.load(reference / "ref" / f"pipeline_{name}.npz")
    flat = name in FLAT
    size = tuple(arrays["img_shape"].tolist()) if flat else None
    clip = Clip(arrays["raw_keypoint"], arrays["raw_score"] if flat else None, 0, name, size)
    mm = np.load(reference / "ref" / f"mm_pipeline_{name}.npz")
    pv = np.load(reference / "ref" / f"pv_pipeline_{name}.npz") if flat else None
    return clip, load_layout("coco" if flat else "nturgb+d"), arrays, mm, pv


def close(ours, theirs, tolerance=1e-6):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(np.asarray(ours, np.float64), np.asarray(theirs, np.float64), rtol=0, atol=tolerance)


def joined(clip):
    return np.concatenate([clip.keypoint, clip.score[..., None].astype(np.float32)], axis=-1)


def normalized(clip, layout):
    return PreNormalize2D(threshold=0.01)(clip, None) if clip.score is not None else PreNormalize3D(layout)(clip, None)


@pytest.mark.parametrize("sample", FLAT, indirect=True)
def test_prenormalize2d(sample):
    clip, _, arrays, mm, _ = sample
    close(joined(PreNormalize2D(threshold=0.01)(clip, None)), arrays["pn2d"], 0)
    close(joined(PreNormalize2D("auto", threshold=0.01)(clip, None)), arrays["pn2d_auto"], 0)
    close(joined(PreNormalize2D("auto", threshold=0.5)(clip, None)), arrays["pn2d_auto_thr0.5"], 0)
    close(PreNormalize2D(half=True)(clip, None).keypoint, mm["pn2d"], 0)


@pytest.mark.parametrize("sample", DEEP, indirect=True)
def test_prenormalize3d(sample):
    clip, layout, arrays, mm, _ = sample
    for theirs in (arrays["pn3d"], mm["pn3d"]):
        close(PreNormalize3D(layout)(clip, None).keypoint, theirs)
    unturned = PreNormalize3D(layout, align_spine=False, align_shoulder=False)(clip, None)
    close(unturned.keypoint, arrays["pn3d_nospine"], 0)


@pytest.mark.parametrize("stream", [*STREAMS, "j+b+jm+bm"])
@pytest.mark.parametrize("sample", FLAT + DEEP, indirect=True)
def test_streams(sample, stream):
    clip, layout, arrays, _, _ = sample
    feature = Stream(layout, stream)(normalized(clip, layout), None).keypoint
    close(feature, arrays["feat_" + stream.replace("+", "_")])


@pytest.mark.parametrize("sample", FLAT + DEEP, indirect=True)
def test_sampled_frames(sample):
    clip, layout, arrays, mm, pv = sample
    total = normalized(clip, layout).num_frames
    for variant, theirs in (("pyskl", arrays), ("mmaction", mm), ("mmaction", pv)):
        for clips in (1, 10):
            if theirs is not None and f"inds_test_nc{clips}" in theirs:
                ours = UniformSample(100, clips, variant=variant).frames(total, Seeded(255))
                assert (ours == theirs[f"inds_test_nc{clips}"]).all()
        if theirs is not None and "inds_train_seed7" in theirs:
            ours = UniformSample(100, training=True, variant=variant).frames(total, Seeded(7))
            assert (ours == theirs["inds_train_seed7"]).all()
    interval = UniformSample(100, training=True, p_interval=(0.5, 1.0)).frames(total, Seeded(7))
    assert (interval == arrays["inds_train_seed7_p0.5_1"]).all()


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("sample", FLAT + DEEP, indirect=True)
def test_whole_pipelines(sample, stream):
    clip, layout, arrays, mm, pv = sample
    flat = clip.score is not None

    def run(normalize, variant="pyskl"):
        steps = [normalize, "Stream", {"name": "UniformSample", "clip_len": 100, "variant": variant}, "Pack"]
        return build_pipeline(steps, layout, stream, num_clips=10)(clip, None)

    pyskl = {"name": "PreNormalize2D", "threshold": 0.01} if flat else "PreNormalize3D"
    close(run(pyskl), arrays[f"final_{stream}_nc10"])
    plain = {"name": "PreNormalize2D", "half": True} if flat else "PreNormalize3D"
    close(run(plain, "mmaction"), mm[f"final_{stream}_nc10"])
    if pv is not None:
        close(run(plain, "mmaction"), pv[f"final_{stream}_nc10"])


@pytest.mark.parametrize("sample", DEEP, indirect=True)
def test_dgstgcn_pipeline_and_augmentations(sample):
    clip, layout, arrays, _, _ = sample
    unturned = {"name": "PreNormalize3D", "align_spine": False, "align_shoulder": False}
    steps = [unturned, "Stream", {"name": "UniformSample", "clip_len": 100, "random_start": True}, "Pack"]
    close(build_pipeline(steps, layout, "j", num_clips=10)(clip, None), arrays["final_dg_j_nc10"])
    turned = RandomRot(0.2)(Clip(arrays["pn3d_nospine"]), Seeded(3)).keypoint
    close(turned, arrays["randomrot_theta0.2_seed3"])


@pytest.mark.parametrize("sample", FLAT + DEEP, indirect=True)
def test_scale_and_noise(sample):
    clip, _, arrays, _, _ = sample
    base = Clip(arrays["pn2d" if clip.score is not None else "pn3d"])
    close(RandomScale(0.2)(base, Seeded(4)).keypoint, arrays["randomscale0.2_seed4"])
    close(RandomGaussianNoise(0.01)(base, Seeded(5)).keypoint, arrays["gauss0.01_frame_seed5"])


@pytest.mark.parametrize("sample", FLAT, indirect=True)
def test_rotation_in_the_plane(sample):
    """The published code draws its angle from [-theta, 1]."""
    clip, _, arrays, _, _ = sample
    base = PreNormalize2D(threshold=0.01)(clip, None)
    close(RandomRot((-0.2, 1.0))(base, Seeded(3)).keypoint, arrays["randomrot2d_theta0.2_seed3"])
