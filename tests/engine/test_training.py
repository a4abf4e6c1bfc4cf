"""Training and testing through main.py, on the toy set."""

import csv
import json
import pickle
import re

import numpy as np
import pytest

from paddleskel.engine import start
from paddleskel.engine.mixed import has_gpu
from paddleskel.models.checkpoint import read_checkpoint

NAME = "STGCN_PlusPlus_toy"


def state(folder, which="last"):
    return read_checkpoint(folder / f"{NAME}_{which}.pdparams").state


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_it_promises(train):
    _, folder = train("run", "--validate")
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.yaml", "train.log", "metrics.jsonl", "curves.png", f"{NAME}_best.pdparams",
        f"{NAME}_last.pdparams", f"{NAME}_last.pdopt", f"{NAME}_epoch_00001.pdparams", f"{NAME}_epoch_00002.pdopt",
    }  # fmt: skip
    assert [record["epoch"] for record in records(folder)] == [1, 2]
    assert {"lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5"} <= records(folder)[0].keys()
    saved = read_checkpoint(folder / f"{NAME}_best.pdparams").meta
    assert saved["config"]["model_name"] == NAME
    assert saved["train_data"]["samples"] == 72
    assert saved["class_names"][4] == "wave"
    best = max(records(folder), key=lambda record: record["val_top1"])["epoch"]
    assert saved["metrics"]["epoch"] == best
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_log_has_paddlevideos_wording(train):
    result, folder = train("run", "--validate")
    text = (folder / "train.log").read_text()
    assert text == result.out  # plain lines where there is no terminal
    stamp = r"\[\d\d/\d\d \d\d:\d\d:\d\d\] "
    number = r"\d+\.\d{5}"
    step = (
        stamp + r"epoch:\[  1/2  \] train step:0    loss: " + number + r" lr: 0\.100000 top1: " + number + " top5: "
        + number + " batch_cost: " + number + r" sec, reader_cost: " + number + r" sec, ips: " + number
        + r" instance/sec, eta: \d+:\d\d:\d\d"
    )  # fmt: skip
    assert re.search(step, text)
    end = (
        stamp
        + rf"END epoch:1   train loss_avg: {number} top1_avg: {number} top5_avg: {number} avg_batch_cost: {number}"
    )
    assert re.search(end, text)
    assert re.search(stamp + rf"END epoch:2   val loss_avg: {number}", text)
    assert re.search(r"Already save the best model \(top1 acc\)0\.\d{4}", text)
    assert f"training {NAME} finished" in text


def test_the_best_weights_are_kept_even_when_nothing_is_right(train, monkeypatch):
    from paddleskel.engine import trainer

    real = trainer.validate_epoch
    monkeypatch.setattr(trainer, "validate_epoch", lambda *a: {**real(*a), "val_top1": 0.0})
    _, folder = train("run", "--validate", "-o", "epochs=1")
    assert (folder / f"{NAME}_best.pdparams").is_file()


def test_the_same_seed_gives_the_same_bits(train):
    _, a = train("a")
    _, b = train("b")
    _, c = train("c", "--seed", "5")
    assert same(state(a), state(b))
    assert not same(state(a), state(c))


def test_workers_change_nothing(train):
    _, a = train("a", "-o", "epochs=1")
    _, b = train("b", "-o", "epochs=1", "-o", "DATASET.num_workers=2")
    assert same(state(a), state(b))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resuming_changes_nothing(train, dropout):
    extra = ("--validate", "-o", "epochs=3", "-o", f"MODEL.backbone.tcn_dropout={dropout}")
    _, whole = train("whole", *extra)
    _, half = train("half", *extra)
    for which in ("last", "epoch_00003"):  # as if it had been interrupted after the second epoch
        for suffix in ("pdparams", "pdopt"):
            (half / f"{NAME}_{which}.{suffix}").unlink()
    for suffix in ("pdparams", "pdopt"):
        (half / f"{NAME}_epoch_00002.{suffix}").rename(half / f"{NAME}_last.{suffix}")
    result, _ = train("half", *extra, "--resume", "auto")
    assert "resuming after epoch 2" in result.out
    assert same(state(whole), state(half))
    strip = lambda record: {k: v for k, v in record.items() if k not in ("seconds", "clips_per_second", "memory_mb")}
    assert list(map(strip, records(whole))) == list(map(strip, records(half)))


