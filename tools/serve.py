"""Serve an exported model over HTTP, with a demo page at /.

    pip install -r requirements-serve.txt
    python tools/serve.py --model output/STGCN_PlusPlus_toy --port 8000

    curl -s localhost:8000/predict -H 'Content-Type: application/json' -d @sample.json
    curl -s localhost:8000/predict --data-binary @clip.npz -H 'Content-Type: application/octet-stream'

/docs describes the requests, /health and /metrics (Prometheus) are for those who run it. On SIGTERM it takes no new
connections and finishes the requests it has.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.errors import UserError, exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True, metavar="FOLDER", help="folder that tools/export_model.py wrote")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="0 for any free one, which is printed (default: 8000)")
    add("--engine", default="auto", metavar="NAME", help="see tools/predict.py")
    add("--precision", choices=["fp32", "fp16", "bf16", "int8"], help="which of the exported precisions")
    add("--cpu_threads", type=int, metavar="N", help="CPU threads (default: OMP_NUM_THREADS or all cores)")
    add("--num_clips", type=int, default=1, metavar="N", help="clips sampled from a sequence (default: 1)")
    add("--max_batch", type=int, default=16, metavar="N", help="clips a run of the network (default: 16)")
    add("--batch_wait", type=float, default=4.0, metavar="MS", help="how long a clip waits for others (default: 4 ms)")
    add("--max_request", type=float, default=10.0, metavar="MIB", help="largest request (default: 10 MiB)")
    add("--body_timeout", type=float, default=20.0, metavar="S", help="time for a request to arrive (default: 20 s)")
    add("--timeout", type=float, default=30.0, metavar="S", help="time for its answer (default: 30 s)")
    flags = parser.parse_args(arguments)
    for name in ("num_clips", "max_batch", "max_request", "body_timeout", "timeout"):
        if getattr(flags, name) <= 0:
            parser.error(f"--{name}: must be above 0")
    if not 0 <= flags.port < 2**16:
        parser.error(f"--port: must lie between 0 and {2**16 - 1}")
    return flags


@exit_code
def main(arguments: list[str] | None = None) -> None:
    flags = parse_arguments(arguments)
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: pip install -r requirements-serve.txt") from error

    from paddleskel.deploy.engines import EngineOptions
    from paddleskel.deploy.predictor import Predictor
    from paddleskel.deploy.service.app import Limits, make_app
    from paddleskel.deploy.service.run import serve

    options = EngineOptions(threads=flags.cpu_threads)
    predictor = Predictor(flags.model, flags.engine, flags.num_clips, options, flags.precision)
    limits = Limits(
        max_bytes=int(flags.max_request * 2**20),
        body_seconds=flags.body_timeout,
        answer_seconds=flags.timeout,
        max_batch=flags.max_batch,
        batch_wait=flags.batch_wait / 1000,
    )
    serve(uvicorn, make_app(predictor, limits), predictor, flags.host, flags.port)


if __name__ == "__main__":
    sys.exit(main())
