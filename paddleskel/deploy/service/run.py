"""Run the application on uvicorn."""

import signal
import socket

from paddleskel.deploy.predictor import Predictor
from paddleskel.errors import UserError


def serve(uvicorn, app, predictor: Predictor, host: str, port: int) -> None:
    """Listen until SIGTERM or SIGINT; then finish what was accepted.

    Raises:
        UserError: the address cannot be had.
    """
    try:
        listener = socket.create_server((host, port), reuse_port=False)
    except OSError as error:
        raise UserError(
            f"{host}:{port}: cannot listen there: {error.strerror or error}; choose another --port"
        ) from error
    config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=20)
    where = f"http://{host}:{listener.getsockname()[1]}"
    print(f"{predictor.bundle.model_name} on {predictor.engine_name}: {where}", flush=True)
    # uvicorn shuts down on these and then raises them again for whoever handled them before; that we stop is enough
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