def test_resume_auto_starts_afresh_where_there_is_nothing(train):
    result, folder = train("new", "--resume", "auto")
    assert "resuming" not in result.out
    _, other = train("other", "--resume")  # the flag alone means auto
    assert same(state(folder), state(other))


def test_resume_names_a_missing_file(train, tmp_path):
    result, _ = train("run", "--resume", tmp_path / "x.pdparams", code=2)
    assert "x.pdopt: no such file" in result.err


def test_accumulated_batches_step_once(train):
    """Two batches of 8 without BatchNorm statistics in the way would equal one of 16; here the steps are counted."""
    _, folder = train("run", "-o", "DATASET.batch_size=8", "-o", "OPTIMIZER.accumulate=2", "-o", "log_interval=1")
    text = (folder / "train.log").read_text()
    rates = re.findall(r"epoch:\[  1/2  \] train step:\d+ +loss: \S+ lr: (\S+)", text)
    assert len(rates) == 9
    assert rates[0] == rates[1] != rates[2]


def test_learning_rate_scales_with_the_batch(train):
    half = ("-o", "DATASET.batch_size=8", "-o", "epochs=1")
    result, _ = train("note", *half, "-o", "OPTIMIZER.auto_scale_lr=false")
    assert "meant for batches of 16, this run's have 8; --auto-scale-lr" in result.out
    result, _ = train("scaled", *half, "--auto-scale-lr")
    assert "learning rate scaled by 8/16 = 0.5" in result.out
    assert "lr: 0.050000" in result.out


@pytest.mark.parametrize(
    ("batch", "cores", "processes"),
    [(16, 1, None), (16, 2, 2), (16, 4, 2), (64, 4, 4), (15, 2, None), (48, 8, 6), (8, 2, None)],
)
def test_processes_share_a_batch_evenly_and_not_thinly(batch, cores, processes):
    assert start.processes_that_pay(batch, cores) == processes


def test_a_run_with_several_cores_hears_of_processes(train, monkeypatch):
    monkeypatch.setattr(start, "cpu_threads", lambda: 2)
    hint = "tools/dist_train.sh CONFIG 2 -o DATASET.batch_size=12"
    assert has_gpu() or hint in train("even", "-o", "DATASET.batch_size=24")[0].out
    assert "dist_train.sh" not in train("small", "-o", "DATASET.batch_size=8")[0].out
    assert "dist_train.sh" not in train("alone", "-o", "DATASET.batch_size=24", "-o", "MODEL.recompute=true")[0].out


def test_options_of_training(train):
    _, folder = train(
        "run", "--amp", "--max_iters", "2", "--deterministic", "-o", "OPTIMIZER.grad_clip=1.0",
        "-o", "MODEL.loss.label_smoothing=0.1", "-o", "save_interval=2", "-o", "epochs=3", "-o", "num_classes=12",
    )  # fmt: skip
    saved = {path.name for path in folder.glob("*.pdparams")}
    assert saved == {f"{NAME}_epoch_00002.pdparams", f"{NAME}_epoch_00003.pdparams", f"{NAME}_last.pdparams"}
    text = (folder / "train.log").read_text()
    assert "2 steps an epoch" in text
    assert "amp: O1" in text


@pytest.mark.skipif(not has_gpu(), reason="mixed precision needs a GPU")
@pytest.mark.parametrize("level", ["O1", "O2"])
def test_mixed_precision_stays_near_full_precision(train, level):
    slow = ("--validate", "-o", "OPTIMIZER.learning_rate.value=0.01", "-o", "amp_dtype=bfloat16")
    _, full = train("full", *slow)
    result, half = train("half", *slow, "--amp_level", level)
    assert f"mixed precision {level} with bfloat16" in result.out
    losses = [[record[key] for key in ("train_loss", "val_loss")] for record in (*records(full), *records(half))]
    assert losses[:2] != losses[2:]
    np.testing.assert_allclose(losses[:2], losses[2:], atol=0.03)
    assert all(array.dtype == np.float32 for array in state(half).values())


