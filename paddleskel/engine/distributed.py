"""Which of how many processes this is, as `python -m paddle.distributed.launch` says it."""

import os

from paddleskel.errors import UserError


def rank() -> int:
    """Position of this process, from 0; rank 0 writes the files."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0") or 0)


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1") or 1)


def check_single_process() -> None:
    """Stop where several processes were launched: gradients are not exchanged yet, so each would train a model of
    its own.
    """
    if world_size() > 1:
        raise UserError(
            f"{world_size()} processes were launched, but training and testing run on one process so far; "
            "use 1 in tools/dist_train.sh and tools/dist_test.sh"
        )
