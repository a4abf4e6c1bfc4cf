"""Distillation: the loss by hand, teachers of other streams on the same clips, and weights that cannot teach."""

import numpy as np
import paddle
import pytest
from conftest import ROOT, TOY_CONFIG

from paddleskel.engine import pieces
from paddleskel.engine.build import Data, pipeline_of
from paddleskel.engine.distill import Teacher
from paddleskel.engine.settings import load_settings
from paddleskel.metrics import softmax
from paddleskel.models.checkpoint import read_checkpoint, write_arrays

NAME = "STGCN_PlusPlus_toy"


@pytest.fixture
def teachers(train):
    """Weights of a joint and a bone-motion network, trained for two epochs."""
    files = []
    for stream in ("j", "bm"):
        _, folder = train(f"teacher_{stream}", "-o", f"stream={stream}")
        files.append(str(folder / f"{NAME}_last.pdparams"))
    return files


def draw_batch(settings, teacher):
    """Eight training clips as teacher and student get them."""
    clips, pipeline = Data(settings).dataset("train").clips, pipeline_of(settings, "train", teacher.transforms)
    return paddle.to_tensor(np.concatenate([pipeline(clips[i], np.random.RandomState(i)) for i in range(8)]))


def test_the_teacher_fuses_its_networks_on_the_students_clips(teachers, toy_options):
    options = [part for part in toy_options if part != "-o"]
    settings, _ = load_settings(str(ROOT / TOY_CONFIG), [*options, "stream=b", f"MODEL.teacher.weights={teachers}"])
    teacher = Teacher(settings, in_channels=3)
    data = Data(settings)
    clip = data.dataset("train").clips[0]
    draw = lambda pipeline: paddle.to_tensor(pipeline(clip, np.random.RandomState(0)))
    joints = draw(pipeline_of(settings, "train", teacher.transforms))
    student, probs = teacher(joints)
    np.testing.assert_allclose(student.numpy(), draw(pipeline_of(settings, "train")).numpy(), atol=1e-6)
    expected = 0
    for stream, network in zip(("j", "bm"), teacher.fused.networks):
        theirs, _ = load_settings(str(ROOT / TOY_CONFIG), [*options, f"stream={stream}"])
        expected = expected + softmax(network(draw(pipeline_of(theirs, "train"))).numpy()) / 2
    np.testing.assert_allclose(probs.numpy(), expected, atol=1e-6)


def test_a_batch_goes_through_the_teachers_in_pieces(teachers, toy_options, monkeypatch):
    monkeypatch.setattr(pieces, "_SMALL", 0)
    monkeypatch.setattr(pieces, "_LEAST_POINTS", 1)
    monkeypatch.setattr(pieces, "cpu_threads", lambda: 2)
    options = [part for part in toy_options if part != "-o"]
    settings, _ = load_settings(str(ROOT / TOY_CONFIG), [*options, f"MODEL.teacher.weights={teachers}"])
    teacher = Teacher(settings, in_channels=3)
    seen, whole = [], teacher.fused.forward
    monkeypatch.setattr(teacher.fused, "forward", lambda clips: seen.append(len(clips)) or whole(clips))
    joints = draw_batch(settings, teacher)
    _, probs = teacher(joints)
    assert sorted(seen) == [2, 2, 2, 2]
    with paddle.no_grad():
        np.testing.assert_allclose(probs.numpy(), whole(joints).numpy(), atol=1e-6)


def test_the_loss_is_hintons(teachers, toy_options):
    options = [part for part in toy_options if part != "-o"]
    rule = f"MODEL.teacher={{weights: {teachers[:1]}, share: 0.3, temperature: 3}}"
    settings, _ = load_settings(str(ROOT / TOY_CONFIG), [*options, rule])
    rng = np.random.RandomState(0)
    logits, probs = rng.randn(4, 12).astype(np.float32), softmax(rng.randn(4, 12).astype(np.float32))
    p, q = softmax(np.log(probs) / 3), softmax(logits / 3)
    expected = 0.3 * 9 * (p * np.log(p / q)).sum(axis=1).mean() + 0.7 * 2.5
    got = Teacher(settings, 3).loss(paddle.to_tensor(logits), paddle.to_tensor(probs), paddle.to_tensor(2.5))
    np.testing.assert_allclose(float(got), expected, rtol=1e-5)


def test_a_student_is_trained_and_tested_on_its_own_stream(train, teachers):
    teacher = ("-o", f"MODEL.teacher.weights={teachers}")
    result, folder = train("student", *teacher, "--validate")
    assert result.code == 0
    result, _ = train("student", "--test")
    assert "top1_acc" in result.out
    _, alone = train("alone")
    one, other = (read_checkpoint(path / f"{NAME}_last.pdparams").state["head.fc.weight"] for path in (folder, alone))
    assert not np.array_equal(one, other)


def test_weights_that_cannot_teach(train, teachers, tmp_path):
    def refusal(weights, *extra):
        return train("refused", "-o", f"MODEL.teacher.weights=[{weights}]", *extra, code=2)[0].err

    assert "no such file" in refusal(tmp_path / "absent.pdparams")
    write_arrays(tmp_path / "bare.pdparams", read_checkpoint(teachers[0]).state, {})
    assert "does not say which network it is of" in refusal(tmp_path / "bare.pdparams")
    assert "trained on other PIPELINE" in refusal(teachers[0], "-o", "PIPELINE.UniformSample.clip_len=12")
    assert "weigh: expected 1 numbers" in refusal(teachers[0], "-o", "MODEL.teacher.weigh=[1, 2]")