@pytest.mark.skipif(has_gpu(), reason="about CPUs")
def test_mixed_precision_is_left_out_on_a_cpu(train):
    _, full = train("full", "--validate", "-o", "epochs=1")
    result, asked = train("asked", "--validate", "-o", "epochs=1", "--amp_level", "O2", "-o", "amp_dtype=bfloat16")
    assert result.out.count("mixed precision needs a GPU; this run computes in float32") == 1
    assert result.err == ""
    assert records(full)[0]["val_loss"] == records(asked)[0]["val_loss"]
    result, _ = train("asked", "--test", "-o", "amp=O1", "-o", "DATASET.test.num_clips=1")
    assert "mixed precision needs a GPU" in result.out


def test_training_starts_from_weights(train):
    _, first = train("first", "-o", "epochs=1")
    weights = first / f"{NAME}_last.pdparams"
    # a learning rate so small that nothing moves
    tiny = ("-o", "epochs=1", "-o", "OPTIMIZER.learning_rate.value=1e-12", "-o", "OPTIMIZER.weight_decay=0.0")
    _, second = train("second", *tiny, "-w", weights)
    name = "backbone.blocks.0.gcn.weight"
    np.testing.assert_allclose(state(second)[name], state(first)[name], atol=1e-8)


def test_profiling_writes_a_trace(train, tmp_path):
    options = f"batch_range=[1,3]; profile_path={tmp_path / 'trace'}"
    train("run", "-o", "epochs=1", "-p", options)
    assert list((tmp_path / "trace").glob("*.json"))


def test_a_diverged_run_says_so(train):
    result, _ = train("run", "-o", "OPTIMIZER.learning_rate.value=1e30", "-o", "log_interval=1", code=2)
    assert "not finite in epoch 1, step" in result.err
    assert "samples S0" in result.err
    assert "Traceback" not in result.err


# ---- testing ----


@pytest.fixture
def trained(train):
    return train("trained", "--validate")[1]


def test_validation_equals_test_with_one_clip(train, trained):
    result, _ = train("trained", "--test", "-o", "DATASET.test.num_clips=1")
    best = read_checkpoint(trained / f"{NAME}_best.pdparams").meta["metrics"]
    assert f"avg_acc1= {best['val_top1']}" in result.out
    assert f"{NAME}_best.pdparams" in result.out


@pytest.mark.parametrize("size", [1, 5, 64])
def test_scores_do_not_depend_on_the_batch_size(train, trained, tmp_path, size):
    results = []
    for batch in (size, 7):
        out = tmp_path / f"{batch}.npz"
        train("trained", "--test", "-o", f"DATASET.test_batch_size={batch}", "--out", out)
        results.append(np.load(out))
    for key in ("ids", "labels"):
        assert (results[0][key] == results[1][key]).all()
    np.testing.assert_allclose(results[0]["logits"], results[1]["logits"], atol=1e-4)


def test_results_are_written_in_four_formats(train, trained, tmp_path):
    for ending in ("pkl", "npz", "json", "csv"):
        result, _ = train("trained", "--test", "--dump", tmp_path / f"r.{ending}")
        assert f"writing results to {tmp_path / f'r.{ending}'}" in result.out
    table = pickle.loads((tmp_path / "r.pkl").read_bytes())
    assert len(table["ids"]) == len(table["labels"]) == 24
    assert table["probs"].shape == (24, 12)
    np.testing.assert_allclose(table["probs"].sum(1), 1, atol=1e-5)
    assert json.loads((tmp_path / "r.json").read_text())["labels"] == table["labels"].tolist()
    rows = list(csv.reader((tmp_path / "r.csv").read_text().splitlines()))
    assert rows[0][:4] == ["id", "label", "prediction", "prob:raise arms"]
    assert [int(row[2]) for row in rows[1:]] == table["probs"].argmax(1).tolist()
    accuracy = (table["probs"].argmax(1) == table["labels"]).mean()
    assert f"top1_acc: {accuracy:.4f}" in result.out


def test_samples_that_were_trained_on_are_told_apart(train, trained, tmp_path):
    result, _ = train("trained", "--test", "--out", tmp_path / "plain.json")
    assert "are training samples" not in result.out
    alone = re.search("top1_acc: (.*)", result.out)[1]
    result, _ = train("trained", "--test", "-o", "DATASET.test.split=null", "--out", tmp_path / "all.json")
    assert "are training samples, number for number" in result.out
    assert f"without them top1_acc: {alone}" in result.out
    about = json.loads((tmp_path / "all.json").read_text())
    assert len(about["ids"]) - len(about["data"]["seen"]) == 24


