"""A hook of mkdocs: fills the entry `Rooms` of the navigation with the pages below docs/rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Replace the folder's name by its pages."""
    docs = Path(config["docs_dir"])
    for entry in config["nav"]:
        if entry.get("Rooms") == "rooms":
            entry["Rooms"] = below(docs / "rooms", docs)
    return config


def below(folder: Path, docs: Path) -> list[dict[str, Any]]:
    """The pages of a folder by name, its index first, and its folders as sections."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.iterdir(), key=lambda path: (path.stem != "index", path.stem)):
        if path.is_dir():
            found.append({path.name.capitalize(): below(path, docs)})
        elif path.suffix == ".md":
            name = (
                "Overview" if path.stem == "index" else path.stem if folder.name != "rooms" else path.stem.capitalize()
            )
            found.append({name: str(path.relative_to(docs))})
    return found
