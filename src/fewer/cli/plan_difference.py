"""Two plan files compared: the words, the JSON and the page of `fewer diff`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from markupsafe import Markup

from fewer.files import read_json, write_atomically
from fewer.markup import joined, paragraph
from fewer.plan import Plan
from fewer.plan.difference import Change, differences

PAGE = Markup(
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    '<meta name="viewport" content="width=device-width"><title>{}</title>'
    "<style>body{{font:15px/1.5 sans-serif;max-width:44em;margin:2em auto;padding:0 1em}}</style></head><body>{}</body></html>\n"
)


@dataclass(frozen=True)
class Side:
    """A plan with its file, and the version of the schema that the file has."""

    path: Path
    plan: Plan
    schema: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a plan file; raises InputError where it is none."""
        return cls(path, Plan.load(path), read_json(path, "plan")["schema"])

    def __str__(self) -> str:
        made_for = (self.plan.model or {}).get("name", "no model in particular")
        return f"{self.path}: {self.plan.name}, {len(self.plan.rows)} rows, {self.plan.nfe} evaluations, for {made_for}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        model = None if self.plan.model is None else dict(self.plan.model)
        return {
            "file": str(self.path), "name": self.plan.name, "rows": len(self.plan.rows), "nfe": self.plan.nfe,
            "model": model, "schema": self.schema,
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Two plans and what differs between them."""

    a: Side
    b: Side
    changes: list[Change]

    @classmethod
    def of(cls, a: Path, b: Path) -> Self:
        """Read and compare two plan files."""
        sides = Side.of(a), Side.of(b)
        return cls(*sides, differences(sides[0].plan, sides[1].plan))

    @property
    def remarks(self) -> list[str]:
        """What is to be known before single differences are read."""
        said = []
        models = [side.plan.model or {} for side in (self.a, self.b)]
        if models[0].get("hash") != models[1].get("hash"):
            said.append("They are plans of different models: the same row need not do the same on both.")
        if self.a.schema != self.b.schema:
            versions = f"{self.a.schema} and {self.b.schema}"
            said.append(f"Their files have different schemas, {versions}: both are read as today's.")
        if self.a.plan.evidence != self.b.plan.evidence:
            said.append("Their evidence differs, which does not count.")
        return said

    def lines(self) -> list[str]:
        """The comparison in words, a difference a line."""
        rows = {change.row for change in self.changes if change.row is not None}
        count = f"{_counted(len(self.changes), 'difference')}, in {_counted(len(rows), 'row')}"
        head = f"{count}:" if self.changes else "No difference: both play alike."
        return [str(self.a), str(self.b), *self.remarks, head, *(f"  {change}" for change in self.changes)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "equal": not self.changes, "a": self.a.to_dict(), "b": self.b.to_dict(), "remarks": self.remarks,
            "differences": [change.to_dict() for change in self.changes],
        }  # fmt: skip

    def write_page(self, path: Path) -> None:
        """Write the words and both pictures as one HTML file that needs nothing else."""
        marked = {change.row for change in self.changes if change.row is not None}
        sides = [[paragraph(side), Markup(side.plan.picture(marked))] for side in (self.a, self.b)]
        body = joined([*sides[0], *sides[1], *map(paragraph, self.lines()[2:])])
        title = f"{self.a.path.name} and {self.b.path.name}"
        write_atomically(path, PAGE.format(title, Markup(body)).encode("utf-8", "replace"))


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
