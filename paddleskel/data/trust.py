"""How far files are trusted: not at all, unless the user says --trust; and what reading one may cost.

A small hostile file must not be able to run code, nor to fill the machine.
"""

import argparse
import contextlib
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from paddleskel.errors import UserError

try:
    import resource
except ImportError:  # Windows
    resource = None

_BASE, _PER_BYTE = 512 * 2**20, 64  # many small Python objects take some 60 bytes for one in the file
_trusting = False
_lock = threading.Lock()
_readers: list[tuple[int, int]] = []  # the limits that the first of the readers at work found


def trust_files(trust: bool = True) -> None:
    """Let pickles call what they ask for, as Python's own reader does, and drop the limits on memory."""
    global _trusting
    _trusting = trust


def is_trusting() -> bool:
    """Whether `trust_files` was called."""
    return _trusting


class TrustFlag(argparse.Action):
    """The flag --trust of a command: `parser.add_argument("--trust", action=TrustFlag)`."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None):
        text = (
            "read pickles and checkpoints with Python's own reader, which runs any code they contain: only for files "
        )
        super().__init__(option_strings, dest, nargs=0, default=False, help=help or text + "you made yourself")

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        print(
            "note: --trust: files are read with Python's own reader, which runs any code they contain, and without "
            "limits on memory",
            file=sys.stderr,
        )
        trust_files()
        setattr(namespace, self.dest, True)


def allowance(size: int) -> int:
    """Return how many bytes the content of a file of so many bytes may take in memory: 512 MiB and 64 times its
    size.
    """
    return _BASE + _PER_BYTE * size


@contextlib.contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """Let a reader allocate no more than the `allowance` of its file; beyond that it meets a MemoryError.

    The operating system enforces it (Linux), so that no opcode and no decompressor needs to be trusted. Where it does
    not, or a lower limit is set already, this does nothing. The limit is the process's: readers in several threads
    share the largest of theirs, and the last one takes it away.
    """
    if _trusting or not _enter(size):
        yield
        return
    try:
        yield
    finally:
        with _lock:
            found = _readers.pop()
            if not _readers:
                resource.setrlimit(resource.RLIMIT_DATA, found)


def _enter(size: int) -> bool:
    """Set the limit for one more reader; False where none can be set, or a lower one is."""
    with _lock:
        try:
            used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
            now, wanted = resource.getrlimit(resource.RLIMIT_DATA), used + allowance(size)
        except (OSError, AttributeError, ValueError, IndexError):
            return False
        found = _readers[0] if _readers else now
        if found[0] != resource.RLIM_INFINITY and found[0] < wanted:
            return False
        limit = max(now[0], wanted) if _readers else wanted
        resource.setrlimit(resource.RLIMIT_DATA, (limit, found[1]))
        _readers.append(found)
        return True


def check_zip(archive: zipfile.ZipFile, path: str | Path) -> None:
    """Refuse an archive with names that lead out of it, or that unpacks to more than its `allowance`.

    Nothing here unpacks archives into folders; a file that needs such names is hostile all the same.

    Raises:
        UserError: names the entry, or says how large the content would be.
    """
    for entry in archive.infolist():
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or entry.filename[1:2] == ":":
            raise UserError(f"{path}: refused: the archive's entry '{entry.filename}' leads out of its folder")
    size, total = os.path.getsize(path), sum(entry.file_size for entry in archive.infolist())
    if total > allowance(size) and not _trusting:
        raise UserError(
            f"{path}: refused: {size / 2**20:.1f} MiB that unpack to {total / 2**30:.1f} GiB; if you know the file, "
            "--trust reads it"
        )
