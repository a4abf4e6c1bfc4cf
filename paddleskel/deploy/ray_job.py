"""The bulk job on a Ray cluster: the same results as tools/predict.py --shard, from as many workers as there are.

    from paddleskel.deploy.ray_job import predict_files
    predict_files("output/STGCN_PlusPlus", files, "results/", workers=8, batch_size=16)

writes JSON lines, one file a block, with the columns input, position, id, class, label, score and error.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from paddleskel.deploy.engines import EngineOptions
from paddleskel.deploy.inputs import Reading, read_items
from paddleskel.deploy.jobs import JobOptions, results_of
from paddleskel.deploy.predictor import Predictor
from paddleskel.errors import UserError

_EMPTY = {"class": -1, "label": "", "score": 0.0, "error": ""}


class Worker:
    """One process of the job: loads the model once and turns batches of file names into results.

    Args:
        threads: CPU threads of the network.
    """

    def __init__(self, model: str, options: JobOptions, engine: str = "auto", threads: int = 1):
        self.predictor = Predictor(model, engine, options.num_clips, EngineOptions(threads=threads))
        self.options = options

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        """{"input": (N,) names, "position": (N,)} -> columns of results, at least one a file."""
        reading = Reading(self.predictor.layout, self.predictor.num_person, keep_going=True)
        rows = []
        for source, position in zip(batch["input"].tolist(), batch["position"].tolist()):
            for _, result in results_of(self.predictor, read_items([source], reading), self.options):
                result = {key: value for key, value in result.items() if key != "top"}
                rows.append({**_EMPTY, **result, "position": position})
        return {key: [row[key] for row in rows] for key in ("input", "position", "id", *_EMPTY)}


def predict_files(
    model: str | Path,
    files: Iterable[str],
    output: str | Path,
    workers: int = 2,
    batch_size: int = 16,
    threads: int = 1,
    engine: str = "auto",
    num_clips: int = 1,
    threshold: float = 0.0,
) -> int:
    """Predict every sample of pose files on Ray; return how many results were written.

    Uses the cluster that Ray is connected to, or starts Ray on this machine. Model and files must lie where all workers
    can read them.

    Args:
        output: folder for the results; one that has files in it is refused.
        workers: processes. threads: CPU threads of each.

    Raises:
        UserError: Ray is not installed or cannot start workers, the output folder is not empty, or there is no file.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("ray is not installed: pip install 'ray[data]'") from error
    names = [str(Path(name).resolve()) for name in files]
    if not names:
        raise UserError("no file to predict")
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: is there already; name a new folder for the results")
    Predictor(model, engine)  # a mistake in the model is said here, not by every worker
    if not ray.is_initialized():
        if " " in sys.executable:  # it would wait for ever
            raise UserError(
                f"--ray: Ray starts no workers of a Python whose path has a space in it ({sys.executable}); "
                "use --shard, or put the virtual environment elsewhere"
            )
        root = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        ray.init(include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    rows = [{"input": name, "position": position} for position, name in enumerate(names)]
    blocks = max(1, min(len(rows), 4 * workers))
    job = {
        "model": str(Path(model).resolve()),
        "options": JobOptions(batch_size, 1, threshold, num_clips),
        "engine": engine,
        "threads": threads,
    }
    results = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        Worker, fn_constructor_kwargs=job, batch_size=max(1, len(rows) // blocks), concurrency=workers,
        num_cpus=threads,
    )  # fmt: skip
    results = results.materialize()
    results.write_json(str(output.resolve()))
    return results.count()


def read_results(output: str | Path) -> list[dict[str, Any]]:
    """Return the results in a folder, in the order of the files that were given."""
    import json

    rows: Sequence[dict] = [
        json.loads(line) for file in sorted(Path(output).glob("*.json")) for line in file.open(encoding="utf-8")
    ]
    return sorted(rows, key=lambda row: row["position"])
