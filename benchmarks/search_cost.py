"""Quality against evaluations: what `tune` hands out after so many network evaluations in all, on noises that it never saw.

    python -m benchmarks.search_cost mixture16 digits --nfe 5,8 --seeds 2 --out build/search-cost.json
    python -m benchmarks.search_cost digits --guidance 2 --nfe 6,8 --out build/search-cost.json
    python -m benchmarks.search_cost full-mixture --data FOLDER_OF_CIFAR_ZIPS --nfe 5,8,10 --out build/search-cost.json
    python -m benchmarks.search_cost --draw benchmarks/results/search-cost.json    # docs/search-cost.svg and .md

All evaluations of a run are counted: the reference solutions, the ranking of standard plans, the search and the comparison. A
point is one run; where no tuned plan was shown to be as good, it is the standard plan that was kept. Beside the default at
several bounds and without one stands `gauss-newton` without one, which was the default before.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import fewer
from benchmarks.against_diffusers import load
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.statistics.endings import elsewhere, typical
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.search.request import enough_noises

BOUNDS: tuple[int | None, ...] = (8_000, 16_000, 40_000, None)
BEFORE = "gauss-newton"
ACROSS = 4  # panels beside each other
FRESH = 512  # noises that no search sees


@dataclass(frozen=True)
class Point:
    """A run of `tune`: its evaluations, its verdict, and the plan's figures on the fresh noises, each (value, low, high)."""

    search: str
    bound: int | None
    evaluations: int
    seconds: float
    decision: str
    typical: tuple[float, float, float]
    elsewhere: tuple[float, float, float]
    rmse: float


def judge_of(model: fewer.Model, n: int, guidance: float | None) -> Evaluator:
    """Fresh noises with their reference solution, at a guidance scale where one is given."""
    noise = unit_noise(1, Stream.CHOICE.numbers(n), model.shape)
    return Evaluator(model, noise, model.labels(n)).with_reference([], guidance=guidance)


def measured(
    judge: Evaluator, nfe: int, seed: int, search: str, bound: int | None, guidance: float | None = None
) -> Point:
    """The plan of one run, on the fresh noises; the default before had 96 noises or more."""
    noises = enough_noises(judge.model, 96) if search == BEFORE else None
    result = fewer.tune(
        judge.model, nfe, seed=seed, guidance=guidance, strategy=search, evaluations=bound, noises=noises
    )
    record = result.record
    return Point(
        search, bound, record.evaluations, record.seconds, record.verdict.decision, **figures(judge, result.plan)
    )  # fmt: skip


def figures(judge: Evaluator, plan: Plan) -> dict[str, tuple[float, float, float] | float]:
    """Typical error, share of other images and RMSE of a plan."""
    samples = judge.samples(plan)
    errors = judge.errors(samples)
    both = {"typical": typical(errors), "elsewhere": elsewhere(errors, judge.elsewhere(samples))}
    return {name: (i.value, i.low, i.high) for name, i in both.items()} | {"rmse": float(errors.mean().sqrt())}


def measure(given: argparse.Namespace) -> None:
    """Write the points of all runs, after each of them; those that the file has are not made again."""
    out: Path = given.out
    found = json.loads(out.read_text()) if out.exists() else {}
    bounds = [None if word == "none" else int(word) for word in given.bounds.split(",")] if given.bounds else BOUNDS
    runs = [("regression", bound) for bound in bounds] + ([] if given.only else [(BEFORE, None)])
    for name in given.models:
        model = load(name, given.data) if name == "full-mixture" else fewer.load(name)
        judge = judge_of(model, given.fresh, given.guidance)
        shown = Path(name).name + ("" if given.guidance is None else f" at scale {given.guidance:g}")
        for nfe in map(int, given.nfe.split(",")):
            for seed in range(given.seeds):
                for search, bound in runs:
                    key = f"{shown}/{nfe}/{seed}/{search}/{bound or 'unbounded'}"
                    if key in found:
                        continue
                    found[key] = asdict(measured(judge, nfe, seed, search, bound, given.guidance))
                    out.parent.mkdir(parents=True, exist_ok=True)
                    out.write_text(json.dumps(found, indent=1))
                    point = found[key]
                    print(
                        f"{key}: {point['evaluations']} evaluations, typical {point['typical']}, {point['decision']}",
                        flush=True,
                    )


Points = dict[tuple[str, ...], Point]  # by model, calls, seed, search and bound


