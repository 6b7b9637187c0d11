"""Edits of held-out digits: who becomes the asked digit, and how much of the picture stays; docs/editing.md and its picture.

python -m benchmarks.editing --out benchmarks/results/editing.json      # ten minutes on one core
python -m benchmarks.editing --draw benchmarks/results/editing.json     # docs/editing.svg, and the table in docs/editing.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fewer
from benchmarks.posteriors_page import NEUTRAL
from fewer.claims.guidance.digits import right
from fewer.evaluate.statistics.jackknife import student
from fewer.models.bundled import digits_images
from fewer.tasks.editing.methods.rf_inversion import RFInversion

MODELS, IMAGES, LEVELS, SEED, SHOWN = ("digits", "dit-digits"), 64, 10, 5, 8
STRENGTHS, ETAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (0.0, 0.5, 0.7, 0.9, 1.0)
LOOKS = {"sdedit": "#0072b2", "gamma 0": "#d55e00", "gamma 0.5": "#cc79a7", "stochastic": "#009e73"}
BEGIN, END = "<!-- figures: python -m benchmarks.editing --draw -->", "<!-- end of figures -->"


def settings() -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Family, its knob, and arguments of `fewer.edit`."""
    for strength in STRENGTHS:
        yield "sdedit", strength, {"method": "sdedit", "plan": 2 * LEVELS, "strength": strength}
    for eta in ETAS:
        yield "gamma 0", eta, {"method": RFInversion(0.0, eta, 0.0, 0.5), "plan": LEVELS}
        yield "gamma 0.5", eta, {"method": RFInversion(0.5, eta, 0.0, 0.5), "plan": LEVELS}
    for eta in ETAS[1:]:
        yield "stochastic", eta, {"method": RFInversion(0.5, eta, 0.0, 0.5, True), "plan": 2 * LEVELS, "strength": 0.7}


def asked() -> tuple[Tensor, Tensor]:
    """Held-out digits, and another digit for each."""
    images, labels = digits_images("test")
    return images[:IMAGES], (labels[:IMAGES] + 1 + torch.arange(IMAGES) % 9) % 10


def measure(out: Path) -> None:
    """Write all figures."""
    images, labels = asked()
    rows: list[dict[str, Any]] = []
    for name in MODELS:
        model = fewer.load(name)
        for family, knob, arguments in settings():
            made = fewer.edit(model, images, labels, seed=SEED, **arguments)
            share = student(right(made.images, labels).double().tolist())
            change = student((made.images - images).double().square().flatten(1).mean(1).tolist())
            rows.append({
                "model": name, "family": family, "knob": knob, "nfe": made.nfe,
                "share": [share.value, share.low, share.high], "change": [change.value, change.low, change.high],
                "shown": made.images[:SHOWN, 0].mul(100).round().int().tolist(),
            })  # fmt: skip
            print(name, family, knob, made.nfe, f"{share.value:.3f} {change.value:.3f}", flush=True)
    out.write_text(
        json.dumps({"images": IMAGES, "levels": LEVELS, "seed": SEED, "rows": rows}, separators=(",", ":")) + "\n"
    )


def write_page(found: dict[str, Any], page: Path) -> None:
    """The picture, and the table between its two marks in the page."""
    draw(found, page.with_suffix(".svg"))
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{table(found)}\n\n{END}{rest.partition(END)[2]}")


def table(found: dict[str, Any]) -> str:
    """Every setting of each model."""
    lines = ["| model | method | setting | calls | asked digit | squared change |", "|---|---|---|---:|---:|---:|"]
    for name in MODELS:
        for row in (each for each in found["rows"] if each["model"] == name):
            knob = "strength" if row["family"] == "sdedit" else "eta"
            title = "`sdedit`" if row["family"] == "sdedit" else f"`rf-inversion`, {row['family']}"
            if row["family"] == "gamma 0" and row["knob"] == 0:
                title = "`ddim-inversion`"
            figures = " | ".join(f"{a:.2f} [{b:.2f}, {c:.2f}]" for a, b, c in (row["share"], row["change"]))
            lines.append(f"| {name} | {title} | {knob} {row['knob']:g} | {row['nfe']} | {figures} |")
    return "\n".join(lines)


def draw(found: dict[str, Any], svg: Path) -> None:
    """Share of asked digits by change for each model, and some edits."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    style: dict[Any, Any] = {"svg.hashsalt": "fewer", "svg.fonttype": "none", "font.size": 8} | dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), NEUTRAL
    )
    with plt.rc_context(style):
        figure = plt.figure(figsize=(7.2, 4.2))
        grid = figure.add_gridspec(2, 2, height_ratios=(3, 2), hspace=0.45, wspace=0.2)
        for k, name in enumerate(MODELS):
            axes = figure.add_subplot(grid[0, k])
            for family, colour in LOOKS.items():
                title = family if family == "sdedit" else f"rf-inversion, {family}"
                mine = [row for row in found["rows"] if (row["model"], row["family"]) == (name, family)]
                axes.plot(
                    [row["change"][0] for row in mine],
                    [row["share"][0] for row in mine],
                    "o-",
                    ms=3,
                    color=colour,
                    label=title,
                )
            axes.set_title(name, fontsize=8)
            axes.set_xlabel("squared change")
            axes.set_ylim(0, 1)
            axes.set_ylabel("asked digit" if k == 0 else "")
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        figure.legend(*axes.get_legend_handles_labels(), loc="upper center", ncol=4, frameon=False)
        axes = figure.add_subplot(grid[1, :])
        axes.imshow(_strip(found), cmap="gray", vmin=-1, vmax=1, interpolation="nearest", aspect="equal")
        axes.set_yticks([4, 13, 22], ["held out", "sdedit 0.6", "inversion"])
        axes.set_xticks([9 * k + 4 for k in range(SHOWN)], [f"to {int(label)}" for label in asked()[1][:SHOWN]])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        figure.savefig(svg, metadata={"Date": None, "Creator": None}, transparent=True, bbox_inches="tight")
        plt.close(figure)


def _strip(found: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Digits of the last model, edited by SDEdit from 0.6 and by inversion, which changes as much, a row of pictures each."""
    of = {(row["family"], row["knob"]): row["shown"] for row in found["rows"] if row["model"] == MODELS[-1]}
    rows = [asked()[0][:SHOWN, 0].numpy(), *(np.asarray(of[key]) / 100 for key in (("sdedit", 0.6), ("gamma 0", 0.0)))]
    strip = np.full((9 * len(rows) - 1, 9 * SHOWN - 1), np.nan)
    for i, row in enumerate(rows):
        for k, picture in enumerate(row):
            strip[9 * i : 9 * i + 8, 9 * k : 9 * k + 8] = picture
    return strip


def main() -> None:
    """Measure, or draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draw", type=Path)
    given = parser.parse_args()
    if given.out:
        measure(given.out)
    if given.draw:
        write_page(json.loads(given.draw.read_text()), Path(__file__).parents[1] / "docs/editing.md")


if __name__ == "__main__":
    main()
