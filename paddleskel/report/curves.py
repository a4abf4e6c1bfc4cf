"""Training curves as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path

from paddleskel.files import write_atomically


def draw_curves(records: Sequence[dict], path: Path) -> None:
    """Draw loss, top-1 and learning rate over epochs from the records of metrics.jsonl; write a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [
        ("loss", [("train_loss", "training"), ("val_loss", "validation")], "cross entropy"),
        ("top-1 accuracy", [("train_top1", "training"), ("val_top1", "validation")], "fraction"),
        ("learning rate", [("lr", "at the epoch's end")], ""),
    ]
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for axis, (title, series, unit) in zip(axes, panels):
        for key, label in series:
            points = [(record["epoch"], record[key]) for record in records if record.get(key) is not None]
            if points:
                axis.plot(*zip(*points), marker="o", markersize=3, label=label)
        axis.set(title=title, xlabel="epoch", ylabel=unit)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if len(series) > 1:
            axis.legend()
    axes[1].set_ylim(0, 1.02)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    pyplot.close(figure)
    write_atomically(path, image.getvalue())
