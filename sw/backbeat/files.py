"""Files that are replaced whole or not at all, and files that are known to be whole."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

__all__ = ["is_whole", "remember", "sum_of", "tidy", "write_atomically"]


def write_atomically(path: Path, data: bytes):
    """Writes a file so that readers and crashes see the old one or the new one, never half of it.

    Raises
    ------
    OSError
        It cannot be written, and is named; the old one is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def tidy(path: Path):
    """Removes what a process that was killed while it wrote that file has left beside it."""
    for temporary in path.parent.glob(f".{path.name}-????????"):
        with contextlib.suppress(OSError):
            temporary.unlink()


def sum_of(path: Path) -> str:
    """The SHA-256 of a file, in hex; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def remember(built: Path, target: Path):
    """Puts a file in its place in a cache, and its checksum beside it, so that :func:`is_whole` tells
    when a crash, a full disk or somebody else has damaged it."""
    write_atomically(_sum(target), f"{sum_of(built)}\n".encode())
    os.replace(built, target)


def is_whole(target: Path) -> bool:
    """Whether a file is as :func:`remember` has left it."""
    try:
        return target.exists() and _sum(target).read_text().strip() == sum_of(target)
    except (OSError, UnicodeDecodeError):
        return False


def _sum(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")
