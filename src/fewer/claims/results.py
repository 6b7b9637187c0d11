"""Which claims there are, and what came out of them when they were last recorded (`results.json` beside this file)."""

from __future__ import annotations

import importlib
import json
import pkgutil
from functools import cache
from importlib import resources
from pathlib import Path

from fewer.claims.claim import Claim, Tier, registered
from fewer.claims.region import Region, Status
from fewer.errors import InputError, did_you_mean
from fewer.evaluate.statistics.interval import Interval
from fewer.files import Record, checked, read_as
from fewer.registry import read_entry_points


class Outcome(Record):
    """What came out of a claim, and all that is needed to run it again; `claims/results.json` has one a name."""

    of: tuple[tuple[str, str], ...]
    papers: tuple[int, ...]
    statement: str
    baseline: str
    region: str
    measured: Interval
    beside: dict[str, int | float | Interval | None]
    status: Status
    tier: Tier
    command: str
    seconds: float
    versions: dict[str, str]
    condition: str = ""

    @property
    def undecided(self) -> str:
        """What would decide a result that cannot be told, in a sentence or two; "" for any other."""
        return Region.read(self.region).undecided(self.measured, self.condition)


@cache
def claims() -> dict[str, Claim]:
    """Every claim by name, found by reading the files of all rooms and other packages' parts."""
    package = importlib.import_module("fewer.claims")
    for module in pkgutil.walk_packages(package.__path__, "fewer.claims."):
        importlib.import_module(module.name)
    read_entry_points()
    return dict(sorted(registered().items()))


def chosen(names: list[str]) -> list[Claim]:
    """The claims of these names, or all quick ones where none is given.

    A name is a claim's own, or the first part of it: `ipndm` stands for all of `ipndm/...`. Raises InputError where
    nothing is called so.
    """
    known = claims()
    if not names:
        return [claim for claim in known.values() if claim.tier == "quick"]
    found: dict[str, Claim] = {}
    for name in names:
        some = {key: claim for key, claim in known.items() if key == name or key.startswith(f"{name}/")}
        if not some:
            families = sorted({key.split("/")[0] for key in known} | known.keys())
            near = did_you_mean(name, families, 3, 0.5)
            raise InputError(f"no claim is called {name!r}{near} fewer methods lists what has claims")
        found |= some
    return list(found.values())


def read(path: Path) -> dict[str, Outcome]:
    """The results in a file; InputError where it holds none."""
    try:
        return read_as(dict[str, Outcome], path)
    except InputError as error:
        raise InputError(f"{path} holds no results of claims that could be added to: {error}") from error


@cache
def recorded() -> dict[str, Outcome]:
    """Claim name -> its last recorded result."""
    file = resources.files("fewer.claims").joinpath("results.json")
    return checked(dict[str, Outcome], json.loads(file.read_text()), "claims/results.json") if file.is_file() else {}


def of_part(room: str, name: str) -> dict[str, str]:
    """Status and figures of a part, over all recorded claims of it.

    The status is 'holds' where all of them hold, 'not confirmed' where any is, and 'none' where there is none.
    """
    found = {key: result for key, result in recorded().items() if (room, name) in result.of}
    statuses = {result.status for result in found.values()}
    status = next((s for s in ("not confirmed", "cannot tell", "holds") if s in statuses), "none")
    figures = [f"{key} {result.measured} ({result.region})" for key, result in found.items()]
    return {"status": status, "figure": "; ".join(figures)}
