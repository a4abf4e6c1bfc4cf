"""Compare methods for long-tailed data: train each with the same budget, print many-, medium- and few-shot accuracy.

python tools/prepare_data.py toy --repeats 9 --out data/toy_lt_2d.pkl
python tools/long_tail_study.py

Any config with DATASET.train.long_tail will do (-c). Finished runs are not repeated.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from paddleskel.errors import UserError, exit_code

CONFIG = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy_lt.yaml"
LEGS = "DATASET.train.mix={name: PartMixup, parts: [left_leg, right_leg]}"

# method -> config values; START is four fifths of the epochs
METHODS = {
    "cross entropy": [],
    "class-balanced sampler": ["DATASET.train.sampler=ClassBalanced"],
    "square-root sampler": ["DATASET.train.sampler=SquareRoot"],
    "effective-number sampler": ["DATASET.train.sampler=EffectiveNumber"],
    "BRL's sampler (class_prob)": ["DATASET.train.sampler=ClassProb"],
    "cross entropy, inverse weights": ["MODEL.loss.class_weight=inverse"],
    "class-balanced loss": ["MODEL.loss=ClassBalancedLoss"],
    "focal loss": ["MODEL.loss=FocalLoss"],
    "LDAM-DRW": ["MODEL.loss={name: LDAMLoss, start_epoch: START}", "MODEL.head.cosine_scale=30.0"],
    "balanced softmax": ["MODEL.loss=BalancedSoftmaxLoss"],
    "logit adjustment, tau 1.5": ["MODEL.loss={name: LogitAdjustedLoss, tau: 1.5}"],
    "equalisation loss": ["MODEL.loss=EqualizationLoss"],
    "BRL's loss (two stages)": ["MODEL.loss={name: ActionAwareLoss, start_epoch: START}"],
    "BRL (sampler, mix-up, loss)": [
        "MODEL.loss={name: ActionAwareLoss, start_epoch: START}",
        "DATASET.train.sampler=ClassProb",
        LEGS,
    ],
    "mix-up, balanced softmax": ["MODEL.loss=BalancedSoftmaxLoss", LEGS],
}
COLUMNS = {"top1_acc": "all", "many_shot_acc": "many", "medium_shot_acc": "medium", "few_shot_acc": "few"}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("-c", "--config", default=CONFIG, metavar="FILE", help=f"default: {CONFIG}")
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="set a config value for all runs")
    add("--methods", nargs="+", metavar="NAME", help="some of them, by a part of their names; default: all")
    add("--seeds", type=int, default=3, metavar="N", help="runs of each method, with seeds from 0; default 3")
    add("--output", default="output/long_tail_study", metavar="DIR", help="where the runs go")
    return parser.parse_args(arguments)


def choose(wanted: Sequence[str] | None) -> dict[str, list[str]]:
    """The methods whose names contain one of the words."""
    chosen = {name: values for name, values in METHODS.items() if not wanted or any(word in name for word in wanted)}
    if not chosen:
        raise UserError(f"--methods {' '.join(wanted)}: none of {', '.join(METHODS)}")
    return chosen


def budget(config: str, overrides: Sequence[str]) -> tuple[int, int]:
    """Return (epochs, steps an epoch) of plain training, which every method gets."""
    from paddleskel.engine.build import Data
    from paddleskel.engine.settings import load_settings

    settings, _ = load_settings(config, overrides)
    if settings.DATASET.train.long_tail is None:
        raise UserError(f"{config}: DATASET.train.long_tail is not set, so there is no tail to compare methods on")
    return settings.epochs, -(-len(Data(settings).dataset("train")) // settings.DATASET.batch_size)


def score(flags: argparse.Namespace, folder: Path, values: Sequence[str]) -> dict[str, float]:
    """Train and test one run, unless it has been; return its metrics."""
    from paddleskel.results import read_results

    result = folder / "test.npz"
    if not result.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        overrides = [*flags.override, f"output_dir={folder}", *values]
        command = [sys.executable, str(ROOT / "main.py"), "-c", flags.config, "--test-last", "--out", str(result)]
        command += [part for value in overrides for part in ("-o", value)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        if done.returncode:
            raise UserError(f"{' '.join(values)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return read_results(result).metrics()


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    chosen = choose(flags.methods)
    epochs, steps = budget(flags.config, flags.override)
    shared = [f"max_iters={steps}", "save_interval=1000000", "log_interval=1000000"]
    print(f"{epochs} epochs of {steps} steps, {flags.seeds} seeds: mean and standard deviation, in percent\n")
    print(f"| method | {' | '.join(COLUMNS.values())} |\n|---|{'---|' * len(COLUMNS)}")
    for name, values in chosen.items():
        values = [value.replace("START", str(epochs * 4 // 5)) for value in values]
        place = Path(flags.output) / "".join(letter if letter.isalnum() else "_" for letter in name)
        runs = [score(flags, place / str(seed), [*shared, f"seed={seed}", *values]) for seed in range(flags.seeds)]
        cells = []
        for key in COLUMNS:
            numbers = np.array([100 * run[key] for run in runs])
            cells.append(f"{numbers.mean():.1f} ± {numbers.std(ddof=1):.1f}" if len(runs) > 1 else f"{numbers[0]:.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
