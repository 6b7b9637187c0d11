"""Where a method stands in docs/: the titles of the families, and the page and anchor of each method."""

from __future__ import annotations

import re

from fewer.registry import Part

TITLES = {
    "solvers": "Solvers", "grids": "Grids of levels", "guidance": "Guidance", "blocks": "Parts of the network left out",
    "models": "Models", "search": "Search strategies", "evaluate": "Figures of quality and cost",
    "dynamic": "Decisions while sampling", "processes": "Other processes",
    "tasks": "Tasks besides sampling",
    "compress": "Lighter networks",
}  # fmt: skip


def title(room: str) -> str:
    """What the methods of a room are called."""
    return TITLES.get(room, room.capitalize())


def place(part: Part) -> tuple[str, str]:
    """The page below docs/ that a method is on, and the anchor of its heading, "" where its name makes none."""
    anchor = f"#{part.name}" if re.fullmatch(r"[\w-]+", part.name) else ""
    if part.room == "solvers":
        return f"rooms/solvers/{part.make.__module__.rsplit('.', 1)[-1]}.md", anchor
    return f"rooms/{part.room}.md", anchor
