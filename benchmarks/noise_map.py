"""Where noise pays: samples of stochastic plans against those of the deterministic plan of as many calls, by the score's error.

    python -m benchmarks.noise_map --quick --out build/noise-map.json                 # a minute
    python -m benchmarks.noise_map --out benchmarks/results/noise-map.json            # an hour on one core
    python -m benchmarks.noise_map --draw benchmarks/results/noise-map.json           # docs/noise-map.svg and docs/noise.md

The data are four classes in 8 dimensions, a mixture whose score is exact; networks err from it by a known amount in four ways. The
figure is the energy distance of samples to draws of their own class, averaged over classes: of DDIM with noise (eta 0.5 and 1) less
that of DDIM, and of DPM-Solver++ 2M, on the same levels from the same starting noises. What the file has is not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch

from fewer import Plan
from fewer.claims.beds import CLASSES, SLOW, Bed, scaled_linear
from fewer.levels import s_of_tau, tau_of_log_s
from fewer.models.flawed import Branch, FlawedMixture, Rough, fitted, smoothed
from fewer.solvers.noise_share import with_noise

CALLS = (5, 8, 12, 20, 40, 80, 200)
BASELINES = ("ddim", "dpmpp-2m")
ETAS = (0.5, 1.0)  # of DDIM's noise: 1 is ancestral sampling, DDPM's
GRID, EACH, SEED = "logsnr", 512, 0
QUICK_CALLS, QUICK_EACH = (5, 20, 40), 128
KINDS: dict[str, tuple[str, tuple[float, ...], Callable[[float], Branch]]] = {
    "rough": ("rough in the level", (0.1, 0.3, 0.6), lambda size: Branch(CLASSES, Rough(size, seed=1))),
    "slow": (
        "slow in the level", (0.1, 0.6), lambda size: Branch(CLASSES, Rough(size, waves=4, periods=SLOW, seed=1)),
    ),
    "early": (
        "slow, above level 0.5 alone", (0.3, 0.6),
        lambda size: Branch(CLASSES, Rough(size, waves=4, periods=SLOW, seed=1, least=0.5)),
    ),
    "smoothed": ("exact for smoothed data", (0.05, 0.45), lambda size: Branch(smoothed(CLASSES, size))),
    "few": ("exact for few data", (16,), lambda size: Branch(fitted(CLASSES, int(size), 0.3))),
}  # fmt: skip
SAYS = {
    "rough": "amplitude {size:g}",
    "slow": "amplitude {size:g}",
    "early": "amplitude {size:g}",
    "smoothed": "variance {size:g}",
    "few": "{size:g} images a class",
}
COLOURS = {"better": "#0072b2", "worse": "#d55e00", "cannot tell": "#bdbdbd"}  # after Okabe & Ito 2008
NEUTRAL = "#808080"  # legible on white and on black


@dataclass(frozen=True)
class Cell:
    """DDIM with noise against a deterministic solver, of as many calls on the same levels.

    error       root of the mean squared error of the network's noise prediction, over levels uniform in log s
    difference  the energy distance with noise less that of the baseline: value, low and high; `distance` and `its` are the two
    """

    kind: str
    size: float
    error: float
    calls: int
    eta: float
    baseline: str
    difference: tuple[float, float, float]
    distance: float
    its: float

    @property
    def decision(self) -> str:
        """What the interval says of noise."""
        _, low, high = self.difference
        return "better" if high < 0 else "worse" if low > 0 else "cannot tell"


def networks() -> Iterator[tuple[str, float, Bed]]:
    """Kinds and sizes of the error, with the network; the exact one first."""
    sized = [(kind, size, of(size)) for kind, (_, sizes, of) in KINDS.items() for size in sizes]
    for kind, size, branch in (("exact", 0.0, Branch(CLASSES)), *sized):
        flawed = FlawedMixture(CLASSES, branch, branch)
        yield kind, size, Bed(flawed, flawed.model(scaled_linear(), name=f"{kind} {size:g}"))


def error_of(bed: Bed, levels: int = 24, n: int = 256) -> float:
    """Root of the mean squared error of the noise prediction, a number, over levels uniform in log s where the plans go."""
    schedule, start = bed.model.schedule, bed.model.start
    low, high = math.log(s_of_tau(schedule.tau_min)), math.log(s_of_tau(start))
    taus = [float(tau_of_log_s(low + (high - low) * (k + 0.5) / levels)) for k in range(levels)]
    of_noise = [float(bed.flawed.errors(tau, n).mean()) * ((1 - tau) / tau) ** 2 for tau in taus]
    return math.sqrt(sum(of_noise) / levels / math.prod(bed.model.shape))


def shares(plan: Plan, eta: float) -> list[float]:
    """The shares of fresh noise eta^2 (1 - (s' / s)^2) that make DDIM of this eta (Song et al. 2021) of its deterministic rows."""
    s = [s_of_tau(float(row.tau)) for row in plan.rows]
    return [eta**2 * (1 - (there / here) ** 2) for here, there in pairwise(s)]


def compared(bed: Bed, calls: int, each: int) -> Iterator[tuple[float, str, tuple[float, float, float], float, float]]:
    """Each eta against each baseline: eta, baseline, the difference of the distances and both."""
    ddim = bed.plain("ddim", calls, GRID)
    plans = {name: bed.plain(name, calls, GRID) for name in BASELINES}
    plans |= {f"eta {eta}": with_noise(ddim, shares(ddim, eta)) for eta in ETAS}
    made = {name: bed.made(plan, SEED, each) for name, plan in plans.items()}
    distances = {name: bed.distance(x, SEED).value for name, x in made.items()}
    for eta, name in product(ETAS, BASELINES):
        found = bed.nearer(made[f"eta {eta}"], made[name], SEED)
        yield eta, name, (found.value, found.low, found.high), distances[f"eta {eta}"], distances[name]


def measure(out: Path, calls: Sequence[int], each: int) -> None:
    """Write the cells of each network and number of calls as they are made."""
    known: dict[str, list[dict[str, object]]] = json.loads(out.read_text()) if out.exists() else {}
    todo = [
        (kind, size, bed, n) for kind, size, bed in networks() for n in calls if f"{kind}/{size:g}/{n}" not in known
    ]
    began, whole, done = time.monotonic(), sum(n for *_, n in todo), 0
    out.parent.mkdir(parents=True, exist_ok=True)
    for kind, size, bed, n in todo:
        error = error_of(bed)
        found = [Cell(kind, size, error, n, *rest) for rest in compared(bed, n, each)]
        known[f"{kind}/{size:g}/{n}"] = [asdict(cell) for cell in found]
        out.write_text(json.dumps(known, indent=1) + "\n")
        done += n
        left = (time.monotonic() - began) / done * (whole - done)
        said = ", ".join(f"eta {c.eta:g} against {c.baseline} {c.difference[0]:+.4f} ({c.decision})" for c in found)
        print(f"{kind} {size:g} (error {error:.3f}), {n} calls: {said}; {left:.0f} s left", flush=True)


def read(path: Path) -> list[Cell]:
    """The cells of a file."""
    return [
        Cell(**(cell | {"difference": tuple(cell["difference"])}))
        for found in json.loads(path.read_text()).values()
        for cell in found
    ]


def rows_of(cells: Sequence[Cell]) -> list[tuple[str, float, float]]:
    """Kind, size and error of the networks, in the order of the map."""
    kinds = ["exact", *KINDS]
    return sorted({(cell.kind, cell.size, cell.error) for cell in cells}, key=lambda row: (kinds.index(row[0]), row[2]))


def draw(cells: Sequence[Cell], svg: Path) -> None:
    """A panel for each amount of noise and baseline; rows are networks, columns calls. Grey: the interval holds 0."""
    import matplotlib.pyplot as plt

    style: dict[Any, Any] = {"svg.hashsalt": "fewer", "svg.fonttype": "none", "font.size": 8} | dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), NEUTRAL
    )
    rows, calls = rows_of(cells), sorted({cell.calls for cell in cells})
    panels = list(product(ETAS, BASELINES))
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            2, 2, figsize=(9.2, 0.52 * len(rows) + 1.6), sharex=True, sharey=True, facecolor="none"
        )
        for axis, (eta, baseline) in zip(axes.flat, panels, strict=True):
            axis.set_facecolor("none")
            for cell in cells:
                if (cell.eta, cell.baseline) != (eta, baseline):
                    continue
                x, y = calls.index(cell.calls), rows.index((cell.kind, cell.size, cell.error))
                axis.add_patch(plt.Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=COLOURS[cell.decision], lw=0))
                dark = cell.decision != "cannot tell"
                axis.text(x, y, f"{1000 * cell.difference[0]:+.0f}", ha="center", va="center", fontsize=6.5,
                          color="white" if dark else "black")  # fmt: skip
            axis.set(xlim=(-0.5, len(calls) - 0.5), ylim=(len(rows) - 0.5, -0.5))
            axis.set_title(f"DDIM, eta {eta:g}, against {baseline}", fontsize=9)
            axis.set_xticks(range(len(calls)), map(str, calls))
            axis.set_yticks(range(len(rows)), [_named(*row) for row in rows])
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
        for axis in axes[-1]:
            axis.set_xlabel("calls")
        marks = [plt.Rectangle((0, 0), 1, 1, color=colour, lw=0) for colour in COLOURS.values()]
        words = [f"with noise {word}" if word != "cannot tell" else word for word in COLOURS]
        figure.legend(marks, words, loc="lower center", ncols=3, frameon=False, labelcolor=NEUTRAL)
        figure.tight_layout(rect=(0, 0.05, 1, 1))
        figure.savefig(svg, metadata={"Date": None, "Creator": None}, transparent=True)
        plt.close(figure)


