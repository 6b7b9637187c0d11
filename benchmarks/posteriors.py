"""Which sampler for my inverse problem: methods against exact posteriors, on five problems in 2, 16 and 768 dimensions.

    python -m benchmarks.posteriors --out build/posteriors.json --quick               # a minute
    python -m benchmarks.posteriors --out benchmarks/results/posteriors.json          # an hour on one core; --dims 768 for more
    python -m benchmarks.posteriors --draw benchmarks/results/posteriors.json         # docs/inverse.svg and docs/inverse.md

The data are Gaussian mixtures, so that the posterior of every measurement is known in closed form. Settings of a method are chosen
for each number of calls by the energy score of other measurements and true values, as a user could with data. What the file has is
not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.posteriors_page import Cell, write_page
from fewer.claims.tasks.posterior_beds import IMAGES, PROBLEMS, SHAPES, Problem, problem
from fewer.evaluate.posteriors import energy_scores, fidelity
from fewer.registry import find

DIMS = (*SHAPES, IMAGES)
METHODS: Mapping[str, Sequence[Mapping[str, float]]] = {
    "exact-guidance": [{}],
    "mmps": [{"iterations": 1}, {"iterations": 3}],
    "tmpd": [{}],
    "pigdm": [{"variance": 0.3}, {"variance": 1.0}],
    "diffpir": [{"weight": 1.0}, {"weight": 3.0}, {"weight": 8.0}],
    "dps": [{"strength": 0.1}, {"strength": 0.3}, {"strength": 1.0}, {"strength": 3.0}],
    "lanpaint": [{"inner": 1}, {"inner": 2}, {"inner": 5}, {"inner": 10}],
    "split-gibbs": [{"inner": 2}, {"inner": 5}, {"inner": 10}],
    "red-diff": [{"weight": 0.25}, {"weight": 1.0}, {"weight": 4.0}],
}
CALLS = (20, 100, 50, 200)  # in the order in which they are measured
MEASUREMENTS, EACH = {2: 32, 16: 32, 768: 8}, 32
CHOICE_MEASUREMENTS, CHOICE_EACH = 40, 6
SEED, CHOICE_SEED = 0, 1000


def chosen(case: Problem, method: str, calls: int) -> Mapping[str, float]:
    """The settings with the least energy score on measurements of another seed."""
    settings = METHODS[method]
    if len(settings) == 1:
        return settings[0]
    x, y, _ = case.measured(CHOICE_MEASUREMENTS, CHOICE_SEED)
    scores = [
        float(
            energy_scores(
                case.samples(y, find("tasks", method).make(**each), calls, CHOICE_EACH, CHOICE_SEED), x
            ).mean()
        )
        for each in settings
    ]
    return settings[scores.index(min(scores))]


def cell(dim: int, name: str, method: str, calls: int) -> Cell:
    """The figures of a method at its best settings."""
    case = problem(dim, name)
    settings = chosen(case, method, calls)
    x, y, posteriors = case.measured(MEASUREMENTS[dim], SEED)
    began = time.process_time()
    found = case.samples(y, find("tasks", method).make(**settings), calls, EACH, SEED)
    seconds = time.process_time() - began
    judged = fidelity(found, x, posteriors, seed=SEED)
    figures = {"energy": judged.energy, "mean error": judged.mean_error, "stein": judged.stein}
    figures |= {f"coverage {p:g}": figure for p, figure in judged.coverage.items()}
    figures |= {f"hpd {p:g}": figure for p, figure in judged.hpd.items()}
    ends = {key: (figure.value, figure.low, figure.high) for key, figure in figures.items()}
    return Cell(dim, name, method, calls, dict(settings), ends, round(seconds, 2))


def cells(dims: Sequence[int], calls: Sequence[int]) -> Iterator[tuple[int, str, str, int]]:
    """All cells."""
    return ((d, p, m, n) for n in calls for d in dims for p in PROBLEMS for m in METHODS)


def measure(out: Path, dims: Sequence[int], calls: Sequence[int]) -> None:
    """Write the cells that the file has not, one after the other."""
    known: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    todo = [each for each in cells(dims, calls) if "/".join(map(str, each)) not in known]
    began, whole, done = time.monotonic(), sum(n for *_, n in todo), 0
    out.parent.mkdir(parents=True, exist_ok=True)
    for each in todo:
        found = cell(*each)
        known["/".join(map(str, each))] = asdict(found)
        part = out.with_suffix(".part")
        part.write_text(json.dumps(known, indent=1) + "\n")
        part.replace(out)
        done += each[-1]
        left = (time.monotonic() - began) / done * (whole - done)
        value, low, high = found.figures["energy"]
        print(
            f"{'/'.join(map(str, each))} {found.settings}: energy {value:.4f} [{low:.4f}, {high:.4f}]; {left:.0f} s left",
            flush=True,
        )


def read(path: Path) -> list[Cell]:
    """The cells of a file."""
    return [
        Cell(**(each | {"figures": {key: tuple(ends) for key, ends in each["figures"].items()}}))
        for each in json.loads(path.read_text()).values()
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 dimensions and 20 calls alone")
    parser.add_argument("--out", type=Path, help="measure, and write the cells there")
    parser.add_argument("--dims", type=int, nargs="+", choices=DIMS, default=[2, 16])
    parser.add_argument("--draw", type=Path, help="draw the cells of this file, and write the page")
    parser.add_argument("--page", type=Path, default=Path("docs/inverse.md"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.out:
        measure(given.out, *(((2,), (20,)) if given.quick else (given.dims, CALLS)))
    if given.draw:
        write_page(read(given.draw), given.page, given.draw.with_name("posteriors-digits.json"))


if __name__ == "__main__":
    main()
