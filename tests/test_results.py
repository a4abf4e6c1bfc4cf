"""Result files: ours in four formats, and the peers'."""

import json
import pickle

import numpy as np
import pytest

from paddleskel.errors import UserError
from paddleskel.metrics import softmax
from paddleskel.results import Results, read_results

RNG = np.random.RandomState(0)
LOGITS = RNG.randn(6, 4).astype(np.float32)
PROBS = softmax(LOGITS).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0, 1])
OURS = Results(
    ids=["a", "b,comma", 'c"quote', "d é", "e", "f"],
    labels=LABELS,
    logits=LOGITS,
    probs=PROBS,
    class_names=["sit, down", "stand", "wave", "走"],
    train_counts=[100, 30, 5, 2],
    config={"stream": "b", "epochs": 3},
    data={"file": "x.pkl", "split": "val", "samples": 6},
)


def same(a, b):
    for name in ("ids", "class_names", "train_counts", "config", "data"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("labels", "logits", "probs"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("ending", ["pkl", "npz", "json", "csv"])
def test_a_file_gives_back_what_went_in(tmp_path, ending):
    path = tmp_path / f"r.{ending}"
    OURS.save(path)
    read = read_results(path)
    same(read, OURS)
    assert read.stream == "b"


def test_pyskls_list_has_no_names(tmp_path):
    path = tmp_path / "result.pkl"
    path.write_bytes(pickle.dumps(list(PROBS)))
    read = read_results(path)
    assert read.ids is None
    assert read.labels is None
    assert np.array_equal(read.probs, PROBS)
    assert read.logits is None  # the vectors are probabilities
    (tmp_path / "result.json").write_text(json.dumps(LOGITS.tolist()))
    read = read_results(tmp_path / "result.json")
    np.testing.assert_allclose(read.logits, LOGITS)
    np.testing.assert_allclose(read.probs, PROBS, atol=1e-6)


# what MMAction2's `tools/test.py --dump` writes for two samples, pickled with torch 2
def dump_of(torch, extra=()):
    return [
        {"img_shape": (1080, 1920), "num_classes": 4, "gt_label": torch.tensor([int(label)]),
         "pred_label": torch.tensor([int(row.argmax())]), "pred_score": torch.from_numpy(row), **dict(extra)}
        for row, label in zip(PROBS, LABELS)
    ]  # fmt: skip


def test_mmactions_dump_is_read_as_torch_reads_it(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "dump.pkl"
    path.write_bytes(pickle.dumps(dump_of(torch)))
    read = read_results(path)
    assert np.array_equal(read.probs, PROBS)
    assert read.labels.tolist() == LABELS.tolist()
    assert read.ids is None
    # views into one storage, and half precision
    rows = torch.from_numpy(PROBS.copy()).half()
    path.write_bytes(
        pickle.dumps([{"pred_score": row, "gt_label": 1, "frame_dir": f"s{i}"} for i, row in enumerate(rows)])
    )
    read = read_results(path)
    np.testing.assert_allclose(read.probs, PROBS, atol=1e-3)
    assert read.ids == [f"s{i}" for i in range(6)]


def legacy_storage(values):
    """The bytes torch puts into a pickle for a float storage, put together by hand."""
    text = lambda string: b"X" + len(string).to_bytes(4, "little") + string
    head = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."
    count = len(values).to_bytes(1, "little")
    description = b"\x80\x02(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"1") + text(b"cpu") + b"K" + count
    key = b"NtQ." + b"\x80\x02]" + text(b"1") + b"a."
    return head + description + key + np.int64(len(values)).tobytes() + values.tobytes()


def dump_without_torch(storage, call=b"ctorch.storage\n_load_from_bytes\n"):
    data = b"B" + len(storage).to_bytes(4, "little") + storage
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + call + data + b"\x85R" + b"K\x00K\x04\x85K\x01\x85\x89}tR"
    return b"\x80\x03]}(X\x0a\x00\x00\x00pred_score" + tensor + b"X\x08\x00\x00\x00gt_labelK\x02ua."


def test_mmactions_dump_needs_no_torch(tmp_path):
    path = tmp_path / "dump.pkl"
    path.write_bytes(dump_without_torch(legacy_storage(PROBS[0])))
    read = read_results(path)
    assert np.array_equal(read.probs, PROBS[:1])
    assert read.labels.tolist() == [2]


def test_a_dump_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "dump.pkl"
    path.write_bytes(dump_without_torch(b"true", b"cos\nsystem\n"))
    with pytest.raises(UserError, match=r"os.system"):
        read_results(path)
    inner = legacy_storage(PROBS[0]).replace(b"ctorch\nFloatStorage\n", b"cos\nsystem\n")
    path.write_bytes(dump_without_torch(inner))
    with pytest.raises(UserError, match=r"os.system"):
        read_results(path)
    path.write_bytes(dump_without_torch(legacy_storage(PROBS[0])[:-3]))
    with pytest.raises(UserError, match=r"dump\.pkl"):
        read_results(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "not a results file"),
        ([], "not a results file"),
        ([{"score": [1, 2]}], "without 'pred_score'"),
        ([np.zeros(3), np.zeros(4)], "all of one length"),
        ([np.array([0.5, np.nan])], "finite"),
        ([[0.5], [0.5]], "expected finite numbers of shape"),
        ({"probs": PROBS, "labels": [0, 1]}, "2 labels for 6"),
        ({"probs": PROBS, "labels": [0, 1, 2, 3, 4, 5]}, "from 0 to 3"),
        ({"probs": PROBS, "ids": list("abcdea")}, "'a' stands in it twice"),
        ([{"pred_score": PROBS[0], "gt_label": np.array([0, 1])}], "several labels"),
    ],
)
def test_what_is_no_results_file_says_so(tmp_path, content, message):
    path = tmp_path / "r.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=message):
        read_results(path)


def test_damaged_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_results(tmp_path / "none.pkl")
    for ending, text in (("csv", "a,b\n1,2\n"), ("json", "{"), ("npz", "zip?"), ("pkl", "\x80"), ("csv", "")):
        path = tmp_path / f"bad.{ending}"
        path.write_text(text)
        with pytest.raises(UserError, match=rf"bad\.{ending}"):
            read_results(path)
