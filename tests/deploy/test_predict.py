"""tools/predict.py: every way in, every way out, untrimmed sequences, shards, streams."""

import csv
import io
import json
import pickle
import sys

import numpy as np
import pytest

from paddleskel.data.clip import Clip
from paddleskel.deploy.predictor import Predictor
from paddleskel.deploy.stream import Stream
from paddleskel.deploy.window import cut, segment, slide, spread, timeline
from paddleskel.errors import UserError


@pytest.fixture(scope="module")
def annotations(toy_file):
    return pickle.loads(toy_file.read_bytes())["annotations"]


def as_json(annotation) -> dict:
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in annotation.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}


def results(run, *arguments):
    """The results of a run as JSON."""
    out = arguments[-1]
    done = run("predict", *arguments[:-1], "--out", out)
    assert done.code == 0, done.err
    return json.loads(out.read_text())


def test_all_ways_in_give_the_same(exported, run, annotations, tmp_path, monkeypatch):
    folder, _ = exported
    one = {**annotations[5], "keypoint": annotations[5]["keypoint"].astype(np.float32)}
    del one["label"]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(one))
    arrays = {key: value for key, value in one.items() if key not in ("frame_dir", "label")}
    np.savez(tmp_path / "b.npz", **arrays)
    (tmp_path / "c.json").write_text(json.dumps(as_json(one)))
    (tmp_path / "d.jsonl").write_text(json.dumps(as_json(one)) + "\n")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.pkl\n\n{tmp_path}/c.json\n")
    got = results(run, "--model", folder, "-i", tmp_path / "[a-d].*", f"@{tmp_path}/list.txt", tmp_path / "out.json")
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(as_json(one)) + "\n"))
    got += results(run, "--model", folder, "-i", "-", tmp_path / "stdin.json")
    assert len(got) == 7
    assert {(item["class"], item["label"], item["score"]) for item in got} == {
        (got[0]["class"], got[0]["label"], got[0]["score"])
    }
    predictor = Predictor(folder)
    assert next(predictor.predict([one])).score == pytest.approx(got[0]["score"], abs=1e-6)


