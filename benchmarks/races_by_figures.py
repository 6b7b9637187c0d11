"""What races by the two figures of verdicts save, beside what races by the ratio of RMSEs save on the same draws.

    python -m benchmarks.races_by_figures [--repeats 2] [--most 2048] [--seed 0]

The pairs: standard plans of 8 calls on the 16x16 image mixture, whose components are known modes, in either order. A race draws
noises with replacement from a pool on which all of them were played, so that the pool's figures are exactly the true ones, and
looks when `fewer.evaluate.statistics.racing` does. By figures it is the race of `fewer tune`: the decision of `endings` at the
level of the look, and an end where one of the two figures would hardly be decided. By RMSE it is `race`.

What a race says is right where the same decision says it of the pool's figures themselves. The fixed-size test of a kind asks
once, after N samples, the same N for every pair, N being where it is as often right as the races of that kind are (see
`benchmarks.racing`). The saving is the mean number of samples of a race over that N. Writes
benchmarks/results/races_by_figures.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import torch
from torch import Tensor

import fewer
from benchmarks.racing import saving
from fewer.claims.repeated import geometric_mean, share
from fewer.evaluate.modes import Modes
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics.endings import Endings, endings
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import decide, squared_errors
from fewer.evaluate.statistics.racing import ALPHA, Ahead, looks, race, ratios
from fewer.noise import unit_noise

POOL, FINE, CALLS, MARGIN = 2048, 64, 8, 0.05
PLANS = (
    "unipc logsnr",
    "unipc-3 logsnr",
    "dpmpp-2m logsnr",
    "vab logsnr",
    "deis logsnr",
    "unipc exponential",
    "dpmpp-2m karras",
)


@dataclass(frozen=True, eq=False)
class Pool:
    """Squared errors (plans, POOL), and which samples end in another mode, alike."""

    errors: Tensor
    apart: Tensor

    def compared(self, i: int, j: int, at: Tensor, alpha: float) -> Endings:
        """Two plans on some of the pool's noises."""
        return endings(self.errors[i, at], self.errors[j, at], (self.apart[i, at], self.apart[j, at]), alpha)

    def true(self, i: int, j: int) -> tuple[str, str]:
        """What is right to say of two plans, by figures and by RMSE: intervals shrunk to their values."""
        found = self.compared(i, j, torch.arange(POOL), ALPHA)
        exact = replace(found, error=found.error and point(found.error), elsewhere=point(found.elsewhere))
        rmse = float((self.errors[i].mean() / self.errors[j].mean()).sqrt())
        return exact.decision(MARGIN), decide(Interval(rmse, rmse, rmse, POOL), MARGIN)


def point(figure: Interval) -> Interval:
    """The value alone."""
    return Interval(figure.value, figure.value, figure.value, figure.n)


def pool(seed: int) -> Pool:
    """All plans on the pool's noises."""
    model = fewer.load("mixture16")
    modes, noise = Modes.of(model), unit_noise(seed, range(POOL), model.shape)
    if modes is None:
        raise SystemExit("the modes of mixture16 are not known")
    fine = fewer.sample(model, reference_plan(model, FINE), noise=noise, batch=1024)
    made = [
        fewer.sample(model, fewer.standard(solver, model, CALLS, grid), noise=noise, batch=1024)
        for solver, grid in (name.split() for name in PLANS)
    ]
    return Pool(torch.stack([squared_errors(x, fine) for x in made]), torch.stack([modes.apart(x, fine) for x in made]))


def by_figures(of: Pool, i: int, j: int, at: Tensor, most: int) -> tuple[str, int]:
    """The decision of a race by both figures, and its samples."""
    planned = looks(most)
    for n, alpha in planned:
        found = of.compared(i, j, at[:n], alpha)
        decision = found.decision(MARGIN)
        if decision != "cannot tell" or Ahead(n, alpha, most, planned[-1][1], MARGIN).futile_endings(found):
            break
    return decision, n


def raced(of: Pool, repeats: int, most: int, seed: int) -> Iterator[dict[str, list[float]]]:
    """Of each race of both kinds: samples, whether it was right, whether it was wrong, and at which fixed sizes one is right."""
    sizes = [n for n, _ in looks(most)]
    pairs = [pair for pair in permutations(range(len(PLANS)), 2) for _ in range(repeats)]
    for number, (i, j) in enumerate(pairs):
        at = torch.randint(POOL, (most,), generator=torch.Generator().manual_seed(1000 * seed + number))
        a, b = of.errors[i, at], of.errors[j, at]
        said = {"figures": by_figures(of, i, j, at, most)}
        found = race(lambda k, m, a=a, b=b: (a[k:m], b[k:m]), MARGIN, most)
        said["rmse"] = found.decision, found.samples
        fixed = {
            "figures": [of.compared(i, j, at[:n], ALPHA).decision(MARGIN) for n in sizes],
            "rmse": [decide(ratios(a[None, :n], b[None, :n], ALPHA)[0], MARGIN) for n in sizes],
        }
        for kind, truth in zip(("figures", "rmse"), of.true(i, j), strict=True):
            right = [float(agrees(one, truth)) for one in (said[kind][0], *fixed[kind])]
            wrong = said[kind][0] != "cannot tell" and not right[0]
            yield {
                "kind": [kind == "rmse"],
                "samples": [said[kind][1]],
                "right": right[:1],
                "wrong": [wrong],
                "fixed": right[1:],
            }


def agrees(said: str, truth: str) -> bool:
    """Whether something was said, and true: what is better is not worse, too."""
    return said == truth != "cannot tell" or (said == "not worse" and truth == "better")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="races of each pair in either order")
    parser.add_argument("--most", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = list(raced(pool(given.seed), given.repeats, given.most, given.seed))
    sizes = [n for n, _ in looks(given.most)]
    table = {key: torch.tensor([row[key] for row in rows], dtype=torch.float64).squeeze(1) for key in rows[0]}
    kinds: dict[str, object] = {}
    for number, kind in enumerate(("figures", "rmse")):
        here = {key: values[table["kind"] == number] for key, values in table.items()}
        count = len(here["samples"])
        ratio, n = saving(here["samples"], here["right"], here["fixed"], sizes, torch.zeros(count), given.seed)
        kinds[kind] = {
            "samples, mean": float(here["samples"].mean()), "right": share(int(here["right"].sum()), count).to_dict(),
            "wrong": share(int(here["wrong"].sum()), count).to_dict(), "that test's N": n,
            "samples of the fixed-size test of equal power": ratio.to_dict(),
        }  # fmt: skip
    samples = table["samples"].view(-1, 2)
    found = {
        "races of each kind": len(samples), "most": given.most, "margin": MARGIN, "plans": list(PLANS), **kinds,
        "samples by figures over those by rmse": geometric_mean((samples[:, 0] / samples[:, 1]).tolist()).to_dict(),
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    (Path(__file__).parent / "results" / "races_by_figures.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
