"""Which blocks run in which rows, as masks: what every search of masks shares when it is a strategy."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewer.errors import InputError
from fewer.plan import Plan
from fewer.search.ablation import patterned, whole
from fewer.search.limit import Limit
from fewer.search.masks.choices import Asking, Choices, Mask
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.joint import CheaperRows, best_standard, names_of
from fewer.search.strategy import NUMBERS, Candidate, Strategy

ASKED = 3  # masks that are asked for, at most, for each that is new
_MOST = 1e30  # an error that is not finite, as studies keep it


@dataclass(frozen=True)
class BlockMasks(CheaperRows):
    """A strategy that searches masks, block by block and row by row, of the best standard plan of `longer` F rows.

    F whole calls fit the budget. A block that is off takes its branch from the row that ran it last; in the first row all run. A
    mask that was played before costs nothing. The plan of least error within the budget is then tuned as in
    `fewer.search.strategies.joint`, its mask fixed.

    limit       the budget
    names       of blocks that share no modules; by default the finest that the network has
    masks       how many are played, at most
    drift       iterations that move the levels alone
    candidates  at most, masks and iterations of the tuning together
    """

    columns = NUMBERS | {"blocks"}
    by_objective = True

    limit: Limit | None = None
    names: tuple[str, ...] = ()
    longer: float = 1.5
    masks: int = 150
    drift: int = 6
    candidates: int = 250

    @abstractmethod
    def asking(self, choices: Choices, rng: np.random.Generator) -> Asking:
        """The search of masks; the first mask that it asks for fits the budget."""

    def within(self, limit: Limit, steps: Candidate | None) -> tuple[Strategy, ...]:
        """The same search under the limit."""
        return (replace(self, limit=limit),)

    def cheaper_rows(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """A candidate for each new mask; none where even all blocks off do not fit."""
        if self.limit is None:
            raise InputError(f"{self.name} needs a budget in multiply-adds or milliseconds: give macs or ms")
        played = [c for c in done if "mask" in c.state]
        plan = whole(played[0].plan) if played else best_standard(objective, space, self.rows(space))
        if plan is None:
            return
        names = self.names or names_of(space.model)
        choices = cells(plan, names, self.limit)
        if choices is None:
            return
        known = {bytes(c.state["mask"]): c.error for c in played}
        asking = self.asking(choices, np.random.default_rng(seed))
        mask = next(asking)
        for _ in range(ASKED * self.masks):
            bits = mask.astype(int).tolist()
            if (key := bytes(bits)) not in known:
                if len(known) >= min(self.masks, self.candidates):
                    return
                tried = masked(plan, names, mask)
                known[key] = objective.score(tried)
                state = {"mask": bits, **({"rows": len(plan.rows)} if choices.fits(mask) else {})}
                yield Candidate(tried, known[key], self.name, state)
            try:
                mask = asking.send(min(known[key], _MOST))
            except StopIteration:
                return

    def rows(self, space: Space) -> int:
        """Rows of the plans."""
        return max(space.calls + 1, math.ceil(space.calls * self.longer))


def cells(plan: Plan, names: Sequence[str], limit: Limit) -> Choices | None:
    """The choices of a plan: each block in each row but the first, block by block; None where not even none of them fits."""
    saved = np.array([[limit.saving(name, row.passes) for row in plan.rows] for name in names]).reshape(len(names), -1)
    room = limit.most - limit.at_most(whole(plan)) + float(saved[:, 1:].sum())
    return None if room < 0 or not names else Choices(saved[:, 1:].flatten(), room)


def masked(plan: Plan, names: Sequence[str], mask: Mask) -> Plan:
    """The plan in which the blocks run that are on."""
    runs = np.ones((len(names), len(plan.rows)), dtype=np.bool_)
    runs[:, 1:] = mask.reshape(len(names), -1)
    return patterned(plan, names, runs)
