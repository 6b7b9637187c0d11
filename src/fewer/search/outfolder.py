"""The folder of a search: its own is one with a study or results of fewer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fewer.errors import InputError
from fewer.files import read_as
from fewer.outfolder import check_idle, check_own, claimed
from fewer.report.folder import RESULTS
from fewer.results import Results
from fewer.search.known_studies import Definitions
from fewer.search.study import STUDY, check_free, is_study

BASELINE = "baseline.json"  # of a search for a task: the plan that the tuned one was compared with
FILES = ("plan.json", "plan.safetensors", BASELINE, RESULTS, "report.html", "samples.npz", STUDY)
STUDY_FILES = (STUDY, f"{STUDY}-journal", f"{STUDY}-wal", f"{STUDY}-shm")


def check_folder(out: Path, resume: bool = False, force: bool = False) -> bool:
    """Whether nothing in the folder is a stranger's. Raises InputError where a search must not, or cannot, write there."""
    if resume and force:
        raise InputError("resume goes on with the search in the out folder, and force begins anew: give one of them")
    check_idle(out)  # first: a study that is being written is slow to read
    own = _results(out) is not None
    if force:
        own = own or is_study(out / STUDY)
    elif (out / STUDY).exists():
        check_free(out / STUDY)
        own = True
    return check_own(out, own, force, FILES, ["front"])


@contextmanager
def own_folder(out: str | Path, searches: Definitions, resume: bool, force: bool) -> Iterator[Path]:
    """The folder for this search alone, whose study has none of the `searches` (see `check_free`) unless it is resumed.

    `force` begins anew, in whatever folder. Raises InputError as `check_folder` and `fewer.outfolder.claimed` do.
    """
    if not isinstance(out, str | Path) or not str(out).strip():
        raise InputError(f"out is {out!r:.80}; expected the path of a folder")
    out = Path(out)
    tidy = check_folder(out, resume, force)
    with claimed(out, tidy=tidy) as folder:
        if force:
            for name in STUDY_FILES:
                (folder / name).unlink(missing_ok=True)
        check_free(folder / STUDY, searches, resume)
        yield folder


def earlier_plans(out: Path) -> list[str]:
    """Names of files that the last search in the folder left, and that the next may not write: the front's and the baseline."""
    found = _results(out)
    if found is None:
        return []
    budgets = [entry.nfe for entry in found.front if entry.plan == f"front/{entry.nfe}.json"]
    baseline = [] if found.task is None else [BASELINE]
    return baseline + [f"front/{nfe}.{kind}" for nfe in budgets for kind in ("json", "safetensors")]


def _results(out: Path) -> Results | None:
    """The results of a search in the folder; None where it holds none."""
    try:
        return read_as(Results, out / RESULTS)
    except InputError:
        return None
