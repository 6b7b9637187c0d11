"""A budget in multiply-adds or milliseconds per sample, and what plans cost in it, block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from fewer.blocks.find import block
from fewer.errors import InputError
from fewer.evaluate.cost import price
from fewer.evaluate.cost.latency import LatencyTable, latency_table
from fewer.evaluate.cost.plans import clock
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.samplers import standard

Unit = Literal["macs", "ms"]
MOST_CALLS = 1000
KNOWN, TABLES, STEADY = (
    4,
    3,
    1.25,
)  # calls of a plan that checks a table, how often it is measured, and by how much it may be off
CLOCKED = 16  # samples at a time when milliseconds per sample are meant, as in results.json


@dataclass(frozen=True)
class Limit:
    """At most `most` multiply-adds, or milliseconds on this machine, per sample.

    Milliseconds are those that `table` predicts for 16 samples at a time, for which it must have been measured; `others` are
    the tables of the model's further networks.
    """

    model: Model
    unit: Unit
    most: float
    table: LatencyTable | None = None
    others: tuple[LatencyTable, ...] = ()

    def __str__(self) -> str:
        """The budget in words."""
        return f"{self.most:.4g} multiply-adds" if self.unit == "macs" else f"{self.most:.4g} ms"

    def cost(self, plan: Plan) -> float:
        """Cost of a sample of the plan."""
        if self.table is None:
            return float(price.plan_macs(self.model, plan, self._call))
        first = replace(plan, rows=tuple(replace(row, network=0) for row in plan.rows))
        others = [(self.others[row.network - 1], row.passes) for row in plan.rows if row.network]
        more = sum(other.calls[passes][CLOCKED] - self.table.calls[passes][CLOCKED] for other, passes in others)
        return (self.table.predict(first, CLOCKED) + more) / CLOCKED

    @cached_property
    def _call(self) -> int:
        """Multiply-adds of a whole call."""
        return price.call_macs(self.model)

    def saving(self, name: str, passes: int) -> float:
        """Cost that a row of so many passes saves by leaving the block out."""
        if self.table is None:
            return float(passes * block(self.model, name).macs)
        return self.table.blocks[name][passes * CLOCKED] / CLOCKED

    def at_most(self, plan: Plan) -> float:
        """Cost of the plan when every output gets a weight, an upper bound: the engine's additions take time, too."""
        rows = tuple(
            replace(row, a={n: 1.0} if row.a is None else row.a, b={j: row.b.get(j, 1e-3) for j in range(n + 1)})
            for n, row in enumerate(plan.rows)
        )
        return self.cost(replace(plan, rows=rows))

    def calls(self, plan_of: Callable[[int], Plan]) -> int:
        """The number of calls that fit, each with all its blocks; plan_of(n) is a plan of n calls.

        Raises InputError where not even one does.
        """
        one, two = self.cost(plan_of(1)), self.cost(plan_of(2))
        if one == 0:
            raise InputError(
                f"{self.unit} is {self.most:.4g}, but torch counts none in {self.model.name}: give nfe or ms"
            )
        if one > self.most:
            now = " on this machine as it is now" if self.unit == "ms" else ""
            raise InputError(
                f"{self.unit} is {self.most:.4g}, less than the {one:.4g} that one call of {self.model.name} takes{now}"
            )
        n = min(MOST_CALLS, 1 + int((self.most - one) / max(two - one, 1e-30) + 1e-9))
        while n > 1 and self.at_most(plan_of(n)) > self.most:
            n -= 1
        return n


def limits(
    model: Model,
    unit: Unit,
    given: float | Sequence[float],
    names: Sequence[str],
    late: Callable[[], bool] = lambda: False,
) -> tuple[Limit, ...]:
    """Limits of these amounts, rising, for plans that may leave out the named blocks or call the model's others;
    milliseconds are measured now.

    Raises InputError for what is no positive number.
    """
    amounts = tuple(given) if isinstance(given, Sequence) else (given,)
    for amount in amounts:
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 < amount < float("inf"):
            raise InputError(f"{unit} is {amount!r}; expected a positive number")
    if not amounts:
        raise InputError(f"{unit} is empty; expected a positive number")
    table = steady_table(model, names, late) if unit == "ms" else None
    # guided rows call a further network with the model's own empty label
    others = [replace(other, empty_label=model.empty_label) for other in model.others if unit == "ms"]
    tables = tuple(latency_table(other, (CLOCKED,)) for other in others)
    return tuple(Limit(model, unit, float(amount), table, tables) for amount in sorted(set(amounts)))


def steady_table(model: Model, names: Sequence[str], late: Callable[[], bool]) -> LatencyTable:
    """The latency table of a model, measured again, at most twice and not where it is late, where a plan clocked right after it
    contradicts it: then something else had the machine in between.
    """
    plan = standard("ddim", model, KNOWN, "logsnr")
    for _ in range(TABLES):
        table = latency_table(model, (CLOCKED,), blocks=names)
        if late():
            break
        measured = clock(model, {"known": plan}, CLOCKED)["known"].value * CLOCKED
        if 1 / STEADY <= measured / table.predict(plan, CLOCKED) <= STEADY:
            break
    return table
