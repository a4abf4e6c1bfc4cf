"""Raw NTU RGB+D: the parser, PYSKL's rules for bodies, the protocols, and the command on real and broken files."""

import pickle
import zipfile

import numpy as np
import pytest

from paddleskel.data.sources import ReadOptions, ntu, read_poses
from paddleskel.data.sources.ntu import Body, parse_skeleton, to_persons
from paddleskel.errors import UserError


def skeleton_text(frames):
    """A `.skeleton` file; frames is a list of {body id: (25, 3)}."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for identity, points in bodies.items():
            lines += [f"{identity} 0 1 1 1 1 0 0.1 -0.2 2", "25"]
            lines += [" ".join(f"{v:.6f}" for v in joint) + " 277.4 191.8 1036.2 519.1 0 0 0 0 2" for joint in points]
    return "\n".join(lines) + "\n"


def person(seed, frames, at=0.0, lively=0.1):
    """(T, 25, 3) of somebody upright."""
    rng = np.random.RandomState(seed)
    base = rng.uniform((-0.2, -0.8, 2.9), (0.2, 0.8, 3.1), (25, 3)) + (at, 0, 0)
    return (base + lively * rng.randn(frames, 25, 3)).astype(np.float32)


def text_of(*people):
    """One file of people who are all there from the first frame."""
    length = max(len(points) for points in people)
    return skeleton_text(
        [{72057594037931101 + n: p[f] for n, p in enumerate(people) if f < len(p)} for f in range(length)]
    )


def test_one_body_is_kept_whole():
    points = person(0, 20)
    (body,) = parse_skeleton(text_of(points), "f")
    np.testing.assert_allclose(to_persons([body]), points[None], atol=1e-6)


def test_frames_without_bodies_do_not_count():
    points = person(0, 4)
    frames = [{}, {1: points[0]}, {}, {}, {1: points[1]}, {1: points[2]}, {1: points[3]}, {}]
    (body,) = parse_skeleton(skeleton_text(frames), "f")
    assert (body.start, len(body.points)) == (0, 4)


def test_ids_that_floats_cannot_tell_apart_are_two_bodies():
    """Kinect's ids differ in the last of seventeen digits."""
    assert len(parse_skeleton(text_of(person(0, 3), person(1, 3)), "f")) == 2


def test_the_livelier_of_two_comes_first():
    calm, lively = person(0, 30, lively=0.01), person(1, 30, at=1.0, lively=0.4)
    points = to_persons(parse_skeleton(text_of(calm, lively), "f"))
    assert points.shape == (2, 30, 25, 3)
    np.testing.assert_allclose(points, [lively, calm], atol=1e-5)


def test_short_lived_and_flat_bodies_are_noise():
    main, brief = person(0, 30), person(1, 11, at=1.0)
    assert to_persons(parse_skeleton(text_of(main, brief), "f")).shape[0] == 1
    assert to_persons(parse_skeleton(text_of(main, person(1, 12, at=1.0)), "f")).shape[0] == 2
    lying = person(2, 30)[..., [1, 0, 2]]
    kept = to_persons(parse_skeleton(text_of(main, lying), "f"))
    np.testing.assert_allclose(kept, main[None], atol=1e-5)
    assert to_persons(parse_skeleton(text_of(main, lying), "f"), denoise=False).shape[0] == 2


def test_a_body_that_is_flat_at_times_counts_with_its_good_frames():
    """30 % bad frames: kept, and its motion is that of the others alone."""
    first = person(0, 40, lively=0.15)
    second = person(1, 40, lively=0.05)
    second[:12] = person(1, 12, lively=2.0)[..., [1, 0, 2]] * (3, 0.1, 1)
    points = to_persons(parse_skeleton(text_of(first, second), "f"))
    np.testing.assert_allclose(points[0], first, atol=1e-5)


def test_bodies_that_never_meet_share_a_place():
    a, b, c = person(0, 20, lively=0.3), person(1, 20, at=0.5, lively=0.2), person(2, 40, at=1.0, lively=0.1)
    bodies = [Body(0, a, 3.0), Body(20, b, 2.0), Body(0, c, 1.0)]
    points = to_persons(bodies)
    assert points.shape == (2, 40, 25, 3)
    np.testing.assert_array_equal(points[0], np.concatenate([a, b]))
    np.testing.assert_array_equal(points[1], c)
    third = Body(10, person(3, 20), 0.5)  # overlaps both places
    np.testing.assert_array_equal(to_persons([*bodies, third]), points)