def test_real_ntu_sample_in_four_forms(reference, tmp_path, run):
    """A raw .skeleton file through its annotation as a pickle, npz, JSON and standard input."""
    from conftest import ROOT
    from test_engines import TINY, randomize

    from paddleskel.data.sources import read_poses
    from paddleskel.deploy.export import ExportOptions, export
    from paddleskel.deploy.members import Member
    from paddleskel.engine.build import build_network
    from paddleskel.engine.settings import load_settings
    from paddleskel.models.checkpoint import save_checkpoint

    raw = reference / "data" / "ntu_raw" / "S001C001P001R001A001.skeleton"
    config = ROOT / "configs/recognition/stgcn_plusplus/stgcn_plusplus_ntu60_xsub_3d.yaml"
    settings, _ = load_settings(config, [*TINY, f"class_names={ROOT}/configs/_base_/classes/ntu60.txt"])
    model = build_network(settings)
    randomize(model)
    save_checkpoint(tmp_path / "w.pdparams", model, {})
    export(settings, [Member("j", tmp_path / "w.pdparams")], tmp_path / "model", options=ExportOptions(["paddle"]))
    annotation = read_poses(raw)[0]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(annotation))
    np.savez(tmp_path / "a.npz", keypoint=annotation["keypoint"])
    (tmp_path / "a.json").write_text(json.dumps({"keypoint": annotation["keypoint"].tolist()}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO((tmp_path / "a.json").read_text() + "\n"))
        got = results(run, "--model", tmp_path / "model", "-i", raw, tmp_path / "a.pkl", tmp_path / "a.npz",
                      tmp_path / "a.json", "-", tmp_path / "o.json")  # fmt: skip
    assert len(got) == 5
    assert len({(item["class"], item["label"]) for item in got}) == 1
    np.testing.assert_allclose([item["score"] for item in got], got[0]["score"], atol=1e-5)


def test_ids_outputs_threshold_and_benchmark(exported, run, annotations, toy_file, tmp_path):
    folder, _ = exported
    names = [item["frame_dir"] for item in annotations[3:5]]
    done = run("predict", "--model", folder, "-i", toy_file, "--id", *names, "--topk", 2, "--threshold", 0.999,
               "--batch_size", 2, "--enable_benchmark", "--out", tmp_path / "o.csv")  # fmt: skip
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    assert [row["id"] for row in rows] == names
    assert {(row["class"], row["label"]) for row in rows} == {("-1", "unknown")}
    assert float(rows[0]["score_1"]) >= float(rows[0]["score_2"])
    assert "\ttop-1 label: unknown" in done.out
    assert "p99" in done.out
    assert "peak memory" in done.out
    run("predict", "--model", folder, "-i", toy_file, "--id", names[0], "--out", tmp_path / "o.jsonl")
    (line,) = (tmp_path / "o.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == names[0]
    for arguments, said in (
        (["--id", "nobody"], "holds none of the samples nobody"),
        (["--out", tmp_path / "o.txt"], "must end in one of .csv, .json, .jsonl"),
        (["--stride", "5"], "goes with --window"),
        (["--use_tensorrt", "true"], "needs --use_gpu"),
        (["--precision", "int8"], "this model was exported in fp32"),
        (["--shard", "1/2"], "needs --out FILE.jsonl"),
        (["--engine", "tvm"], "unknown engine 'tvm'"),
        (["--params_file", tmp_path / "none.pdiparams"], "none.pdiparams: no such file"),
        (["--image_size", "0", "10"], "--image_size: height and width must be at least 1"),
    ):
        failed = run("predict", "--model", folder, "-i", toy_file, *arguments)
        assert (failed.code, said in failed.err) == (2, True), failed.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"keypoint": [[[[1, 2]', "not JSON"),
        ('{"points": []}', 'expected an object with "keypoint"'),
        ('{"keypoint": [[[[1, 2], [3]]]]}', "lists of unequal length"),
        ('{"keypoint": [[[[1, NaN]]]]}', "NaN or infinite"),
        ('{"keypoint": [[[[1, 2]]]]}', "1 joints, but the layout 'coco' has 17"),
    ],
)
def test_bad_lines_are_named(exported, run, text, said, tmp_path):
    (tmp_path / "bad.jsonl").write_text(text + "\n")
    failed = run("predict", "--model", exported[0], "-i", tmp_path / "bad.jsonl")
    assert failed.code == 2
    assert said in failed.err
    assert "Traceback" not in failed.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", "", "a.jsonl: holds no pose sequence"),
        ("a.jsonl", b"\xff\xfe", "a.jsonl: not a text file in UTF-8"),
        ("a.jsonl", None, "a.jsonl: cannot be read: Is a directory"),
        ("@a.txt", "\n", "a.txt: lists no file"),
        ("@a.txt", None, "a.txt: cannot be read: Is a directory"),
        ("@none.txt", "", "none.txt: no such file"),
        ("a.npz", None, "a.npz: not a pose format that is known here"),
        ("a.json", b"\xff", "a.json: not a pose format that is known here"),
        ("a.pkl", pickle.dumps([1, 2]), "a.pkl: an annotation must be a mapping, found a int"),
    ],
)
def test_inputs_that_hold_nothing_are_named(exported, run, name, content, said, tmp_path):
    """content: None for a folder."""
    file, mark = tmp_path / name.removeprefix("@"), "@" * name.startswith("@")
    if content is None:
        file.mkdir()
    elif file.stem != "none":
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    failed = run("predict", "--model", exported[0], "-i", f"{mark}{file}")
    assert failed.code == 2
    assert said in failed.err
    assert failed.err.count("\n") == 1


def test_an_archive_that_swells_is_refused(monkeypatch):
    from paddleskel.deploy import inputs

    buffer = io.BytesIO()
    np.savez_compressed(buffer, keypoint=np.zeros((1, 2000, 17, 2)))
    assert inputs.annotation_from_npz(buffer.getvalue(), "x")["keypoint"].shape == (1, 2000, 17, 2)
    monkeypatch.setattr(inputs, "allowance", lambda size: 100 * size)
    with pytest.raises(UserError, match=r"refused: .* bytes that unpack to"):
        inputs.annotation_from_npz(buffer.getvalue(), "x")


def test_shards_go_on_where_they_stopped(exported, run, annotations, tmp_path):
    """Two shards of a file list; one of them is cut short in the middle of a line and started again."""
    folder, _ = exported
    for number, annotation in enumerate(annotations[:9]):
        (tmp_path / f"{number}.pkl").write_bytes(pickle.dumps(annotation))
    (tmp_path / "4.pkl").write_bytes(b"damaged")
    (tmp_path / "6.pkl").write_bytes(pickle.dumps(annotations[9:12]))
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{number}.pkl\n" for number in range(9)))

    def shard(number, out):
        command = ["--model", folder, "-i", f"@{tmp_path}/list.txt", "--batch_size", 2]
        done = run("predict", *command, "--shard", f"{number}/2", "--out", out)
        assert done.code == 0, done.err
        return [json.loads(line) for line in out.read_text().splitlines()]

    first, second = shard(1, tmp_path / "one.jsonl"), shard(2, tmp_path / "two.jsonl")
    assert [item["position"] for item in first] == [0, 2, 4, 6, 6, 6, 8]
    assert [item["position"] for item in second] == [1, 3, 5, 7]
    assert "not a readable pickle" in first[2]["error"]
    whole = (tmp_path / "one.jsonl").read_bytes()
    (tmp_path / "one.jsonl").write_bytes(whole[: whole.rindex(b"position") + 5 - len(whole.splitlines()[-2])])
    assert shard(1, tmp_path / "one.jsonl") == first
    assert shard(1, tmp_path / "one.jsonl") == first  # nothing left to do
    for text in ("{}\n", "notes without a line's end"):
        (tmp_path / "other.jsonl").write_text(text)
        failed = run("predict", "--model", folder, "-i", tmp_path / "0.pkl", "--shard", "1/1", "--out",
                     tmp_path / "other.jsonl")  # fmt: skip
        assert "holds something else than results of --shard" in failed.err
        assert (tmp_path / "other.jsonl").read_text() == text
    (tmp_path / "folder.jsonl").mkdir()
    failed = run("predict", "--model", folder, "-i", tmp_path / "0.pkl", "--shard", "1/1", "--out",
                 tmp_path / "folder.jsonl")  # fmt: skip
    assert "folder.jsonl: cannot be written: Is a directory" in failed.err


def test_windows_cover_everything_once_at_least():
    assert slide(10, 16, 4) == [(0, 10)]
    assert slide(20, 8, 4) == [(0, 8), (4, 12), (8, 16), (12, 20)]
    assert slide(21, 8, 4)[-1] == (13, 21)


def test_frames_listen_to_the_windows_around_them():
    scores = spread(np.eye(3), [(0, 8), (4, 12), (8, 16)], 16)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert scores.argmax(axis=1).tolist() == [0] * 6 + [1] * 4 + [2] * 6


def test_windows_are_stretched_not_padded():
    points = np.ones((1, 4, 3, 2), np.float32) * np.arange(1, 5)[None, :, None, None]
    points[0, 2, 1] = 0  # a joint that is absent in one frame is not drawn towards the origin
    clip = cut(Clip(points, np.ones((1, 4, 3), np.float32)), 0, 4, 7)
    np.testing.assert_allclose(clip.keypoint[0, :, 0, 0], [1, 1.5, 2, 2.5, 3, 3.5, 4])
    assert set(clip.keypoint[0, :, 1, 0].tolist()) <= {1.0, 1.5, 2.0, 0.0, 4.0}
    assert clip.score.shape == (1, 7, 3)
    assert cut(clip, 1, 5, 3).num_frames == 4


def test_segments_of_scores():
    scores = np.repeat([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1], [0.1, 0.9]], [6, 2, 6, 8], axis=0)
    found = segment(scores, 0.0, 4.0)
    assert [(part.start, part.end, part.class_index) for part in found] == [(0, 14, 0), (14, 22, 1)]
    assert found[1].score == pytest.approx(0.9)
    assert [part.class_index for part in segment(scores, 0.0, 0.1)] == [0, 1, 0, 1]
    assert [part.class_index for part in segment(scores, 0.95, 4.0)] == [-1]


