"""What comes with the package may be used by everyone, and is listed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the scripts are no installed package

from scripts.licences import PAGE, brought, canonical, licence

FREE = re.compile(
    r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|MPL-2\.0|Mozilla Public|ISC|HPND|MIT-CMU|Unlicense|CC0|Zlib|0BSD)\b",
    re.IGNORECASE,
)
UNFREE = re.compile(r"non-?commercial|CC-BY-NC|proprietary|research only|unknown", re.IGNORECASE)


def test_every_licence_is_known_and_lets_everyone_use_it() -> None:
    told = {name: licence(name) for name in brought()}
    assert {"torch", "diffusers", "sqlalchemy", "numpy"} <= set(told)
    assert {name: said for name, said in told.items() if UNFREE.search(said) or not FREE.search(said)} == {}


def test_the_page_lists_all_of_them() -> None:
    listed = dict(re.findall(r"^\| ([\w-]+) \| (.*?) \|", PAGE.read_text(), re.MULTILINE))
    assert {name: licence(name) for name in brought() if listed.get(canonical(name)) != licence(name)} == {}
