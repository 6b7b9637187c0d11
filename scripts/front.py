"""The results on the first page and in the README, from the record: between comments, so that they are never typed.

The record is what `python -m benchmarks.against_diffusers MODEL` writes into `benchmarks/results`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fewer.evaluate.statistics.interval import Interval

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
END = "<!-- end of {} -->"
BEGIN = "<!-- {}: made by `make docs-tables` -->"
MODELS = {
    "digits": "digits (UNet, noise prediction)",
    "dit-digits": "dit-digits (DiT, flow)",
    "full-mixture": "16x16 image mixture (noise prediction)",
    "mixture16": "mixture16 (its low-rank form)",
}


def pages() -> dict[str, str]:
    """Path below docs/ -> its text with today's results."""
    result, table = sentence(read("digits")), rows()
    index, readme = (ROOT / "docs" / "index.md").read_text(), (ROOT / "README.md").read_text()
    return {
        "index.md": replaced(index, "result", result),
        "../README.md": replaced(replaced(readme, "result", result), "results", table),
    }


def read(model: str) -> dict[str, Any]:
    """The record of a model."""
    found: dict[str, Any] = json.loads((RESULTS / f"against_diffusers-{model}.json").read_text())
    return found


def replaced(text: str, name: str, content: str) -> str:
    """The text with the content in the place that it has for it."""
    before, _, rest = text.partition(BEGIN.format(name))
    after = rest.partition(END.format(name))[2]
    return f"{before}{BEGIN.format(name)}\n{content}\n{END.format(name)}{after}"


def rows() -> str:
    """Every record as a table; those of before the typical error was measured have RMSEs alone."""
    lines = [
        "| model | calls | typical error, tuned / best diffusers setting | other images, tuned and that setting | RMSE, ratio "
        "| that setting | evaluations of the run | seconds |",
        "|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    for model, title in MODELS.items():
        for row in read(model)["rows"]:
            shares = " and ".join(f"{100 * share['value']:.1f} %" for share in row.get("elsewhere", [])) or "–"
            typical = "–" if row.get("typical") is None else str(Interval.from_dict(row["typical"]))
            spent = f"{row['evaluations']:,} | {row['seconds']:.0f}"
            ratio = Interval.from_dict(row["ratio"])
            lines.append(
                f"| {title} | {row['nfe']} | {typical} | {shares} | {ratio} | {row['best diffusers setting']} | {spent} |"
            )
    return "\n".join(lines)


def sentence(record: dict[str, Any]) -> str:
    """The figure of the smallest budget on record with its interval, and what it was measured against."""
    row = min(record["rows"], key=lambda row: row["nfe"])
    ratio, (own, theirs) = row["typical"], row["elsewhere"]
    figure = f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"
    shares = (
        f", and {100 * own['value']:.1f} % of its samples are other images, {100 * theirs['value']:.1f} % of that one's"
    )
    return (
        f"**At the same {row['nfe']} calls a typical sample is {figure} times as far from the converged one** as under the\n"
        f"best of {len(row['diffusers'])} diffusers scheduler settings, {row['best diffusers setting']}"
        f"{shares if own['value'] or theirs['value'] else ''}\n"
        f"({record['model']['name']}, {own['n']} held-out noises, 95 % interval; [how it is measured]"
        "(https://github.com/fewer-diffusion/fewer/blob/main/docs/evidence.md))."
    )
