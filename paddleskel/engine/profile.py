"""Profile a range of training steps."""

import contextlib
from collections.abc import Callable, Iterator

import paddle

from paddleskel.config import parse_yaml
from paddleskel.errors import UserError


def parse_options(text: str) -> tuple[int, int, str]:
    """Parse PaddleVideo's "batch_range=[10, 20]; profile_path=FOLDER" into first step, last step and folder."""
    options = {"batch_range": [10, 20], "profile_path": "output/profile"}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, _, value = (item.strip() for item in part.partition("="))
        if key in options:
            options[key] = parse_yaml(value, f"--profiler_options {part}")
        elif key not in (
            "state",
            "sorted_key",
            "tracer_option",
            "timer_only",
            "exit_on_finished",
        ):  # PaddleVideo's others
            raise UserError(f"--profiler_options: unknown option '{key}'; batch_range and profile_path are known")
    steps = options["batch_range"]
    if not (
        isinstance(steps, list)
        and len(steps) == 2
        and all(isinstance(n, int) for n in steps)
        and 0 <= steps[0] < steps[1]
    ):
        raise UserError(f"--profiler_options: batch_range must be [first, last], not {steps}")
    return steps[0], steps[1], str(options["profile_path"])


@contextlib.contextmanager
def step_profiler(options: str) -> Iterator[Callable[[], None]]:
    """Record the steps of `options`; yields the function to call after every step. Writes a Chrome trace, prints a
    table.
    """
    first, last, folder = parse_options(options)
    targets = [paddle.profiler.ProfilerTarget.CPU]
    if paddle.device.is_compiled_with_cuda():
        targets.append(paddle.profiler.ProfilerTarget.GPU)
    profiler = paddle.profiler.Profiler(
        targets=targets,
        scheduler=(first, last),
        on_trace_ready=paddle.profiler.export_chrome_tracing(folder),
    )
    profiler.start()
    try:
        yield profiler.step
    finally:
        profiler.stop()
    profiler.summary(sorted_by=paddle.profiler.SortedKeys.CPUTotal, op_detail=True, time_unit="ms")
