"""Probabilities of the runs behind docs/results.md, so that its table and fusions can be had again without training.

python tests/golden/scores.py keep output/nwucla_shallow      # add the runs of tools/reproduce.sh to nwucla_scores.npz
python tests/golden/scores.py restore FOLDER                  # write them as FOLDER/<model>/<seed>/<stream>/test.npz
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from results_table import find_runs

from paddleskel.errors import UserError, exit_code
from paddleskel.files import atomic_file, make_folder
from paddleskel.results import Results, read_results

FILE = ROOT / "tests" / "golden" / "nwucla_scores.npz"


def keep(folder: Path) -> None:
    """Add the runs in a folder to the file, in half precision and in the order of the test split."""
    arrays = dict(np.load(FILE))
    for model, seeds in find_runs(folder).items():
        for seed, streams in seeds.items():
            for stream, path in streams.items():
                results = read_results(path)
                if not np.array_equal(results.labels, arrays["labels"]):
                    raise UserError(f"{path}: is not of the test split whose scores are kept, or in another order")
                arrays[f"{model}/{seed}/{stream}"] = results.probs.astype(np.float16)
    with atomic_file(FILE) as file:
        np.savez_compressed(file, **arrays)


def restore(folder: Path) -> None:
    """Write every run as a results file that tools/results_table.py and tools/ensemble.py read."""
    arrays = dict(np.load(FILE))
    labels, seen = arrays.pop("labels").astype(np.int64), arrays.pop("seen")
    ids = [f"{number:03}" for number in range(len(labels))]
    data = {"seen": [name for name, known in zip(ids, seen) if known]}
    for run, probs in arrays.items():
        path = folder / run / "test.npz"
        make_folder(path.parent)
        stream = run.rsplit("/", 1)[-1]
        Results(ids, labels, None, probs.astype(np.float32), config={"stream": stream}, data=data).save(path)


@exit_code
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keep", "restore"])
    parser.add_argument("folder", type=Path)
    flags = parser.parse_args(arguments)
    {"keep": keep, "restore": restore}[flags.what](flags.folder)


if __name__ == "__main__":
    sys.exit(main())
