"""Write docs/model_zoo.md: every config, what is published for it, and what its network costs.

    python tools/model_zoo.py

reads the published accuracies from docs/published.yaml and measures parameters and MACs. Run it after adding a config.
"""

import argparse
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from paddleskel.errors import UserError, exit_code
from paddleskel.files import write_atomically

INTRODUCTION = """# Model zoo

Made by `python tools/model_zoo.py` from `docs/published.yaml` and the configs.

Accuracies are top-1 in percent as their authors published them, with 10 clips a sample, for the streams joint (j),
bone (b), joint-motion (jm) and bone-motion (bm), for j and b fused 1:1, and for the four fused 2:2:1:1. They are not
results of this project; the published weights give this project's networks the same logits (`tests/nn/test_parity.py`),
and `main.py --test -w FILE` takes them as they are. Parameters and multiply-accumulates (MACs, one clip) are measured
by `tools/summary.py`, in the published form of the network.

| source | page | weights |
|---|---|---|
"""
TABLE = """
| config | source | j | b | jm | bm | j+b | all four | parameters | MACs | checkpoint |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def cost(path: Path, known: dict) -> str:
    """Parameters and MACs of a config's network, as two cells; `known` remembers networks met before."""
    from paddleskel.engine.build import build_network, expected_shape
    from paddleskel.engine.settings import load_settings
    from paddleskel.engine.summary import summarize

    settings, _ = load_settings(str(path))
    key = str((settings.MODEL, settings.layout, settings.num_classes))
    if key not in known:
        known[key] = build_network(settings)
    shape = expected_shape(settings, known[key])
    if (key, shape) not in known:
        summary = summarize(known[key], shape)
        known[key, shape] = f"{summary.published_params / 1e6:.3f} M | {summary.macs / 1e9:.3f} G"
    return known[key, shape]


def percent(number: float | None) -> str:
    """As published: with one decimal or two."""
    return "-" if number is None else f"{number:.1f}" if round(number, 1) == number else f"{number:.2f}"


def page(published: list[dict], configs: dict[str, Path]) -> str:
    """Return the page. Raises UserError for a published row without a config."""
    text = INTRODUCTION
    text += "".join(f"| {group['source']} | <{group['page']}> | `{group['weights']}` |\n" for group in published)
    rows: dict[str, list[list[str]]] = {}
    for group in published:
        for row in group["rows"]:
            if row["config"] not in configs:
                raise UserError(f"docs/published.yaml: no config is called '{row['config']}'")
            cells = [group["source"], *map(percent, row["top1"]), f"`{row['checkpoint']}`"]
            rows.setdefault(row["config"], []).append(cells)
    known: dict = {}
    for folder in sorted({path.parent.name for path in configs.values()}):
        text += f"\n## {folder}\n{TABLE}"
        for name, path in configs.items():
            if path.parent.name != folder:
                continue
            costs = cost(path, known)
            link = f"[{name}](../{path.relative_to(ROOT)})"
            for cells in rows.get(name, [["-"] * 8]):
                text += f"| {link} | {' | '.join(cells[:-1])} | {costs} | {cells[-1]} |\n"
    return text


@exit_code
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", "--output", default=str(ROOT / "docs" / "model_zoo.md"), metavar="FILE", help="default: docs/model_zoo.md"
    )
    flags = parser.parse_args(arguments)

    from paddleskel.runtime import select_device

    select_device(use_gpu=False)
    published = yaml.safe_load((ROOT / "docs" / "published.yaml").read_text(encoding="utf-8"))
    configs = {path.stem: path for path in sorted((ROOT / "configs" / "recognition").rglob("*.yaml"))}
    write_atomically(Path(flags.output), page(published, configs).encode())
    print(f"wrote {flags.output}: {len(configs)} configs")


if __name__ == "__main__":
    sys.exit(main())
