"""Quality against evaluations: what each search has found after so many network evaluations, on noises that none saw.

    python -m benchmarks.search_cost mixture16 digits --nfe 5,8 --seeds 2 --out build/search-cost.json
    python -m benchmarks.search_cost --draw build/search-cost.json --svg docs/search-cost.svg

Every search has the same noises, reference solution and ranked standard plans, whose evaluations count for each of them; those of
the held-out noises do not. After every candidate the plan that the search would hand out is noted with the evaluations so far.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch

import fewer
from fewer.evaluate.statistics.endings import typical
from fewer.noise import Stream, unit_noise
from fewer.samplers import standard_plans
from fewer.search.objective import Objective
from fewer.search.space import Space, fits
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.ld3 import LearnedTimes
from fewer.search.strategies.regression import Regression, RowsByRegression
from fewer.search.strategies.standards import Standards, by_grid
from fewer.search.strategy import Strategy

SEARCHES: dict[str, Strategy] = {
    "regression": Regression(),
    "rows-by-regression": RowsByRegression(),
    "gauss-newton": GaussNewton(),
    "learned-times": LearnedTimes(),
}
FRESH = 192  # held-out noises


@dataclass(frozen=True)
class Bed:
    """A model at a number of calls, with a search's noises and ranked plans, and held-out noises."""

    objective: Objective
    held_out: Objective
    standards: list[fewer.Plan]

    @classmethod
    def of(cls, model: fewer.Model, nfe: int, seed: int, noises: int) -> Bed:
        """The noises of a seed with their reference solutions."""

        def problem(stream: Stream, n: int) -> Objective:
            noise = unit_noise(seed, stream.numbers(n), model.shape)
            return Objective(model, noise, model.labels(n)).with_reference([])

        objective = problem(Stream.SAMPLES, noises)
        plans = tuple(standard_plans(model, nfe))
        ranked = Standards(plans).search(objective.first(32), Space(model, plans[:1]), [], seed)
        best = [candidate.plan for candidate in sorted(ranked, key=lambda candidate: candidate.error)]
        return cls(objective, problem(Stream.CHOICE, FRESH), best)

    def error(self, plan: fewer.Plan) -> dict[str, float]:
        """Typical error and RMSE on the held-out noises."""
        errors = self.held_out.squared_errors(plan)
        return {"typical": typical(errors).value, "rmse": float(errors.mean().sqrt())}


def curve(bed: Bed, strategy: Strategy, most: int) -> list[dict[str, float]]:
    """Evaluations so far and held-out errors of the plan that would be handed out, whenever that is another."""
    own = bed.objective.apart()
    own.counter.add(bed.objective.evaluations)
    space = Space(own.model, by_grid([plan for plan in bed.standards if fits(plan)]))
    points: list[dict[str, float]] = []
    done: list[Any] = []
    last = None
    for candidate in strategy.search(own, space, [], 0):
        done.append(candidate)
        plan = strategy.choose(done).plan
        if plan != last:
            points.append({"evaluations": own.evaluations, **bed.error(plan)})
            last = plan
        if own.evaluations > most:
            break
    return points


def measure(models: list[str], calls: list[int], seeds: int, noises: int, most: int, out: Path) -> None:
    """Write the curves of all searches, after each of them; those that the file has are not made again."""
    found = json.loads(out.read_text()) if out.exists() else {}
    for name in models:
        model = fewer.load(name)
        for nfe in calls:
            for seed in range(seeds):
                left = [each for each in SEARCHES if f"{name}/{nfe}/{seed}/{each}" not in found]
                if not left:
                    continue
                bed = Bed.of(model, nfe, seed, noises)
                found[f"{name}/{nfe}/{seed}/standard"] = [
                    {"evaluations": bed.objective.evaluations, **bed.error(bed.standards[0])}
                ]
                for each in left:
                    found[f"{name}/{nfe}/{seed}/{each}"] = curve(bed, SEARCHES[each], most)
                    out.parent.mkdir(parents=True, exist_ok=True)
                    out.write_text(json.dumps(found, indent=1))
                    print(f"{name} {nfe} seed {seed} {each}: {found[f'{name}/{nfe}/{seed}/{each}'][-1]}", flush=True)


def draw(found: dict[str, list[dict[str, float]]], svg: Path) -> None:
    """A panel for each model and number of calls; typical errors by evaluations, a line a search and seed."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    panels = sorted({tuple(key.split("/")[:2]) for key in found}, key=lambda panel: (panel[0], int(panel[1])))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3.4), squeeze=False)
    for axis, (name, nfe) in zip(axes[0], panels, strict=True):
        for n, search in enumerate(SEARCHES):
            for key in [key for key in found if key.startswith(f"{name}/{nfe}/") and key.endswith(f"/{search}")]:
                points = found[key]
                label = search if key.split("/")[2] == "0" else None
                axis.plot(
                    [p["evaluations"] for p in points], [p["typical"] for p in points], f"C{n}", lw=1.2, label=label
                )
        levels = [
            points[0]["typical"]
            for key, points in found.items()
            if key.startswith(f"{name}/{nfe}/") and "standard" in key
        ]
        axis.axhline(sum(levels) / len(levels), color="grey", ls=":", label="best standard plan")
        axis.set(xscale="log", yscale="log", title=f"{name}, {nfe} calls", xlabel="network evaluations")
    axes[0][0].set_ylabel("typical error, held-out noises")
    axes[0][-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(svg)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--nfe", default="5")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--noises", type=int, default=96)
    parser.add_argument("--most", type=int, default=150_000, help="evaluations after which a search is stopped")
    parser.add_argument("--out", type=Path, default=Path("build/search-cost.json"))
    parser.add_argument("--draw", type=Path)
    parser.add_argument("--svg", type=Path, default=Path("docs/search-cost.svg"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.models:
        measure(given.models, [int(n) for n in given.nfe.split(",")], given.seeds, given.noises, given.most, given.out)
    if given.draw:
        draw(json.loads(given.draw.read_text()), given.svg)


if __name__ == "__main__":
    main()
