"""Samples of a file, drawn with what is known about them: labels, streams, predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from paddleskel.data.annotation import parse_annotation, read_annotations
from paddleskel.data.clip import Clip
from paddleskel.data.sources import find_source, read_poses
from paddleskel.data.transforms.stream import STREAMS
from paddleskel.errors import UserError
from paddleskel.files import write_atomically
from paddleskel.metrics import predictions
from paddleskel.registry import did_you_mean
from paddleskel.report.drawing import (
    DARK,
    Drawing,
    Style,
    frame_image,
    save_animation,
    save_picture,
    sheet_image,
    strip_image,
)
from paddleskel.report.player import player, player_assets, player_data
from paddleskel.results import Results, read_results
from paddleskel.skeleton.layout import Layout, guess_layout, load_layout


@dataclass(frozen=True)
class Gallery:
    """Attributes:
    clips: samples of a file. names: of the classes, if known. results: predictions for them, by sample id.
    """

    file: str
    clips: Sequence[Clip]
    layout: Layout
    stream: str
    style: Style
    names: list[str] | None = None
    results: Results | None = None

    @staticmethod
    def open(
        file: str, split: str | None, layout: str | None, stream: str = "j", pred: str | None = None, dark: bool = False
    ) -> "Gallery":
        """Read poses of any known format, and a results file.

        Raises:
            UserError: an unknown stream, split or layout, joints that do not fit, results of other samples.
        """
        if stream not in STREAMS:
            raise UserError(f"--stream: unknown stream '{stream}'{did_you_mean(stream, list(STREAMS))}")
        names = None
        if find_source(Path(file)).name == "pickle" and Path(file).is_file():
            content = read_annotations(file)
            found, names = content.select(split), content.class_names
        elif split:
            raise UserError(f"--split: {file} is not an annotation file, so it has no splits")
        else:
            found = read_poses(file)
        first = parse_annotation(found[0], file, need_label=False).keypoint
        skeleton = load_layout(layout) if layout else guess_layout([first.shape[2]], [first.shape[3]])
        if skeleton is None:
            raise UserError(
                f"{file}: {first.shape[2]} joints in {first.shape[3]}D have no usual layout; name it with --layout (a "
                "name or a YAML file)"
            )
        clips = [parse_annotation(item, file, skeleton, need_label=False) for item in found]
        results = read_results(pred) if pred else None
        if results is not None and (results.ids is None or not set(results.ids) & {clip.id for clip in clips}):
            raise UserError(f"--pred {pred}: has no scores for the samples of {file}")
        names = names or (results.class_names if results else None)
        return Gallery(file, clips, skeleton, stream, DARK if dark else Style(), names, results)

    def choose(self, ids: Sequence[str] | None, wrong: bool, count: int) -> list[Clip]:
        """The samples of the given ids, or the first `count`; only wrong ones if asked for."""
        if ids:
            by_id = {clip.id: clip for clip in self.clips}
            for name in ids:
                if name not in by_id:
                    raise UserError(
                        f"--id {name}: no such sample in {self.file}{did_you_mean(name, list(by_id)[:2000])}"
                    )
            return [by_id[name] for name in ids]
        chosen = [clip for clip in self.clips if self._is_wrong(clip)] if wrong else self.clips
        if not chosen:
            raise UserError("--wrong: no sample was predicted wrong")
        return list(chosen[:count])

    def write(self, out: Path, clips: Sequence[Clip], frame: int | None, fps: float, turn: float, size: int) -> str:
        """Write samples as a .png, .gif, .mp4 or .html; say what is in it."""
        if out.suffix == ".html":
            write_atomically(out, self._page(clips))
            return f"{len(clips)} samples"
        if len(clips) > 1:
            raise UserError(f"{len(clips)} samples in one {out.suffix}: give one --id, or write a .html")
        clip, captions = clips[0], self._captions(clips[0])
        drawing = self._drawing(clip)
        if out.suffix != ".png":
            turns = -0.35 + np.radians(turn) * np.linspace(0, 1, drawing.num_frames)
            images = [frame_image(drawing, t, captions, (size, size), yaw) for t, yaw in enumerate(turns)]
            save_animation(out, images, fps)
            return f"{clip.id}, {len(images)} frames"
        if frame is None:
            save_picture(out, strip_image(drawing, captions))
            return f"{clip.id}, poses of {drawing.num_frames} frames"
        if not 1 <= frame <= drawing.num_frames:
            raise UserError(f"--frame {frame}: '{clip.id}' has frames 1 to {drawing.num_frames}")
        save_picture(out, frame_image(drawing, frame - 1, captions, (size, size)))
        return f"{clip.id}, frame {frame}"

    def write_sheet(self, out: Path, count: int, fps: float) -> str:
        """Write a contact sheet: a row a class, `count` samples each; moving unless it is a .png."""
        by_class: dict[int, list[Clip]] = {}
        for clip in self.clips:
            by_class.setdefault(clip.label, []).append(clip)
        rows = [(self._name(label), by_class[label][:count]) for label in sorted(by_class)]
        if out.suffix == ".html":
            write_atomically(out, self._page([clip for _, clips in rows for clip in clips]))
            return f"{len(rows)} classes"
        drawn = [(name, [self._drawing(clip) for clip in clips]) for name, clips in rows]
        if out.suffix == ".png":
            save_picture(out, sheet_image(drawn, 0.4, self.style))
        else:
            moments = np.linspace(0, 1, 40)
            save_animation(out, [sheet_image(drawn, moment, self.style, 110) for moment in moments], min(fps, 15))
        return f"{len(rows)} classes"

    def _drawing(self, clip: Clip) -> Drawing:
        return Drawing(clip, self.layout, self.stream, self.style)

    def _name(self, label: int) -> str:
        if label < 0:
            return "no label"
        return self.names[label] if self.names and label < len(self.names) else f"class {label}"

    def _row(self, clip: Clip) -> int | None:
        ids = self.results.ids if self.results else None
        return ids.index(clip.id) if ids and clip.id in ids else None

    def _is_wrong(self, clip: Clip) -> bool:
        row = self._row(clip)
        return row is not None and int(predictions(self.results.probs[row : row + 1])[0]) != clip.label

    def _captions(self, clip: Clip) -> list[tuple[str, str]]:
        """Lines of (text, colour): the sample and its label, what was predicted."""
        said = clip.id if clip.label < 0 else f"{clip.id} · {self._name(clip.label)}"
        lines = [(said if self.stream == "j" else f"{said} · stream {self.stream}", self.style.ink)]
        row = self._row(clip)
        if row is not None:
            probs = self.results.probs[row]
            best = int(predictions(probs[None])[0])
            tone = self.style.soft if clip.label < 0 else self.style.right if best == clip.label else self.style.wrong
            lines.append((f"predicted {self._name(best)}, {100 * probs[best]:.0f} %", tone))
        return lines

    def _page(self, clips: Sequence[Clip]) -> str:
        cards = []
        for clip in clips:
            lines = "".join(f'<p style="color: {tone}">{escape(text)}</p>' for text, tone in self._captions(clip))
            data = player_data(clip.keypoint, self.layout, clip.score, clip.id, max_frames=120)
            cards.append(f"<article>{lines}{player(data)}</article>")
        scheme, paper = ("dark" if self.style is DARK else "light"), self.style.paper
        style = (
            f"body {{ margin: 1.5rem; font: 15px/1.4 system-ui, sans-serif; background: {paper};"
            f" color: {self.style.ink} }}"
            " main { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)) }"
            f" article {{ border: 1px solid {self.style.soft}55; border-radius: .5rem; padding: .7rem; min-width: 0 }}"
            " p { margin: 0 0 .2rem; overflow-wrap: anywhere }"
        )
        return (
            f'<!doctype html>\n<html lang="en" data-theme="{scheme}" style="color-scheme: {scheme}">\n'
            f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
            f"<title>{escape(Path(self.file).name)}</title>\n<style>{style}</style>\n{player_assets()}"
            f"<main>\n{''.join(cards)}</main>\n</html>\n"
        )
