"""Forward selection of the rows that make both passes, against rows at random and against backward elimination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.reference import Reference
from fewer.claims.search.guided_rows import FINE, HELD_OUT, PASSES, SCALE, model, problem, standards
from fewer.evaluate.statistics import paired
from fewer.guidance.pass_weights import Conditions
from fewer.search.forward_selection import selected_passes
from fewer.search.objective import Objective
from fewer.search.row_fit import BOTH, LABEL, Fitted, RowFit
from fewer.search.space import Space
from fewer.search.strategies.guided_regression import GuidedRegression
from fewer.search.strategies.sequential_attention import SequentialAttention

NETWORK, NOISES, DRAWS = "mixture16", 32, 6


@dataclass(frozen=True)
class AtRandom(GuidedRegression):
    """Rows of two passes at random."""

    draw: int = 0
    most: int = 0

    def kept(self, fit: RowFit, fitted: Fitted, passes: int) -> tuple[Conditions, ...]:
        """So many passes in all."""
        rows = len(fitted.taus)
        both = np.random.default_rng([self.draw, rows]).permutation(rows)[: passes - rows]
        return tuple(BOTH if n in both else LABEL for n in range(rows))


@dataclass(frozen=True)
class Opposite(SequentialAttention):
    """The rows that are selected last make both passes."""

    def kept(self, fit: RowFit, fitted: Fitted, passes: int) -> tuple[Conditions, ...]:
        """Those of the forward selection of all the others."""
        rows = len(fitted.taus)
        others = selected_passes(fit, fitted, rows + 2 * rows - passes)
        return tuple(LABEL if row == BOTH else BOTH for row in others)


def errors(strategies: Sequence[GuidedRegression], of: Objective, space: Space, seed: int) -> Tensor:
    """Squared errors on held-out noises, averaged over strategies, of the best plan of each before anything is moved."""
    held_out = Reference.of(model(NETWORK), seed, HELD_OUT, FINE, guidance=SCALE[NETWORK])
    found = []
    for strategy in strategies:
        plans = (c.plan for c in strategy.search(of, space, [], seed) if c.state["stage"] == "fit")
        found.append(held_out.errors(next(plans)))
    return torch.stack(found).mean(0)


@claim(
    "sequential-attention/against-random",
    statement=f"Of {PASSES} passes at scale {SCALE[NETWORK]:g}, fitted rows that make both passes by forward selection have a "
    "lower error on held-out noise than at random: ratio of paired RMSE. Beside: against those by backward elimination",
    baseline=f"as many rows with both passes, at random, for as many evaluations, {DRAWS} times; exact 16x16 image mixture",
    below=1.0,
)
def against_random(seed: int, sabotage: bool) -> Measured:
    """The broken variant selects in the opposite order."""
    of = problem(NETWORK, seed, NOISES)
    space = Space(of.model, standards(of, NETWORK, PASSES))
    mine = errors([Opposite() if sabotage else SequentialAttention()], of, space, seed)
    its = errors([AtRandom(draw=draw) for draw in range(DRAWS)], of, space, seed)
    backward = errors([GuidedRegression(most=0)], of, space, seed)
    return Measured(paired.ratio(mine, its), {"against backward elimination": paired.ratio(mine, backward)})
