"""Draws the order plots of docs/rooms/solvers: error against step size, as the claims of orders measure it.

python -m scripts.order_plots [FAMILY ...]          (needs matplotlib: the docs requirements)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator

from fewer.claims.solvers.orders import WEAK, coarse_steps, exact_models, group_errors, in_log_s, variance_errors
from fewer.models.mixture import GaussianMixture
from fewer.registry import Part
from scripts.rooms import deterministic, families, page, plots

FOLDER = Path(__file__).parent.parent / "docs" / "rooms" / "solvers"
SEED = 0  # that of the recorded claims
SHARES = (0.2, 0.4, 1.0, 2.0)  # of the claims' number of steps: all divide by 2, 3 and 4; the last two give the order
NEUTRAL = "#808080"  # legible on white and on black
COLOURS = ("#1f77d0", "#d9660a", "#2a9d4a", "#c2408f", "#8a63d2", "#a08000", "#0d9aa5", "#d04545")
MARKERS = "osD^vPX*"
STYLE = {
    "svg.hashsalt": "fewer", "svg.fonttype": "none", "font.size": 11,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "text.color": NEUTRAL, "axes.edgecolor": NEUTRAL, "axes.labelcolor": NEUTRAL,
    "xtick.color": NEUTRAL, "ytick.color": NEUTRAL, "axes.facecolor": "none", "figure.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.6, "lines.markersize": 4.5,
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """Errors of one method at growing numbers of steps, with exact history and, where it makes a difference, without."""

    part: Part
    steps: Sequence[int]
    exact: list[float]
    own: list[float] | None = None

    @property
    def label(self) -> str:
        """Name, measured orders, declared order."""
        own = "" if self.own is None else f", own start {order(self.own):.2f}"
        return f"{self.part.name}: {order(self.exact):.2f}{own} (declared {self.part.make().order})"


def order(errors: list[float]) -> float:
    """The slope over the last doubling of the steps."""
    return math.log2(errors[-2] / errors[-1])


def on_model(part: Part, mixture: GaussianMixture) -> Curve:
    """Errors of a deterministic method: geometric means over groups of trajectories."""
    steps = [round(share * coarse_steps(part.make())) for share in SHARES]
    runs = [group_errors(part.make(), mixture, n, seed=SEED) for n in steps]
    exact, own = ([float(e.log().mean().exp()) for e in side] for side in zip(*runs, strict=True))
    return Curve(part, steps, exact, own if own != exact else None)


def of_variance(part: Part) -> Curve:
    """Errors of a method that adds noise: geometric means over directions."""
    steps = [WEAK[0] // 4, WEAK[0] // 2, *WEAK]
    runs = [variance_errors(part.make(), n, SEED) for n in steps]
    return Curve(part, steps, [float(np.exp(np.mean(np.log(e)))) for e in runs])


def draw(curves: list[Curve], title: str, path: Path) -> None:
    """One plot with the legend below it."""
    rows = 0.22 * len(curves)  # inches of the legend
    fig, ax = plt.subplots(figsize=(4.2, 3.2 + rows))
    for curve, colour, marker in zip(curves, _cycle(COLOURS), _cycle(MARKERS), strict=False):
        h = [mean_step(n) for n in curve.steps]
        ax.loglog(h, curve.exact, color=colour, marker=marker, label=curve.label)
        if curve.own is not None:
            ax.loglog(h, curve.own, color=colour, marker=marker, mfc="none", linestyle="--")
    ax.set_xlabel("mean step in log s")
    ax.set_ylabel(title)
    ticks = sorted({mean_step(n) for curve in curves for n in curve.steps})
    ax.set_xticks(ticks[:: 1 if len(ticks) <= 4 else 2], minor=False)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:.2g}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
    ax.grid(True, which="major", color=NEUTRAL, alpha=0.25, linewidth=0.6)
    fig.legend(loc="lower left", frameon=False, fontsize=10, bbox_to_anchor=(0.0, 0.0), labelspacing=0.3)
    fig.subplots_adjust(left=0.17, right=0.98, top=0.97, bottom=(0.62 + rows) / (3.2 + rows))
    fig.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(fig)


def mean_step(n: int) -> float:
    """The mean step in log s of the claims' grid of n steps."""
    ends = in_log_s(1)
    s = ends / (1 - ends)
    return float(np.log(s[0] / s[-1]) / n)


def _cycle(values: Sequence[str]) -> list[str]:
    return list(values) * 3


def main(names: list[str]) -> int:
    """Draw the plots of the named families, or of all."""
    drawn: dict[str, Callable[[Part], Curve]] = {"variance": of_variance}
    for where, mixture in exact_models(SEED).items():
        drawn[where.split()[-1].lower()] = lambda part, mixture=mixture: on_model(part, mixture)
    files = {page(name): name for name in families()}
    for name in (files[each] for each in names or files):
        for file, title in plots(name):
            kind = file.removesuffix(".svg").rsplit("-", 1)[1]
            held = [part for part in families()[name] if deterministic(part) == (kind != "variance")]
            with plt.rc_context(STYLE):
                draw([drawn[kind](part) for part in held], f"error {title}", FOLDER / file)
            print(file, (FOLDER / file).stat().st_size)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
