"""A second, smaller network for the first or the last rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan, Row
from fewer.registry import part


@part(
    "small-network",
    title="A second, smaller network in the first or the last rows",
    source="Chen et al. 2024, Collaborative Decoding, arXiv:2411.17787; Pan et al. 2024, T-Stitch (one network, "
    "then the other), arXiv:2402.14167",
    papers=(279,),
)
@dataclass(frozen=True)
class SmallNetwork:
    """Rows at one end call the second model: its output u means what the first one's does, so the table stays as it is.

    Each row's level stays; the second model gets the time of its own schedule at that level. Collaborative Decoding drafts an
    autoregressive model's coarse scales by the large network and refines by the small one, each tuned to its scales;
    T-Stitch gives a diffusion model's first, noisy rows to the small one, without training. Both orders are here.

    rows   how many rows call the second model, which are run whole, without shortcuts
    where  which ones: first or last
    """

    rows: int = 2
    where: str = "first"

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with its network column, for `model.others[0]`.

        Raises InputError for a model without others, settings out of range, and rows at levels that it does not know.
        """
        count = len(plan.rows)
        if not isinstance(self.rows, int) or not 0 <= self.rows <= count:
            raise InputError(f"rows is {self.rows!r}; expected a whole number from 0 to the plan's {count}")
        if self.where not in ("first", "last"):
            raise InputError(f"where is {self.where!r}; expected first or last")
        return given_away(plan, model, range(self.rows) if self.where == "first" else range(count - self.rows, count))


def given_away(plan: Plan, model: Model, chosen: Collection[int]) -> Plan:
    """The plan whose rows of these numbers call `model.others[0]`, at the time of that model's schedule at the row's level.

    Raises InputError for a model without others, and for rows at levels that the second one does not know.
    """
    small = model.called(1)
    rows = tuple(_called(row, n, small) if n in chosen else _kept(row, chosen) for n, row in enumerate(plan.rows))
    return replace(plan, rows=rows, evidence={}, others=tuple(each.signature for each in model.others))


def _called(row: Row, n: int, small: Model) -> Row:
    """The row with a call of the small network."""
    tau, top = float(row.tau), small.schedule.tau_max
    if tau > top + 1e-9:
        raise InputError(f"row {n} lies at level {tau:.6g}; {small.name} knows levels up to {top:.6g}")
    return replace(row, t=None, network=1, blocks={})


def _kept(row: Row, gone: Collection[int]) -> Row:
    """The row, where blocks whose shortcut names a row of the other network are run."""
    return replace(
        row, blocks={name: cell for name, cell in row.blocks.items() if not any(j in gone for j in cell.weights)}
    )
