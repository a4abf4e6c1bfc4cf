"""Several processes, as `python -m paddle.distributed.launch` starts them: who is who, and what they exchange.

Paddle does the work: NCCL on GPUs, Gloo on CPUs, DataParallel for the gradients. With one process every function here
returns at once.
"""

import contextlib
import multiprocessing
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import connection

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import nn

from paddleskel.errors import UserError
from paddleskel.nn.sync import synchronize_batch_norm

_PATIENCE = 1800.0  # seconds to wait for a process that does not come
_LINGER = 8.0  # seconds; the launcher looks at its processes every second or two
_BROKEN = ("gloo", "nccl", "connection reset", "tcpstore", "tcp_utils", "socket", "connection closed")
_links: dict[int, connection.Connection] = {}  # rank 0's to every other process, theirs to rank 0


def rank() -> int:
    """Position of this process, from 0; rank 0 writes the files."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0") or 0)


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1") or 1)


def start() -> None:
    """Connect the processes. Call it after the device is chosen."""
    if world_size() == 1:
        return
    if not dist.is_initialized():
        dist.init_parallel_env()
    if not _links:
        _link()


def _link() -> None:
    """Connect every process with rank 0, to meet there: a word through Paddle's store takes 44 ms, and one here 0.1."""
    store = paddle.base.core.create_or_get_global_tcp_store()
    if rank() > 0:
        host, port, key = store.get("paddleskel/meetings").decode().split()
        _links[0] = connection.Client((host, int(port)), authkey=bytes.fromhex(key))
        _links[0].send_bytes(b"%d" % rank())
        return
    host, key = os.environ["PADDLE_CURRENT_ENDPOINT"].rpartition(":")[0], secrets.token_bytes(16)
    with connection.Listener((host, 0), backlog=world_size(), authkey=key) as listener:
        store.set("paddleskel/meetings", f"{host} {listener.address[1]} {key.hex()}")
        while len(_links) < world_size() - 1:
            with contextlib.suppress(multiprocessing.AuthenticationError, EOFError, ConnectionError):
                link = listener.accept()
                _links[int(link.recv_bytes())] = link


@contextlib.contextmanager
def first_alone(what: str) -> Iterator[None]:
    """Let rank 0 do something before the others do it: they find the files it has made."""
    if rank() > 0:
        meet(what, always=True)
    yield
    if rank() == 0:
        meet(what, always=True)


def meet(what: str, always: bool = False) -> None:
    """Wait until all processes are here, before they exchange something.

    Paddle's Gloo gives up on a process that is 30 seconds late, and a batch or a checkpoint may well take longer; here
    the patience is half an hour. NCCL waits by itself, so on a GPU this does nothing, unless it is asked for `always`.

    Raises:
        UserError: names the processes that did not come.
    """
    if world_size() == 1 or (paddle.get_device().startswith("gpu") and not always):
        return
    missing = _await_all() if rank() == 0 else _await_first()
    if missing:
        raise UserError(
            f"process {', '.join(map(str, missing))} did not come to the {what} within {_PATIENCE:g} s, or has ended; "
            "its own log says what it was doing"
        )


def _await_all() -> list[int]:
    """Rank 0: hear from every process, answer those that are here with the ranks that are not, and return these."""
    missing, until = {link: other for other, link in _links.items()}, time.monotonic() + _PATIENCE
    try:
        while missing and (left := until - time.monotonic()) > 0:
            for link in connection.wait(list(missing), left):
                link.recv_bytes()
                del missing[link]
    except (EOFError, OSError):
        time.sleep(_LINGER)  # a process has ended: the launcher says which, and ends this one too
    ranks = sorted(missing.values())
    for link in set(_links.values()) - missing.keys():
        with contextlib.suppress(OSError):
            link.send_bytes(" ".join(map(str, ranks)).encode())
    return ranks


def _await_first() -> list[int]:
    """The others: tell rank 0 of being here, and return the ranks that it misses, or itself."""
    try:
        _links[0].send_bytes(b"here")
        if _links[0].poll(_PATIENCE + 2 * _LINGER):
            return [int(other) for other in _links[0].recv_bytes().split()]
    except (EOFError, OSError):
        time.sleep(_LINGER)
    return [0]


def total(values: Sequence[float]) -> list[float]:
    """Return the sums of each value over all processes, the same bits in each."""
    if world_size() == 1:
        return list(values)
    tensor = paddle.to_tensor(np.array(values, np.float64))
    dist.all_reduce(tensor)
    return tensor.tolist()


def gather(array: np.ndarray) -> np.ndarray:
    """Return the rows of all processes' arrays one below the other, rank by rank. Their numbers may differ."""
    if world_size() == 1:
        return array
    counts: list = []
    dist.all_gather(counts, paddle.to_tensor(np.array([len(array)], np.int64)))
    counts = [count.item() for count in counts]
    padded = np.zeros((max(counts), *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    parts: list = []
    dist.all_gather(parts, paddle.to_tensor(padded))
    return np.concatenate([part.numpy()[:count] for part, count in zip(parts, counts)])


def gather_texts(text: str) -> list[str]:
    """Return the texts of all processes, rank by rank."""
    if world_size() == 1:
        return [text]
    codes = gather(np.frombuffer(text.encode() + b"\0", np.uint8).astype(np.int64))
    return codes.astype(np.uint8).tobytes().decode().split("\0")[:-1]


def from_first(content: bytes | None) -> bytes:
    """Return what rank 0 passes, in every process. Others pass None."""
    if world_size() == 1:
        return content
    meet("first process's news")
    size = paddle.to_tensor(np.array([len(content or b"")], np.int64))
    dist.broadcast(size, 0)
    if rank() == 0:
        data = paddle.to_tensor(np.frombuffer(content, np.uint8).copy())
    else:
        data = paddle.zeros([size.item()], "uint8")
    if size.item():
        dist.broadcast(data, 0)
    return data.numpy().tobytes()


def share_statistics(model: nn.Layer) -> None:
    """Give every process rank 0's running means and variances, which each keeps of its own samples."""
    for tensor in model.state_dict().values() if world_size() > 1 else ():
        if tensor.stop_gradient:
            dist.broadcast(tensor, 0)


def parallel(model: nn.Layer, sync_bn: bool) -> nn.Layer:
    """Return the network as training calls it: gradients are averaged over the processes, BatchNorm takes its
    statistics over all of them if `sync_bn`. The parameters stay those of `model`; rank 0's are given to all.
    """
    if world_size() == 1:
        return model
    if sync_bn:
        synchronize_batch_norm(model)
    meet("start")
    for parameter in model.parameters():
        if not parameter.stop_gradient:
            parameter.register_hook(_in_order)
    return paddle.DataParallel(model)


def _in_order(gradient: paddle.Tensor) -> paddle.Tensor | None:
    """A gradient that is a transposed view, laid out in memory as it reads: DataParallel adds memory as it lies."""
    return None if gradient.is_contiguous() else gradient.contiguous()


@contextlib.contextmanager
def contact() -> Iterator[None]:
    """Say plainly that another process has gone away, where an exchange fails for it.

    This process then waits a little before it ends, so that the launcher finds the one that failed first, and shows
    its log.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if world_size() == 1 or not any(sign in str(error).lower() for sign in _BROKEN):
            raise
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
        print(f"process {rank()}: lost contact with another process ({reason})", file=sys.stderr, flush=True)
        time.sleep(_LINGER)
        raise UserError(
            f"process {rank()} of {world_size()}: another process has ended; its own log says why (workerlog.N in the "
            "folder of --log_dir). --resume auto continues the run"
        ) from error
