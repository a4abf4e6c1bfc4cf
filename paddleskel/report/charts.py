"""Charts as SVG, in the colours of the page they stand in."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from paddleskel import metrics

_COLORS = ("#2563eb", "#ea580c", "#0d9488", "#be185d", "#7c3aed", "#a16207", "#475569", "#b91c1c")


def reliability_chart(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> str:
    """Accuracy over confidence, with the share of the samples in each bin below.

    probs: (N, classes) probabilities. labels: (N,).
    """
    count, confidence, accuracy = metrics.reliability(probs, labels, bins)
    side, left, top, low = 260, 40, 10, 50
    width, height = left + side + 10, top + side + low + 60
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="Accuracy against confidence">'
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = left + side * tick, top + side * (1 - tick)
        parts.append(f'<path d="M{left} {y:.1f}h{side}M{x:.1f} {top}v{side}" stroke="var(--line)" fill="none"/>')
        parts.append(f'<text x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{100 * tick:.0f} %</text>')
        parts.append(f'<text x="{x:.1f}" y="{top + side + low + 28}" text-anchor="middle">{100 * tick:.0f} %</text>')
    parts.append(f'<path d="M{left} {top + side}L{left + side} {top}" stroke="var(--soft)" stroke-dasharray="4 3"/>')
    for i in np.flatnonzero(count):
        x, wide = left + i * side / bins + 1, side / bins - 2
        high, share = side * accuracy[i], max(low * count[i] / count.max(), 0.5)
        said = f"{count[i]} samples, {100 * confidence[i]:.1f} % sure, {100 * accuracy[i]:.1f} % right"
        for y, tall, fill in ((top + side - high, high, "--bar"), (top + side + 8, share, "--count")):
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="var({fill})">'
                f"<title>{said}</title></rect>"
            )
    parts.append(f'<text x="{left + side / 2}" y="{height - 14}" text-anchor="middle">confidence</text></svg>')
    return "".join(parts)


def line_chart(title: str, series: Mapping[str, Sequence[tuple[float, float]]], percent: bool = False) -> str:
    """Lines over epochs, with a legend; {name: [(epoch, value), ...]}."""
    width, height, left, top, low = 470, 250, 46, 24, 26
    points = np.array([point for line in series.values() for point in line], float)
    x_low, x_high = points[:, 0].min(), max(points[:, 0].max(), points[:, 0].min() + 1)
    y_low, y_high = (0.0, 1.0) if percent else (min(0.0, points[:, 1].min()), max(points[:, 1].max(), 1e-9))

    def place(x: float, y: float) -> str:
        across = left + (x - x_low) / (x_high - x_low) * (width - left - 10)
        return f"{across:.1f} {height - low - (y - y_low) / (y_high - y_low) * (height - low - top):.1f}"

    total = height + 18 * len(series)
    parts = [f'<svg viewBox="0 0 {width} {total}" width="{width}" role="img" aria-label="{escape(title)} by epoch">']
    parts.append(f'<text x="{left}" y="14" font-weight="600">{escape(title)}</text>')
    for step in range(5):
        value = y_low + (y_high - y_low) * step / 4
        across = place(x_low, value)
        said = f"{100 * value:.0f} %" if percent else f"{value:.2g}"
        parts.append(f'<path d="M{across}H{width - 10}" stroke="var(--line)"/>')
        parts.append(f'<text x="{left - 5}" y="{float(across.split()[1]) + 4}" text-anchor="end">{said}</text>')
    for epoch in sorted({x_low, x_high}):
        parts.append(f'<text x="{place(epoch, 0).split()[0]}" y="{height - 8}" text-anchor="middle">{epoch:.0f}</text>')
    for i, (name, line) in enumerate(series.items()):
        color, dashes = _COLORS[i % len(_COLORS)], "" if i % 2 == 0 else ' stroke-dasharray="5 3"'
        path = "M" + "L".join(place(x, y) for x, y in line)
        parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>')
        y = height + 12 + 18 * i
        parts.append(f'<path d="M{left} {y - 4}h22" stroke="{color}" stroke-width="3"{dashes}/>')
        parts.append(f'<text x="{left + 30}" y="{y}">{escape(name)}</text>')
    return "".join(parts) + "</svg>"
