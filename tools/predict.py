"""Recognise actions in skeleton files with an exported model.

    python tools/predict.py --model output/STGCN_PlusPlus_toy --input_file data/toy_2d_sample.pkl --topk 3

PaddleVideo's flags work too: --model_file, --params_file, --batch_size, --use_gpu, --config (not needed; the exported
folder knows its pipeline).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.errors import UserError, exit_code


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "t", "1", "yes", "false", "f", "0", "no"):
        raise argparse.ArgumentTypeError(f"expected true or false, not {text!r}")
    return text.lower() in ("true", "t", "1", "yes")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "-i", "--input_file", "--input", nargs="+", required=True, metavar="PATH", help="pickles, or folders of pickles"
    )
    add("--model", metavar="FOLDER", help="folder that tools/export_model.py wrote")
    add("--model_file", metavar="FILE", help="the model file, instead of --model")
    add("--params_file", metavar="FILE", help="its parameters; default: the .pdiparams beside it")
    add("-c", "--config", metavar="FILE", help="not needed; accepted for PaddleVideo's command lines")
    add("-b", "--batch_size", type=int, default=1, metavar="N", help="samples at a time (default: 1)")
    add("--use_gpu", type=boolean, default=False, metavar="BOOL", help="run on a GPU if there is one (default: false)")
    add("--engine", default="auto", metavar="NAME", help="auto, paddle, paddle-onednn, onnxruntime or openvino "
        "(default: auto, the fastest that was proved right at export)")  # fmt: skip
    add("--cpu_threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    add("--topk", type=int, default=1, metavar="K", help="how many classes to print (default: 1)")
    add("--num_clips", type=int, default=1, metavar="N", help="clips sampled from a sequence and averaged; "
        "1 is fastest, the number in inference.yml is what the test used (default: 1)")  # fmt: skip
    flags = parser.parse_args(arguments)
    for name in ("batch_size", "topk", "num_clips"):
        if getattr(flags, name) < 1:
            parser.error(f"--{name}: must be at least 1")
    return flags


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    if not flags.model and not flags.model_file:
        raise UserError("give --model FOLDER (what tools/export_model.py wrote), or --model_file")

    from paddleskel.deploy.engines import EngineOptions
    from paddleskel.deploy.predictor import Predictor, find_inputs
    from paddleskel.runtime import select_device

    paths = find_inputs(flags.input_file)
    gpu = select_device(flags.use_gpu) == "gpu"
    options = EngineOptions(use_gpu=gpu, threads=flags.cpu_threads)
    predictor = Predictor(
        flags.model_file or flags.model, flags.engine, flags.num_clips, options, params_file=flags.params_file
    )
    print(f"Inference model({predictor.bundle.model_name})...")
    for path in paths:
        clips = predictor.read(path)
        for prediction in predictor.predict(clips, flags.batch_size):
            print(f"Current video file: {path}" + (f" [{prediction.id}]" if len(clips) > 1 else ""))
            for rank, index in enumerate(prediction.classes[: flags.topk], start=1):
                print(f"\ttop-{rank} class: {index}")
                print(f"\ttop-{rank} score: {prediction.probs[index]}")
                if prediction.labels:
                    print(f"\ttop-{rank} label: {prediction.labels[index]}")


if __name__ == "__main__":
    sys.exit(main())
