"""Measure speed on this machine.

    python tools/benchmark.py train                       # training steps of ST-GCN++, batch 16
    python tools/benchmark.py eval --layout nturgb+d
    python tools/benchmark.py pipeline                    # samples a second through the training pipelines, one core
    python tools/benchmark.py matmul                      # GFLOP/s of a large matrix product: what the maths library
    gives

Prints the median over rounds, their spread, the cores kept busy and the batch size. `--stock` leaves Paddle's
environment as a plain `import paddle` finds it, to see what paddleskel's CPU settings are worth.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel import runtime
from paddleskel.errors import exit_code


def measure(step: Callable[[], None], rounds: int, seconds: float) -> tuple[list[float], float]:
    """Return the seconds a step takes in each round, and the cores kept busy. Two unmeasured steps come first."""
    step()
    step()
    times, busy, began = [], time.process_time(), time.perf_counter()
    for _ in range(rounds):
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < seconds / rounds:
            step()
            count += 1
        times.append((time.perf_counter() - start) / count)
    return times, (time.process_time() - busy) / (time.perf_counter() - began)


def report(what: str, per_step: int, unit: str, result: tuple[list[float], float], note: str) -> None:
    times, cores = result
    rates = sorted(per_step / seconds for seconds in times)
    print(
        f"{what}: {statistics.median(rates):.2f} {unit} (rounds {rates[0]:.2f} to {rates[-1]:.2f}), "
        f"{cores:.2f} cores busy, {note}"
    )


def network_step(flags: argparse.Namespace, training: bool) -> Callable[[], None]:
    """Return a training step (forward, backward, SGD) or an evaluation of the network on random clips."""
    import paddle

    from paddleskel.engine.optim import build_optimizer
    from paddleskel.models.recognizer import build_model
    from paddleskel.skeleton.layout import load_layout

    layout = load_layout(flags.layout)
    paddle.seed(0)
    model = build_model({"backbone": flags.model, "head": "GCNHead"}, layout, flags.classes)
    inputs = paddle.randn([flags.batch_size, flags.persons, flags.frames, layout.num_joints, 3])
    labels = paddle.randint(0, flags.classes, [flags.batch_size])
    optimizer = build_optimizer(model, 0.9, True, 5e-4, None)
    optimizer.set_lr(0.01)

    def train() -> None:
        paddle.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.clear_grad()

    def evaluate() -> None:
        with paddle.no_grad():
            model(inputs).numpy()

    model.train() if training else model.eval()
    return train if training else evaluate


def pipeline_step(dimensions: str, samples: int = 64) -> Callable[[], None]:
    """Return the training pipeline of NTU's 2D or 3D configs on toy clips of 30 to 300 frames."""
    from paddleskel.data.annotation import parse_annotation
    from paddleskel.data.dataset import SkeletonDataset
    from paddleskel.data.sources.toy import make_toy
    from paddleskel.data.transforms import build_pipeline
    from paddleskel.skeleton.layout import load_layout

    layout = load_layout("coco" if dimensions == "2d" else "nturgb+d")
    specs = [f"PreNormalize{dimensions.upper()}", "Stream", {"name": "UniformSample", "clip_len": 100}, "Pack"]
    content = make_toy(dimensions, subjects=3, repeats=2)
    clips = [parse_annotation(item, "toy", layout) for item in content["annotations"][:samples]]
    dataset = SkeletonDataset(clips, build_pipeline(specs, layout, "j", training=True))

    def step() -> None:
        for position in range(samples):
            dataset[position, 0]

    return step


def matmul_step(size: int = 2048) -> Callable[[], None]:
    import paddle

    a, b = paddle.randn([size, size]), paddle.randn([size, size])
    return lambda: paddle.matmul(a, b).numpy()


@exit_code
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", choices=["train", "eval", "pipeline", "matmul"])
    add("--model", default="STGCNPlusPlus", help="backbone (default: STGCNPlusPlus)")
    add("--layout", default="coco", help="skeleton layout (default: coco)")
    add("--batch_size", type=int, default=16)
    add("--frames", type=int, default=100)
    add("--persons", type=int, default=2)
    add("--classes", type=int, default=60)
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=20.0, help="how long to measure (default: 20)")
    add("--stock", action="store_true", help="without paddleskel's CPU settings")
    flags = parser.parse_args(arguments)

    threads = flags.threads or runtime.available_cores()
    if flags.stock:
        os.environ.pop("MKL_DEBUG_CPU_TYPE", None)
    os.environ["OMP_NUM_THREADS"] = str(threads)

    if flags.what == "pipeline":
        for dimensions in ("2d", "3d"):
            result = measure(pipeline_step(dimensions), flags.rounds, flags.seconds / 2)
            report(f"pipeline {dimensions}", 64, "samples/s", result, "one process")
        return
    runtime.import_paddle(tuned=not flags.stock)
    runtime.select_device()
    settings = "stock environment" if flags.stock else f"MKL_DEBUG_CPU_TYPE={os.environ.get('MKL_DEBUG_CPU_TYPE', '-')}"
    machine = f"{threads} threads, {settings}, {platform.processor() or platform.machine()}"
    if flags.what == "matmul":
        report(
            "matmul 2048", 2 * 2048**3 / 1e9, "GFLOP/s", measure(matmul_step(), flags.rounds, flags.seconds), machine
        )
        return
    step = network_step(flags, flags.what == "train")
    shape = f"{flags.persons} persons x {flags.frames} frames, {flags.layout}"
    note = f"batch {flags.batch_size}, {shape}, {machine}"
    report(f"{flags.what} {flags.model}", flags.batch_size, "clips/s", measure(step, flags.rounds, flags.seconds), note)


if __name__ == "__main__":
    sys.exit(main())
