"""The README's table of results, from benchmarks/results: python -m benchmarks.table"""

from __future__ import annotations

import json
from pathlib import Path

from fewer.evaluate.statistics.interval import Interval

HERE = Path(__file__).parent / "results"


def main() -> None:
    """Print the table."""
    print("| model | calls | tuned / best diffusers setting (95 %) | that setting | search, calls of 96 | seconds |")
    print("|---|--:|--:|---|--:|--:|")
    for path in sorted(HERE.glob("against_diffusers-*.json")):
        content = json.loads(path.read_text())
        for row in content["rows"]:
            calls = row["network calls of 96 samples, search and comparison"]
            print(
                f"| {content['model']['name']} | {row['nfe']} | {Interval.from_dict(row['ratio'])} | "
                f"{row['best diffusers setting']} | {calls:.0f} | {row['seconds']:.0f} |"
            )


if __name__ == "__main__":
    main()
