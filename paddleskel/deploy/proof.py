"""Prove an export: run every form of the network on every engine installed, beside the trained network."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from paddleskel.deploy.bundle import ModelFiles, Proof
from paddleskel.deploy.engines import ENGINES, EngineOptions, engine_kind, last_line
from paddleskel.errors import UserError

TOLERANCE = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1, "int8": 0.2}  # of the largest logit
BATCHES = (1, 3)


def prove(
    models: Sequence[ModelFiles],
    folder: Path,
    network: Callable[[np.ndarray], np.ndarray],
    inputs: Sequence[np.ndarray],
    engines: Sequence[str] | None = None,
) -> list[Proof]:
    """Return a row for each form, engine and batch.

    Args:
        network: the trained one. inputs: (N, M, T, V, C) float32 each.
        engines: names to try; default: all that are installed.
    """
    expected = [network(batch) for batch in inputs]
    names = [name for name in engines or ENGINES if ENGINES[name].version is not None]
    rows = []
    for model in models:
        for name in names:
            if model.format in ENGINES[name].formats:
                rows += _rows(model, folder, name, inputs, expected)
    return rows


def _rows(model: ModelFiles, folder: Path, name: str, inputs, expected) -> Iterator[Proof]:
    kind = ENGINES[name]
    try:
        run = _run_isolated if kind.isolate else run_engine
        outputs, note = run(name, [folder / file for file in model.files], inputs, model.precision), ""
    except Exception as error:  # whatever an engine throws, it is not usable
        outputs, note = [None] * len(inputs), last_line(error)
    for batch, output, wanted in zip(inputs, outputs, expected):
        difference = None
        if output is not None and output.shape == wanted.shape:
            difference = float(np.abs(output - wanted).max() / np.abs(wanted).max())
        right = difference is not None and difference <= TOLERANCE[model.precision]
        if output is not None and not right:
            note = "wrong numbers" if difference is not None else f"wrong shape {list(output.shape)}"
        yield Proof(model.format, model.precision, name, kind.version or "", len(batch), difference, right, note)


def run_engine(name: str, files: Sequence[Path], inputs: Sequence[np.ndarray], precision: str) -> list[np.ndarray]:
    """Run batches through an engine in this process."""
    engine = engine_kind(name).make(files, EngineOptions(precision=precision))
    return [engine(batch) for batch in inputs]


def _run_isolated(name: str, files: Sequence[Path], inputs: Sequence[np.ndarray], precision: str) -> list[np.ndarray]:
    """The same in a process that may crash."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(given, *inputs)
        command = [
            sys.executable,
            "-m",
            "paddleskel.deploy.proof",
            name,
            precision,
            given,
            made,
            *(file.resolve() for file in files),
        ]
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run([str(part) for part in command], cwd=root, capture_output=True, text=True, timeout=600)
        if done.returncode < 0:
            raise UserError(f"crashed (signal {-done.returncode})")
        if done.returncode:
            raise UserError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "failed")
        with np.load(made) as arrays:
            return [arrays[f"arr_{i}"] for i in range(len(inputs))]


def table(rows: Sequence[Proof]) -> list[str]:
    """The rows as lines to print."""
    lines = [f"{'format':8} {'precision':9} {'engine':14} {'version':14} {'batch':>5} {'difference':>10}  verdict"]
    for row in rows:
        difference = "-" if row.difference is None else f"{row.difference:.1e}"
        verdict = "right" if row.usable else f"UNUSABLE: {row.note}"
        lines.append(
            f"{row.format:8} {row.precision:9} {row.engine:14} {row.version[:14]:14} {row.batch:5} {difference:>10}  "
            f"{verdict}"
        )
    return lines


def _main() -> None:
    name, precision, given, made, *files = sys.argv[1:]
    with np.load(given) as arrays:
        inputs = [arrays[key] for key in arrays.files]
    np.savez(made, *run_engine(name, [Path(file) for file in files], inputs, precision))


if __name__ == "__main__":
    _main()
