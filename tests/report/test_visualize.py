"""tools/visualize.py: pictures, animations and pages of samples."""

import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from paddleskel.data.sources.toy import make_toy
from paddleskel.metrics import softmax
from paddleskel.results import Results


@pytest.fixture(scope="module")
def toy_3d(tmp_path_factory):
    path = tmp_path_factory.mktemp("visualize") / "toy_3d.pkl"
    path.write_bytes(pickle.dumps(make_toy("3d", subjects=2, repeats=1)))
    return path


@pytest.fixture
def scores(toy_file, tmp_path):
    """Results that are wrong for two samples of the split."""
    content = pickle.loads(toy_file.read_bytes())
    ids = content["split"]["val"]
    labels = {item["frame_dir"]: item["label"] for item in content["annotations"]}
    truth = np.array([labels[name] for name in ids])
    guess = truth.copy()
    guess[[3, 5]] = (guess[[3, 5]] + 1) % 12
    probs = softmax(5 * np.eye(12)[guess]).astype(np.float32)
    Results(ids, truth, np.log(probs), probs, content["class_names"]).save(tmp_path / "result.npz")
    return tmp_path / "result.npz", [ids[3], ids[5]]


def colours(path):
    return len(set(map(tuple, np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3))))


@pytest.mark.parametrize("stream", ["j", "b", "jm", "bm", "k", "km"])
def test_streams_are_drawn(run, toy_3d, tmp_path, stream):
    out = tmp_path / "x.png"
    result = run("visualize", toy_3d, "--id", "S001R001A005", "--stream", stream, "--frame", "9", "-o", out)
    assert result.code == 0, result.err
    assert "S001R001A005, frame 9" in result.out
    assert Image.open(out).size == (480, 480)
    assert colours(out) > 50
    if stream != "j":
        plain = tmp_path / "j.png"
        run("visualize", toy_3d, "--id", "S001R001A005", "--frame", "9", "-o", plain)
        assert (np.asarray(Image.open(plain)) != np.asarray(Image.open(out))).any()


def test_a_strip_shows_the_motion(run, toy_file, scores, tmp_path):
    out = tmp_path / "strip.png"
    result = run("visualize", toy_file, "--id", scores[1][0], "--pred", scores[0], "-o", out, "--dark")
    assert result.code == 0, result.err
    width, height = Image.open(out).size
    assert width > 2 * height
    assert Image.open(out).getpixel((0, 0)) == (15, 19, 25)


def test_animations_turn(run, toy_3d, tmp_path):
    out = tmp_path / "x.gif"
    result = run("visualize", toy_3d, "-o", out, "--turn", "180", "--size", "160", "--fps", "20")
    assert result.code == 0, result.err
    image = Image.open(out)
    assert image.size == (160, 160)
    assert image.n_frames > 10
    assert image.info["duration"] == 50
    frames = []
    for number in (0, image.n_frames // 2):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")))
    assert (frames[0] != frames[1]).any()


def test_films_need_ffmpeg_and_say_so(run, toy_3d, tmp_path, monkeypatch):
    out = tmp_path / "x.mp4"
    if shutil.which("ffmpeg"):
        result = run("visualize", toy_3d, "-o", out, "--size", "64")
        assert result.code == 0, result.err
        assert b"ftyp" in out.read_bytes()[:16]
    import sys

    from paddleskel.report import drawing

    monkeypatch.setattr(drawing.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    result = run("visualize", toy_3d, "-o", out, "--size", "64")
    assert result.code == 2
    assert "pip install imageio-ffmpeg" in result.err


def test_a_page_plays_what_was_predicted_wrong(run, toy_file, scores, tmp_path, browser):
    out = tmp_path / "wrong.html"
    result = run("visualize", toy_file, "--split", "val", "--pred", scores[0], "--wrong", "-o", out)
    assert result.code == 0, result.err
    assert "2 samples" in result.out
    browser.open(out)
    text = browser.evaluate("document.body.innerText")
    assert all(name in text for name in scores[1])
    assert "predicted " in text
    browser.until("+document.querySelector('.sp-time').value > 1")


def test_contact_sheets_have_a_row_a_class(run, toy_3d, tmp_path):
    for ending in ("png", "gif", "html"):
        result = run("visualize", toy_3d, "--sheet", "2", "-o", tmp_path / f"sheet.{ending}")
        assert result.code == 0, result.err
        assert "12 classes" in result.out
    assert Image.open(tmp_path / "sheet.png").size == (150 + 2 * 150, 12 * 150)
    assert Image.open(tmp_path / "sheet.gif").n_frames > 10
    assert (tmp_path / "sheet.html").read_text().count('class="skeleton-player"') == 24


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-o", "x.txt"], "must end in one of"),
        (["-o", "x.png", "--id", "S001R001A0005"], "did you mean 'S001R001A005'"),
        (["-o", "x.png", "--id", "S001R001A001", "S001R001A002"], "give one --id"),
        (["-o", "x.png", "--frame", "9999"], "has frames 1 to"),
        (["-o", "x.png", "--stream", "q"], "unknown stream 'q'"),
        (["-o", "x.png", "--split", "nope"], "no split 'nope'"),
        (["-o", "x.png", "--layout", "coco"], "25 joints, but the layout 'coco' has 17"),
        (["-o", "x.png", "--wrong"], "give the predictions"),
        (["-o", "x.png", "--sheet", "0"], "at least 1"),
        (["-o", "x.png", "--size", "1"], "--size from 64"),
        (["-o", "x.gif", "--fps", "0"], "--fps goes from 0"),
        (["-o", "x.png", "--pred", "RESULT"], "no scores for the samples"),
    ],
)
def test_mistakes_are_explained(run, toy_3d, scores, tmp_path, flags, message):
    if "RESULT" in flags:
        other = Results(["x"], np.array([0]), np.zeros((1, 2)), np.full((1, 2), 0.5, np.float32))
        other.save(tmp_path / "other.npz")
    flags = [tmp_path / "other.npz" if flag == "RESULT" else flag for flag in flags]
    flags = [tmp_path / flag if str(flag).startswith("x.") else flag for flag in flags]
    result = run("visualize", toy_3d, *flags)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("flags", [["-o", "x.png"], ["-o", "x.gif"], ["-o", "x.html"], ["-o", "x.png", "--sheet", "1"]])
@pytest.mark.parametrize("place", ["folder", "below a file"])
def test_places_that_cannot_be_written_to_are_named(run, toy_3d, tmp_path, flags, place):
    if place == "folder":
        out = tmp_path / flags[1]
        out.mkdir()
    else:
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / flags[1]
    result = run("visualize", toy_3d, "-o", out, *flags[2:])
    assert result.code == 2
    assert result.err.startswith(f"error: {out}: cannot be written: ")
    assert {path.name for path in tmp_path.iterdir()} == {"file" if place != "folder" else out.name}


def test_unusual_skeletons_ask_for_their_layout(run, tmp_path):
    item = {"frame_dir": "a", "keypoint": np.random.rand(1, 5, 7, 2).astype(np.float32)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([item]))
    result = run("visualize", tmp_path / "a.pkl", "-o", tmp_path / "x.png")
    assert result.code == 2
    assert "7 joints in 2D have no usual layout" in result.err
