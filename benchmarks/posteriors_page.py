"""The page 'which sampler for my inverse problem' of the leaderboard's cells: a picture, tables, and what they say."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewer.claims.tasks.posterior_beds import NOISE, PROBLEMS

COLOURS = {  # after Okabe & Ito 2008; grey for what no user has
    "exact-guidance": "#808080", "mmps": "#0072b2", "tmpd": "#56b4e9", "pigdm": "#009e73", "diffpir": "#e69f00", "dps": "#d55e00",
    "split-gibbs": "#cc79a7", "red-diff": "#b2a000", "lanpaint": "#000099",
}  # fmt: skip
DERIVATIVES = {"mmps": "1 + its iterations (2 or 4)", "tmpd": "2", "pigdm": "1", "dps": "1"}
NEUTRAL = "#808080"  # legible on white and on black
LEAST = 1e-3  # energy distance below which a point is drawn here: it is unbiased, and may be below 0
SHOWN = 100  # calls of the tables
LARGE = 1000.0  # from which on figures have two digits
NETWORKS = {
    "digits": "Digits, UNet", "dit-digits": "Digits, transformer", "cifar16-unet": "16x16 images in colour, UNet",
    "cifar16-dit": "16x16 images in colour, transformer",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A method on a problem: its settings, and figures by name, each (value, low, high)."""

    dim: int
    problem: str
    method: str
    calls: int
    settings: dict[str, float | str]
    figures: dict[str, tuple[float, float, float]]
    seconds: float

    @property
    def energy(self) -> float:
        """The energy distance to the exact posterior."""
        return self.figures["energy"][0]


def write_page(cells: Sequence[Cell], page: Path, results: Path) -> None:
    """The page, with its picture beside it; `results` is the folder of what was measured on networks.

    Ends the process with a line where no group of cells is whole.
    """
    cells, svg = whole(cells), page.with_suffix(".svg")
    if not cells:
        raise SystemExit(
            "no page: every method on every problem, of any dimension and calls, is to be measured first (--out)"
        )
    networks = {
        name: json.loads(path.read_text())
        for name in NETWORKS
        if (path := results / f"posteriors-{name}.json").exists()
    }
    draw(cells, svg)
    dims = sorted({cell.dim for cell in cells})
    tables = "\n\n".join(_tables([cell for cell in cells if cell.dim == dim], dim) for dim in dims)
    text = PAGE.format(
        svg=svg.name,
        short=short(cells, networks),
        noise=NOISE,
        says=says(cells),
        problems=_problems(),
        costs=_costs(),
        tables=tables,
        networks="".join(_network(found, NETWORKS[name]) for name, found in networks.items()),
    )
    page.write_text(text)


def whole(cells: Sequence[Cell]) -> list[Cell]:
    """Those of dimensions and calls at which every method has been measured on every problem."""
    counts = Counter((cell.dim, cell.calls) for cell in cells)
    return [cell for cell in cells if counts[cell.dim, cell.calls] == len(PROBLEMS) * len(COLOURS)]


