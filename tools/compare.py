"""Put several tested runs side by side: accuracies, curves, classes won and lost, McNemar's test.

python tools/compare.py output/STGCN_PlusPlus_toy output/STGCN_PlusPlus_toy_b

A run is an output folder that `main.py --test` has been run on, or a results file. The first is what the others are
compared with.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.errors import UserError, exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folders or results files, at least two")
    parser.add_argument(
        "-o", "--out", default="output/compare.html", metavar="FILE", help="the page; default output/compare.html"
    )
    return parser.parse_args(arguments)


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    if len(flags.runs) < 2:
        raise UserError("give at least two runs to compare")
    if Path(flags.out).suffix != ".html":
        raise UserError(f"-o {flags.out}: the page must end in .html")

    from paddleskel.engine.log import read_records
    from paddleskel.files import write_atomically
    from paddleskel.report.compare import against, compare_page, headline, read_runs

    runs = read_runs(flags.runs, read_records)
    width = max(len(run.name) for run in runs)
    print(f"{'':{width}}  top-1    mean class  against the first")
    for i, run in enumerate(runs):
        values = headline(run)
        line = f"{run.name:{width}} {100 * values['top1_acc']:6.2f} %  {100 * values['mean_class_accuracy']:6.2f} %"
        if i:
            beside = against(runs[0], run)
            line += (
                f"  {100 * beside['change']:+6.2f}, {beside['won']} won, {beside['lost']} lost, p = {beside['p']:.2g}"
            )
        print(line)
    write_atomically(Path(flags.out), compare_page(runs))
    print(f"wrote {flags.out}")


if __name__ == "__main__":
    sys.exit(main())
