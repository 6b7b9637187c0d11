"""Writes the pages of docs/ that are made from the code: methods, families, reference, commands, and the result on the first page.

python -m scripts.pages
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts import commands, front, methods_table, reference, rooms

DOCS = Path(__file__).parent.parent / "docs"


def pages() -> dict[str, str]:
    """Path below docs/ -> text of every page that is made."""
    return {
        "methods.md": methods_table.page(),
        "reference.md": reference.page(),
        "commands.md": commands.page(),
        **rooms.pages(),
        **front.pages(),
    }


def stale(made: dict[str, str]) -> list[Path]:
    """Pages of rooms that are there and are not made any more."""
    return sorted(path for path in (DOCS / "rooms").rglob("*.md") if str(path.relative_to(DOCS)) not in made)


def main() -> int:
    """Write what has changed, and remove the rest."""
    made = pages()
    for name, text in made.items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
            print(path.resolve().relative_to(DOCS.parent))
    for path in stale(made):
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
