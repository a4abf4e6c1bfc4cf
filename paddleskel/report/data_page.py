"""The doctor's page: what was found, plots of the data, and animated samples of every class. Needs no network."""

from collections import defaultdict
from collections.abc import Sequence
from html import escape

import numpy as np

from paddleskel.data.annotation import AnnotationFile
from paddleskel.data.clip import Clip
from paddleskel.data.doctor import Finding, Report, read_sample
from paddleskel.report.player import player, player_assets, player_data
from paddleskel.skeleton.layout import Layout

MOST_PLAYERS = 150  # on a page, so that it stays a few megabytes
FRAMES = 60  # of each animation

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6475; --back: #ffffff; --line: #d9dee7; --bar: #3b6fb6;
  --error: #b3261e; --warning: #8a5a00; --note: #44607f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --soft: #9aa5b5; --back: #14181f; --line: #333c49;
  --bar: #7aa9e6; --error: #ff8a80; --warning: #ffc46b; --note: #a9c1dc; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; padding: 0; }
.numbers div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; }
.numbers b { display: block; font-size: 1.25rem; } .numbers span, .soft { color: var(--soft); font-size: .9rem; }
details { border: 1px solid var(--line); border-left: .35rem solid var(--c); border-radius: .4rem; margin: .6rem 0;
  padding: .5rem .8rem; }
