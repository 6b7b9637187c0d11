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
STAGE = (".fewer-", ".part")  # how the folder of what is being written is called, at its beginning and end


@contextmanager
def claimed(out: Path) -> Iterator[Path]:
    """The folder, made where it is missing, for this process alone; what a killed one left half-written goes.

    A folder that is empty in the end is removed. Raises InputError where it cannot be written, or another search has it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = _locked(out / LOCK)
    except OSError as error:
        raise InputError(f"out folder {out} cannot be written: {error.strerror}") from error
    try:
        for left in out.glob("*".join(STAGE)):
            shutil.rmtree(left)
        yield out
    finally:
        _released(lock, out / LOCK)
        if not any(out.iterdir()):  # nothing came of it
            out.rmdir()


def _locked(path: Path) -> BaseFileLock:
    """The lock of a file, ours."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"out folder {path.parent} is in use by another search: wait for it, or give another"
        ) from error
    return lock


def _released(lock: BaseFileLock, path: Path) -> None:
    """The file goes while the lock is ours: who opened it meanwhile sees that it has no name any more, and opens another.

    Windows removes no open file, so that there it goes afterwards, unless another has it by then.
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
    try:
        stage = Path(tempfile.mkdtemp(STAGE[1], STAGE[0], folder))
    except OSError as error:
        raise InputError(f"out folder {folder} cannot be written: {error.strerror}") from error
    try:
        yield stage
        for made in sorted(path for path in stage.rglob("*") if path.is_file()):
            place = folder / made.relative_to(stage)
            place.parent.mkdir(exist_ok=True)
            made.replace(place)
    except OSError as error:
        raise InputError(f"out folder {folder} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(stage)