def test_samples_are_chosen_by_name(train, trained):
    result, _ = train("trained", "--test", "-o", "DATASET.test.match=A00[12]$")
    assert "on 4 samples" in result.out
    result, _ = train("trained", "--test", "-o", "DATASET.test.match=B00", code=2)
    assert "DATASET.test.match: 'B00' is found in none of the 24 names, such as '" in result.err
    result, _ = train("trained", "--test", "-o", "DATASET.test.match=(", code=2)
    assert "DATASET.test.match: '(' is not a regular expression" in result.err


@pytest.mark.parametrize("kept", ["true", "false"])
def test_wrong_labels_are_mended_by_name(train, trained, tmp_path, kept):
    rules = '{"A001$": 5, "A00[23]$": 0}'  # classes count from 0, the actions in the names from 1
    store = ("-o", f"DATASET.store={kept}")
    train("trained", "--test", *store, "-o", f"DATASET.test.relabel={rules}", "--out", tmp_path / "r.json")
    table = json.loads((tmp_path / "r.json").read_text())
    mended = {1: 5, 2: 0, 3: 0}
    actions = [int(name[-3:]) for name in table["ids"]]
    assert table["labels"] == [mended.get(action, action - 1) for action in actions]
    assert table["data"]["relabel"] == {"A001$": 5, "A00[23]$": 0}
    one = ("-o", 'DATASET.test.relabel={"A001$": 5}', "-o", "DATASET.test.match=A002$")  # on the whole split, first
    result, _ = train("trained", "--test", *store, *one)
    assert "on 2 samples" in result.out
    for rules, said in (
        ('{"B0": 1}', "DATASET.test.relabel: 'B0' is found in none of the 24 names"),
        ('{"A001$": 12}', "DATASET.test.relabel.A001$: 12 is outside 0 to 11, as num_classes is 12"),
        ('{"(": 1}', "DATASET.test.relabel: '(' is not a regular expression"),
        ('{"A001$": wave}', "DATASET.test.relabel.A001$: expected a whole number, not 'wave'"),
        ("{1: 5}", "DATASET.test.relabel.1: expected a text, not 1"),
    ):
        result, _ = train("trained", "--test", *store, "-o", f"DATASET.test.relabel={rules}", code=2)
        assert said in result.err


def test_training_takes_the_mended_labels(train):
    _, folder = train("run", "-o", 'DATASET.train.relabel={"A00[1-6]$": 0}', "-o", "epochs=1")
    about = read_checkpoint(folder / f"{NAME}_last.pdparams").meta["train_data"]
    assert about["class_counts"] == [36, 0, 0, 0, 0, 0, 6, 6, 6, 6, 6, 6]
    assert about["relabel"] == {"A00[1-6]$": 0}


def test_metrics_can_be_chosen(train, trained):
    result, _ = train("trained", "--test", "--eval", "mean_class_accuracy")
    assert "mean_class_accuracy: " in result.out
    assert "top1_acc: " not in result.out
    result, _ = train("trained", "--test", "-o", "METRIC.topk=[1,3]")
    assert "top3_acc: " in result.out


def test_fewer_classes_than_five(train, toy_file, tmp_path):
    content = pickle.loads(toy_file.read_bytes())
    content["annotations"] = [item for item in content["annotations"] if item["label"] < 3]
    content["class_names"] = content["class_names"][:3]
    few = tmp_path / "few.pkl"
    few.write_bytes(pickle.dumps(content))
    files = [part for key in ("train", "valid", "test") for part in ("-o", f"DATASET.{key}.file={few}")]
    result, _ = train("few", "--validate", "--test-last", "-o", "num_classes=3", *files)
    assert "avg_acc3= 1.0" in result.out
    assert "top5_acc: 1.0000" in result.out


def test_the_last_and_the_best_are_tested_after_training(train):
    result, folder = train("run", "--validate", "--test-last", "--test-best")
    assert result.out.count("[TEST] finished") == 2
    assert (folder / "last_pred.pkl").is_file()
    assert (folder / "best_pred.pkl").is_file()
    result, _ = train("run", "--test-best", code=2)
    assert "only with --validate" in result.err
