"""The folder of a search: one process at a time has it, and the results come into it together, whole.

The lock is the operating system's, which ends with its process however that ends: flock's, or LockFileEx's on Windows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from fewer.errors import InputError

LOCK = ".lock"
STAGE = (".fewer-", ".part")  # prefix and suffix of the name of a folder that is being written


@contextmanager
def claimed(out: Path) -> Iterator[Path]:
    """The folder, made where it is missing, for this process alone; what a killed one left half-written goes.

    A folder that is empty in the end is removed. Raises InputError where it cannot be written, or another search has it.
    """
    with _writable(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = _locked(out / LOCK)
    try:
        for left in out.glob("*".join(STAGE)):
            shutil.rmtree(left)
        yield out
    finally:
        _released(lock, out / LOCK)
        if not any(out.iterdir()):  # nothing came of it
            out.rmdir()


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    """Raise an error of the file's system, such as a full disk, as InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"out folder {out} cannot be written: {error.strerror}") from error


def _locked(path: Path) -> BaseFileLock:
    """Acquire the lock of a file."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"out folder {path.parent} is in use by another search: wait for it, or give another"
        ) from error
    return lock


def _released(lock: BaseFileLock, path: Path) -> None:
    """Remove the file while the lock is held: a process that opened it meanwhile sees that it has no name, and opens another.

    Windows removes no open file: there it is removed afterwards, unless another process has it by then.
    """
    if os.name == "posix":
        path.unlink(missing_ok=True)
        lock.release()
    else:
        lock.release()
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """A folder inside to write into; all of it is moved to its place only when all of it is written.

    Raises InputError where there is no room; then nothing in the folder has changed.
    """
    with _writable(folder):
        stage = Path(tempfile.mkdtemp(STAGE[1], STAGE[0], folder))
        try:
            yield stage
            for file in sorted(path for path in stage.rglob("*") if path.is_file()):
                place = folder / file.relative_to(stage)
                place.parent.mkdir(exist_ok=True)
                file.replace(place)
        finally:
            with suppress(OSError):
                shutil.rmtree(stage)
