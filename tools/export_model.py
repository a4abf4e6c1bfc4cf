"""Export trained weights as a static model that runs without the training code.

    python tools/export_model.py -c configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml \\
        -p output/STGCN_PlusPlus_toy/STGCN_PlusPlus_toy_best.pdparams -o output/STGCN_PlusPlus_toy

writes inference.json (inference.pdmodel with Paddle 2), inference.pdiparams, inference.onnx and inference.yml, runs
all of them on every engine installed and compares the outputs with the trained network's. An engine that computes
something else is marked in inference.yml, and prediction will not use it; where none is right the exit code is 2.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.data.trust import TrustFlag
from paddleskel.errors import UserError, exit_code


def _precisions(text: str) -> list[str]:
    return [name for name in text.split(",") if name != "fp32"]


@exit_code
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("-c", "--config", required=True, metavar="FILE", help="the YAML config the weights were trained with")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="set a config value; repeatable")
    add(
        "-p", "--pretrained_params", metavar="FILE", help="the weights; default: the best of the config's output folder"
    )
    add("-o", "--output_path", default="./inference", metavar="FOLDER", help="where to write (default: ./inference)")
    add("--save_name", default="inference", metavar="NAME", help="name of the files (default: inference)")
    add(
        "--format",
        metavar="LIST",
        help="paddle, pdmodel (Paddle 2's format) and onnx, separated by commas (default: paddle,onnx)",
    )
    add("--opset", type=int, default=13, metavar="N", help="ONNX operator set (default: 13)")
    add("--precision", default="fp32", metavar="LIST", help="fp32 and, as further ONNX files, fp16, bf16, int8, "
        "separated by commas; int8 is calibrated on the training split (default: fp32)")  # fmt: skip
    add("--with-softmax", action="store_true", help="end the graph in a softmax: probabilities out, not logits")
    add("--with-streams", action="store_true", help="joints in: the graph computes bones and motions itself")
    add("--ensemble", nargs="+", default=[], metavar="STREAM=FILE", help="fuse networks trained on several streams "
        "into one model, joints in and probabilities out: --ensemble j=j.pdparams b=b.pdparams ...")  # fmt: skip
    add("--streams", nargs="+", default=[], metavar="STREAM", help="the same, with the best weights of each stream's "
        "output folder")  # fmt: skip
    add("--ensemble_weights", nargs="+", type=float, default=[], metavar="W", help="weights of the fusion, in order "
        "(default: the published 2 2 1 1 for j b jm bm, otherwise equal)")  # fmt: skip
    parser.add_argument("--trust", action=TrustFlag)
    flags = parser.parse_args(arguments)

    from paddleskel.deploy.export import ExportOptions, export
    from paddleskel.deploy.members import find_members
    from paddleskel.engine.settings import load_settings
    from paddleskel.runtime import select_device

    if Path(flags.save_name).name != flags.save_name or flags.save_name[:1] in ("", "."):
        raise UserError(f"--save_name '{flags.save_name}': expected the name of a file; -o names the folder")
    settings, _ = load_settings(flags.config, flags.override)
    select_device(use_gpu=False)
    folder = Path(flags.output_path)
    formats = flags.format.split(",") if flags.format else None
    options = ExportOptions(formats, flags.opset, flags.with_softmax, flags.with_streams, _precisions(flags.precision))
    members = find_members(settings, flags.pretrained_params, flags.ensemble, flags.streams, flags.ensemble_weights)
    done = export(settings, members, folder, flags.save_name, options)
    written = [*done.bundle.checksums, f"{flags.save_name}.yml"]
    print(f"exported to {folder}: {', '.join(written)}")
    print("\n".join(done.lines))


if __name__ == "__main__":
    sys.exit(main())
