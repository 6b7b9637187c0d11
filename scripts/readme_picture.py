"""The README's picture, from a folder that `fewer tune` has written.

python -m scripts.readme_picture demo docs/same-noise.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fewer.images import grid

SHOWN, GAP, HEAD = 16, 24, 34


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    results = json.loads((arguments.folder / "results.json").read_text())
    samples = np.load(arguments.folder / "samples.npz", allow_pickle=False)
    nfe = results["cost"]["nfe"]
    shown = {
        f"fine solution, {results['reference']['nfe']} calls": "reference",
        f"tuned, {nfe} calls": f"front/{nfe}",
        f"{results['verdict']['against']}, {nfe} calls": f"standard/{nfe}",
    }
    sheets = [grid(samples[key][:SHOWN], columns=8, least=32).convert("RGB") for key in shown.values()]
    width = sum(sheet.width for sheet in sheets) + GAP * (len(sheets) - 1)
    whole = Image.new("RGB", (width, sheets[0].height + HEAD), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(18)
    x = 0
    for title, sheet in zip(shown, sheets, strict=True):
        draw.text((x, 4), title, fill="black", font=font)
        whole.paste(sheet, (x, HEAD))
        x += sheet.width + GAP
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    whole.save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