def _named(kind: str, size: float, error: float) -> str:
    if kind == "exact":
        return "exact"
    return f"{kind}, {SAYS[kind].format(size=size)} ({error:.2f})"


PAGE = """# When noise helps

Ancestral and SDE samplers add fresh noise in every step. On an exact score that can only add variance at few steps and change
nothing at many; where the network errs, noise may also wash out what its errors have added up to. This map says where it does.

![energy distance with noise less that without, by calls and the error of the score]({svg})

**How to read it.** Each cell compares two plans of as many calls, on the same levels and from the same starting noises: DDIM with
the share of noise that eta names (1 is ancestral sampling, DDPM's posterior) against DDIM, or against DPM-Solver++ 2M. The number
is the energy distance of {n:,} samples to the data, with noise less without, times 1000: negative where noise is better. Blue and
orange cells are those whose 95 % interval lies on one side of 0; grey ones are undecided. Rows are networks that err by a known
amount: in brackets the root of the mean squared error of their noise prediction, over all levels.

| error | what the network does |
|---|---|
| exact | the score of the data: four classes in 8 dimensions, a mixture of Gaussians |
| rough | its output is off by a factor that changes quickly with the level |
| slow | the same, with a factor that hardly changes over the levels |
| early | the same, above level 0.5 (s = 1) alone |
| smoothed | the exact score of data that are too wide by this variance (the data's own is 1.2) |
| few | the exact score of a kernel estimate from so few images of each class |

**What it says.** {says}

Ancestral noise costs at 5 to 12 calls on nearly every network, and eta 0.5 costs much less; from 40 calls on neither changes what
so many samples show on most. Noise is better where the network is too smooth: its samples are too wide, and few steps with noise
make them narrower. An error that hardly changes over the levels grows with noise, at any number of calls. That noise makes up for
errors of early levels, as is often said, is not to be seen here at up to 200 calls. Of so many intervals some are off by chance.

For a user: take a tuned deterministic plan first. If you suspect that the network is too smooth, or off in a way that only your
data can show, let the search decide: `fewer tune MODEL --nfe 8 --strategy fitted-noise --objective energy --data DIR` fits a share
of noise to each row of the tuned plan, from none on, and the plan is taken only where its samples as a whole are nearer to the data
on noises that the search did not see. `fewer sample --noise-share 0.1` adds a share by hand. The claims `fitted-noise/..` say what
that has brought on the bundled networks ([evidence](evidence.md)).

On the bundled networks of digits there is little left for noise to mend in pixels. On 4,096 held-out noises tuned plans with fitted
noise are nearer to the data than 0.8 of what the best standard sampler that adds noise leaves (the claims
`fitted-noise/..-standard`), but not nearer than tuned plans without noise: by energy distance 0.0098 [0.0078, 0.0118] and 0.0026
[0.0018, 0.0034] farther at 5 and 8 calls of `digits`, 0.0005 [0.0000, 0.0009] and 0.0001 [-0.0005, 0.0007] at those of
`dit-digits`. Shares that are fitted on the features of the digits' classifier bring samples nearer on these (5 calls of `digits`,
other noises: -0.0027 [-0.0042, -0.0012]). Name the features that matter to you.

Of `cifar16-dit`, by the Frechet distance to CIFAR-10 on a classifier's features and 4,096 held-out noises, neither is told from the
other: 0.50 [-0.03, 1.03] farther with fitted noise at 5 calls and 0.02 [-0.57, 0.62] at 8. Standard samplers that add noise leave
15.5 there at 5 calls, where the tuned plan with fitted noise leaves 12.2, and 9.7 at 8, where it leaves 11.7: its levels and
weights are fitted to the network's own fine samples, not to the data.

Fitting levels and weights again, with the shares, needs many noises, and 20 times as many plays as the shares alone. On the rough
network of the claim `fitted-noise/rough`, 8 calls, by BFGS on the same energy distance: of 256 noises it changes the distance on
other noises by 0.0017 [-0.0001, 0.0034] against the shares alone (below 0 is better), though on its own it falls by 0.0095: it
has fitted their chance. Of 2,048 it changes it by -0.0030 [-0.0061, 0.0000], where the shares alone bring -0.010 and both
together -0.0128 [-0.0206, -0.0049] (one seed). The shares themselves are as good from 256 noises (-0.012) as from 2,048.

## A share of noise in a row

Of the variance that noise has at a row's next level, a share g in [0, 1] is drawn anew: the row goes down below its next level and
up to it by noise. At g = 0 it is the deterministic row, to the bit; at g = 1 all noise before is forgotten. Rows of several steps
weigh earlier outputs as they would be with the noise that was added since, which is read off the states. So any plan that `tune`
finds can have noise, and a point keeps its mean and its deviation at every level, whatever the shares.

## Figures

{table}

Made by `python -m benchmarks.noise_map`; all figures are in `benchmarks/results/noise-map.json`.
"""


