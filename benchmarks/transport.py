"""Entropic transport to a marginal error of 1e-9: Sinkhorn-Newton-Sparse against plain Sinkhorn and against POT.

    pip install POT
    python -m benchmarks.transport [--sizes 500 1000] [--repeats 9]

Two random weighted mixtures of Gaussians in two dimensions, squared distance, eps a share of the mean cost. All sides
take turns in shuffled order on one thread; ratios are medians over the rounds with intervals by order statistics. POT's
solvers stop at an L2 error, here 1e-9 / sqrt(n), so that their L1 error is at most 1e-9 as well; they look every tenth
iteration. Its variant in logarithms is run up to n = 500. `ot.emd2` solves another problem, without regularisation, and
is there for scale.
Writes benchmarks/results/transport.json.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import ot
import torch

from fewer.claims.evaluate.transport import random_mixture
from fewer.evaluate.cost.clock import median
from fewer.evaluate.distances.transport import sinkhorn, sinkhorn_newton_sparse
from fewer.versions import versions

TOL, MOST = 1e-9, 100_000
LOGARITHMS = 500  # the largest n at which POT's slow variant is run


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--eps", type=float, nargs="+", default=[0.02], help="relative to the mean cost")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [one(n, eps, arguments.repeats, arguments.seed) for n in arguments.sizes for eps in arguments.eps]
    found = {
        "what": "entropic transport to a marginal error of 1e-9",
        "rows": rows,
        "versions": {**versions(), "POT": metadata.version("POT"), "threads": "1"},
    }
    where = Path(__file__).parent / "results" / "transport.json"
    where.write_text(json.dumps(found, indent=1) + "\n")


def one(n: int, relative: float, repeats: int, seed: int) -> dict[str, Any]:
    """Iterations, errors and times of one problem."""
    generator = torch.Generator().manual_seed(seed)
    x, y = random_mixture(n, 2, generator), random_mixture(n, 2, generator)
    cost = torch.cdist(x, y).square()
    a, b = (torch.rand(n, generator=generator, dtype=torch.float64) + 0.1 for _ in range(2))
    a, b, eps = a / a.sum(), b / b.sum(), relative * float(cost.mean())
    arrays = a.numpy(), b.numpy(), cost.numpy()

    def pot(method: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stop = TOL / math.sqrt(n)
            return ot.sinkhorn(*arrays, eps, method=method, stopThr=stop, numItermax=MOST, log=True)

    sides: dict[str, Callable[[], Any]] = {
        "sinkhorn-newton-sparse": lambda: sinkhorn_newton_sparse(cost, a, b, eps, TOL),
        "plain Sinkhorn, in logarithms": lambda: sinkhorn(cost, a, b, eps, TOL, MOST),
        "POT ot.sinkhorn": lambda: pot("sinkhorn"),
        "POT ot.emd2": lambda: ot.emd2(*arrays, numItermax=10_000_000),
    }
    if n <= LOGARITHMS:
        sides["POT ot.sinkhorn, method sinkhorn_log"] = lambda: pot("sinkhorn_log")
    seconds = rounds(sides, repeats)
    ours = seconds["sinkhorn-newton-sparse"]
    row: dict[str, Any] = {"n": n, "eps / mean cost": relative, "sides": {}}
    for name, side in sides.items():
        ratios = [mine / its for mine, its in zip(ours, seconds[name], strict=True)]
        row["sides"][name] = {
            **_facts(side(), arrays),
            "seconds": median(seconds[name]).to_dict(),
            "seconds of sinkhorn-newton-sparse / its": median(ratios).to_dict(),
        }
        print(n, relative, name, row["sides"][name], flush=True)
    return row


def rounds(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every side in `repeats` rounds, its turn drawn anew in each; a round before them does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    order, shuffler = list(sides), random.Random(0)
    for number in range(repeats + 1):
        shuffler.shuffle(order)
        for name in order:
            began = perf_counter()
            sides[name]()
            if number:
                seconds[name].append(perf_counter() - began)
    return seconds


def _facts(result: Any, arrays: Any) -> dict[str, float | int]:
    """Iterations, the marginal error in L1, and the plan's cost."""
    a, b, cost = arrays
    if isinstance(result, tuple):
        plan, log = result
        error = abs(plan.sum(1) - a).sum() + abs(plan.sum(0) - b).sum()
        return {"iterations": int(log["niter"]), "error": float(error), "value": float((plan * cost).sum())}
    if isinstance(result, float):
        return {"value": result}
    return {
        "iterations": result.sinkhorn + result.newton,
        "Newton iterations": result.newton,
        "conjugate gradient iterations": result.conjugate_gradient,
        "evaluations": result.evaluations,
        "error": result.error,
        "value": result.value,
    }


if __name__ == "__main__":
    main()