def draw(points: Points, svg: Path) -> None:
    """A panel for each model and number of calls; typical errors by evaluations, a line for the default of each seed."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    panels = sorted({key[:2] for key in points}, key=lambda panel: (panel[0], int(panel[1])))
    rows = -(-len(panels) // ACROSS)
    figure, axes = pyplot.subplots(rows, ACROSS, figsize=(3.4 * ACROSS, 3 * rows), squeeze=False, sharex=True)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, panel in zip(axes.flat, panels, strict=False):
        own = {key: point for key, point in points.items() if key[:2] == panel}
        for n, search in enumerate(("regression", BEFORE)):
            for seed in sorted({key[2] for key in own}):
                line = sorted((p for key, p in own.items() if key[2:4] == (seed, search)), key=lambda p: p.evaluations)
                middle = [p.typical[0] for p in line]
                reach = [[p.typical[0] - p.typical[1] for p in line], [p.typical[2] - p.typical[0] for p in line]]
                label = {"regression": "tune", BEFORE: f"tune --strategy {BEFORE}"}[search] if seed == "0" else None
                axis.errorbar(
                    [p.evaluations for p in line], middle, reach, fmt="o-", color=f"C{n}", ms=4, lw=1, label=label
                )
        axis.set(xscale="log", yscale="log", title=f"{panel[0]}, {panel[1]} calls", xlabel="network evaluations in all")
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))
        axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x / 1000:g}k"))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            which(ticker.FuncFormatter(lambda y, _: f"{y:.3g}"))
        axis.tick_params(labelsize=7, which="both", labelbottom=True)
        axis.legend(fontsize=7)
    for row in axes:
        row[0].set_ylabel("typical error, fresh noises")
    figure.tight_layout()
    figure.savefig(svg)


PAGE = """# What a search costs

`fewer tune --evaluations N` bounds all network evaluations of a run, each of a single sample: the reference solutions, the ranking
of standard plans, the search, and the comparison on held-out noises. `--time` bounds the seconds likewise, and `--dry-run` says
beforehand what a run takes on this device. Without a bound a search goes on until it stops to gain; a network of over 100 million
weights has 8,000 evaluations a budget (16,000 where rows are guided) unless its cost is given.

![typical error over network evaluations]({svg})

What `tune` handed out, on {fresh} noises that it never saw (128 of the 16x16 networks): the [typical error](evidence.md) with its
95 % interval, the share of samples that end at another image, and the verdict of the run itself. `gauss-newton` without a bound was
the default before rows were fitted by regression. Seeds are those of the search's noises; the fresh noises are the same for all.
Where a verdict is *cannot tell*, the best standard plan was kept.

{table}

Made by `python -m benchmarks.search_cost`; all figures are in `benchmarks/results/search-cost.json`.

## Where 8,000 evaluations go

At 5 calls on digits: 1,180 to the search's reference solution, 1,980 to that of 31 held-out noises, 900 to ranking 22 standard
plans, 270 to fitted rows, 2,400 to Gauss-Newton (three Jacobians), 780 to the comparison and 400 to the pipeline as it is. So the
search itself has a third. The calls of the reference are doubled from 8 on eight noises, until the median sample's error, as the
fall of its changes foretells it, is a tenth of what a tuned plan may have. Doubled from 32 by root mean squares, which a sample at
the border of two modes decides, they came to twice as many on mixture16: over five seeds the typical error of what `tune` hands
out is now 0.99, 0.89, 0.84, 0.99, 0.89 and 0.97 of what it was at 3, 4, 5, 6, 8 and 10 calls, and 0.99 to 1.01 on digits,
dit-digits and the full image mixture. A quarter in place of a tenth halves the calls on digits and dit-digits, too: 0.98 at 5 calls
of dit-digits, but 1.22 at 8 of mixture16, and one of five runs on digits could not tell a plan of half the error from the best
standard one. What else was tried for the search, by the typical error on 192 fresh noises over that of the search as it is,
with search and references apart so that each has the evaluations named here (its own are 9 noises and 2,650; seeds 0 to 2, or to 3
where marked, at 5 and 8 calls of mixture16, which differ by some 6 % by chance):

| tried | 5 calls | 8 calls |
|---|---|---|
| 4,500 evaluations, on 9 noises | 0.96 | 0.89 |
| 4,500, on 14 / 20 noises | 0.87 / 0.91 | 0.93 / 0.90 |
| and errors by Cauchy's loss at the median, over 4,500 on 14 | 0.93 | 0.99 |
| differences along levels to one side, over 4,500 on 14 | 0.97 | 1.01 |
| levels moved twice / four times with rows fitted inside first, over Cauchy's loss alone | 1.15 / 1.14 | 1.04 / 1.09 |
| the start chosen by typical error | 1.00 | 1.00 |
| damping of at least 0.001 / 0.01 | 1.00 / 1.05 | 0.96 / 0.98 |
| weights on the last two earlier outputs alone (3,600 on 12, 4 seeds) | 0.95 | 1.07 |
| all noises from the first Jacobian on (likewise) | 1.05 | 1.09 |
| damping of each step by leaving noises out (2,650 on 9, 6 seeds) | 1.18 | 1.10 |
| two starts, a Jacobian for each (likewise) | 1.23 | 1.00 |
| four tries of a step by an updated Jacobian in place of two (likewise) | 1.01 | 0.98 |
| and damping divided by 2 in place of 4 (likewise) | 0.99 | 0.98 |
| levels moved by one Jacobian of three, on 9 / 12 noises (likewise) | 1.12 / 1.09 | 1.00 / 0.95 |