def test_empty_ends_are_cut_and_an_absent_first_person_changes_places():
    late, early = person(0, 20, lively=0.3), person(1, 25, at=1.0, lively=0.1)
    bodies = [Body(8, late, 2.0), Body(3, early, 1.0)]
    points = to_persons(bodies)
    assert points.shape == (2, 25, 25, 3)
    np.testing.assert_array_equal(points[0], early)
    np.testing.assert_array_equal(points[1, 5:], late)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda text: text[: len(text) // 2], "cut short"),
        (lambda text: "hello world\n", "no Kinect skeleton file"),
        (lambda text: "", "cut short"),
        (lambda text: text + "1\n", "goes on after its last frame"),
        (lambda text: text.replace("\n25\n", "\n20\n", 1), "20 joints"),
        (lambda text: text.replace("0.", "zero.", 40), "damaged|no Kinect"),
    ],
)
def test_broken_files_are_told_apart(spoil, problem):
    with pytest.raises(UserError, match=problem):
        parse_skeleton(spoil(text_of(person(0, 5))), "f")


# ---- protocols ----


def test_the_missing_samples_are_as_many_as_published():
    ids = ntu.missing_ids()
    assert len(ids) == 535
    assert sum(int(name[-3:]) <= 60 for name in ids) == 302


def item(name):
    return {"frame_dir": name, "label": int(name[-3:]) - 1}


def test_protocols():
    items = [item("S001C001P001R001A001"), item("S002C002P003R001A060"), item("S018C001P045R001A120")]
    assert ntu.protocol(items) == "ntu120"
    assert ntu.protocol(items[:2]) == "ntu60"
    assert ntu.splits(items[:2], "ntu60") == {
        "xsub_train": ["S001C001P001R001A001"], "xsub_val": ["S002C002P003R001A060"],
        "xview_train": ["S002C002P003R001A060"], "xview_val": ["S001C001P001R001A001"],
    }  # fmt: skip
    lists = ntu.splits(items, "ntu120")
    assert lists["xset_train"] == ["S002C002P003R001A060", "S018C001P045R001A120"]
    assert lists["xsub_train"] == ["S001C001P001R001A001", "S018C001P045R001A120"]
    with pytest.raises(UserError, match="no NTU name"):
        ntu.splits([{"frame_dir": "a", "label": 0}], "ntu60")


@pytest.mark.parametrize(
    ("which", "sizes"),
    [
        ("ntu60", {"xsub_train": 40091, "xsub_val": 16487, "xview_train": 37646, "xview_val": 18932}),
        ("ntu120", {"xsub_train": 63026, "xsub_val": 50919, "xset_train": 54468, "xset_val": 59477}),
    ],
)
def test_the_samples_give_splits_of_the_published_sizes(which, sizes):
    names = ntu.sample_ids(which)
    assert names == sorted(set(names))
    lists = ntu.splits([item(name) for name in names], which)
    assert {split: len(ids) for split, ids in lists.items()} == sizes


def test_samples_are_compared_with_the_published_ones():
    whole = [item(name) for name in ntu.sample_ids("ntu60")]
    assert ntu.compare_samples(whole, "ntu60") == []
    (note,) = ntu.compare_samples(whole[1:-1], "ntu60")
    assert note == "ntu60: 56,576 of 56,578 samples; missing: S001C001P001R001A001, S017C003P020R002A060"
    (note,) = ntu.compare_samples(whole[:1], "ntu60")
    assert note.startswith("ntu60: 1 of 56,578 samples; missing: S001C001P001R001A002, ")
    assert note.endswith("A009 and 56,569 more")
    foreign = [*whole[1:], item("S018C001P008R001A061")]
    with pytest.raises(UserError, match="ntu60 does not have 1 of these samples, such as S018C001P008R001A061"):
        ntu.compare_samples(foreign, "ntu60")


# ---- the command ----


def write_files(folder, names):
    for number, name in enumerate(names):
        (folder / f"{name}.skeleton").write_text(text_of(person(number, 14 + number)))