summary { cursor: pointer; } summary b { color: var(--c); } summary:focus-visible { outline: 2px solid #2563eb; }
.error { --c: var(--error); } .warning { --c: var(--warning); } .note { --c: var(--note); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td { padding: .1rem .5rem .1rem 0; }
td.bar { width: 60%; }
td.bar i { display: block; height: .8rem; background: var(--bar); border-radius: 2px; }
svg { max-width: 100%; } svg rect { fill: var(--bar); }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.soft { overflow-wrap: anywhere; }
"""


def data_page(report: Report, file: AnnotationFile, layout: Layout | None, samples: int = 3) -> str:
    """Return the page as HTML.

    Args:
        layout: how the joints are connected; without one nothing is animated.
        samples: animated samples of each class, fewer where there are very many classes.
    """
    clips = _Clips(file, layout)
    parts = [
        f"<h1>{escape(report.path)}</h1>",
        _numbers(report),
        "<h2>Findings</h2>",
        "".join(_finding(item, clips) for item in report.findings) or "<p>Nothing to complain of.</p>",
        "<h2>Samples of each class</h2>",
        _class_bars(report),
        "<h2>Lengths</h2>",
        _histogram([item.frames for item in report.measures], "frames"),
        "<h2>The samples</h2>",
        _gallery(report, clips, samples),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.path)}: data check</title>\n<style>{_STYLE}</style>\n{player_assets()}</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


class _Clips:
    """Samples by id, as far as they can be read, and their animations."""

    def __init__(self, file: AnnotationFile, layout: Layout | None):
        self.layout = layout
        self._items = {}
        for number, item in enumerate(file.annotations):
            name = str(item.get("frame_dir", item.get("filename", ""))) if isinstance(item, dict) else ""
            self._items.setdefault(name or f"(sample {number})", item)

    def animation(self, name: str) -> str:
        """A figure with the sample's player; "" where there is nothing to show."""
        clip: Clip | None = read_sample(self._items[name])[0] if name in self._items else None
        if clip is None or self.layout is None or clip.keypoint.shape[2] != self.layout.num_joints:
            return ""
        shown = player(player_data(clip.keypoint, self.layout, clip.score, name, max_frames=FRAMES))
        return f"<figure>{shown}<figcaption>{escape(name)}, {clip.num_frames} frames</figcaption></figure>"


def _numbers(report: Report) -> str:
    summary = report.summary
    shown = {"samples": f"{summary['samples']:,}", "classes": len(summary["classes"])}
    shown |= {f"in '{name}'": f"{count:,}" for name, count in summary["splits"].items()}
    if "frames" in summary:
        frames = summary["frames"]
        shown["frames a sample"] = f"{frames['least']} to {frames['most']}"
        shown["joints"] = ", ".join(map(str, summary["joints"]))
        shown["coordinates"] = ", ".join(f"{axes}D" for axes in summary["coordinates"])
        shown["people a sample"] = ", ".join(f"{n}: {times:,}" for n, times in summary["people"].items())
    shown["errors, warnings"] = f"{report.count('error')}, {report.count('warning')}"
    boxes = (f"<div><span>{escape(str(key))}</span><b>{escape(str(value))}</b></div>" for key, value in shown.items())
    return f'<div class="numbers">{"".join(boxes)}</div>'


def _finding(finding: Finding, clips: _Clips) -> str:
    about = finding.to_dict()
    names = ", ".join(map(escape, finding.names[:20]))
    names += f" and {len(finding.names) - 20} more" if len(finding.names) > 20 else ""
    animations = "".join(clips.animation(name) for name in finding.names[:2])
    fixed = " <code>--fix</code> does." if about["fixable"] else ""
    return (
        f'<details class="{finding.level}"><summary><b>{finding.level}</b> {escape(finding.text)}</summary>'
        f"<p>What it does: {escape(about['effect'])}.<br>How to mend it: {escape(about['cure'])}.{fixed}</p>"
        f'<p class="soft">{names}</p><div class="grid">{animations}</div></details>\n'
    )


def _class_bars(report: Report) -> str:
    count = report.summary["classes"]
    if not count:
        return "<p>No labels.</p>"
    most = max(count.values())
    rows = (
        f"<tr><td>{escape(_class_name(report, int(label)))}</td><td>{number:,}</td>"
        f'<td class="bar"><i style="width:{100 * number / most:.1f}%"></i></td></tr>'
        for label, number in count.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _class_name(report: Report, label: int) -> str:
    names = report.summary["class_names"]
    return f"{label} {names[label]}" if names and label < len(names) else f"class {label}"


def _histogram(values: Sequence[float], unit: str, bins: int = 40) -> str:
    """An SVG of how often values occur."""
    if not values:
        return "<p>Nothing readable.</p>"
    count, edges = np.histogram(values, bins=min(bins, max(1, len(set(values)))))
    width, height, step = 640, 140, 640 / len(count)
    tall = count / count.max() * height
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height - tall[i]:.1f}" width="{max(step - 1, 1):.1f}" '
        f'height="{tall[i]:.1f}"><title>{edges[i]:.0f} to {edges[i + 1]:.0f} {unit}: {n}</title></rect>'
        for i, n in enumerate(count)
    )
    labels = (
        f'<text x="0" y="{height + 15}">{edges[0]:.0f}</text>'
        f'<text x="{width}" y="{height + 15}" text-anchor="end">{edges[-1]:.0f} {unit}</text>'
        f'<text x="{width / 2}" y="{height + 15}" text-anchor="middle">at most {count.max()} samples in a bar</text>'
    )
    return (
        f'<svg viewBox="0 0 {width} {height + 20}" width="{width}" role="img" '
        f'aria-label="histogram of {unit}">{bars}{labels}</svg>'
    )


def _gallery(report: Report, clips: _Clips, samples: int) -> str:
    if clips.layout is None:
        return "<p>Give <code>--layout</code> or a config to see them move: what the joints are is not known.</p>"
    by_class = defaultdict(list)
    for item in report.measures:
        if item.people:
            by_class[item.label].append(item.id)
    if not by_class:
        return "<p>Nothing to show.</p>"
    samples = max(1, min(samples, MOST_PLAYERS // len(by_class)))
    shown = []
    for label in sorted(by_class)[:MOST_PLAYERS]:
        names = by_class[label]
        chosen = [names[i] for i in sorted(set(np.linspace(0, len(names) - 1, samples).astype(int).tolist()))]
        title = _class_name(report, label) if label >= 0 else "without a label"
        shown.append(f'<h3>{escape(title)}</h3><div class="grid">{"".join(map(clips.animation, chosen))}</div>')
    return "\n".join(shown)
