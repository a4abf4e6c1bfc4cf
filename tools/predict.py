"""Recognise actions in skeleton files with an exported model.

    python tools/predict.py --model output/STGCN_PlusPlus_toy --input data/toy_2d_sample.pkl --topk 3
    python tools/predict.py --model DIR --input long.json --window 60 --stride 15 --out timeline.csv
    cat frames.jsonl | python tools/predict.py --model DIR --input - --out results.jsonl
    python tools/predict.py --model DIR --input @files.txt --shard 1/4 --out part1.jsonl

Inputs: annotation pickles, npz, npy, JSON, every pose format that tools/prepare_data.py reads, folders, patterns, lists
of files (@list.txt) and JSON lines on standard input (-). PaddleVideo's flags work too: --model_file, --params_file,
--batch_size, --use_gpu, --config (not needed; the exported folder knows its pipeline).
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.data.trust import TrustFlag
from paddleskel.errors import UserError, exit_code


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "t", "1", "yes", "false", "f", "0", "no"):
        raise argparse.ArgumentTypeError(f"expected true or false, not {text!r}")
    return text.lower() in ("true", "t", "1", "yes")


def shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 1 to N, as in 2/8, not {text!r}")
    return int(match[1]), int(match[2])


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("-i", "--input", "--input_file", nargs="+", required=True, metavar="PATH", dest="input",
        help="pose files, folders, patterns, @list.txt, or - for JSON lines on standard input")  # fmt: skip
    add("--id", nargs="+", metavar="ID", help="keep to these samples of the input")
    add("--source", metavar="FORMAT", help="the pose format, where it cannot be told from the files")
    add("--image_size", nargs=2, type=int, metavar=("H", "W"), help="picture size, for formats that do not say")
    add("--model", metavar="FOLDER", help="folder that tools/export_model.py wrote")
    add("--model_file", metavar="FILE", help="the model file, instead of --model")
    add("--params_file", metavar="FILE", help="its parameters; default: the .pdiparams beside it")
    add("-c", "--config", metavar="FILE", help="not needed; accepted for PaddleVideo's command lines")
    add("--engine", default="auto", metavar="NAME", help="auto, paddle, paddle-onednn, onnxruntime or openvino "
        "(default: auto, the fastest that was proved right at export)")  # fmt: skip
    add("--precision", choices=["fp32", "fp16", "bf16", "int8"], help="which of the exported precisions "
        "(default: fp32 where there is one)")  # fmt: skip
    add("-b", "--batch_size", type=int, default=1, metavar="N", help="samples at a time (default: 1)")
    add("--use_gpu", type=boolean, default=False, metavar="BOOL", help="run on a GPU if there is one (default: false)")
    add("--use_tensorrt", type=boolean, default=False, metavar="BOOL", help="with --use_gpu: through TensorRT")
    add("--cpu_threads", type=int, metavar="N", help="CPU threads (default: OMP_NUM_THREADS or all cores)")
    add("--topk", type=int, default=1, metavar="K", help="how many classes to print (default: 1)")
    add("--num_clips", type=int, default=1, metavar="N", help="clips sampled from a sequence and averaged; "
        "1 is fastest, the number in inference.yml is what the test used (default: 1)")  # fmt: skip
    add("--threshold", type=float, default=0.0, metavar="P", help='below this probability: "unknown"')
    add("--out", metavar="FILE", help="write the results to a .csv, .json or .jsonl file")
    add("--enable_benchmark", type=boolean, nargs="?", const=True, default=False, metavar="BOOL",
        help="print latency percentiles, throughput and memory")  # fmt: skip
    window = parser.add_argument_group("untrimmed sequences")
    window.add_argument("--window", type=int, metavar="FRAMES", help="score windows of so many frames and write a "
        "timeline: --out FILE.csv with a picture FILE.png beside it")  # fmt: skip
    window.add_argument("--stride", type=int, metavar="FRAMES", help="between windows (default: a quarter of one)")
    window.add_argument("--by_person", action="store_true", help="a timeline for each person instead of one for all")
    window.add_argument("--fps", type=float, default=30.0, help="frames a second, for the times (default: 30)")
    bulk = parser.add_argument_group("millions of sequences")
    bulk.add_argument("--shard", type=shard, metavar="I/N", help="every N-th input from the I-th on; results are "
        "appended to --out FILE.jsonl as they come, and the same command goes on where it stopped")  # fmt: skip
    bulk.add_argument("--ray", type=int, metavar="WORKERS", help="predict files with so many workers of a Ray cluster, "
        "or of this machine; --out names a new folder")  # fmt: skip
    parser.add_argument("--trust", action=TrustFlag)
    flags = parser.parse_args(arguments)
    for name in ("ray", "batch_size", "topk", "num_clips", "cpu_threads", "window", "stride"):
        if getattr(flags, name) is not None and getattr(flags, name) < 1:
            parser.error(f"--{name}: must be at least 1")
    if not 0 <= flags.threshold <= 1 or flags.fps <= 0:
        parser.error("--threshold must lie in [0, 1] and --fps above 0")
    return flags


def check_flags(flags: argparse.Namespace) -> None:
    """What argparse cannot say."""
    if flags.image_size and min(flags.image_size) < 1:
        raise UserError("--image_size: height and width must be at least 1 pixel")
    if flags.params_file and not Path(flags.params_file).is_file():
        raise UserError(f"{flags.params_file}: no such file; --params_file names the .pdiparams of --model_file")
    if not flags.model and not flags.model_file:
        raise UserError("give --model FOLDER (what tools/export_model.py wrote), or --model_file")
    if flags.stride and not flags.window:
        raise UserError("--stride: goes with --window")
    if flags.use_tensorrt and not flags.use_gpu:
        raise UserError("--use_tensorrt: needs --use_gpu=True")
    if flags.window and (flags.shard or flags.ray):
        raise UserError("--shard and --ray: write one result a sequence and do not go with --window")
    if flags.ray and (flags.shard or not flags.out or "-" in flags.input):
        raise UserError("--ray: takes files, needs --out FOLDER, and does the sharding itself")
    if flags.window and flags.out and Path(flags.out).suffix != ".csv":
        raise UserError(f"--out {flags.out}: a timeline is written as .csv, with a .png beside it")
    if flags.shard and (not flags.out or Path(flags.out).suffix != ".jsonl"):
        raise UserError("--shard: needs --out FILE.jsonl, to which the results are appended")


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    check_flags(flags)

    from paddleskel.deploy.engines import EngineOptions
    from paddleskel.deploy.inputs import Reading, list_inputs
    from paddleskel.deploy.jobs import JobOptions, WindowOptions, predict_all, predict_shard, predict_timelines
    from paddleskel.deploy.outputs import check_output
    from paddleskel.deploy.predictor import Predictor
    from paddleskel.runtime import select_device

    if flags.ray:
        from paddleskel.deploy.ray_job import predict_files

        count = predict_files(
            flags.model_file or flags.model, list_inputs(flags.input), flags.out, flags.ray, flags.batch_size,
            flags.cpu_threads or 1, flags.engine, flags.num_clips, flags.threshold,
        )  # fmt: skip
        print(f"wrote {count} results to {flags.out}")
        return
    if flags.out:
        check_output(Path(flags.out))
    gpu = select_device(flags.use_gpu) == "gpu"
    options = EngineOptions(use_gpu=gpu, threads=flags.cpu_threads, tensorrt=flags.use_tensorrt)
    predictor = Predictor(
        flags.model_file or flags.model, flags.engine, flags.num_clips, options, flags.precision, flags.params_file
    )
    size = tuple(flags.image_size) if flags.image_size else None
    reading = Reading(predictor.layout, predictor.num_person, flags.source, flags.id, size, bool(flags.shard))
    inputs = list_inputs(flags.input)
    job = JobOptions(flags.batch_size, flags.topk, flags.threshold, flags.num_clips)
    if flags.window:
        windows = WindowOptions(flags.window, flags.stride, flags.by_person, flags.fps)
        predict_timelines(predictor, inputs, reading, job, windows, flags.out)
    elif flags.shard:
        predict_shard(predictor, inputs, reading, job, flags.shard, flags.out)
    else:
        predict_all(predictor, inputs, reading, job, flags.out, flags.enable_benchmark)
    for problem in reading.problems:
        print(f"note: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