def test_the_command_lists_what_it_cannot_read(run, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    write_files(raw, ["S001C001P001R001A001", "S001C002P003R001A002", "S001C002P005R002A008"])  # the last is listed
    good = (raw / "S001C001P001R001A001.skeleton").read_text()
    (raw / "S001C001P001R002A003.skeleton").write_text(good[:5000])
    (raw / "S001C001P001R002A004.skeleton").write_text("not a skeleton")
    (raw / "S001C001P001R002A005.skeleton").write_bytes(b"\xff\xfe\x00")
    (raw / "S001C001P001R002A006.skeleton").write_text("2\n0\n0\n")
    (raw / "broken.zip").write_bytes(b"PK junk")
    out = tmp_path / "ntu.pkl"
    result = run("prepare_data", "ntu", raw, "-o", out, "--workers", "2")
    assert result.code == 0
    for sign in ("A003.skeleton: ends in frame", "A004.skeleton: the number of frames is 'not'", "A005", "A006",
                 "broken.zip", "1 samples left out", "2 of 56,578"):  # fmt: skip
        assert sign in result.err
    content = pickle.loads(out.read_bytes())
    assert [item["frame_dir"] for item in content["annotations"]] == ["S001C001P001R001A001", "S001C002P003R001A002"]
    assert content["annotations"][0]["keypoint"].dtype == np.float16
    assert content["split"]["xview_val"] == ["S001C001P001R001A001"]
    assert not list(tmp_path.glob("*.parts"))


def test_members_of_absurd_size_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(ntu, "LARGEST", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("S001C001P001R001A001.skeleton", " " * 5000)
    with pytest.raises(UserError, match="too many for a skeleton file"):
        read_poses(tmp_path / "a.zip")


def test_an_interrupted_conversion_goes_on(tmp_path, monkeypatch):
    write_files(tmp_path, [f"S001C001P001R001A{number:03d}" for number in range(1, 6)])
    monkeypatch.setattr(ntu, "PART", 2)
    converted = []
    convert = ntu.convert

    def count(name, *arguments):
        if len(converted) == 3:
            raise KeyboardInterrupt
        converted.append(name)
        return convert(name, *arguments)

    monkeypatch.setattr(ntu, "convert", count)
    options = ReadOptions(parts=tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        read_poses(tmp_path, "ntu", options=options)
    monkeypatch.setattr(ntu, "convert", convert)
    calls = []
    monkeypatch.setattr(ntu, "_run", lambda jobs, workers: calls.append(len(jobs)) or [ntu._job(job) for job in jobs])
    assert len(read_poses(tmp_path, "ntu", options=options)) == 5
    assert calls == [2, 1]  # the first part was there


def test_a_file_mended_after_a_failed_conversion_is_read(run, tmp_path):
    write_files(tmp_path, ["S001C001P001R001A001"])
    file, out = tmp_path / "S001C001P001R001A001.skeleton", tmp_path / "out" / "ntu.pkl"
    good = file.read_text()
    file.write_text(good[:5000])
    result = run("prepare_data", "ntu", file, "-o", out)
    assert result.code == 2
    assert "A001.skeleton: ends in frame" in result.err
    assert not out.parent.exists()
    file.write_text(good)
    assert run("prepare_data", "ntu", file, "-o", out).code == 0


def plain_reading(path):
    """{body: (T, 25, 3)} line by line, another way than the parser's."""
    lines = iter(path.read_text().splitlines())
    bodies = {}
    for _ in range(int(next(lines))):
        for _ in range(int(next(lines))):
            name = next(lines).split()[0]
            rows = [[float(v) for v in next(lines).split()[:3]] for _ in range(int(next(lines)))]
            bodies.setdefault(name, []).append(rows)
    return [np.array(frames, np.float32) for frames in bodies.values()]


def test_the_real_files(reference, run, tmp_path):
    folder = reference / "data" / "ntu_raw"
    files = sorted(folder.glob("*.skeleton"))
    with zipfile.ZipFile(tmp_path / "raw.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"nturgb+d_skeletons/{file.name}")
    contents = []
    for source in (folder, tmp_path / "raw.zip"):
        result = run("prepare_data", "ntu", source, "-o", tmp_path / "ntu.pkl")
        assert result.code == 0, result.err
        contents.append((tmp_path / "ntu.pkl").read_bytes())
    assert contents[0] == contents[1]
    items = pickle.loads(contents[0])["annotations"]
    assert [item["keypoint"].shape for item in items] == [
        (1, 103, 25, 3), (2, 70, 25, 3), (1, 100, 25, 3), (1, 124, 25, 3)
    ]  # fmt: skip
    for file, item in zip(files, items):
        bodies = plain_reading(file)
        spread = [body.reshape(-1, 3).var(axis=0).sum() for body in bodies]
        expected = np.stack([bodies[i] for i in np.argsort(spread)[::-1]]).astype(np.float16)
        np.testing.assert_array_equal(item["keypoint"], expected)
        assert item["label"] == int(file.stem[-3:]) - 1


def test_a_damaged_member_of_an_archive_is_reported(run, tmp_path):
    names = ["S001C001P001R001A001", "S001C002P003R001A002"]
    with zipfile.ZipFile(tmp_path / "raw.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(names):
            archive.writestr(f"{name}.skeleton", text_of(person(number, 14)))
        hurt = archive.getinfo(f"{names[0]}.skeleton")
    data = bytearray((tmp_path / "raw.zip").read_bytes())
    middle = hurt.header_offset + hurt.compress_size // 2
    data[middle : middle + 40] = bytes(40)
    (tmp_path / "raw.zip").write_bytes(data)
    out = tmp_path / "ntu.pkl"
    result = run("prepare_data", "ntu", tmp_path / "raw.zip", "-o", out)
    assert result.code == 0
    assert f"{names[0]}.skeleton: cannot be read" in result.err
    assert [item["frame_dir"] for item in pickle.loads(out.read_bytes())["annotations"]] == names[1:]