def test_segments_are_the_best_course_there_is():
    """Against all courses of six frames."""
    from itertools import pairwise, product

    scores = np.random.RandomState(3).dirichlet([0.5] * 3, 6)

    def value(course):
        changes = sum(a != b for a, b in pairwise(course))
        return sum(np.log(max(scores[t, c], 1e-3)) for t, c in enumerate(course)) - 1.5 * changes

    best = max(product(range(3), repeat=6), key=value)
    found = [part.class_index for part in segment(scores, 0.0, 1.5) for _ in range(part.start, part.end)]
    assert value(found) == pytest.approx(value(best))


def test_three_actions_one_after_the_other():
    """A model that says what most of a window is: bounds within half a window, no segment for a doubt in between."""
    truth = np.repeat([0, 1, 2], [50, 44, 60])

    def probs_of(clips):
        shares = [np.bincount(clip.keypoint[0, :, 0, 0].astype(int), minlength=4) for clip in clips]
        shares = np.array([share / share.sum() for share in shares]) + 0.02
        mixed = shares[:, :3].max(axis=1) < 0.75
        shares[mixed, 3] += 0.5  # as a network does, it sees something else in half of this and half of that
        return shares / shares.sum(axis=1, keepdims=True)

    clip = Clip(np.broadcast_to(truth[None, :, None, None], (1, len(truth), 4, 2)).astype(np.float32))
    line = timeline(clip, probs_of, window=40, stride=5, frames=32)
    assert [part.class_index for part in line.segments] == [0, 1, 2]
    assert abs(line.segments[0].end - 50) <= 20
    assert abs(line.segments[1].end - 94) <= 20


