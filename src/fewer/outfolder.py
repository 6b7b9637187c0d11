"""Folders that commands write into: new, empty or the command's own; one process at a time; all files of a run or none.

A command knows its own folder by what it left there: a search by its study and results (`fewer.search.outfolder`), the
others by the list of their files, `MARKER`. Into a stranger's folder nothing is written unless it is forced.
The lock is the operating system's, which ends with its process however that ends: flock's, or LockFileEx's on Windows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from filelock import BaseFileLock, FileLock, Timeout
from pydantic import Field

from fewer.errors import InputError
from fewer.files import Record, read_as, write_json

LOCK = ".fewer.lock"
MARKER = ".fewer.json"
STAGE = (".fewer-", ".part")  # prefix and suffix of the name of a folder that is being written


class Written(Record):
    """The content of `MARKER`: the command that wrote a folder, and its files there, by their paths below it."""

    command: str
    files: Annotated[tuple[str, ...], Field(max_length=1_000_000)]


def written(out: Path, command: str) -> tuple[str, ...] | None:
    """The files that this command wrote into the folder, by their paths below it; None where it is not its own."""
    try:
        found = read_as(Written, out / MARKER)
    except InputError:
        return None
    plain = tuple(name for name in found.files if _below(name))
    return plain if found.command == command else None


def _below(name: str) -> bool:
    """Whether a path with / between its folders leads to something below where it begins."""
    return "\\" not in name and not Path(name).drive and all(word not in ("", ".", "..") for word in name.split("/"))


def check_own(out: Path, own: bool, force: bool, files: Iterable[str], folders: Iterable[str] = ()) -> bool:
    """Whether nothing in a folder is a stranger's. Raises InputError, before anything is computed, where a command must not, or
    cannot, write into it.

    It must not where the folder holds something and is not the command's `own`, unless `force`; nor through links that
    lead out of it. `files` and `folders` are the names that it will write.
    """
    check_writable(out / MARKER)
    try:
        there = sorted(path.name for path in out.iterdir() if not _of_fewer(path)) if out.exists() else []
    except OSError as error:
        raise InputError(f"out folder {out} cannot be read: {error.strerror}") from error
    if there and not (own or force):
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise InputError(
            f"out folder {out} holds {there[0]!r}{more}, which this command did not write: give another folder, or force "
            "(--force)"
        )
    for name in (LOCK, MARKER, *files):
        check_place(out / name, out)
    for name in folders:
        check_place(out / name, out, folder=True)
    return own or not there


def check_writable(path: Path) -> None:
    """Raise InputError where no file could be made at this path: a folder above it is none, or must not be written."""
    try:
        above = path.absolute()
        while not above.exists() and not above.is_symlink():
            above = above.parent
        if not above.exists():
            raise InputError(f"{path} cannot be written: {above} is a link that leads nowhere")
        if above != path.absolute() and not above.is_dir():
            raise InputError(f"{path} cannot be written: {above} is not a folder")
        with tempfile.TemporaryFile(dir=above if above.is_dir() else above.parent):
            pass  # the system alone knows whether it can be made
    except InputError:
        raise
    except (OSError, ValueError) as error:  # a name that holds a null character is a ValueError
        raise InputError(f"{path} cannot be written: {getattr(error, 'strerror', error)}") from error


def _of_fewer(path: Path) -> bool:
    """Whether this is the lock, or what a killed process left half-written."""
    return path.name == LOCK or (path.name.startswith(STAGE[0]) and path.name.endswith(STAGE[1]))


def check_place(path: Path, out: Path, folder: bool = False) -> None:
    """Raise InputError where something else stands in the place of a file or folder, or a link that leads out."""
    kind = "folder" if folder else "file"
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out)):
        raise InputError(f"{path} is a link that leads out of the folder, through which nothing is written: remove it")
    if path.exists() and not (path.is_dir() if folder else path.is_file()):
        raise InputError(f"{path} is no {kind}; a {kind} of this name is to be written there")


def check_idle(out: Path, by: str = "search") -> None:
    """Raise InputError where another `by` has the folder."""
    check_place(out / LOCK, out)
    if (out / LOCK).exists():
        with _writable(out):
            _locked(out / LOCK, by).release()


@contextmanager
def claimed(out: Path, by: str = "search", tidy: bool = True) -> Iterator[Path]:
    """The folder, made where it is missing, for this process alone; what a killed one left half-written goes if `tidy`.

    A folder that is empty in the end is removed. Raises InputError where it cannot be written, or another `by` has it.
    """
    with _writable(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = _locked(out / LOCK, by)
    try:
        for left in out.glob("*".join(STAGE)) if tidy else ():
            if left.is_dir() and not left.is_symlink():
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


def _locked(path: Path, by: str) -> BaseFileLock:
    """Acquire the lock of a file."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"out folder {path.parent} is in use by another {by}: wait for it, or give another") from error
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
def together(folder: Path, earlier: Iterable[str] = ()) -> Iterator[Path]:
    """A folder inside to write into; all of it is moved to its place only when all of it is written.

    Files of an `earlier` run that are not written again then go. Raises InputError where there is no room; then nothing in
    the folder has changed.
    """
    with _writable(folder):
        stage = Path(tempfile.mkdtemp(STAGE[1], STAGE[0], folder))
        try:
            yield stage
            files = sorted(path for path in stage.rglob("*") if path.is_file())
            for file in files:
                place = folder / file.relative_to(stage)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
            for name in set(earlier) - {file.relative_to(stage).as_posix() for file in files}:
                (folder / name).unlink(missing_ok=True)
        finally:
            with suppress(OSError):
                shutil.rmtree(stage)


@contextmanager
def filled(out: Path, command: str, tidy: bool = False) -> Iterator[Path]:
    """A folder to write a command's files into, which then lie in `out` in place of those of its last run, listed in `MARKER`.

    Whether the command may write there has been checked (`check_own`), which says whether to `tidy` (`claimed`). Raises
    InputError as `claimed` and `together` do.
    """
    with claimed(out, command, tidy), together(out, written(out, command) or ()) as stage:
        yield stage
        files = (path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file())
        write_json(stage / MARKER, {"command": command, "files": sorted(files)})
