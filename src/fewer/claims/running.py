"""Runs claims, and says what came out as the record has it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from fewer.claims.claim import Claim, Measured
from fewer.measures.interval import Interval
from fewer.versions import versions

Progress = Callable[[str, int, int | None], Any]


def run_claims(
    chosen: list[Claim], seed: int = 0, sabotage: bool = False, progress: Progress | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, result) of each claim as it is done; with `sabotage`, of the deliberately broken variants."""
    for number, claim in enumerate(chosen):
        if progress is not None:
            progress(claim.name, number, len(chosen))
        began = time.monotonic()
        measured = claim.check(seed, sabotage)
        yield claim.name, result(claim, measured, seed, sabotage, time.monotonic() - began)


def result(claim: Claim, measured: Measured, seed: int, sabotage: bool, seconds: float) -> dict[str, Any]:
    """What the record keeps of a claim that was run."""
    command = f"fewer claims {claim.name} --seed {seed}" + (" --sabotage" if sabotage else "")
    return {
        "of": [list(part) for part in claim.of],
        "papers": list(claim.papers),
        "statement": claim.statement,
        "baseline": claim.baseline,
        "region": region(claim),
        "measured": _finite(measured.figure.to_dict()),
        "beside": {name: _shown(value) for name, value in measured.beside.items()},
        "status": claim.status(measured.figure),
        "tier": claim.tier,
        "command": command,
        "seconds": round(seconds, 1),
        "versions": versions(),
    }


def region(claim: Claim) -> str:
    """Where the figure lies if the claim is true, in words."""
    ends = [(claim.above, "at least"), (claim.below, "at most")]
    return " and ".join(f"{word} {end:g}" for end, word in ends if math.isfinite(end))


def _shown(value: Interval | float) -> Any:
    return _finite(value.to_dict()) if isinstance(value, Interval) else _finite({"value": value})["value"]


def _finite(numbers: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: null stands for it."""
    return {name: x if math.isfinite(x) else None for name, x in numbers.items()}