def short(cells: Sequence[Cell], networks: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of the nearest methods on each problem: at few and at many calls in most dimensions, and on trained networks.

    Of at least one cell. Many calls are `SHOWN`, or the most that were measured; where they are the few, they are shown once.
    """
    measured = sorted({cell.calls for cell in cells})
    few, many = measured[0], SHOWN if SHOWN in measured else measured[-1]
    dims = {calls: max(cell.dim for cell in cells if cell.calls == calls) for calls in (few, many)}
    heads = [f"{calls} calls ({dim} dimensions)" for calls, dim in dims.items()]
    lines = [
        f"| your measurement | {' | '.join(heads)} | {few} calls, trained networks |",
        "|---|---|" + "---|" * len(heads),
    ]
    for name, seen in PROBLEMS.items():
        found = [
            _nearest({cell.method: cell.figures["energy"] for cell in _group(cells, dim, name, calls)})
            for calls, dim in dims.items()
        ]
        own = [(title, _scores(networks[key], name, few)) for key, title in NETWORKS.items() if key in networks]
        said = "; ".join(f"{_nearest(scores)} ({title[0].lower()}{title[1:]})" for title, scores in own if scores)
        lines.append(f"| `{name}`: {seen} | {' | '.join(found)} | {said or 'not measured'} |")
    return "\n".join(lines)


def _scores(cells: Mapping[str, Any], name: str, calls: int) -> dict[str, tuple[float, float, float]]:
    """The energy scores of a network's methods on a problem, of those that were finite."""
    return {
        key.split("/")[1]: cell["figures"]["energy score"] for key, cell in cells.items()
        if cell["figures"] and (key.split("/")[0], key.split("/")[2]) == (name, str(calls))
    }  # fmt: skip


def _nearest(figures: Mapping[str, tuple[float, float, float]]) -> str:
    """The method of the least figure, and the next ones, up to two, that lie within its interval."""
    ranked = sorted(figures, key=lambda name: figures[name][0])
    close = [name for name in ranked[1:3] if figures[name][0] <= figures[ranked[0]][2]]
    return ", ".join(f"`{name}`" for name in (ranked[0], *close))


def says(cells: Sequence[Cell]) -> str:
    """Who is nearest, counted over problems, without exact guidance."""
    lines = []
    for calls in sorted({cell.calls for cell in cells}):
        counts: dict[str, int] = {}
        groups = [_group(cells, dim, name, calls) for dim in sorted({cell.dim for cell in cells}) for name in PROBLEMS]
        groups = [group for group in groups if group]
        for group in groups:
            nearest = min(group, key=lambda cell: cell.energy).method
            counts[nearest] = counts.get(nearest, 0) + 1
        said = ", ".join(f"`{name}` {count}" for name, count in sorted(counts.items(), key=lambda entry: -entry[1]))
        lines.append(f"- {calls} calls: nearest to the exact posterior on so many of {len(groups)} problems: {said}.")
    return "\n".join(lines)


def _group(cells: Sequence[Cell], dim: int, name: str, calls: int) -> list[Cell]:
    """The methods on a problem, but for the one that no user has."""
    return [
        cell for cell in cells
        if (cell.dim, cell.problem, cell.calls) == (dim, name, calls) and cell.method != "exact-guidance"
    ]  # fmt: skip


def _problems() -> str:
    return "\n".join(f"| `{name}` | {seen} |" for name, seen in PROBLEMS.items())


def _costs() -> str:
    return "\n".join(f"| `{name}` | {DERIVATIVES.get(name, '0')} |" for name in COLOURS if name != "exact-guidance")


def _tables(cells: Sequence[Cell], dim: int) -> str:
    """Energy distances by calls, and the other figures at one number of calls."""
    names = [name for name in COLOURS if any(cell.method == name for cell in cells)]
    calls = sorted({cell.calls for cell in cells})
    found = {(cell.problem, cell.method, cell.calls): cell for cell in cells}
    lines = [
        f"### {dim} dimensions",
        "",
        "Energy distance to the exact posterior, with its 95 % interval over measurements:",
        "",
    ]
    for name in PROBLEMS:
        lines += [f"| {name} | {' | '.join(f'{n} calls' for n in calls)} |", f"|---|{'---:|' * len(calls)}"]
        for method in names:
            entries = [_entry(found.get((name, method, n)), "energy") for n in calls]
            lines.append(f"| `{method}` | {' | '.join(entries)} |")
        lines.append("")
    shown = SHOWN if SHOWN in calls else calls[-1]
    lines += [f"At {shown} calls, means over the five problems (a right sampler has 0, 0, 80 % and 80 %):", ""]
    lines += [
        "| method | error of the mean | Stein discrepancy | true values in central 80 % | samples in densest 80 % |"
    ]
    lines += ["|---|---:|---:|---:|---:|"]
    for method in names:
        own = [cell for cell in cells if (cell.method, cell.calls) == (method, shown)]
        if own:
            mean = {key: sum(cell.figures[key][0] for cell in own) / len(own) for key in own[0].figures}
            shares = " | ".join(f"{100 * mean[key]:.0f} %" for key in ("coverage 0.8", "hpd 0.8"))
            lines.append(f"| `{method}` | {mean['mean error']:.3g} | {mean['stein']:.3g} | {shares} |")
    return "\n".join(lines)


def _network(cells: Mapping[str, Any], title: str) -> str:
    """What was measured on a network's held-out images."""
    images, draws = ({cell[key] for cell in cells.values()} for key in ("images", "draws"))
    choosing = {cell.get("chosen by", cell["images"] // 2) for cell in cells.values()}  # once half as many as measured
    lines = [
        f"### {title}",
        "",
        f"Of held-out images no posterior is known. {_span(images)} images, noise 0.1: peak signal-to-noise ratio of the mean of "
        f"{_span(draws)} samples in decibels, energy score, true pixels in the central 80 % of samples, and energy distance of "
        f"samples to held-out images in a classifier's features, with 95 % intervals. A method's settings are those of the least "
        f"energy score on {_span(choosing)} other images:",
        "",
        "| problem, calls | method | PSNR | energy score | coverage of 80 % | distance in features |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for key, cell in cells.items():
        name, method, calls = key.split("/")
        figures = cell["figures"]
        shown = " | ".join(
            _ends(*figures[each], places) if figures else "not finite"
            for each, places in (("psnr", 1), ("energy score", 3), ("coverage 0.8", 2), ("features", 3))
        )
        lines.append(f"| {name}, {calls} | `{method}` | {shown} |")
    return "\n".join([*lines, "", "Made by `python -m benchmarks.posteriors_images`.", "", ""])


def _span(numbers: set[int]) -> str:
    """One number, or from the least to the largest."""
    return " to ".join(str(each) for each in sorted({min(numbers), max(numbers)}))


def _entry(cell: Cell | None, figure: str) -> str:
    if cell is None:
        return ""
    value, low, high = cell.figures[figure]
    return "not finite" if math.isinf(value) else _ends(value, low, high)


def _ends(value: float, low: float, high: float, places: int = 3) -> str:
    """A figure with its interval, of so many decimal places or, where it is large, of two digits."""
    form = f".{places}f" if abs(value) < LARGE else ".2g"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def draw(cells: Sequence[Cell], svg: Path) -> None:
    """A panel for each problem and dimension, a line a method."""
    import matplotlib.pyplot as plt

    style: dict[Any, Any] = {"svg.hashsalt": "fewer", "svg.fonttype": "none", "font.size": 8} | dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), NEUTRAL
    )
    dims, calls = sorted({cell.dim for cell in cells}), sorted({cell.calls for cell in cells})
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            len(dims),
            len(PROBLEMS),
            figsize=(11, 2.4 * len(dims) + 0.6),
            sharex=True,
            sharey=True,
            squeeze=False,
            facecolor="none",
        )
        for row, dim in zip(axes, dims, strict=True):
            for axis, name in zip(row, PROBLEMS, strict=True):
                axis.set_facecolor("none")
                for method, colour in COLOURS.items():
                    own = sorted(
                        (cell.calls, max(cell.energy, LEAST)) for cell in cells
                        if (cell.dim, cell.problem, cell.method) == (dim, name, method)
                    )  # fmt: skip
                    if own:
                        dashed = "--" if method == "exact-guidance" else "-"
                        axis.plot(*zip(*own, strict=True), dashed, color=colour, marker="o", ms=3, lw=1.3, label=method)
                axis.set(xscale="log", yscale="log", title=f"{name}, {dim}" if axis is row[0] else name)
                axis.set_xticks(calls, map(str, calls))
                axis.minorticks_off()
                axis.spines[["top", "right"]].set_visible(False)
            row[0].set_ylabel("energy distance")
        for axis in axes[-1]:
            axis.set_xlabel("calls")
        marks, words = axes[0, 0].get_legend_handles_labels()
        figure.legend(marks, words, loc="lower center", ncols=len(words), frameon=False, labelcolor=NEUTRAL)
        figure.tight_layout(rect=(0, 0.06, 1, 1))
        figure.savefig(svg, metadata={"Date": None, "Creator": None}, transparent=True)
        plt.close(figure)


PAGE = """# Which sampler for my inverse problem

You have a measurement y = A(x) + noise of an image x, and a diffusion or flow model of such images. These came nearest to the
posterior p(x | y), the nearest first, then the next ones, two at most, that are within its interval:

{short}

Begin with `mmps`, the default: it takes any differentiable A, few calls, and no setting that has to be found first. Where a
network's derivative is too dear, take `lanpaint`; for A that only gives values, see [below](#an-operator-that-gives-values-alone).
On data of your own, [`fewer tune`](#tuned-for-few-calls) compares them all.

`fewer.solve` draws by any of them, on any plan and under any process:

```python
import torch
import fewer
from fewer.tasks.inverse.operators import SuperResolution

model = fewer.load("digits")
operator = SuperResolution(model.shape, 2)
y = operator(fewer.sample(model, fewer.standard("dpmpp-2m", model, 10), n=1, labels=3))[0]
found = fewer.solve(model, operator, y, plan=20, method="mmps", noise=0.1, n=8)
found.samples  # (8, 1, 8, 8)
found.mean, found.spread  # the best guess, and the standard deviation of each pixel
found.misfit  # near 1 where samples explain y as well as its noise allows
```

The operator is one of `fewer.tasks.inverse.operators`, words (`"inpaint,mask=known.png"`, `"super-resolution,factor=4"`,
`"deblur,width=2"`, `"compressed-sensing"`, `"denoise"`), a matrix, any differentiable function of x or its name `module:function`,
or an object with `A` and `A_adjoint`, as deepinv's physics are. The noise is a number or a map of standard deviations. What a
method cannot do is refused in a line: `pigdm`, `diffpir`, `lanpaint` and `split-gibbs` need a linear operator.

From the command line, with a measurement in a file (`.npy`, an image, or the single sample of a `samples.npz`):

```sh
fewer tune digits --task super-resolution --noise 0.1 --nfe 20
fewer sample digits --plan fewer-digits-super-resolution/plan.json --measurement small.png -n 16 --out found
```

which writes samples, and their mean and spread in `posterior.npz` (and side by side in `posterior.png`). A plan tuned for
`inpaint,mask=known.png` or `module:function` needs `--task` here too: a plan's file opens no other file and runs no code.

## What was measured

On Gaussian mixtures the posterior of every linear measurement is known in closed form, so samples can be held against the truth
and not against a picture. Five problems, each with noise of deviation {noise:g} unless said:

| problem | what is seen |
|---|---|
{problems}

![energy distance to the exact posterior by network calls, a panel for each problem]({svg})

**How to read it.** Lower is nearer to the exact posterior. `exact-guidance` (dashed) is no method for users: it plays the same DDIM
steps with the exact posterior's data prediction, so that it shows what steps alone cost; what another method has above it is the
error of its guidance, and more calls do not take that away. Each method plays its usual plan, with the best of its settings,
chosen for each number of calls by the energy score of other measurements and true values. A network call is not all: these
derivatives through the network come with each,

| method | derivatives a call |
|---|---|
{costs}

and a derivative costs about two calls' time and keeps the network's activations in memory.

**What it says.**

{says}

- Steps are not what is missing: exact guidance at 20 calls is nearer than any method at 100. What is missing is the law of the data
  given a noisy state, which is far from Gaussian where there are several modes.
- `mmps` is the one to begin with: at 20 calls it is the nearest or close to it on every problem, also where measurements mix many
  values, and in 768 dimensions the nearest on all five. More calls bring it little, so spend them on tuning.
- `lanpaint` takes no derivative, and gains most from calls: at 200 it is within 0.02 of the exact posterior but for
  super-resolution and compressed sensing. At 20 calls it is behind `mmps`.
- `dps` needs a strength of its own for every problem and number of calls, and many calls: in 16 dimensions nearly all of its
  samples at 20 lie outside of the densest part of the posterior, and at 100 it is near in inpainting, super-resolution and
  compressed sensing, but far off in a blur and in denoising.
- `lanpaint`, `split-gibbs` and `diffpir` take no derivative, so that a call costs a third to a ninth of the others'. They gain most
  from calls; at few calls the first two have not arrived.
- `pigdm` is measured by both of its weightings, the better one for each cell. That of the paper's algorithm, the default, adds its
  correction after every step, however short the step is: it holds where few values are seen, the better the more calls, but where
  all values are seen, as in a blur or in denoising, more calls count the measurement more than once. There, in few dimensions, the
  paper's formula (`PiGDM(weighting="formula")`) is nearer; in many it moves data predictions too far, since these vary along a
  seen direction by more than the variance that it is told.
- `tmpd` puts the row sums of the covariance of measured values in the place of that matrix, as its authors do. That is safe where
  those values vary in the same direction, as the pixels of a blur do. Where sums cancel, as under the random signs of compressed
  sensing, it goes too far: in 768 dimensions, at nine parts of noise to one of data, by a factor of 338.
- `red-diff` finds one point: its spread says nothing.
- A trained network's derivative is no covariance at the highest levels, so that `mmps` and `tmpd` may ask for images far out of
  their range: of networks whose samples are pixels, changed data predictions are kept within one width of the range, unless the
  measurement itself shows that data leave it.
- The marginals of a wrong sampler may still hold the truth as often as they should, and a narrow one may lie in the densest part of
  the posterior: no figure alone says that a sampler is right.

## An operator that gives values alone

An external simulator, a rounded or a counted measurement has no derivative, and is not linear. `solve_black_box` asks it for values
only: it draws from the posterior of a plan's starting noise, by an ensemble of particles that look for it together, and plays the
plan from there. It is for models of few values, up to about ten, and takes hundreds of passes of the plan for a sample; `effective`
says how many draws the points that were found are worth, and below the number of particles samples are not to be trusted:

```python
from fewer.models.schedules import Flow
from fewer.processes.ensemble_score import EnsembleScore
from fewer.tasks.black_box import solve_black_box

small = fewer.Model.from_mixture(fewer.GaussianMixture.random(2, 3, seed=1), Flow())
counted = lambda x: (4 * x).round().sum(1, keepdim=True) / 4
found_by_values = solve_black_box(
    small, counted, torch.tensor([0.5]), plan=fewer.standard("dpmpp-2m", small, 6),
    method=EnsembleScore(particles=32, proposals=4, steps=8), noise=0.3, n=8,
)  # fmt: skip
found_by_values.samples, found_by_values.log_evidence  # (8, 2), and the logarithm of p(y)
found_by_values.nfe  # 198 network calls a sample
```

Where the prior is a density and no network, `EnsembleScore().sample(log_density, dim, n, centre=.., scale=..)` draws from anything
whose logarithm you can write down, up to a constant, and says what its integral is.

## Tuned for few calls

`fewer tune MODEL --task ..` and `fewer.search.posteriors.tune_posterior` move the levels, the solver, the share of fresh noise and
the method's own settings under a budget of calls. Candidates are compared by the energy score on pairs of true samples and
measurements, of your data (`--data`) or the model's own samples: such pairs are exact draws of the joint law, so that the score is
least for the posterior itself, which nobody needs to know (of mixtures it is known, and the distance to it is taken). Without
`--method` all are candidates. The verdict compares the best one with the best method at 100 calls, or with `--against dps:200`, on
pairs that the search did not see, and does not recommend it where it is worse, or not shown to be as good:

```python
from fewer.search.posteriors import tune_posterior

tuned = tune_posterior(model, operator, nfe=6, method="mmps", noise=0.1, pairs=8, each=2, trials=2, baseline_calls=10)
print(tuned.decision, tuned.recommended, tuned.difference)
found = fewer.solve(model, operator, y, plan=tuned.plan, noise=0.1)  # by tuned.method, which the plan has
```

(The numbers here are for a quick look; the defaults search longer.) The search begins with half of each row's noise fresh, which
forgets what the first rows got wrong; the nearest few candidates are scored again on more samples. What 20 tuned calls are worth
against the best of all methods at 100 is said by the claims `tuned-posterior/..` in the [evidence](evidence.md). The plan's file
has the method, its settings and the measurement that it is for: `fewer.solve(model, operator, y, plan="plan.json")` plays it so.

## Figures

{tables}

{networks}Made by `python -m benchmarks.posteriors`; all figures, also the coverage of 50 and 95 %, are in
`benchmarks/results/posteriors.json`.
"""
