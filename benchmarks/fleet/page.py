"""docs/pipelines.md, from the results."""

from __future__ import annotations

from typing import Any


def page(results: dict[str, Any]) -> str:
    """Markdown."""
    return ""
