"""Look through an annotation file, a store or pose files for what would stop, ruin or flatter a training.

    python tools/check_data.py data/mine.pkl                        # what is wrong, what it does, how to mend it
    python tools/check_data.py data/mine.pkl -c configs/mine.yaml   # also against the config's layout and classes
    python tools/check_data.py data/mine.pkl --html page.html       # plots, and animated samples of every class
    python tools/check_data.py data/mine.pkl --fix data/mended.pkl
    python tools/check_data.py data/mine.pkl --json

Ends with code 1 where something would stop or ruin a training.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.data.annotation import AnnotationFile, read_annotations
from paddleskel.data.doctor import Report, examine
from paddleskel.data.doctor.repair import repair
from paddleskel.data.sources import read_poses
from paddleskel.data.store import Store, is_store
from paddleskel.data.writing import write_annotations
from paddleskel.errors import exit_code
from paddleskel.files import write_atomically
from paddleskel.skeleton.layout import Layout, guess_layout, load_layout

MARKS = {"error": "ERROR", "warning": "warning", "note": "note"}


def open_data(path: str) -> AnnotationFile:
    """Read an annotation pickle, a store (whose checksums are compared) or pose files."""
    if is_store(path):
        store = Store(path)
        store.verify()
        return store.annotations()
    if Path(path).suffix in (".pkl", ".pickle"):
        return read_annotations(path)
    return AnnotationFile(path, read_poses(path))


def print_report(report: Report) -> None:
    summary = report.summary
    print(f"{report.path}: {summary['samples']} samples, {len(summary['classes'])} classes")
    for key in ("splits", "joints", "coordinates", "frames", "people", "image_sizes", "low", "high"):
        if summary.get(key):
            value = summary[key]
            spoken = ", ".join(f"{name} {n:g}" for name, n in value.items()) if isinstance(value, dict) else value
            print(f"  {key.replace('_', ' ')}: {spoken}")
    counts = list(summary["classes"].values())
    if counts:
        print(f"  samples a class: {min(counts)} to {max(counts)}")
    for finding in report.findings:
        about = finding.to_dict()
        print(f"{MARKS[finding.level]}: {finding.kind}: {finding.text}")
        print(f"    what it does: {about['effect']}")
        print(f"    how to mend it: {about['cure']}" + (" (--fix does)" if about["fixable"] else ""))
        if finding.names:
            more = f" and {len(finding.names) - 5} more" if len(finding.names) > 5 else ""
            print(f"    {', '.join(finding.names[:5])}{more}")
    print(f"{report.count('error')} errors, {report.count('warning')} warnings, {report.count('note')} notes")


@exit_code
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("file", help="an annotation pickle, a store, or pose files of a known format")
    add("-c", "--config", help="the config that is to train on it: its layout, classes and pipeline")
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="set a config value")
    add("--layout", help="what the joints are, without a config")
    add("--fix", metavar="OUT", help="write a mended annotation file")
    add("--json", action="store_true", help="print everything as JSON")
    add("--html", metavar="PAGE", help="write a page with plots and animated samples")
    add("--samples", type=int, default=3, help="animated samples a class on the page (default: 3)")
    flags = parser.parse_args(arguments)
    if flags.samples < 0:
        parser.error("--samples: must be at least 0")

    layout: Layout | None = load_layout(flags.layout) if flags.layout else None
    num_classes, pixels = None, True
    if flags.config:
        from paddleskel.engine.build import takes_pixels
        from paddleskel.engine.settings import load_settings

        settings, _ = load_settings(flags.config, flags.override)
        layout, num_classes, pixels = settings.load_layout(), settings.num_classes, takes_pixels(settings)
    file = open_data(flags.file)
    report = examine(file, layout, num_classes, pixels)
    if flags.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        print_report(report)
    if flags.html:
        from paddleskel.report.data_page import data_page

        shown = layout or guess_layout(report.summary.get("joints", []), report.summary.get("coordinates", []))
        write_atomically(Path(flags.html), data_page(report, file, shown, flags.samples))
        print(f"wrote {flags.html}", file=sys.stderr)
    if flags.fix:
        content, done = repair(file)
        write_annotations(Path(flags.fix), content)
        print(f"wrote {flags.fix}: {len(content['annotations'])} of {len(file.annotations)} samples", file=sys.stderr)
        for line in done:
            print(f"  {line}", file=sys.stderr)
    if report.count("error"):
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
