"""Files that are whole or not there."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from paddleskel.errors import UserError

TEMPORARY = ".writing"
_SEAL = b"\npaddleskel sha256 "


def make_folder(path: Path) -> Path:
    """Create a folder and make sure files can be written into it.

    Raises:
        UserError: names the folder and why it cannot be used.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"{path}: the folder cannot be written to: {error.strerror or error}; choose another"
        ) from error
    return path


def write_atomically(path: Path, content: bytes | str, previous: Path | None = None) -> None:
    """Write a file beside its place, flush it to disk and move it there, so that readers see the old file or the
    whole new one.

    previous: keep the old file under this name.

    Raises:
        UserError: the disk is full, the folder cannot be written to, ...; the old file is untouched.
    """
    content = content.encode() if isinstance(content, str) else content
    with atomic_file(path, previous) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file as `write_atomically` writes one, for content that is better not held in memory."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def open_text(path: str | Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file to read: UTF-8, with or without a byte order mark.

    Raises:
        UserError: no such file, it cannot be read, or it turns out to be no text.
    """
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of processes that were killed while they wrote."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            path.unlink()


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power failure, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def seal(content: bytes) -> bytes:
    """Append a checksum. Unpickling stops before it, so other programs read a sealed pickle as it is."""
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode()


def unseal(content: bytes, path: Path | str) -> bytes:
    """Return what `seal` was given; content without a seal is returned as it is.

    Raises:
        UserError: the checksum is another one.
    """
    start = len(content) - len(_SEAL) - 64
    if start < 0 or content[start : start + len(_SEAL)] != _SEAL:
        return content
    if hashlib.sha256(content[:start]).hexdigest().encode() != content[start + len(_SEAL) :]:
        raise UserError(f"{path}: the file is damaged: its content does not have the checksum that was written with it")
    return content[:start]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
