"""The README's picture: a model's samples from the same noises at equal seconds, from a folder that `fewer tune` has written.

python -m scripts.readme_picture cifar16-unet c16 docs/same-noise.png --which 0,4,7,8,9
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import fewer
from fewer.evaluate.cost.clock import clock
from fewer.evaluate.held_out import held_out_noise
from fewer.images import grid, pixels
from fewer.integrations.as_it_is import as_it_is

SHOWN, SIDE, GAP, HEAD = 5, 56, 18, 40
CLOCKED = 16  # samples a run on the clock


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--which", default="", help="numbers of the samples to show, such as 1,4,7: the first ones by default"
    )
    arguments = parser.parse_args()
    results = json.loads((arguments.folder / "results.json").read_text())
    samples = np.load(arguments.folder / "samples.npz", allow_pickle=False)
    model, plan = fewer.load(arguments.model), fewer.Plan.load(arguments.folder / "plan.json")
    nfe, seed = plan.nfe, results["seed"]
    shown = [int(n) for n in arguments.which.split(",")] if arguments.which else list(range(SHOWN))
    stock = as_it_is(model, nfe, results["budget"].get("guidance"))
    if stock is None:
        raise fewer.InputError(f"{model.name} has no scheduler of its own that makes {nfe} calls")
    noise, labels = held_out_noise(model, CLOCKED, seed), model.labels(CLOCKED)
    seconds = clock(
        {
            "stock": lambda: stock.samples(model, noise, labels, seed, CLOCKED),
            "plan": lambda: fewer.sample(model, plan, noise=noise, labels=labels, batch=CLOCKED),
        },
        repeats=12,
    )
    ms = {name: f"{_digits(1e3 * interval.value / CLOCKED)} ms" for name, interval in seconds.items()}
    own = pixels(model, stock.samples(model, noise, labels, seed, CLOCKED))
    sheets = {
        f"{stock.name.split(',')[0]}\n{nfe} calls, {ms['stock']}": own,
        f"fewer\n{nfe} calls, {ms['plan']}": samples[f"front/{nfe}"],
        f"converged\n{results['reference']['nfe']} calls": samples["reference"],
    }
    save({title: sheet[shown] for title, sheet in sheets.items()}, arguments.out)


def _digits(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def save(sheets: dict[str, Any], out: Path) -> None:
    """One row: each sheet's samples, enlarged, under its title of two lines."""
    rows = [grid(sheet, columns=len(sheet), least=SIDE).convert("RGB") for sheet in sheets.values()]
    whole = Image.new("RGB", (sum(row.width for row in rows) + GAP * (len(rows) - 1), rows[0].height + HEAD), "white")
    draw, font, x = ImageDraw.Draw(whole), ImageFont.load_default(14), 0
    for title, row in zip(sheets, rows, strict=True):
        draw.multiline_text((x, 2), title, fill="black", font=font)
        whole.paste(row, (x, HEAD))
        x += row.width + GAP
    out.parent.mkdir(parents=True, exist_ok=True)
    whole.save(out, optimize=True)


if __name__ == "__main__":
    main()
