"""Draw pose sequences: one sample as a picture, animation or page, or a contact sheet of every class.

python tools/visualize.py data/toy_2d.pkl --id S001R001A005 -o wave.gif
python tools/visualize.py data/toy_2d.pkl --pred output/STGCN_PlusPlus_toy/result.npz -o wrong.html --wrong
python tools/visualize.py data/toy_2d.pkl --sheet 5 -o classes.png
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.errors import UserError, exit_code

ENDINGS = (".png", ".gif", ".mp4", ".html")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("file", metavar="FILE", help="an annotation file, or poses in any format that predict reads")
    add("-o", "--out", required=True, metavar="FILE", help=".png (poses side by side), .gif, .mp4 or .html")
    add("--id", nargs="+", metavar="ID", help="samples to draw; default: the first, in a page the first 12")
    add("--split", metavar="NAME", help="of an annotation file")
    add("--layout", metavar="L", help="what the joints are; default: found by their number")
    add("--stream", default="j", help="also draw what this stream sees: b, jm, bm, k, km, ...")
    add("--pred", metavar="RESULT", help="a results file, to say what was predicted")
    add("--wrong", action="store_true", help="with --pred: only samples that were predicted wrong")
    add("--sheet", type=int, metavar="N", help="a contact sheet: N samples of each class")
    add("--frame", type=int, metavar="T", help="with .png: one frame, counted from 1")
    add("--fps", type=float, default=30.0, help="of animations; default 30")
    add("--turn", type=float, default=0.0, metavar="DEGREES", help="turn 3D bodies by so much over an animation")
    add("--size", type=int, default=480, metavar="PIXELS", help="width and height of animations and single frames")
    add("--dark", action="store_true", help="on a dark ground")
    return parser.parse_args(arguments)


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    out = Path(flags.out)
    if out.suffix not in ENDINGS:
        raise UserError(f"-o {out}: the file must end in one of {', '.join(ENDINGS)}")
    if flags.wrong and not flags.pred:
        raise UserError("--wrong: give the predictions, --pred RESULT")
    if not 0 < flags.fps <= 1000 or not 64 <= flags.size <= 4096:
        raise UserError("--fps goes from 0 to 1000, --size from 64 to 4096")
    if flags.sheet is not None and flags.sheet < 1:
        raise UserError("--sheet: at least 1 sample a class")

    from paddleskel.report.gallery import Gallery

    gallery = Gallery.open(flags.file, flags.split, flags.layout, flags.stream, flags.pred, flags.dark)
    if flags.sheet is not None:
        written = gallery.write_sheet(out, flags.sheet, flags.fps)
    else:
        clips = gallery.choose(flags.id, flags.wrong, 12 if out.suffix == ".html" else 1)
        written = gallery.write(out, clips, flags.frame, flags.fps, flags.turn, flags.size)
    print(f"wrote {out}: {written}")


if __name__ == "__main__":
    sys.exit(main())
