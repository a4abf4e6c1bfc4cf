"""report.html, in a browser: of a toy run as `main.py --test` leaves it, and of sixty classes."""

import csv
import json

import numpy as np
import pytest
from conftest import ROOT, TOY_CONFIG

from paddleskel.data.clip import Clip
from paddleskel.metrics import softmax
from paddleskel.report.page import Shown, choose_samples, report_page
from paddleskel.results import Results, read_results
from paddleskel.skeleton.layout import load_layout

NAME = "STGCN_PlusPlus_toy"
TAIL = ["-o", "DATASET.train.long_tail={imbalance_factor: 6, max_per_class: 6}"]
DRAWN = """(() => { const c = document.querySelector('SELECTOR');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
  for (let i = 0; i < d.length; i++) if (d[i]) n = (n * 31 + i + d[i]) % 1000003; return n })()"""


@pytest.fixture
def toy_run(run, toy_options, tmp_path):
    options = ["-c", TOY_CONFIG, *toy_options, *TAIL, "-o", f"output_dir={tmp_path}", "-o", "epochs=1"]
    assert run("main", *options, "--test-last").code == 0
    return tmp_path, options


def test_a_test_leaves_its_report_beside_the_weights(toy_run, run):
    folder, options = toy_run
    files = ("result.npz", "confusion.csv", "per_class.csv", "report.html")
    for name in files:
        (folder / name).unlink()
    result = run("main", *options, "--test")
    assert f"wrote {', '.join(files)} to {folder}" in result.out
    scores = read_results(folder / "result.npz")
    assert scores.config["model_name"] == NAME
    assert scores.data["samples"] == 24
    assert scores.data["split"] == "val"
    matrix = [[int(cell) for cell in row[1:]] for row in list(csv.reader((folder / "confusion.csv").open()))[1:]]
    assert np.sum(matrix) == 24
    rows = list(csv.DictReader((folder / "per_class.csv").open()))
    assert [int(row["train_samples"]) for row in rows] == scores.train_counts == [6, 5, 4, 3, 3, 2, 2, 1, 1, 1, 1, 1]
    accuracy = sum(matrix[i][i] for i in range(12)) / 24
    assert f"top1_acc: {accuracy:.4f}" in result.out
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(page) < 5e6
    assert f"<b>{100 * accuracy:.2f} %</b>" in page
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing is loaded from anywhere


def test_a_folder_that_cannot_be_written_does_not_stop_a_test(toy_run, run, tmp_path, monkeypatch):
    from paddleskel.engine import reporting

    folder, options = toy_run
    monkeypatch.setattr(reporting.os, "access", lambda path, mode: False)
    out = tmp_path / "elsewhere"
    weights = folder / f"{NAME}_last.pdparams"
    result = run("main", *options, "-o", f"output_dir={out}", "--test", "-w", weights)
    assert result.code == 0, result.err
    assert (out / "report.html").is_file()


def test_the_report_of_a_toy_run_works_in_a_browser(toy_run, browser, tmp_path):
    folder, _ = toy_run
    browser.size(1200, 900)
    browser.open(folder / "report.html")
    assert browser.evaluate(DRAWN.replace("SELECTOR", "#matrix")) != 0
    assert browser.evaluate("document.querySelectorAll('.sample').length") >= 9
    browser.place(".sample .sp-view")
    browser.until(DRAWN.replace("SELECTOR", ".sample .sp-view") + " != 0")
    browser.until("+document.querySelector('.sample .sp-time').value > 1")  # it plays
    browser.click("#pause-all")
    frame = browser.evaluate("document.querySelector('.sample .sp-time').value")
    assert browser.evaluate("document.querySelector('.sample .sp-play').getAttribute('aria-label')") == "Play"
    assert browser.evaluate("document.querySelector('.sample .sp-time').value") == frame
    assert " %" in browser.evaluate("document.querySelector('.sp-legend').textContent")
    light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    browser.click("#theme")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") != light
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