def test_timeline_on_the_command_line(exported, run, annotations, tmp_path):
    (tmp_path / "long.pkl").write_bytes(pickle.dumps(annotations[0]))
    done = run("predict", "--model", exported[0], "-i", tmp_path / "long.pkl", "--window", 20, "--stride", 5,
               "--by_person", "--out", tmp_path / "line.csv", "--fps", 25)  # fmt: skip
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "line.csv").open()))
    frames = annotations[0]["keypoint"].shape[1]
    for person in {row["person"] for row in rows}:
        mine = [row for row in rows if row["person"] == person]
        assert mine[0]["start_frame"] == "0"
        assert mine[-1]["end_frame"] == str(frames)
        assert float(mine[-1]["end_s"]) == pytest.approx(frames / 25, abs=1e-3)
    assert (tmp_path / "line.png").read_bytes().startswith(b"\x89PNG")


class Counting:
    """A model in a test: the class is the mean of the clip's first coordinate, rounded."""

    calls = 0

    def __call__(self, clips):
        self.calls += len(clips)
        values = [round(float(clip.keypoint[..., 0].mean())) % 3 for clip in clips]
        return np.eye(3)[values]


def stream(**changes) -> Stream:
    settings = {"frames": 8, "joints": 4, "window": 10, "stride": 5, "fps": 10.0, **changes}
    return Stream(Counting(), str, **settings)


def test_stream_decides_every_stride():
    decisions = list(stream().run(np.full((1, 4, 2), value) for value in [1] * 20 + [2] * 20))
    assert [decision.frame for decision in decisions] == [9, 14, 19, 24, 29, 34, 39]
    assert [decision.class_index for decision in decisions][:3] == [1, 1, 1]
    assert decisions[-1].label == "2"
    assert decisions[-1].seconds == pytest.approx(3.9)
    smooth = list(stream(smoothing=0.9, threshold=0.8).run(np.full((1, 4, 2), v) for v in [1] * 20 + [2] * 20))
    assert smooth[-1].label == "unknown"


