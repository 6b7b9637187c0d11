"""The result on the first page and in the README, from the record: between two comments, so that it is never typed.

The record is `benchmarks/results/against_diffusers-digits.json`, which `python -m benchmarks.against_diffusers` writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "against_diffusers-digits.json"
BEGIN, END = "<!-- result: made by `make docs-tables` -->", "<!-- end of result -->"
PAGES = ("index.md", "../README.md")


def pages() -> dict[str, str]:
    """Path below docs/ -> its text with today's result."""
    return {name: replaced((ROOT / "docs" / name).read_text()) for name in PAGES}


def replaced(text: str) -> str:
    """The text with the result in the place that it has for it."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{sentence(json.loads(RECORD.read_text()))}\n{END}{after}"


def sentence(record: dict[str, Any]) -> str:
    """The figure of the smallest budget on record with its interval, and what it was measured against."""
    row = min(record["rows"], key=lambda row: row["nfe"])
    ratio, (own, theirs) = row["typical"], row["elsewhere"]
    figure = f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"
    return (
        f"**At the same {row['nfe']} calls a typical sample is {figure} times as far from the converged one** as under the\n"
        f"best of {len(row['diffusers'])} diffusers scheduler settings, {row['best diffusers setting']}, and "
        f"{100 * own['value']:.1f} % of the samples are other images, where {100 * theirs['value']:.1f} % of its are\n"
        f"({record['model']['name']}, {own['n']} held-out noises, 95 % interval; [how it is measured]"
        "(https://github.com/fewer-diffusion/fewer/blob/main/docs/evidence.md))."
    )
