"""Runs claims, and says what came out as the record has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from fewer.claims.claim import Claim, Measured
from fewer.claims.results import Outcome
from fewer.versions import versions

Progress = Callable[[str, int, int | None], Any]


def run_claims(
    chosen: list[Claim], seed: int = 0, sabotage: bool = False, progress: Progress | None = None
) -> Iterator[tuple[str, Outcome]]:
    """(name, result) of each claim as it is done; with `sabotage`, of the deliberately broken variants."""
    for number, claim in enumerate(chosen):
        if progress is not None:
            progress(claim.name, number, len(chosen))
        began = time.monotonic()
        measured = claim.check(seed, sabotage)
        yield claim.name, result(claim, measured, seed, sabotage, time.monotonic() - began)


def result(claim: Claim, measured: Measured, seed: int, sabotage: bool, seconds: float) -> Outcome:
    """What the record keeps of a claim that was run."""
    command = f"fewer claims {claim.name} --seed {seed}" + (" --sabotage" if sabotage else "")
    return Outcome(
        of=claim.of, papers=claim.papers, statement=claim.statement, baseline=claim.baseline, region=str(claim.region),
        measured=measured.figure, beside=dict(measured.beside), status=claim.status(measured.figure), tier=claim.tier,
        command=command, seconds=round(seconds, 1), versions=versions(),
        **({"condition": claim.condition} if claim.condition else {}),
    )  # fmt: skip
