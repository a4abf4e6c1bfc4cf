"""Fuse the scores of several streams or models.

python tools/ensemble.py j.pkl b.pkl jm.pkl bm.pkl --weights 2 2 1 1
python tools/ensemble.py j.pkl b.pkl jm.pkl bm.pkl --preset four-stream
python tools/ensemble.py j.pkl b.pkl --search-on j_val.pkl b_val.pkl
python tools/ensemble.py -c CONFIG --weights-dir output --streams j b jm bm
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.data.trust import TrustFlag
from paddleskel.errors import UserError, exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="results of main.py --out, PYSKL or MMAction2")
    add(
        "-w", "--weights", nargs="+", type=float, metavar="W", help="one weight a file, in their order; default: 1 each"
    )
    add("--preset", help="weights by stream: two-stream, four-stream (j 2, b 2, jm 1, bm 1), six-stream")
    add("--streams", nargs="+", metavar="S", help="which stream each file is, where the files do not say; "
        "with -c, the streams to test")  # fmt: skip
    add("--scores", choices=["prob", "score"], default="prob", help="add up probabilities (default) or logits")
    add("--apply-softmax", action="store_true", help="put the scores through a softmax first")
    add("--search-on", nargs="+", metavar="FILE", help="find the weights on these results of another split")
    add("--annotations", metavar="FILE", help="annotation file whose ids and labels lists of scores without them get")
    add("--split", help="its split")
    add("--out", metavar="FILE", help="write the fused scores to a .pkl, .npz, .json or .csv file")
    add("-c", "--config", metavar="FILE", help="test this config's checkpoint of every stream, then fuse")
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="with -c: set a config value")
    add("--weights-dir", metavar="DIR", help="with -c: folder of the runs' output folders; default: output")
    parser.add_argument("--trust", action=TrustFlag)
    return parser.parse_args(arguments)


def read_members(files: Sequence[str], flags: argparse.Namespace) -> list:
    """Read result files and put them in one order."""
    from paddleskel.data.annotation import parse_annotation, read_annotations
    from paddleskel.ensemble import Member, join, label_from_annotations
    from paddleskel.results import read_results

    results = [read_results(file) for file in files]
    if flags.annotations:
        chosen = read_annotations(flags.annotations).select(flags.split)
        clips = [parse_annotation(item, flags.annotations) for item in chosen]
        samples = {clip.id: clip.label for clip in clips}
        results = [label_from_annotations(result, samples) for result in results]
    members, remark = join([Member(file, result) for file, result in zip(files, results)])
    if remark:
        print(f"note: {remark}")
    return members


def test_streams(flags: argparse.Namespace) -> list:
    """Test the checkpoint of every stream of a config."""
    from paddleskel.engine.settings import load_settings
    from paddleskel.engine.tester import find_stream_weights, run_test
    from paddleskel.ensemble import Member

    members = []
    for stream in flags.streams:
        settings, config = load_settings(flags.config, [*flags.override, f"stream={stream}"])
        weights = find_stream_weights(settings, Path(flags.weights_dir or "output"))
        members.append(Member(stream, run_test(settings, config, weights)))
    return members


def find_weights(members: list, scores: list, flags: argparse.Namespace) -> list[float]:
    """Those given, those of a preset, those found on other results, or 1 each."""
    from paddleskel.ensemble import check_disjoint, preset_weights, score_of, search_weights

    if flags.search_on:
        if len(flags.search_on) != len(members):
            raise UserError(f"--search-on: {len(flags.search_on)} files for {len(members)} streams; give one each")
        held_out = read_members(flags.search_on, flags)
        check_disjoint(held_out[0].results, members[0].results)
        parts = [score_of(member.results, flags.scores, flags.apply_softmax) for member in held_out]
        weights = search_weights(parts, held_out[0].results.labels)
        print(f"weights found on {len(parts[0])} held-out samples: {' '.join(f'{weight:g}' for weight in weights)}")
        return weights
    if flags.preset:
        return preset_weights(flags.preset, flags.streams or [member.results.stream for member in members])
    return flags.weights or [1.0] * len(members)


def print_table(rows: list[dict]) -> None:
    width = max(len(row["name"]) for row in rows)
    between = max(len("weights"), *(len(row["weights"]) for row in rows))
    print(f"{'':{width}}  {'weights':{between}}  top-1    top-5    mean class")
    for row in rows:
        numbers = "  ".join(f"{100 * row[key]:6.2f} %" for key in ("top1", "top5", "mean_class"))
        print(f"{row['name']:{width}}  {row['weights']:{between}} {numbers}")


def check_flags(flags: argparse.Namespace) -> None:
    """Stop at combinations that contradict each other, before anything is read."""
    chosen = [name for name in ("weights", "preset", "search_on") if getattr(flags, name)]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1]} both say the weights; give one of them".replace("_", "-"))
    count = len(flags.streams or []) if flags.config else len(flags.files)
    if flags.weights and len(flags.weights) != count:
        raise UserError(f"--weights: {len(flags.weights)} weights for {count} streams")
    if flags.config:
        if flags.files:
            raise UserError("give result files, or -c with the checkpoints to test, not both")
        if not flags.streams:
            raise UserError("-c: say which streams to test, as in --streams j b jm bm")
        if flags.search_on:
            raise UserError("--search-on goes with result files; test the streams on both splits first, with --out")
        return
    if not flags.files:
        raise UserError("nothing to fuse: give result files, or -c CONFIG --streams j b jm bm")
    if flags.streams and len(flags.streams) != len(flags.files):
        raise UserError(f"--streams: {len(flags.streams)} names for {len(flags.files)} files")
    if flags.weights_dir or flags.override:
        raise UserError("--weights-dir and -o go with -c")


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    check_flags(flags)

    from paddleskel.ensemble import fuse, fused_results, preset_weights, score_of, table
    from paddleskel.results import check_format

    if flags.out:
        check_format(Path(flags.out))
    if flags.config and flags.preset:
        preset_weights(flags.preset, flags.streams)  # a mismatch shows before hours of testing
    members = test_streams(flags) if flags.config else read_members(flags.files, flags)
    scores = [score_of(member.results, flags.scores, flags.apply_softmax) for member in members]
    weights = find_weights(members, scores, flags)
    fused = fuse(scores, weights)
    names = flags.streams or _short_names([member.name for member in members])
    print_table(table(names, scores, members[0].results.labels, weights))
    results = fused_results(members, weights, fused)
    unseen = results.unseen()
    if unseen:
        accuracy = unseen.metrics(["top_k_accuracy"], [1])["top1_acc"]
        print(f"{len(results) - len(unseen)} of the {len(results)} samples are training samples, number for number; "
              f"without them top-1 is {100 * accuracy:.2f} %")  # fmt: skip
    if flags.out:
        results.save(Path(flags.out))
        print(f"writing fused scores to {flags.out}")


def _short_names(files: list[str]) -> list[str]:
    """Files by their stems; where stems repeat, by the folders that tell them apart."""
    stems = [Path(file).stem for file in files]
    if len(set(stems)) == len(stems):
        return stems
    paths = [Path(file).parts for file in files]
    start, end = _shared(paths), _shared([parts[::-1] for parts in paths])
    names = ["/".join(parts[start : len(parts) - end]) for parts in paths]
    return names if all(names) and len(set(names)) == len(names) else files


def _shared(paths: list[tuple[str, ...]]) -> int:
    """How many parts the paths have in common, from their start on."""
    return next((i for i, parts in enumerate(zip(*paths)) if len(set(parts)) > 1), min(map(len, paths)))


if __name__ == "__main__":
    sys.exit(main())