@pytest.fixture
def sixty(tmp_path):
    """A page of sixty classes and 3,000 samples, with a class name that would break a careless page."""
    rng = np.random.RandomState(0)
    labels = rng.randint(0, 60, 3000)
    logits = (rng.randn(3000, 60) * 1.3 + 3 * np.eye(60)[labels]).astype(np.float32)
    logits[labels == 7, 8] += 2.5
    names = (ROOT / "configs" / "_base_" / "classes" / "ntu60.txt").read_text().splitlines()
    names[7] = '</script><script>window.broken = 1</script> & "quotes"'
    results = Results(
        [f"S{i:04d}" for i in range(3000)], labels, logits, softmax(logits).astype(np.float32), names,
        train_counts=[int(600 * 0.01 ** (c / 59)) for c in range(60)], config={"stream": "b"},
    )  # fmt: skip
    clip = Clip(rng.randn(2, 200, 25, 3).astype(np.float32))
    shown = {
        key: [Shown(i, clip, {"a": [0.0, 1.0]}) for i in places] for key, places in choose_samples(results).items()
    }
    page = report_page(results, load_layout("nturgb+d"), shown, "sixty", "stream b", "about")
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    return path, results


def test_sixty_classes_can_be_explored_by_mouse_and_keyboard(sixty, browser):
    path, results = sixty
    assert path.stat().st_size < 5e6
    browser.size(1200, 900)
    browser.open(path)
    assert browser.evaluate("window.broken") is None
    chosen, matrix = "document.querySelector('#matrix-chosen').textContent", "document.querySelector('#matrix')"
    guess = results.probs.argmax(1)
    taken = int(((results.labels == 7) & (guess == 8)).sum())
    # the pair at the top of the table leads to its cell and its samples
    browser.click("[data-cell]")
    assert f": {taken} (" in browser.evaluate(chosen)
    listed = browser.evaluate(
        "[...document.querySelectorAll('#matrix-chosen li')].map((li) => li.textContent.split(' ')[0])"
    )
    wrong = {results.ids[i] for i in np.flatnonzero((results.labels == 7) & (guess == 8))}
    assert len(listed) == min(40, taken)
    assert set(listed) <= wrong
    # a click on the matrix chooses the cell under the pointer, hovering says which it is
    left, top, side = browser.evaluate(
        f"(() => {{ {matrix}.scrollIntoView({{block: 'center'}}); const b = {matrix}.getBoundingClientRect();"
        " const s = Math.max(160, Math.min(b.width - 154, 640)); return [b.left + 150, b.top + 110, s] })()"
    )
    cell = side / 60
    browser.click_at(left + 0.5 * cell, top + 0.5 * cell)
    hits = int(((results.labels == 0) & (guess == 0)).sum())
    assert browser.evaluate(chosen).startswith(f"{results.class_names[0]}: {hits} right")
    browser.move(left + 8.5 * cell, top + 7.5 * cell)
    assert f": {taken} (" in browser.evaluate("document.querySelector('#matrix-tip').textContent")
    # keys: move, zoom
    browser.evaluate(f"{matrix}.focus()")
    browser.key("ArrowDown")
    assert browser.evaluate(chosen).startswith(f"{results.class_names[1]} → {results.class_names[0]}")
    whole = browser.evaluate(DRAWN.replace("SELECTOR", "#matrix"))
    browser.key("+")
    near = browser.evaluate(DRAWN.replace("SELECTOR", "#matrix"))
    browser.key("0")
    assert browser.evaluate(DRAWN.replace("SELECTOR", "#matrix")) == whole != near
    browser.click("#zoom-in")
    browser.click("#zoom-all")
    # by confusion, 7 and 8 are neighbours
    browser.evaluate("document.querySelector('#matrix-order').value = 'confusion';"
                     "document.querySelector('#matrix-order').dispatchEvent(new Event('change'))")  # fmt: skip
    assert browser.evaluate(DRAWN.replace("SELECTOR", "#matrix")) != whole
    orders = json.loads(browser.evaluate("document.querySelector('#report-data script').textContent"))["orders"]
    assert abs(orders["confusion"].index(7) - orders["confusion"].index(8)) == 1
    assert sorted(orders["accuracy"]) == orders["label"]


def test_class_tables_sort(sixty, browser):
    browser.open(sixty[0])
    head = "#classes ~ .scroll th[data-sort='number'] button"
    column = "[...document.querySelectorAll('#classes ~ .scroll tbody tr')].map((row) => +row.cells[1].textContent)"
    browser.click(head)
    falling = browser.evaluate(column)
    assert falling == sorted(falling, reverse=True)
    browser.evaluate(f"document.querySelector({json.dumps(head)}).focus()")
    browser.key("Enter")
    assert browser.evaluate(column) == sorted(falling)
