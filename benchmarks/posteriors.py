"""Which sampler for my inverse problem: methods against exact posteriors, on five problems in 2, 16 and 768 dimensions.

    python -m benchmarks.posteriors --out build/posteriors.json --dims 2 --calls 20      # a minute
    python -m benchmarks.posteriors --out benchmarks/results/posteriors.json             # an hour on one core
    python -m benchmarks.posteriors --out benchmarks/results/posteriors.json --dims 768  # two hours more
    python -m benchmarks.posteriors --draw benchmarks/results/posteriors.json            # docs/inverse.svg and docs/inverse.md

The data are Gaussian mixtures, so that the posterior of every measurement is known in closed form. Settings of a method are chosen
for each number of calls by the energy score of other measurements and true values, as a user could with data. What the file has is
not made again.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cells import fill, read_cells
from benchmarks.posteriors_page import Cell, write_page
from fewer.claims.tasks.posterior_beds import IMAGES, PROBLEMS, SETTINGS, SHAPES, Problem, problem
from fewer.errors import NotFinite
from fewer.evaluate.posteriors import LEVELS, energy_scores, fidelity
from fewer.registry import find

DIMS = (*SHAPES, IMAGES)
METHODS: Mapping[str, Sequence[Mapping[str, float | str]]] = {
    "exact-guidance": [{}], **{name: each for name, each in SETTINGS.items() if name != "tsdiff"},  # which is for forecasts
}  # fmt: skip
CALLS = (20, 100, 50, 200)  # in the order in which they are measured
MEASUREMENTS, EACH = {2: 32, 16: 32, 768: 8}, 32
CHOICE_MEASUREMENTS, CHOICE_EACH = 40, 6
SEED, CHOICE_SEED = 0, 1000
FIGURES = ("energy", "mean error", "stein", *(f"{name} {p:g}" for name in ("coverage", "hpd") for p in LEVELS))
JUDGED = 12_000  # evaluations that last as long as the figures of one measurement in 768 dimensions


def chosen(case: Problem, method: str, calls: int) -> Mapping[str, float | str]:
    """The settings with the least energy score on measurements of another seed."""
    settings = METHODS[method]
    if len(settings) == 1:
        return settings[0]
    x, y = case.pairs(CHOICE_MEASUREMENTS, CHOICE_SEED)
    scores = [_score(case, x, y, find("tasks", method).make(**each), calls) for each in settings]
    return settings[scores.index(min(scores))]


def _score(case: Problem, x: Tensor, y: Tensor, method: Any, calls: int) -> float:
    """The mean energy score; infinite where samples are not finite."""
    try:
        return float(energy_scores(case.samples(y, method, calls, CHOICE_EACH, CHOICE_SEED), x).mean())
    except NotFinite:
        return math.inf


def cell(dim: int, name: str, method: str, calls: int) -> Cell:
    """The figures of a method at its best settings; infinite where samples are not finite."""
    case = problem(dim, name)
    settings = chosen(case, method, calls)
    x, y, posteriors = case.measured(MEASUREMENTS[dim], SEED)
    began = time.process_time()
    try:
        found = case.samples(y, find("tasks", method).make(**settings), calls, EACH, SEED)
    except NotFinite:
        return Cell(dim, name, method, calls, dict(settings), dict.fromkeys(FIGURES, (math.inf,) * 3), 0.0)
    seconds = time.process_time() - began
    judged = fidelity(found, x, posteriors, seed=SEED)
    figures = {"energy": judged.energy, "mean error": judged.mean_error, "stein": judged.stein}
    figures |= {f"coverage {p:g}": figure for p, figure in judged.coverage.items()}
    figures |= {f"hpd {p:g}": figure for p, figure in judged.hpd.items()}
    ends = {key: (figure.value, figure.low, figure.high) for key, figure in figures.items()}
    return Cell(dim, name, method, calls, dict(settings), ends, round(seconds, 2))


def cost(dim: int, method: str, calls: int) -> float:
    """Of a cell, in network evaluations; a derivative through the network is two more."""
    settings = METHODS[method]
    choice = CHOICE_MEASUREMENTS * CHOICE_EACH * len(settings) if len(settings) > 1 else 0
    judged = MEASUREMENTS[dim] * JUDGED if dim == IMAGES else 0
    return judged + calls * (MEASUREMENTS[dim] * EACH + choice) * (1 + 2 * find("tasks", method).make().derivative)


def measure(
    out: Path, dims: Sequence[int], calls: Sequence[int], problems: Sequence[str], methods: Sequence[str]
) -> None:
    """Write the cells that the file has not, one after the other."""
    costs = {f"{d}/{p}/{m}/{n}": cost(d, m, n) for n in calls for d in dims for p in problems for m in methods}

    def make(key: str) -> Mapping[str, Any]:
        dim, name, method, count = key.split("/")
        return asdict(cell(int(dim), name, method, int(count)))

    def said(found: Mapping[str, Any]) -> str:
        value, low, high = found["figures"]["energy"]
        return f"{found['settings']}: energy {value:.4f} [{low:.4f}, {high:.4f}]"

    fill(out, costs, make, said)


def read(path: Path) -> list[Cell]:
    """The cells of a file."""
    return [
        Cell(**(each | {"figures": {key: tuple(ends) for key, ends in each["figures"].items()}}))
        for each in read_cells(path).values()
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="measure, and write the cells there")
    parser.add_argument("--dims", type=int, nargs="+", choices=DIMS, default=[2, 16])
    parser.add_argument("--calls", type=int, nargs="+", default=list(CALLS))
    parser.add_argument("--problems", nargs="+", choices=tuple(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--draw", type=Path, help="draw the cells of this file, and write the page")
    parser.add_argument("--page", type=Path, default=Path("docs/inverse.md"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.out:
        measure(given.out, given.dims, given.calls, given.problems, given.methods)
    if given.draw:
        write_page(read(given.draw), given.page, given.draw.parent)


if __name__ == "__main__":
    main()