def test_stream_copes_with_people_who_come_and_go():
    watching = stream(num_person=2)
    scored = [(np.ones((count, 4, 2)), np.ones((count, 4))) for count in (0, 1, 3, 2, 1, 0, 0, 1, 2, 1)]
    assert len(list(watching.run(scored))) == 1
    with pytest.raises(UserError, match="must come with every frame or with none"):
        watching.push(np.ones((1, 4, 2)))
    for frame, said in (
        (np.ones((1, 5, 2)), "4 joints"),
        (np.full((1, 4, 2), np.nan), "NaN or infinite"),
        (np.ones((1, 4, 3)), "3 coordinates a joint, the frame before had 2"),
    ):
        with pytest.raises(UserError, match=said):
            watching.push(frame, np.ones((1, 4)))
    with pytest.raises(UserError, match="must be at least 1"):
        stream(stride=0)


def test_stream_keeps_a_window_and_no_more():
    import tracemalloc

    watching, frame = stream(window=30, stride=15, frames=16), np.ones((2, 4, 2), np.float32)
    for _ in range(100):
        watching.push(frame)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20_000):
        watching.push(frame)
    assert tracemalloc.get_traced_memory()[0] - before < 50_000
    tracemalloc.stop()
    assert watching.count == 20_100


def test_stream_of_a_real_model_equals_its_window(exported, annotations):
    predictor = Predictor(exported[0])
    annotation = annotations[0]
    points, scores = annotation["keypoint"].astype(np.float32), annotation["keypoint_score"].astype(np.float32)
    watching = predictor.stream(window=20, stride=4, image_size=annotation["img_shape"])
    decisions = list(watching.run((points[:, t], scores[:, t]) for t in range(24)))
    assert [decision.frame for decision in decisions] == [19, 23]
    clip = Clip(points[:, 4:24], scores[:, 4:24], image_size=annotation["img_shape"])
    np.testing.assert_allclose(decisions[1].probs, predictor.probs([clip])[0], atol=1e-6)


def test_ray_says_where_it_cannot_work(exported, run, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="pip install 'ray[data]'")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my project" / "python"))
    done = run("predict", "--model", exported[0], "-i", "a.pkl", "--ray", 2, "--out", tmp_path / "results")
    assert done.code == 2
    assert "Ray starts no workers of a Python whose path has a space in it" in done.err


def test_the_same_job_on_ray(exported, run, annotations, tmp_path):
    """Two workers on this machine give what one process gives, damaged files too."""
    pytest.importorskip("ray", reason="pip install 'ray[data]'")
    if " " in sys.executable:
        pytest.skip("Ray starts no workers of a Python whose path has a space in it")
    from paddleskel.deploy.ray_job import read_results

    folder, _ = exported
    for number, annotation in enumerate(annotations[:10]):
        (tmp_path / f"{number}.pkl").write_bytes(pickle.dumps(annotation))
    (tmp_path / "3.pkl").write_bytes(b"damaged")
    (tmp_path / "5.pkl").write_bytes(pickle.dumps(annotations[10:13]))
    files = [tmp_path / f"{number}.pkl" for number in range(10)]
    done = run("predict", "--model", folder, "-i", *files, "--ray", 2, "--batch_size", 4, "--out", tmp_path / "results")
    assert done.code == 0, done.err
    assert "wrote 12 results" in done.out
    got = read_results(tmp_path / "results")
    run("predict", "--model", folder, "-i", *files, "--shard", "1/1", "--out", tmp_path / "one.jsonl")
    expected = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    for mine, theirs in zip(got, expected):
        assert (mine["input"], mine["position"]) == (theirs["input"], theirs["position"])
        assert mine["error"] == theirs.get("error", "")
        if not mine["error"]:
            assert (mine["id"], mine["label"]) == (theirs["id"], theirs["label"])
            assert mine["score"] == pytest.approx(theirs["score"], abs=1e-5)
    refused = run("predict", "--model", folder, "-i", *files, "--ray", 2, "--out", tmp_path / "results")
    assert "name a new folder" in refused.err
    import ray

    ray.shutdown()
