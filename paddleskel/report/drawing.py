"""Skeletons as pictures: single frames, strips, animations, contact sheets. Drawn with pillow, from the layout."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paddleskel.data.clip import Clip
from paddleskel.data.transforms.stream import STREAMS
from paddleskel.errors import UserError
from paddleskel.files import atomic_file, write_atomically
from paddleskel.report.player import seen_joints, view
from paddleskel.skeleton.layout import Layout

_FINE = 2  # drawn so many times larger, then reduced: smooth edges
_MOTION_GAIN = 4.0  # motions between frames are short; arrows are this times as long


@dataclass(frozen=True)
class Style:
    """Colours; `sides` are (left, right) pairs, one a person in turn."""

    paper: str = "#ffffff"
    ink: str = "#1f2937"
    soft: str = "#6b7280"
    middle: str = "#4b5563"
    right: str = "#15803d"
    wrong: str = "#c2410c"
    sides: tuple = (("#2563eb", "#ea580c"), ("#0d9488", "#be185d"), ("#7c3aed", "#a16207"), ("#475569", "#b91c1c"))


DARK = Style(
    "#0f1319", "#e5e7eb", "#9ca3af", "#9ca3af", "#4ade80", "#fb923c",
    (("#60a5fa", "#fb923c"), ("#2dd4bf", "#f472b6"), ("#a78bfa", "#facc15"), ("#94a3b8", "#f87171")),
)  # fmt: skip


class Drawing:
    """One clip, ready to be drawn frame by frame.

    Args:
        stream: "j" draws the body; bones (b, k, ...) add the vectors the network sees as arrows, motions (jm, bm, ...)
            those between frames, four times as long.
        up: upward axis of 3D data, as in `player_data`.
    """

    def __init__(
        self, clip: Clip, layout: Layout, stream: str = "j", style: Style | None = None, up: str | None = None
    ):
        points = clip.keypoint.astype(np.float32)
        self.layout, self.style, self.stream = layout, style or Style(), stream
        self.seen = seen_joints(points)
        self.score = np.ones(points.shape[:3]) if clip.score is None else np.clip(clip.score.astype(float), 0, 1)
        shown = view(points, self.seen, layout, up)
        flat = shown if shown.shape[-1] == 3 else np.concatenate([shown, np.zeros_like(shown[..., :1])], axis=-1)
        some = flat[self.seen] if self.seen.any() else np.zeros((1, 3))
        low, high = np.percentile(some, [0.2, 99.8], axis=0)
        self.points, self.half = flat - (low + high) / 2, np.maximum((high - low) / 2, 1e-6)
        self.turned = points.shape[-1] == 3

    @property
    def num_frames(self) -> int:
        return self.points.shape[1]

    def draw(self, image: Image.Image, frame: int, box: tuple[float, float, float, float], yaw: float = -0.35) -> None:
        """Draw a frame into a box (left, top, right, bottom) of an image; 3D bodies are turned by `yaw` radians."""
        pen, style = ImageDraw.Draw(image), self.style
        places = self._project(self.points[:, frame], box, yaw)
        width = max(1.5, min(box[2] - box[0], box[3] - box[1]) / 90)
        sides = np.zeros(self.layout.num_joints, int)
        for left, right in self.layout.pairs:
            sides[left], sides[right] = 1, 2
        plain = self.stream == "j"
        for person in range(len(places)):
            pair = style.sides[person % len(style.sides)]
            seen = self.seen[person, frame]

            def color(joint: int, person: int = person, pair: tuple = pair) -> tuple[int, ...]:
                tone = pair[sides[joint] - 1] if sides[joint] else style.middle
                return _blend(style.paper, tone, 0.25 + 0.75 * self.score[person, frame, joint])

            for joint, parent in self.layout.edges:
                if seen[joint] and seen[parent]:
                    tone = color(joint) if plain else _blend(style.paper, style.soft, 0.45)
                    pen.line([*places[person, joint], *places[person, parent]], fill=tone, width=round(width * 1.3))
            for joint in np.flatnonzero(seen):
                x, y = places[person, joint]
                size = width * (0.95 if plain else 0.6)
                pen.ellipse([x - size, y - size, x + size, y + size], fill=color(joint) if plain else style.soft)
            if not plain:
                self._draw_vectors(pen, person, frame, box, yaw, color, width)

    def _draw_vectors(
        self, pen: ImageDraw.ImageDraw, person: int, frame: int, box: tuple, yaw: float, color: Callable, width: float
    ) -> None:
        """The vectors of the stream: bones end at their joint, motions begin there."""
        hops, motion = STREAMS[self.stream]
        now = self.points[person, frame]
        starts = self.layout.ancestors(hops) if hops else np.arange(len(now))
        seen = self.seen[person, frame] & self.seen[person, frame][starts]
        if motion:
            if frame + 1 >= self.num_frames:
                return
            after = self.points[person, frame + 1]
            seen = seen & self.seen[person, frame + 1] & self.seen[person, frame + 1][starts]
            feature = lambda points: points - points[starts] if hops else points
            begin, end = now, now + _MOTION_GAIN * (feature(after) - feature(now))
        else:
            begin, end = now[starts], now
        begin, end = self._project(begin, box, yaw), self._project(end, box, yaw)
        for joint in np.flatnonzero(seen):
            _arrow(pen, begin[joint], end[joint], color(joint), width)

    def _project(self, points: np.ndarray, box: tuple, yaw: float) -> np.ndarray:
        """(..., 3) points to (..., 2) pixels: turned about the vertical, seen slightly from above."""
        tilt = 0.18 if self.turned else 0.0
        yaw = yaw if self.turned else 0.0
        around = np.hypot(self.half[0], self.half[2]) if self.turned else self.half[0]
        tall = self.half[1] * np.cos(tilt) + around * np.sin(tilt)
        scale = 0.46 * min((box[2] - box[0]) / around, (box[3] - box[1]) / tall)
        x = points[..., 0] * np.cos(yaw) + points[..., 2] * np.sin(yaw)
        depth = points[..., 2] * np.cos(yaw) - points[..., 0] * np.sin(yaw)
        y = points[..., 1] * np.cos(tilt) - depth * np.sin(tilt)
        return np.stack([(box[0] + box[2]) / 2 + scale * x, (box[1] + box[3]) / 2 - scale * y], axis=-1)


def _arrow(pen: ImageDraw.ImageDraw, begin: np.ndarray, end: np.ndarray, color: tuple, width: float) -> None:
    length = float(np.hypot(*(end - begin)))
    if length < 0.5:
        return
    pen.line([*begin, *end], fill=color, width=max(1, round(width)))
    along = (end - begin) / length
    head, across = min(4 * width, 0.5 * length), np.array([-along[1], along[0]])
    foot = end - head * along
    pen.polygon([tuple(end), tuple(foot + 0.5 * head * across), tuple(foot - 0.5 * head * across)], fill=color)


def _blend(paper: str, tone: str, share: float) -> tuple[int, ...]:
    values = [[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in (paper, tone)]
    return tuple(round(a + (b - a) * share) for a, b in zip(*values))


def render(
    size: tuple[int, int], paint: Callable[[Image.Image], None], captions: Sequence[tuple], style: Style
) -> Image.Image:
    """Paint an image; captions are (x, y, text, colour, points), in its final pixels."""
    fine = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), style.paper)
    paint(fine)
    image = fine.resize(size, Image.LANCZOS)
    pen = ImageDraw.Draw(image)
    for x, y, text, color, points in captions:
        pen.text((x, y), _cut(text, size[0] - x - 4, points), fill=color, font=_font(points))
    return image


def _font(points: int) -> ImageFont.FreeTypeFont:
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), points)  # comes with matplotlib


def _cut(text: str, width: float, points: int) -> str:
    font = _font(points)
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text


def frame_image(
    drawing: Drawing, frame: int, captions: Sequence[tuple[str, str]], size: tuple[int, int] = (480, 480), yaw=-0.35
) -> Image.Image:
    """One frame with lines of (text, colour) above it."""
    top = 8 + 20 * len(captions)
    box = tuple(_FINE * value for value in (0, top, size[0], size[1] - 4))
    lines = [(10, 6 + 20 * i, text, color, 14) for i, (text, color) in enumerate(captions)]
    return render(size, lambda image: drawing.draw(image, frame, box, yaw), lines, drawing.style)


def strip_image(
    drawing: Drawing, captions: Sequence[tuple[str, str]], poses: int = 6, height: int = 300
) -> Image.Image:
    """Poses side by side, evenly spaced over the clip."""
    poses = min(poses, drawing.num_frames)
    frames = np.linspace(0, drawing.num_frames - 1, poses).round().astype(int)
    each, top = round(height * 0.62), 8 + 20 * len(captions)

    def paint(image: Image.Image) -> None:
        for i, frame in enumerate(frames):
            box = tuple(_FINE * value for value in (i * each, top, (i + 1) * each, height - 22))
            drawing.draw(image, int(frame), box)

    lines = [(10, 6 + 20 * i, text, color, 14) for i, (text, color) in enumerate(captions)]
    lines += [(i * each + each / 2 - 20, height - 20, f"frame {frame + 1}", drawing.style.soft, 11)
              for i, frame in enumerate(frames)]  # fmt: skip
    return render((each * poses, height), paint, lines, drawing.style)


def sheet_image(
    rows: Sequence[tuple[str, Sequence[Drawing]]], moment: float, style: Style, cell: int = 150
) -> Image.Image:
    """A contact sheet: a row a class with its name, a cell a sample, at a moment in [0, 1] of each."""
    columns, name = max(len(drawings) for _, drawings in rows), 150

    def paint(image: Image.Image) -> None:
        for i, (_, drawings) in enumerate(rows):
            for j, drawing in enumerate(drawings):
                box = tuple(
                    _FINE * v for v in (name + j * cell, i * cell + 4, name + (j + 1) * cell, (i + 1) * cell - 4)
                )
                drawing.draw(image, round(moment * (drawing.num_frames - 1)), box)

    lines = [(8, i * cell + cell / 2 - 8, text, style.ink, 13) for i, (text, _) in enumerate(rows)]
    size = (name + columns * cell, len(rows) * cell)
    shortened = [(x, y, _cut(text, name - 12, points), color, points) for x, y, text, color, points in lines]
    return render(size, paint, shortened, style)


def save_picture(path: Path, image: Image.Image) -> None:
    """Write a .png."""
    with atomic_file(path) as file:
        image.save(file, "PNG")


def save_animation(path: Path, images: Sequence[Image.Image], fps: float) -> None:
    """Write a .gif or an .mp4.

    Raises:
        UserError: no ffmpeg for an mp4; a place that cannot be written to.
    """
    if path.suffix == ".gif":
        still = [image.quantize(96, method=Image.Quantize.MEDIANCUT) for image in images]
        with atomic_file(path) as file:
            still[0].save(file, "GIF", save_all=True, append_images=still[1:], duration=round(1000 / fps), loop=0)
        return
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / path.name
        _encode(film, images, fps)
        write_atomically(path, film.read_bytes())


def _encode(path: Path, images: Sequence[Image.Image], fps: float) -> None:
    """Let ffmpeg write an .mp4."""
    width, height = (value // 2 * 2 for value in images[0].size)  # the encoder wants even numbers
    command = [
        _ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", str(fps), "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(path),
    ]  # fmt: skip
    data = b"".join(image.crop((0, 0, width, height)).tobytes() for image in images)
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        raise UserError(
            f"{path.name}: ffmpeg could not write it: {done.stderr.decode(errors='replace').strip()[-200:]}"
        )


def _ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError(
            "an .mp4 needs ffmpeg: install it, or `pip install imageio-ffmpeg`; a .gif needs nothing"
        ) from error
    return imageio_ffmpeg.get_ffmpeg_exe()
