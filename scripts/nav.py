"""A hook of mkdocs: puts the pages of the methods' families below `Methods by family`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ENTRY = "Methods by family"


def on_config(config: Any) -> Any:
    """Put the pages of docs/rooms after those that the entry has."""
    docs = Path(config["docs_dir"])
    for entry in config["nav"]:
        if isinstance(entry, dict) and ENTRY in entry:
            entry[ENTRY] += below(docs / "rooms", docs)
    return config


def below(folder: Path, docs: Path) -> list[Any]:
    """The pages of a folder by their titles, its index first, and its folders as sections."""
    found: list[Any] = []
    for path in sorted(folder.iterdir(), key=lambda path: (path.stem != "index", path.stem)):
        if path.is_dir():
            found.append({path.name.capitalize(): below(path, docs)})
        elif path.suffix == ".md":
            found.append({heading(path): str(path.relative_to(docs))})
    return found


def heading(path: Path) -> str:
    """What a page is called in the navigation: its heading, shorter where it is the first of its folder."""
    if path.stem == "index":
        return "All, with their orders"
    return path.read_text().split("\n", 1)[0].removeprefix("# ").replace("\\", "").replace("`", "")
