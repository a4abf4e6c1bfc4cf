"""Draw docs/pictures/nwucla.png from the logs: python docs/pictures/draw_results.py"""

import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.lines import Line2D

ROOT = Path(__file__).resolve().parents[2]
MODELS = {  # colour and name; other logs are left out
    "stgcn_plusplus": ("C0", "ST-GCN++"),
    "shallow_stgcn_plusplus": ("C4", "ST-GCN++, six blocks"),
    "long_stgcn_plusplus": ("C1", "ST-GCN++, longer recipe"),
    "long_unaligned_stgcn_plusplus": ("C5", "ST-GCN++, longer, unaligned"),
    "ctrgcn": ("C2", "CTR-GCN"),
    "dgstgcn": ("C3", "DG-STGCN"),
    "shallow_dgstgcn": ("C6", "DG-STGCN, six blocks"),
    "shallow_dgstgcn_48": ("C8", "DG-STGCN, six blocks, 48 epochs"),
}
STYLES = {"j": "-", "b": "--", "jm": ":", "bm": "-.", "j+b+jm+bm": (0, (5, 1, 1, 1, 1, 1))}
END = re.compile(r"END epoch:(\d+)\s+train loss_avg: ([\d.]+) top1_avg: ([\d.]+)")


def epochs(log: Path) -> list[tuple[int, float, float]]:
    """(epoch, mean loss, top-1) of every training epoch in a log."""
    return [(int(e), float(loss), float(top1)) for e, loss, top1 in END.findall(log.read_text())]


def main(folder: Path, picture: Path) -> None:
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for log in sorted(folder.glob("nwucla_*_seed1_*.txt")):
        model, stream = log.stem.removeprefix("nwucla_").split("_seed1_")
        if model not in MODELS:
            continue
        found = epochs(log)
        for axis, column in zip(axes, (1, 2)):
            points = zip(*[(row[0], row[column]) for row in found])
            axis.plot(*points, color=MODELS[model][0], linestyle=STYLES[stream])
    axes[0].set(xlabel="epoch (of 5 passes)", ylabel="training loss")
    axes[1].set(xlabel="epoch (of 5 passes)", ylabel="training top-1")
    for axis in axes:
        axis.grid(alpha=0.3)
    keys = [Line2D([], [], color=colour, label=name) for colour, name in MODELS.values()]
    keys += [Line2D([], [], color="gray", linestyle=style, label=stream) for stream, style in STYLES.items()]
    figure.legend(handles=keys, fontsize="small", loc="outside right center")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    sys.exit(main(ROOT / "docs" / "logs", ROOT / "docs" / "pictures" / "nwucla.png"))
