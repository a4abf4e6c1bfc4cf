"""A training step shared by several processes: this one starts the others, which run the same steps.

    python group.py NAME

runs the steps of that name as one of the others, until it is told to end.
"""

import atexit
import os
import socket
import subprocess
import sys

from paddleskel import runtime
from paddleskel.benchmark.rounds import thread_variables


def lead(name: str, processes: int) -> None:
    """Make this process the first of several, and start the others. To be called before Paddle is imported.

    They divide this process's threads, and end with it.
    """
    threads = max(1, runtime.cpu_threads() // processes)
    master, *places = _free_places(1 + processes)
    shared = {
        "PADDLE_TRAINERS_NUM": str(processes),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(places),
        "PADDLE_DISTRI_BACKEND": "gloo",
        "PADDLE_MASTER": master,
        **thread_variables(threads),
    }
    place_of = lambda rank: {"PADDLE_TRAINER_ID": str(rank), "PADDLE_CURRENT_ENDPOINT": places[rank]}
    os.environ.update(shared, **place_of(0))
    for rank in range(1, processes):
        other = subprocess.Popen([sys.executable, __file__, name], env={**os.environ, **place_of(rank)}, stdout=2)
        atexit.register(other.kill)


def _free_places(count: int) -> list[str]:
    """Addresses of ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    places = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return places


def follow(name: str) -> None:
    from paddleskel.benchmark.subjects import build

    step = build(name)
    while True:
        step()


if __name__ == "__main__":
    follow(sys.argv[1])
