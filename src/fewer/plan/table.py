"""Plan: a start, rows, and their provenance."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

from pydantic import FailFast, Field
from torch import Tensor

from fewer.errors import InputError
from fewer.noise import MOST
from fewer.plan.checks import faults
from fewer.plan.method import Method
from fewer.plan.middle import gives, rows_from, useful
from fewer.plan.picture import picture
from fewer.plan.recipe import UNKNOWN, Recipe
from fewer.plan.row import Row, Start
from fewer.plan.values import STRICT, Coefficient, Level


@dataclass(frozen=True)
class Plan:
    """A start, rows, and the level where the last row ends (0: data).

    model     {"name", "hash", "schedule"} of the model that the plan was made for; where it names no schedule, as of plans
              that were read off a scheduler, stored times of rows are used for any network
    evidence  measurements of the plan
    others    like `model`, of the further networks that rows call
    recipe    provenance
    method    by which `fewer.solve` plays it; None for plans of plain sampling
    """

    __pydantic_config__ = STRICT

    start: Start
    rows: Annotated[
        tuple[Row, ...], FailFast(), Field(min_length=1, max_length=MOST)
    ]  # fails fast: a million faults need memory
    end: Level = 0.0
    name: Annotated[str, Field(max_length=200)] = "plan"
    model: Mapping[str, str] | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    others: Annotated[tuple[Mapping[str, str], ...], Field(max_length=100)] = ()
    recipe: Recipe = UNKNOWN
    method: Method | None = None

    def __repr__(self) -> str:
        """One line: tensors and evidence are left out."""
        made_for = "" if not self.model else f", made for {self.model.get('name')!r}"
        first, last = float(self.rows[0].tau) if self.rows else float("nan"), float(self.end)
        return (
            f"Plan({self.name!r}: {len(self.rows)} rows, {self.nfe} network evaluations, "
            f"levels {first:.4g} to {last:.4g}{made_for})"
        )

    def _repr_html_(self) -> str:
        """The picture of the plan, for notebooks."""
        return str(self.picture())

    def picture(self, marked: Collection[int] = ()) -> str:
        """Levels, weights, passes and blocks of the rows as SVG that needs nothing else; `marked` rows have a frame."""
        made_for = "" if not self.model else f", made for {self.model.get('name')}"
        title = f"{self.name}: {len(self.rows)} rows, {self.nfe} network evaluations{made_for}"
        return picture(self.rows, self.end, title, marked)

    @property
    def nfe(self) -> int:
        """Network evaluations per sample; a row under classifier-free guidance costs 2."""
        return sum(row.passes for row in self.rows)

    @property
    def stochastic(self) -> bool:
        """Whether noise is drawn after the start, by rows or by their rules of guidance."""
        added = (self.start.noise, *(row.noise for row in self.rows))
        drawn = (row.guidance is not None and row.guidance.draws for row in self.rows)
        return any(isinstance(c, Tensor) or c != 0 for c in added) or any(drawn)

    @property
    def levels(self) -> list[Coefficient]:
        """The level before each row, and after the last."""
        return [row.tau for row in self.rows] + [self.end]

    @property
    def networks(self) -> list[int]:
        """The networks that rows call, in the order of their first call."""
        return list(dict.fromkeys(row.network for row in self.rows))

    def named(self, name: str) -> Plan:
        """The same table under another name."""
        return replace(self, name=name)

    def save(self, path: str | Path) -> Path:
        """Write the plan as JSON, with safetensors beside it where coefficients are tensors; returns the path."""
        from fewer.plan.file import write  # on first use: its checks take long to import

        return write(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Plan:
        """Read and validate a plan file. Raises InputError that says what is wrong with it; never runs code."""
        from fewer.plan.file import read

        if not isinstance(path, str | PathLike):
            raise InputError(f"plan is {path!r:.80}; expected the path of a plan's file")
        return read(Path(path))

    def check(self, shape: tuple[int, ...] | None = None) -> Plan:
        """The plan itself, when every number of it makes sense; else InputError with the first that does not.

        Levels must not rise, but for plans that rise throughout (inversion) and rows that add noise (restart). With
        the `shape` of a sample, coefficients that are tensors must broadcast to it.
        """
        if not self.rows:
            raise InputError(f"plan {self.name!r} has no rows")
        for fault in faults(self.start, self.rows, self.end, shape):
            raise InputError(f"plan {self.name!r}: {fault}")
        return self

    def check_plain(self) -> None:
        """InputError for a plan that is played by its method, with a measurement, and not by itself."""
        if self.method is not None:
            raise InputError(
                f"plan {self.name!r} draws from posteriors by {self.method.name}: play it with a measurement, by fewer.solve or "
                "fewer sample --measurement"
            )

    def from_level(self, tau: float) -> Plan:
        """The part of the plan at and below a level, for starts in the middle (image-to-image).

        It starts at the first row whose level is at most `tau`. Outputs that were not made are replaced by the oldest one
        that was, of the same passes where that level has such, so the plan stays exact on straight lines; rows that then
        move nothing (a second stage without its first) are left out. Blocks whose shortcut names a row that was not
        played are run. Raises InputError when no row is left or an earlier state is needed.
        """
        first = next((n for n, row in enumerate(self.rows) if float(row.tau) <= tau + 1e-12), len(self.rows))
        return self.from_row(first, f"at or below level {tau:.3g}: ask for a larger strength")

    def from_row(self, first: int, where: str = "that moves anything") -> Plan:
        """The part of the plan from row `first` on, as `from_level` has it; `where` ends the error of no row left.

        Raises InputError also for a row whose step takes the pass of the row before it, at the same level.
        """
        first = useful(self.rows, first) if first >= 0 else len(self.rows)
        if first == len(self.rows):
            raise InputError(f"plan {self.name!r} has no row {where}")
        if first == 0:
            return self
        if gives(self.rows, first - 1):
            raise InputError(
                f"plan {self.name!r} cannot start at row {first}, whose step takes the pass of row {first - 1} at the same level"
            )
        rows = rows_from(self.rows, first)
        tau = self.rows[first].tau
        if any(j < 0 for row in rows for j in row.a or {}):
            raise InputError(f"plan {self.name!r} names states before level {float(tau):.3g} and cannot start there")
        return replace(self, start=Start(tau=tau, scale=tau), rows=rows, evidence={})
