"""Larger samples by windows that stay, overlap or roll, against the exact law of a field: docs/large.md and its picture.

    python -m benchmarks.large --out benchmarks/results/large.json      # two minutes on one core
    python -m benchmarks.large --draw benchmarks/results/large.json     # docs/large.svg and docs/large.md

The field is that of `fewer.claims.large.fields`: windows have exact denoisers, and samples an exact law.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.posteriors_page import NEUTRAL
from fewer import large, sample, standard
from fewer.claims.large.fields import SIDE, TILE, covariance, distance, jumps, made, windows_model
from fewer.claims.repeated import mean
from fewer.tasks.large.rolled import LargeNetwork

CALLS, OFFSETS = (5, 10, 20), 4
HALF = TILE // 2
LAYOUTS: dict[str, dict[str, Any]] = {
    "edge to edge": {"roll": False},
    "MultiDiffusion": {"roll": False, "overlap": HALF, "blend": "mean"},
    "overlap, tent": {"roll": False, "overlap": HALF},
    "rolled": {},
    "rolled, overlap, tent": {"overlap": HALF},
}
SHOWN, ROWS = ("edge to edge", "MultiDiffusion", "rolled"), 20
TICKS, LEVELS = (20, 40, 80, 160, 320), (0.005, 0.01, 0.02, 0.04, 0.08)
SMOOTH = (3.0, 2.0)  # length and power of the picture's field
COLOURS = ("#808080", "#0072b2", "#56b4e9", "#d55e00", "#e69f00")


def measure(out: Path) -> None:
    """Distance to the field's law and widest seam of every layout; rolled ones over seeds of offsets."""
    truth, rows = covariance(SIDE, torus=True), []
    for name, layout in LAYOUTS.items():
        seeds = range(OFFSETS if layout.get("roll", True) else 1)
        windows = _windows(layout)
        for calls in CALLS:
            laws = [made(calls, seed=seed, **layout) for seed in seeds]
            figures = {
                "distance": [distance(law, truth) for law in laws],
                "seam": [float(jumps(law).max() - 1) for law in laws],
            }
            rows.append({"name": name, "rows": calls, "calls": calls * windows} | figures)
            print(rows[-1])
    out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def _windows(layout: dict[str, Any]) -> int:
    network = large(windows_model(), (SIDE, SIDE), **layout).network
    assert isinstance(network, LargeNetwork)
    return network.windows


def write_page(found: dict[str, Any], page: Path) -> None:
    """The page, with its picture beside it."""
    draw_picture(found, page.with_suffix(".svg"))
    lines = [
        f"| {row['name']} | {row['rows']} | {row['calls']} | {_entry(row['distance'])} | {_entry(row['seam'])} |"
        for row in found["rows"]
    ]
    page.write_text(PAGE.format(table="\n".join(lines), side=SIDE, tile=TILE, offsets=OFFSETS))


