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

from paddleskel.errors import exit_code


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
    add("--format", metavar="LIST", help="paddle and onnx, separated by commas (default: all that can be written)")
    add("--opset", type=int, default=13, metavar="N", help="ONNX operator set (default: 13)")
    flags = parser.parse_args(arguments)

    from paddleskel.deploy.export import ExportOptions, export, resolve
    from paddleskel.engine.settings import load_settings
    from paddleskel.runtime import select_device

    settings, _ = load_settings(flags.config, flags.override)
    select_device(use_gpu=False)
    folder = Path(flags.output_path)
    options = ExportOptions(flags.format.split(",") if flags.format else None, flags.opset)
    done = export(settings, resolve(settings, flags.pretrained_params), folder, flags.save_name, options)
    written = [*done.bundle.checksums, f"{flags.save_name}.yml"]
    print(f"exported to {folder}: {', '.join(written)}")
    print("\n".join(done.lines))


if __name__ == "__main__":
    sys.exit(main())
