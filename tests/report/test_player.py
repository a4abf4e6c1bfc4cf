"""The skeleton player: what goes into a page, and what a browser makes of it."""

import base64
import json

import numpy as np
import pytest

from paddleskel.report.player import embed, player, player_assets, player_data
from paddleskel.skeleton.layout import load_layout

COCO, KINECT = load_layout("coco"), load_layout("nturgb+d")


def standing(layout, axis, sign, persons=1, frames=20):
    """A body whose joints lie along one axis, first joint lowest, with a little motion across it."""
    points = np.zeros((persons, frames, layout.num_joints, 3), np.float32)
    points[..., axis] = sign * np.linspace(0.1, 1.8, layout.num_joints)
    points[..., (axis + 1) % 3] += 0.3 * np.sin(np.arange(frames))[:, None] + 0.5
    return points


def unpack(data):
    shape = (data["persons"], data["frames"], data["joints"], data["dims"])
    return np.frombuffer(base64.b64decode(data["points"]), "<i2").reshape(shape)


def test_points_come_back_in_proportion():
    keypoint = np.random.RandomState(0).uniform(100, 900, (2, 30, 17, 2)).astype(np.float16)
    data = player_data(keypoint, COCO)
    points = unpack(data) / 10000
    original = keypoint.astype(np.float32) * [1, -1]  # pixels grow downwards
    scale = np.ptp(original[0, :, 3, 0]) / np.ptp(points[0, :, 3, 0])
    for axis in (0, 1):
        np.testing.assert_allclose(np.diff(points[..., axis], axis=1) * scale, np.diff(original[..., axis], axis=1),
                                   atol=0.2)  # fmt: skip
    assert data["numbers"] == list(range(1, 31))
    assert [data["bones"][0], data["sides"][5:7]] == [list(COCO.edges[0]), [1, 2]]


def test_what_was_not_seen_is_not_drawn():
    keypoint = np.random.RandomState(0).uniform(100, 900, (3, 10, 17, 2)).astype(np.float32)
    keypoint[1] = 0  # an empty slot for a person
    keypoint[0, 4, 9] = 0
    keypoint[2, 5, 3] = np.nan
    data = player_data(keypoint, COCO, score=np.full((3, 10, 17), 0.5))
    missing = (unpack(data) == -32768).all(-1)
    assert data["persons"] == 2
    assert missing[0, 4, 9]
    assert missing[1, 5, 3]
    assert missing.sum() == 2
    assert set(base64.b64decode(data["score"])) == {128}


@pytest.mark.parametrize(("axis", "sign", "spoken"), [(1, 1, "y"), (1, -1, "-y"), (2, 1, "z"), (2, -1, "-z")])
def test_bodies_stand_upright(axis, sign, spoken):
    keypoint = standing(KINECT, axis, sign)
    by_spine, by_name = player_data(keypoint, KINECT), player_data(keypoint, KINECT, up=spoken)
    assert by_spine["points"] == by_name["points"]
    height = unpack(by_spine)[0, 0, :, 1].astype(int)
    assert (np.diff(height) >= 0).all()
    assert height[-1] > height[0]


def test_views_turn_and_never_mirror():
    from paddleskel.report.player import _VIEWS

    assert {round(np.linalg.det(matrix)) for matrix in _VIEWS.values()} == {1}


def test_long_sequences_are_thinned_and_last_as_long():
    data = player_data(standing(KINECT, 1, 1, frames=601), KINECT, fps=30, max_frames=101)
    assert data["frames"] == 101
    assert data["frames"] / data["fps"] == pytest.approx(601 / 30)
    assert data["numbers"][:2] == [1, 7]
    assert data["numbers"][-1] == data["length"] == 601


def test_nothing_to_see_is_no_error():
    data = player_data(np.zeros((2, 1, 17, 2)), COCO)
    assert (unpack(data) == -32768).all()


def test_names_cannot_leave_their_element():
    evil = "</script><script>alert(1)</script>"
    html = player(player_data(standing(KINECT, 1, 1), KINECT, label=evil, curves={evil: [0.0, 1.0]}))
    assert html.count("</script>") == 1
    text = embed({"a": evil}).partition(">")[2].removesuffix("</script>")
    assert json.loads(text) == {"a": evil}


# ---- in a browser ----


def page(tmp_path, *players):
    style = "<style>body { font-family: sans-serif } .skeleton-player { width: 300px }</style>"
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset='utf-8'><title>t</title>{style}{player_assets()}{''.join(players)}")
    return path


INK = """(() => { const c = document.querySelector('.sp-view');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
  for (let i = 0; i < d.length; i++) if (d[i]) n = (n * 31 + i + d[i]) % 1000003; return n })()"""
FRAME = "+document.querySelector('.sp-time').value"


def test_a_reader_plays_pauses_scrubs_and_turns(tmp_path, browser):
    curves = {"wave": np.linspace(0, 1, 15), "sit </script>": np.linspace(1, 0, 15)}
    data = player_data(standing(KINECT, 1, 1, persons=2, frames=40), KINECT, label="two bodies", curves=curves)
    browser.open(page(tmp_path, player(data)))
    browser.until(f"{FRAME} > 2")  # plays by itself
    browser.click(".sp-play")
    assert browser.evaluate("document.querySelector('.sp-play').getAttribute('aria-label')") == "Play"
    stopped = browser.evaluate(FRAME)
    blank = browser.evaluate(INK)
    assert blank != 0
    browser.evaluate("document.querySelector('.sp-view').focus()")
    browser.key(".")
    assert browser.evaluate(FRAME) == (stopped + 1) % 40
    browser.key(",")
    assert browser.evaluate(FRAME) == stopped
    before = browser.evaluate(INK)
    browser.key("ArrowLeft")
    turned = browser.evaluate(INK)
    x, y = browser.place(".sp-view")
    browser.drag(x, y, x + 60, y + 10)
    dragged = browser.evaluate(INK)
    assert len({before, turned, dragged}) == 3
    browser.evaluate("document.querySelector('.sp-time').focus()")
    browser.key("ArrowRight")
    assert browser.evaluate(FRAME) == stopped + 1
    browser.click(".sp-chart")  # its middle
    assert 18 <= browser.evaluate(FRAME) <= 21
    legend = browser.evaluate("document.querySelector('.sp-legend').textContent")
    assert "wave 50 %" in legend
    assert "sit </script> 50 %" in legend
    browser.evaluate("document.querySelector('.sp-view').focus()")
    browser.key(" ")
    browser.until(f"{FRAME} > 24")


def test_players_follow_the_scheme_and_the_printer(tmp_path, browser):
    browser.open(page(tmp_path, player(player_data(standing(KINECT, 1, 1), KINECT, autoplay=False))))
    light = browser.evaluate(INK)
    browser.dark()
    browser.until(f"{INK} != {light}")
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    paper = browser.evaluate(INK)
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    browser.dark(False)
    browser.until(f"{INK} == {light}")
    assert paper not in (0, light)  # several poses side by side


def test_a_page_may_get_its_data_later(tmp_path, browser):
    browser.open(page(tmp_path, "<div id='late'></div>"))
    data = json.dumps(player_data(np.random.RandomState(0).uniform(0, 99, (1, 5, 17, 2)), COCO, label="late"))
    browser.evaluate(f"SkeletonPlayer.mount(document.querySelector('#late'), {data})")
    browser.until(f"{INK} != 0")
    browser.evaluate("SkeletonPlayer.pauseAll()")
    assert browser.evaluate("document.querySelector('#late').getAttribute('aria-label')") == "late"
