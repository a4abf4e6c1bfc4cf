"""Train, validate and test a network described by a config.

python main.py -c configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml --validate
python main.py -c configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml --test
"""

import argparse
import contextlib
import functools
import sys

from paddleskel.data.trust import TrustFlag
from paddleskel.errors import UserError, exit_code
from paddleskel.metrics import NAMES as METRICS


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("-c", "--config", required=True, metavar="FILE", help="the YAML config")
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="set a config value, as in "
        "-o DATASET.batch_size=4 -o stream=b; repeatable")  # fmt: skip
    add("--validate", action="store_true", help="score the validation split during training and keep the best weights")
    add("--test", action="store_true", help="score the test split instead of training")
    add("-w", "--weights", metavar="FILE", help="weights to test, or to start training from")
    add("--resume", nargs="?", const="auto", metavar="auto|FILE", help="continue a training run: from the "
        "last checkpoint of its output folder, or from the one given")  # fmt: skip
    add("--seed", type=int, metavar="N", help="seed of everything random")
    add("--deterministic", action="store_true", help="give the same numbers in every run (slower on a GPU)")
    add("--amp", action="store_true", help="mixed precision, level O1")
    add("--amp_level", choices=["O1", "O2"], help="mixed precision of this level")
    add("--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size")
    add("--max_iters", type=int, metavar="N", help="train at most N steps an epoch")
    add("--overfit-one-batch", action="store_true", help="train on one batch alone, to see whether the network can "
        "learn at all")  # fmt: skip
    add("--test-last", action="store_true", help="after training, test the last checkpoint")
    add("--test-best", action="store_true", help="after training, test the best checkpoint")
    add("--engine", help="test on an inference engine: onnxruntime, openvino or paddle; default: the network itself")
    add("--precision", choices=["fp32", "bf16"], help="what --engine openvino computes in; default: fp32")
    add("--eval", nargs="+", choices=METRICS, metavar="METRIC", help=f"what --test reports: {', '.join(METRICS)}")
    add(
        "--out",
        "--dump",
        dest="out",
        metavar="FILE",
        help="write the scores of --test to a .pkl, .npz, .json or .csv file",
    )
    add("-p", "--profiler_options", metavar="OPTIONS", help='profile some training steps, as in '
        '"batch_range=[10,20]; profile_path=output/profile"')  # fmt: skip
    parser.add_argument("--trust", action=TrustFlag)
    return parser.parse_args(arguments)


def flags_as_overrides(flags: argparse.Namespace) -> list[str]:
    """The flags that stand for a config value, so that the saved config says what was run."""
    overrides = list(flags.override)
    if flags.seed is not None:
        overrides.append(f"seed={flags.seed}")
    if flags.deterministic:
        overrides.append("deterministic=true")
    if flags.amp or flags.amp_level:
        overrides.append(f"amp={flags.amp_level or 'O1'}")
    if flags.auto_scale_lr:
        overrides.append("OPTIMIZER.auto_scale_lr=true")
    if flags.max_iters is not None:
        overrides.append(f"max_iters={flags.max_iters}")
    if flags.overfit_one_batch:
        overrides.append("overfit_one_batch=true")
    return overrides


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    if flags.test_best and not flags.validate:
        raise UserError("--test-best: there is a best checkpoint only with --validate")
    if flags.engine and not (flags.test or flags.test_last or flags.test_best):
        raise UserError("--engine: is for testing, with --test, --test-last or --test-best")
    if flags.precision and not flags.engine:
        raise UserError(f"--precision {flags.precision}: is an engine's; add --engine openvino")

    from paddleskel.engine import distributed
    from paddleskel.engine.profile import step_profiler
    from paddleskel.engine.settings import load_settings
    from paddleskel.engine.tester import find_weights, run_test
    from paddleskel.engine.trainer import train
    from paddleskel.runtime import select_device

    settings, config = load_settings(flags.config, flags_as_overrides(flags))
    select_device()
    stand_in = None
    if flags.engine:
        from paddleskel.deploy.engines import EngineOptions
        from paddleskel.deploy.standin import on_engine, usable

        options = EngineOptions(precision=flags.precision or "fp32")
        usable(flags.engine, options.precision)
        stand_in = functools.partial(on_engine, engine=flags.engine, options=options)
    with distributed.contact():
        distributed.start()
        if flags.test:
            run_test(settings, config, find_weights(settings, flags.weights), flags.out, flags.eval, stand_in)
            return
        with step_profiler(flags.profiler_options) if flags.profiler_options else contextlib.nullcontext() as on_step:
            train(settings, config, flags.validate, flags.resume, flags.weights, on_step)
        for which, wanted in (("last", flags.test_last), ("best", flags.test_best)):
            if wanted:
                out = flags.out or str(settings.output / f"{which}_pred.pkl")
                run_test(settings, config, settings.checkpoint(which), out, flags.eval, stand_in)


if __name__ == "__main__":
    sys.exit(main())
