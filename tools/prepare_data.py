"""Make annotation files.

python tools/prepare_data.py toy                     # data/toy_2d.pkl and data/toy_2d_sample.pkl
python tools/prepare_data.py toy --dimensions 3d     # the same in 3D
"""

import argparse
import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.data.sources.toy import make_toy
from paddleskel.errors import exit_code
from paddleskel.files import write_atomically


@exit_code
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sources = parser.add_subparsers(dest="source", required=True)
    toy = sources.add_parser("toy", help="procedural human motion, 12 actions")
    toy.add_argument("--dimensions", choices=["2d", "3d"], default="2d", help="COCO-17 pixels or 25 joints in metres")
    toy.add_argument("--subjects", type=int, default=16, help="bodies; the last quarter validates")
    toy.add_argument("--repeats", type=int, default=5, help="clips of each action by each subject")
    toy.add_argument("--seed", type=int, default=0)
    toy.add_argument("--out", help="default: data/toy_<dimensions>.pkl")
    flags = parser.parse_args(arguments)

    content = make_toy(flags.dimensions, flags.subjects, flags.repeats, flags.seed)
    out = Path(flags.out or f"data/toy_{flags.dimensions}.pkl")
    write_atomically(out, pickle.dumps(content, protocol=4))
    sample = out.with_name(f"{out.stem}_sample.pkl")
    unlabelled = {key: value for key, value in content["annotations"][-1].items() if key != "label"}
    write_atomically(sample, pickle.dumps(unlabelled, protocol=4))
    sizes = ", ".join(f"{len(ids)} in '{name}'" for name, ids in content["split"].items())
    print(f"wrote {out}: {len(content['annotations'])} clips ({sizes}), {len(content['class_names'])} actions")
    print(f"wrote {sample}: one clip without its label, to predict")


if __name__ == "__main__":
    sys.exit(main())
