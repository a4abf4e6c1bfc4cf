"""The table of docs/results.md against the scores it was made of."""

import re

import scores
from conftest import ROOT

MODELS = {
    "stgcn_plusplus": "ST-GCN++, six blocks",
    "dgstgcn": "DG-STGCN, six blocks",
    "dgstgcn_48": "DG-STGCN, six blocks, 48 epochs",
    "early_fusion": "ST-GCN++, six blocks, streams as one input",
    "distilled": "ST-GCN++, six blocks, distilled from the four",
}


def rows(text):
    """{(model, stream): the other cells} of the table's lines, links replaced by their words."""
    lines = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line).strip("| ").split(" | ") for line in text.splitlines()]
    return {tuple(line[:2]): line[2:] for line in lines if len(line) == 5 and line[2].isdigit()}


def test_the_table_says_what_the_scores_give(run, tmp_path):
    scores.restore(tmp_path)
    printed = run("results_table", tmp_path)
    assert printed.code == 0, printed.err
    page = rows((ROOT / "docs" / "results.md").read_text(encoding="utf-8"))
    made = {(MODELS[model], stream): cells for (model, stream), cells in rows(printed.out).items()}
    assert made
    for key, cells in made.items():
        assert page.get(key) == cells, key
