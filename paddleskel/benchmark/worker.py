"""A process that builds one step and runs it when told to. Standard library only: it also runs peers.

    python worker.py MODULE_OR_FILE NAME

imports MODULE_OR_FILE, calls its `build(NAME)`, runs the step it returns twice, and prints a line of JSON. Then for
every line on standard input, a number of seconds, it runs the step once to warm up, then for that long, and prints
{"steps", "seconds", "cpu_seconds", "peak_mib"}. peak_mib is the largest resident memory so far.
"""

import importlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path


def load(module: str):
    """Import a module by its name, or a Python file by its path."""
    if not module.endswith(".py"):
        return importlib.import_module(module)
    spec = importlib.util.spec_from_file_location("peer", module)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


# by its path: to import paddleskel would change the environment of a peer
peak_mib = load(str(Path(__file__).parents[1] / "memory.py")).peak_mib


def main() -> None:
    module, name = sys.argv[1:3]
    answers = os.fdopen(os.dup(1), "w")  # whatever the step prints goes to stderr
    os.dup2(2, 1)

    def answer(**values) -> None:
        print(json.dumps(values), file=answers, flush=True)

    step = load(module).build(name)
    before = peak_mib()
    step()
    step()
    answer(ready=name, peak_mib=peak_mib(), before_mib=before)
    for line in sys.stdin:
        seconds, steps = float(line), 0
        step()  # a process that waited for its turn has lost its caches, and on some hosts its memory
        start, cpu = time.perf_counter(), time.process_time()
        while steps == 0 or time.perf_counter() - start < seconds:
            step()
            steps += 1
        taken = time.perf_counter() - start
        answer(steps=steps, seconds=taken, cpu_seconds=time.process_time() - cpu, peak_mib=peak_mib())


if __name__ == "__main__":
    main()