At 8 calls one or two Jacobians are all that is made, so that some of these change nothing there. Where the error is lost: on the
search's own 9 noises its plans have 0.65 of their error on fresh ones on mixture16 (6 seeds, at 5 and 8 calls), and 0.70 to 0.85 on
digits (3 seeds at 5), so they are fitted too closely to these. But a step from a fit on digits is 4 % better with twice the noises,
and 0 and 5 % better with the damping that fresh noises like best (seeds 0 and 1). The rest is the valley that the descent is in:
the network is rough in time, so that where the first Jacobian has led, steps by the second raise the error that it says they lower,
even an eighth as long, and 12,000 evaluations on 24 noises end at 0.0191 where 2,650 on 9 end at 0.0212 (seed 1, 96 fresh noises).
The unbounded search tries three starts and has ten times the noises.

Cauchy's loss weighs a sample of squared error e by 1 / (1 + e / median) in place of capping it. On digits at 5 calls it is at 0.94
with 3,800 evaluations on 13 noises; but a run of `tune` within 8,000 has 9 noises there, and with it the one that was made ended
at 0.0259 in place of 0.0186. Nor can the comparison give much: of 20 held-out noises at 5 calls and 27 at 3, three of ten runs on
mixture16 could not tell a plan of a tenth of the error from the best standard one, since fewer than eight samples ended where
the reference does under both, but not so few that their share decides. Of 40 noises in place of 64 that does not come about, but
all it brought, over five seeds of mixture16, was 0.90 at 8 calls, which is one seed's doing, 0.94 at 10, and 1.00 at 3 and 5, at
intervals a quarter wider: 64 stay.

## Differences to one side or to both

Gauss-Newton takes differences along levels to both sides, which costs a third more evaluations a Jacobian at 5 calls. At 8,000
in all, of which three to five Jacobians are made, that is a twentieth of the run, and neither is better beyond its interval: the
typical error with both over that with one is 1.01 [0.96, 1.07] on the full image mixture (10 seeds), 0.94 [0.72, 1.24] on
mixture16 and 0.96 [0.79, 1.17] on digits (3 seeds each). Nor does the curvature that a Jacobian shows say where one side would
do: rated by both sides' linear model of the end error, the step from one side keeps 92, 93 and 65 % of the gain of the step
from both at the first three Jacobians on the full mixture, and 99, 92 and 82 % on digits, which is rougher. So there is no rule
that chooses.

## Operators in place of scalar weights

A weight for each channel or each band of frequencies of every regressor, by the same fit, is no part of the search. At the levels
of mixture16's plans of 3, 5 and 8 calls, rows that are fitted with eight bands have 0.85 to 1.01 of the scalar fit's typical error
on fresh noises, with channels 0.97 to 1.07. But levels and weights are moved together after that fit: of the last row of the plan
so found, eight bands make 3.5 % more than the scalar fit of that row, which brings 2.7 % by itself. On digits at 3 calls they bring
nothing. That 2.7 % is what 24 noises know and the search's nine do not: on the search's own noises that fit leaves 0.995 of the
typical error (0.977 to 1.002 in nine runs at 5 calls: mixture16, digits, dit-digits), and where its ridge is chosen by leaving
noises out, it keeps the row as it is in eight of nine. So it is no part of the search either.
`python -m benchmarks.operators` measures it (`--noises 9` for as many as the search has).
"""


def table(points: Points) -> str:
    """The points as a markdown table, by model and number of calls."""
    lines = [
        "| network | calls | search | seed | evaluations in all | typical error | elsewhere | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in sorted(
        points, key=lambda key: (key[0], int(key[1]), key[3] == BEFORE, points[key].bound or math.inf, int(key[2]))
    ):
        point = points[key]
        middle, low, high = (f"{value:.3g}" for value in point.typical)
        bound = "no bound" if point.bound is None else f"`--evaluations {point.bound}`"
        search = bound if key[3] != BEFORE else f"`{BEFORE}`, no bound"
        lines.append(
            f"| {key[0]} | {key[1]} | {search} | {key[2]} | {point.evaluations:,} | {middle} [{low}, {high}] "
            f"| {point.elsewhere[0]:.1%} | {point.decision} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--nfe", default="5")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--fresh", type=int, default=FRESH)
    parser.add_argument("--bounds", help="evaluations, such as 8000,none, in place of the usual ones")
    parser.add_argument("--only", action="store_true", help="the default alone")
    parser.add_argument("--data", help="folder with the data of the full mixture")
    parser.add_argument("--out", type=Path, default=Path("build/search-cost.json"))
    parser.add_argument("--draw", type=Path)
    parser.add_argument("--svg", type=Path, default=Path("docs/search-cost.svg"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.models:
        measure(given)
    if given.draw:
        points = {tuple(key.split("/")): Point(**point) for key, point in json.loads(given.draw.read_text()).items()}
        draw(points, given.svg)
        page = PAGE.format(svg=given.svg.name, table=table(points), fresh=FRESH)
        given.svg.with_suffix(".md").write_text(page)


if __name__ == "__main__":
    main()
