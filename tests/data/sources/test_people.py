"""Following people through time, and choosing among them."""

import numpy as np
import pytest

from paddleskel.data.sources.people import Frame, assemble
from paddleskel.data.sources.reader import ReadOptions
from paddleskel.errors import UserError


def body(x, size=100.0, joints=17):
    """(V, 2) joints around (x, 500)."""
    return np.random.RandomState(1).uniform(-size / 2, size / 2, (joints, 2)) + (x, 500)


def frame(*people, score=None, tracks=None):
    points = np.stack(people)
    score = np.full(points.shape[:2], 0.9) if score is None else np.array(score)[:, None].repeat(points.shape[1], 1)
    return Frame(points, score, tracks)


def centre(annotation, person):
    return annotation["keypoint"][person].mean(axis=1)[:, 0]


def test_two_people_keep_their_places_whatever_the_order_in_a_frame():
    frames = []
    for t in range(30):
        pair = [body(200 + 9 * t), body(900 - 3 * t)]
        frames.append(frame(*(pair if t % 3 else pair[::-1])))
    read = assemble(frames, "a", ReadOptions(), "a")
    np.testing.assert_allclose(np.diff(centre(read, 0)), 9, atol=1e-3)  # the livelier first
    np.testing.assert_allclose(np.diff(centre(read, 1)), -3, atol=1e-3)


def test_somebody_lost_for_a_while_is_the_same_person():
    frames = [frame(body(200 + 2 * t), body(900)) if not 10 <= t < 16 else frame(body(900)) for t in range(30)]
    read = assemble(frames, "a", ReadOptions(), "a")
    moving = read["keypoint"][0]
    assert not moving[10:16].any()
    np.testing.assert_allclose(np.diff(centre(read, 0)[[9, 16]]), 14, atol=1e-3)


def test_track_ids_are_trusted_and_changed_ids_share_a_place():
    frames = [frame(body(300 + 40 * t), tracks=[1 if t < 10 else 7]) for t in range(20)]
    read = assemble(frames, "a", ReadOptions(), "a")
    assert read["keypoint"].shape[0] == 1
    assert read["keypoint"].any(axis=(0, 2, 3)).all()


@pytest.mark.parametrize(("person", "expected"), [("motion", 300), ("score", 600), ("box", 900)])
def test_who_is_kept(person, expected):
    frames = [frame(body(300 + 10 * (t % 2)), body(600), body(900, size=300), score=[0.5, 0.9, 0.5]) for t in range(20)]
    read = assemble(frames, "a", ReadOptions(num_person=1, person=person), "a")
    assert abs(centre(read, 0)[0] - expected) < 60


def test_frames_without_anybody_stay():
    read = assemble([None, None, frame(body(300)), None], "a", ReadOptions(image_size=(480, 640)), "a")
    assert (read["total_frames"], read["keypoint"].shape) == (4, (1, 4, 17, 2))
    assert read["img_shape"] == (480, 640)
    with pytest.raises(UserError, match="nobody in any of the 3 frames"):
        assemble([None] * 3, "a", ReadOptions(), "a")


def test_joints_not_found_do_not_count_as_movement():
    still, flicker = [], body(300)
    for t in range(20):
        points = flicker.copy()
        points[t % 17] = 0
        still.append(frame(points, body(600 + t)))
    read = assemble(still, "a", ReadOptions(num_person=1), "a")
    assert centre(read, 0)[0] > 500


def test_without_linking_people_stay_as_listed():
    """PYSKL's DecompressPose: listing order, and the surest by score sum only where there are too many."""
    a, b = body(300), body(900)
    frames = [frame(a, b, score=[0.5, 0.9]), None, frame(b, score=[0.9]), frame(b, a, score=[0.9, 0.5])]
    read = assemble(frames, "a", ReadOptions(num_person=10, link=False), "a")
    points = np.zeros((2, 4, 17, 2), np.float32)
    points[:, 0], points[0, 2], points[:, 3] = (a, b), b, (b, a)
    np.testing.assert_allclose(read["keypoint"], points, rtol=1e-6)
    one = assemble(frames, "a", ReadOptions(num_person=1, link=False), "a")
    np.testing.assert_allclose(one["keypoint"][0, [0, 2, 3]], [b] * 3, rtol=1e-6)
