"""Convert weights between toolboxes.

    python tools/convert_weights.py j.pth stgcn.pdparams              from PYSKL, BRL, MMAction2 or PaddleVideo
    python tools/convert_weights.py ours.pdparams j.pth --to pyskl    and back

The source and the network are detected; -c CONFIG names the network where they cannot be. torch is not needed.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.data.trust import TrustFlag
from paddleskel.errors import UserError, exit_code


@exit_code
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("input", metavar="IN", help="weights: .pth, .pdparams or .npz")
    add("output", metavar="OUT", help="where to write: .pdparams, or with --to .pth or .npz")
    add("-c", "--config", metavar="FILE", help="config of the network (default: detected)")
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="set a config value; repeatable")
    add("--to", choices=["pyskl", "mmaction"], help="write under the names of another toolbox")
    parser.add_argument("--trust", action=TrustFlag)
    flags = parser.parse_args(arguments)

    from paddleskel.engine.conversion import convert_file

    if Path(flags.input).resolve() == Path(flags.output).resolve():
        raise UserError(f"{flags.output}: is the input too; name another file")
    for line in convert_file(flags.input, Path(flags.output), flags.config, flags.override, flags.to):
        print(line)


if __name__ == "__main__":
    sys.exit(main())
