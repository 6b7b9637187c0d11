"""docs/licences.md: the licences of what is installed with fewer, from what each package says of itself.

python -m scripts.licences
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

CUDA = ("nvidia-", "cuda-")  # how NVIDIA's own packages begin
PAGE = Path(__file__).parents[1] / "docs" / "licences.md"
HEAD = """# Licences

What `pip install` brings with fewer, and under which licence, as each package's own metadata says; made by
`python -m scripts.licences`. fewer itself is under Apache-2.0. What the optional extras bring is not listed,
nor are NVIDIA's own libraries, which torch brings where it is built for CUDA. The site of these pages holds KaTeX, which
typesets their formulas, under the MIT licence (`docs/assets/katex/LICENSE`); its fonts are under the SIL Open Font License 1.1.

| package | licence | brought by |
|---|---|---|
"""


def brought() -> dict[str, list[str]]:
    """Every package that fewer needs in this environment, and which packages need it; `fewer` stands for its own list."""
    found: dict[str, list[str]] = {}
    waiting = ["fewer"]
    while waiting:
        name = waiting.pop()
        for each in needs(name):
            if each not in found:
                found[each] = []
                waiting.append(each)
            found[each].append(name)
    return {name: sorted(by) for name, by in sorted(found.items())}


def needs(name: str) -> list[str]:
    """What a package requires here without extras, of what is installed."""
    asked = [Requirement(text) for text in metadata.requires(name) or []]
    names = {canonical(one.name) for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})}
    return sorted(each for each in names if not each.startswith(CUDA) and _is_installed(each))


def canonical(name: str) -> str:
    """A package's name as all of its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def licence(name: str) -> str:
    """What a package says of its licence: an SPDX expression, else its classifiers, else the first line of its text."""
    told = metadata.metadata(name)
    if expression := told.get("License-Expression"):
        return str(expression)
    named = [
        value.split(" :: ")[-1]
        for value in told.get_all("Classifier") or []
        if value.startswith("License :: ") and not value.endswith("OSI Approved")
    ]
    return "; ".join(named) or (str(told.get("License") or "").strip().splitlines() or ["unknown"])[0]


def page() -> str:
    """The page's text."""
    rows = [f"| {name} | {licence(name)} | {', '.join(by)} |\n" for name, by in brought().items()]
    return HEAD + "".join(rows)


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