def _entry(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    found = mean(values)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def draw_picture(found: dict[str, Any], svg: Path) -> None:
    """A sample by each of three layouts, laid out twice by twice, and the distance by calls of all."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style: dict[Any, Any] = {"svg.hashsalt": "fewer", "svg.fonttype": "none", "font.size": 8} | dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), NEUTRAL
    )
    with mpl.rc_context(style):
        figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.5), width_ratios=(1, 1, 1, 1.2), layout="constrained")
        for axis, name in zip(axes, SHOWN, strict=False):
            axis.imshow(_sample(LAYOUTS[name]).repeat(2, 2), cmap="viridis", interpolation="nearest", vmin=-3, vmax=3)
            axis.set(title=name, xticks=[], yticks=[])
        last = axes[-1]
        for name, colour in zip(LAYOUTS, COLOURS, strict=True):
            rows = [row for row in found["rows"] if row["name"] == name]
            means = [sum(row["distance"]) / len(row["distance"]) for row in rows]
            last.plot([row["calls"] for row in rows], means, marker="o", markersize=3, color=colour, label=name)
        last.set(
            xscale="log", yscale="log", xlabel="calls of the network a sample", ylabel="distance to the field's law"
        )
        last.set_xticks(TICKS, map(str, TICKS))
        last.set_yticks(LEVELS, map(str, LEVELS))
        last.minorticks_off()
        last.legend(frameon=False, fontsize=6)
        figure.savefig(svg, metadata={"Date": None, "Creator": None}, transparent=True)
        plt.close(figure)


def _sample(layout: dict[str, Any]) -> torch.Tensor:
    """(3 TILE, 3 TILE) of a field in which seams can be seen, from the same noise by every layout."""
    model = large(windows_model(*SMOOTH), (3 * TILE, 3 * TILE), **layout)
    return sample(model, standard("dpmpp-2m", model, ROWS, "logsnr"), 1, seed=1)[0, 0]


PAGE = """# Larger than the network's own samples

You have a network of textures, materials, fields or noise maps of one size, and need a larger sample, or one whose
opposite edges fit, so that it can be laid side by side. `fewer.large` makes a model of larger samples of it:

```python
import fewer

model = fewer.load("cifar16-unet")  # images (3, 16, 16)
larger = fewer.large(model, (24, 32))  # tileable; overlap=8 for more calls, tileable=(False, True) for a panorama
plan = fewer.standard("dpmpp-2m", larger, nfe=4, steps="logsnr")
x = fewer.sample(larger, plan, 1)  # (1, 3, 24, 32)
larger.network.windows  # 4: calls of the small network that one of the larger takes
```

```bash
fewer sample cifar16-unet --size 24x32 --nfe 4 -n 1 --out large
fewer sample cifar16-unet --size 24x32 --overlap 4 --not-tileable --nfe 4 -n 1 --out large-open
```

A call of the larger network is one of the small network on each of its windows, put together. In every row the windows lie at
another offset and across the edges (rolled sampling, paper 110), so that no seam stays where it is. To all else the larger
model is a model like any other: every solver, plan and rule of guidance plays it, a plan that was tuned on the small model
too, `fewer.solve` draws its posteriors, and `fewer.tune` tunes it.

- **Cost**: `nfe` evaluations of a sample take `windows` calls of the network each; edge to edge these are as many as there are
  windows' areas in the sample. At most 64 windows (`batch=`) are in a call, so that its memory does not grow with the size.
- **Latents** are what a latent model's size is in; they are decoded by windows, too, which are blended into each other.
- **What it is not for**: no window sees more than the network's own size. Objects larger than that come by chance alone. Begin
  from a small sample enlarged for those: `fewer.sample(larger, plan, init=x, strength=0.6)`.

## What was measured

A field whose values are correlated over 2 places, windows of {tile}x{tile} with their exact denoiser, samples of
{side}x{side} on a torus, DPM-Solver++ 2M. The law of the samples is known exactly, and so is how far it is from the field's:
squared Wasserstein-2 distance for each value, of variance 1. The widest seam is by how much a squared difference of neighbours
exceeds the field's at the worst place, its mean over the other axis: 1 is twice the difference. Rolled: mean over {offsets}
seeds of offsets.

![Samples laid out twice by twice, and distance by calls](large.svg)

(The picture's field is a smoother one, of 24x24, from equal noise at 20 rows; each sample is laid out twice by twice.)

| windows | rows | calls | distance to the field's law | widest seam |
|---|---:|---:|---:|---:|
{table}

**How to read it.** Edge to edge, windows that stay know nothing of each other. MultiDiffusion takes the mean of windows half a
window apart, at four times the calls in every row.

- Rolled windows make no further call, and opposite edges fit. At 20 rows they are nearer to the law than MultiDiffusion, at 10
  about as near, at 5 farther: seams have to be moved about for some rows. At equal calls they are nearer.
- Windows that overlap and count less towards their ends, where a network knows less of what is around (`blend="tent"`, the
  default), are nearer by far than by their plain mean.
- So with a plan of few rows let windows overlap by half (`overlap=`): 5 rows are then as near as 20 that meet edge to
  edge, at the same calls, and leave no seam. With many rows, rolling alone does most of it.

## Which measurements to take

Of many channels that could be measured, a few are to be: wavelengths, echo times, sensors, coils.
`fewer.choose_measurements` chooses those that tell most of what you want to know, by examples that the model draws:

```python
import torch
import fewer
from fewer.models.schedules import betas, discrete

law = fewer.GaussianMixture.random((1, 2, 4), components=3, seed=0)
model = fewer.Model.from_mixture(law, discrete(betas("linear")))
operator = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))  # 12 measurements of 8 values

chosen = fewer.choose_measurements(model, operator, keep=3, noise=0.1, n=256)
chosen.channels  # three of 0 .. 11
chosen.errors  # of the target's variance: by these, by all, and by as many at random

y = operator @ law.sample(1, seed=5)[0].flatten().float()  # measured in these alone
fewer.solve(model, chosen.operator, y[list(chosen.channels)], plan=10, noise=0.1).mean
```

`target=` is what is to be predicted, a function of samples, by default all of them. `method=` takes `greedy-measurements` (forward
selection, the default), `lasso-measurements`, and `tadred` (paper 100), which learns scores of channels together with the task.
On linear problems, where the best set is known, and on signals that decay twice, forward selection is nearer to the best set than
TADRED at some hundreds of examples ([figures](rooms/tasks.md)), and takes no training.

Made by `python -m benchmarks.large`; all figures are in `benchmarks/results/large.json`.
"""


def main() -> None:
    """Measure into a file, or make the page of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to measure into")
    parser.add_argument("--draw", type=Path, help="file to make the page of")
    parser.add_argument("--page", type=Path, default=Path("docs/large.md"))
    given = parser.parse_args()
    if given.out is not None:
        measure(given.out)
    if given.draw is not None:
        write_page(json.loads(given.draw.read_text()), given.page)


if __name__ == "__main__":
    main()
