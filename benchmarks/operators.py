"""Operators as weights: what a row gains where its weights differ by channel or by band of frequencies, on fresh noises.

    python -m benchmarks.operators mixture16 digits --nfe 3,5,8 --seeds 2

At the levels of the plan that `tune --evaluations 8000` hands out, all rows are fitted to the reference solution's way with one
weight for each regressor, with one for each of its channels, and with one for each of 2, 4 or 8 bands of the cosine transform's
frequencies; and the last row alone is fitted after the rows of that plan. Each is one least-squares fit on the same noises.
Writes benchmarks/results/operators.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fewer
from fewer.evaluate.statistics.endings import typical
from fewer.evaluate.statistics.paired import squared_errors
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan, Row
from fewer.search.objective import Objective
from fewer.search.row_fit import RowFit, least_squares, weighted
from fewer.search.trajectory import reference_trajectories
from fewer.versions import versions

BOUND, CALLS = 8_000, 128  # evaluations of the search, and rows of the reference solution
GROUPS = ("one", "channels", "2 bands", "4 bands", "8 bands")

Give = Callable[[Row, Tensor], Tensor]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--nfe", default="3,5,8")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--noises", type=int, default=24, help="of the fit")
    parser.add_argument("--fresh", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    where = Path(__file__).parent / "results" / "operators.json"
    for name in given.models:
        for nfe in map(int, given.nfe.split(",")):
            for seed in range(given.seeds):
                rows.append({"model": name, "nfe": nfe, "seed": seed} | measured(name, nfe, seed, given))
                print(rows[-1], flush=True)
                found = {"noises": given.noises, "fresh": given.fresh, "rows": rows, "versions": versions()}
                where.write_text(json.dumps(found, indent=1) + "\n")


def measured(name: str, nfe: int, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Typical errors on the fresh noises, by the groups of numbers that have a weight of their own."""
    model = fewer.load(name)
    plan = fewer.tune(model, nfe, seed=seed, evaluations=BOUND).plan
    fitted, fresh = (task(model, seed, *of) for of in ((Stream.SAMPLES, given.noises), (Stream.CHOICE, given.fresh)))
    groups = {kind: numbers(kind, model.shape) for kind in GROUPS}
    return {
        "tuned": typical(fresh.squared_errors(plan)).value,
        "all rows": {kind: walked(plan, fitted, fresh, group) for kind, group in groups.items()},
        "last row": {kind: ended(plan, fitted, fresh, group) for kind, group in groups.items()},
    }


def task(model: fewer.Model, seed: int, stream: Stream, n: int) -> Objective:
    """n noises with their reference solution and its way."""
    noise = unit_noise(seed, stream.numbers(n), model.shape)
    objective = Objective(model, noise, model.labels(n))
    way = reference_trajectories(objective, None, CALLS, n)
    return replace(objective, target=way.states[-1].view_as(noise), trajectory=way)


def numbers(kind: str, shape: Sequence[int]) -> Tensor:
    """The group of each number of a transformed sample, int64 of its shape."""
    channels, height, width = shape
    if kind == "channels":
        return torch.arange(channels)[:, None, None].expand(*shape)
    radius = torch.hypot(torch.arange(height)[:, None] / height, torch.arange(width)[None] / width)
    count = 1 if kind == "one" else int(kind.split()[0])
    edges = torch.logspace(math.log10(0.7 / height), math.log10(float(radius.max())), count)[:-1]
    return torch.bucketize(radius, edges).expand(*shape)


def walked(plan: Plan, fitted: Objective, fresh: Objective, group: Tensor) -> float:
    """The error of rows that are fitted one after the other to the reference solution's way."""
    taus = [float(row.tau) for row in plan.rows]
    fit, calls = RowFit(fitted, way(fitted)), [Row(tau, {}) for tau in taus]
    here, there = fitted.noise * taus[0], fresh.noise * taus[0]
    mine: list[Tensor] = []
    theirs: list[Tensor] = []
    for n, call in enumerate(calls):
        mine.append(fitted.outputs(call, here))
        theirs.append(fresh.outputs(call, there))
        usual = torch.zeros(n + 2, dtype=torch.float64)
        usual[0], usual[-1] = 1.0, (taus[n + 1] if n + 1 < len(taus) else 0.0) - taus[n]
        operator = Operator.of([here, *mine], usual, fit.target(taus, n), group)
        here, there = operator([here, *mine]), operator([there, *theirs])
    return typical(squared_errors(there, fresh.target)).value


def ended(plan: Plan, fitted: Objective, fresh: Objective, group: Tensor) -> float:
    """The error where the last row alone is fitted."""
    last, row = len(plan.rows) - 1, plan.rows[-1]

    def regressors(objective: Objective) -> list[Tensor]:
        played = objective.rollout(plan).histories
        return [
            torch.cat([each.states[last] for each in played]),
            *(torch.cat([each.outputs[j] for each in played]) for j in range(last + 1)),
        ]

    state = 1.0 if row.a is None else row.a.get(last, 0.0)
    usual = torch.tensor([float(state), *(float(row.b.get(j, 0.0)) for j in range(last + 1))], dtype=torch.float64)
    operator = Operator.of(regressors(fitted), usual, fitted.target, group)
    return typical(squared_errors(operator(regressors(fresh)), fresh.target)).value


def way(objective: Objective) -> Any:
    """The reference solution's way, which the tasks here have."""
    assert objective.trajectory is not None
    return objective.trajectory


class Operator:
    """Weights of each group of numbers of the cosine transform."""

    def __init__(self, weights: Tensor, group: Tensor) -> None:
        self.weights, self.group = weights, group

    @staticmethod
    def of(given: Sequence[Tensor], usual: Tensor, target: Tensor, group: Tensor) -> Operator:
        """Of least squares: one weight for all, then for each group what is left, drawn towards that one."""
        shared = least_squares(given, usual, target)
        seen = [transformed(x) for x in given]
        wanted = transformed(target)
        weights = torch.stack([
            least_squares([x[:, where] for x in seen], shared, wanted[:, where])
            for where in (group == k for k in range(int(group.max()) + 1))
        ])  # fmt: skip
        return Operator(weights, group)

    def __call__(self, given: Sequence[Tensor]) -> Tensor:
        """The sum of the regressors (n, *shape) by these weights."""
        if len(self.weights) == 1:
            return weighted(self.weights[0], given)
        terms = (w.float()[self.group] * transformed(x) for w, x in zip(self.weights.T, given, strict=True))
        return transformed(sum(terms, torch.zeros_like(given[0])), back=True)


def transformed(x: Tensor, back: bool = False) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of the last two axes, or its inverse."""
    rows, columns = (cosines(n) for n in x.shape[-2:])
    return rows.T @ x @ columns if back else rows @ x @ columns.T


def cosines(n: int) -> Tensor:
    """The matrix (n, n) of the transform."""
    k, i = torch.arange(n)[:, None], torch.arange(n)[None]
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


if __name__ == "__main__":
    main()
