"""The folder of a search: one process at a time has it, and the results come into it together, whole.

The lock is flock's, which ends with its process however that ends. Where Python has no flock (Windows), two searches in
one folder are not kept apart.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fewer.errors import InputError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

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


def _locked(path: Path) -> IO[bytes]:
    """The lock's file, open and ours."""
    while True:
        lock = path.open("wb")
        if fcntl is None:
            return lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise InputError(
                f"out folder {path.parent} is in use by another search: wait for it, or give another"
            ) from error
        except OSError:
            lock.close()
            raise
        if os.fstat(lock.fileno()).st_nlink:  # else who had it before has just removed the file
            return lock
        lock.close()


def _released(lock: IO[bytes], path: Path) -> None:
    if fcntl is None:  # which removes no open files
        lock.close()
    path.unlink(missing_ok=True)
    lock.close()


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