def says(cells: Sequence[Cell]) -> str:
    """Where noise is better and where it is worse, counted, in sentences."""
    parts = []
    for eta, baseline in product(ETAS, BASELINES):
        own = [cell for cell in cells if (cell.eta, cell.baseline) == (eta, baseline)]
        counts = {word: sum(cell.decision == word for cell in own) for word in COLOURS}
        where = sorted({cell.kind for cell in own if cell.decision == "better"})
        on = f" (all on {', '.join(where)})" if where else ""
        parts.append(
            f"against {baseline} eta {eta:g} is better in {counts['better']}{on} and worse in {counts['worse']}"
        )
    return f"Of {len(cells) // len(parts)} cells in each panel, {'; '.join(parts)}."


def table(cells: Sequence[Cell]) -> str:
    """Ancestral noise against DDIM, with intervals, as a markdown table."""
    calls = sorted({cell.calls for cell in cells})
    lines = [
        "Ancestral sampling against DDIM, 1000 times the difference of the energy distances, with its 95 % interval:", "",
        f"| network (error) | {' | '.join(f'{n} calls' for n in calls)} |", f"|---|{'---:|' * len(calls)}",
    ]  # fmt: skip
    for row in rows_of(cells):
        own = {c.calls: c for c in cells if (c.kind, c.size, c.error) == row and (c.eta, c.baseline) == (1.0, "ddim")}
        entries = [_entry(own[n]) if n in own else "" for n in calls]
        lines.append(f"| {_named(*row)} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _entry(cell: Cell) -> str:
    value, low, high = (1000 * number for number in cell.difference)
    return f"{value:+.0f} [{low:+.0f}, {high:+.0f}]"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer calls and samples")
    parser.add_argument("--out", type=Path, help="measure, and write the cells there")
    parser.add_argument("--draw", type=Path, help="draw the cells of this file, and write the page")
    parser.add_argument("--svg", type=Path, default=Path("docs/noise-map.svg"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.out:
        measure(given.out, *((QUICK_CALLS, QUICK_EACH) if given.quick else (CALLS, EACH)))
    if given.draw:
        cells = read(given.draw)
        draw(cells, given.svg)
        page = PAGE.format(svg=given.svg.name, n=EACH * 4, says=says(cells), table=table(cells))
        given.svg.with_name("noise.md").write_text(page)


if __name__ == "__main__":
    main()
