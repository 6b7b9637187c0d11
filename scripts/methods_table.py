"""docs/methods.md: every method with its sources and what came of its claims, from the parts themselves."""

from __future__ import annotations

from fewer.claims import recorded
from fewer.registry import ROOMS, bibliography, parts

HEAD = """# Methods and their claims

Made by `make docs-tables` from the parts and from the record of their claims (`src/fewer/claims/results.json`).
A claim holds where its whole 95 % interval lies in the stated region, is not confirmed where all of it lies outside,
and else cannot be told. Every claim fails when its method is broken on purpose (`fewer claims NAME --sabotage`).
"""


def page() -> str:
    """The page's text."""
    lines = [HEAD]
    for room in ROOMS:
        lines.append(
            f"\n## {room}\n\n| method | what it is | source | claim | measured | region | status |\n|---|---|---|---|---|---|---|"
        )
        for part in parts(room):
            papers = "".join(f"; paper {n}: {bibliography()[n].title}" for n in part.papers)
            cells = [f"`{part.name}`", part.title, part.source + papers]
            for result in (r for r in recorded().values() if (room, part.name) in r.of):
                told = f"{result.statement} Against: {result.baseline}."
                row = [*cells, told, str(result.measured), result.region, f"**{result.status}**"]
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
                cells = ["", "", ""]
    return "\n".join(lines) + "\n"
