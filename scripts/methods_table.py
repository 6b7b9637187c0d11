"""docs/methods.md: every method in a line, with its page and what came of its claims, from the parts themselves."""

from __future__ import annotations

from collections import Counter

from fewer.claims import recorded
from fewer.registry import ROOMS, Part, parts
from scripts.docstrings import cell
from scripts.families import place, title

HEAD = """---
hide: [toc]
---

# All methods

<!-- Made by `make docs-tables` from the parts and src/fewer/claims/results.json. -->

Every method with what it is, where it is from, and how many of its claims hold, are not confirmed, or cannot be told. A claim holds
where its whole 95 % interval lies in the stated region, is not confirmed where all of it lies outside, and else cannot be told;
each must fail when its method is broken on purpose (`fewer claims NAME --sabotage`). A method's name leads to its formula, its
claims and their figures; `fewer methods NAME` and `fewer claims NAME` are the same on the command line.

| method | family | what it is | source | claims |
|---|---|---|---|---|
"""


def page() -> str:
    """The page's text."""
    return HEAD + "".join(_row(part) + "\n" for room in ROOMS for part in parts(room))


def _row(part: Part) -> str:
    file, anchor = place(part)
    link = f"[`{part.name}`]({file}{anchor})"
    return f"| {link} | {title(part.room)} | {cell(part.title)} | {cell(part.source)} | {_claims(part)} |"


def _claims(part: Part) -> str:
    """How many of the method's claims came out how."""
    found = Counter(result.status for result in recorded().values() if (part.room, part.name) in result.of)
    return ", ".join(
        f"{status}: {found[status]}" for status in ("holds", "not confirmed", "cannot tell") if found[status]
    )
