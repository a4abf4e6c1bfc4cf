"""Tabulate tested runs over seeds: each stream and their fusions, mean and standard deviation.

python tools/results_table.py output/nwucla

The results lie in FOLDER/<model>/seed<number>/<stream>/test.npz, as tools/reproduce.sh leaves them. Streams are fused
with the published weights (two-stream, four-stream). Where test samples are training samples too, a second column gives
the accuracy without them.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.errors import UserError, exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of the runs")
    return parser.parse_args(arguments)


def find_runs(folder: Path) -> dict[str, dict[str, dict[str, Path]]]:
    """Return {model: {seed: {stream: results file}}}."""
    runs: dict[str, dict[str, dict[str, Path]]] = {}
    for file in sorted(folder.glob("*/seed*/*/test.npz")):
        stream, seed, model = (part.name for part in file.parents[:3])
        runs.setdefault(model, {}).setdefault(seed, {})[stream] = file
    if not runs:
        raise UserError(f"{folder}: holds no <model>/seed<number>/<stream>/test.npz; tools/reproduce.sh makes them")
    return runs


def accuracies(streams: dict[str, Path]) -> Iterator[tuple[str, float, float | None]]:
    """Top-1 in percent of one seed's streams and of their fusions: (name, of all samples, of those that are new)."""
    from paddleskel.ensemble import PRESETS, Member, fuse, fused_results, join, score_of
    from paddleskel.results import read_results

    members, _ = join([Member(stream, read_results(file)) for stream, file in streams.items()])
    known = {member.name: member for member in members}
    for name, member in known.items():
        yield name, *_top1(member.results)
    for name, preset in PRESETS.items():
        if preset.keys() <= known.keys():
            chosen = [known[stream] for stream in preset]
            fused = fuse([score_of(member.results) for member in chosen], list(preset.values()))
            yield f"{name} ({' + '.join(preset)})", *_top1(fused_results(chosen, list(preset.values()), fused))


def _top1(results) -> tuple[float, float | None]:
    unseen = results.unseen()
    value = lambda some: 100 * some.metrics(["top_k_accuracy"], [1])["top1_acc"]
    return value(results), value(unseen) if unseen else None


def spoken(values: Sequence[float | None]) -> str:
    """ "94.2 ± 0.3", or the value of a single seed."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    return f"{np.mean(numbers):.1f} ± {np.std(numbers, ddof=1):.1f}" if len(numbers) > 1 else f"{numbers[0]:.1f}"


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    runs = find_runs(Path(flags.folder))
    print("| model | stream | seeds | top-1 | without training samples |\n|---|---|---|---|---|")
    for model, seeds in runs.items():
        rows: dict[str, list[tuple[float, float | None]]] = {}
        for streams in seeds.values():
            for name, *values in accuracies(streams):
                rows.setdefault(name, []).append(tuple(values))
        for name, values in rows.items():
            whole, new = zip(*values)
            print(f"| {model} | {name} | {len(values)} | {spoken(whole)} | {spoken(new)} |")


if __name__ == "__main__":
    sys.exit(main())
