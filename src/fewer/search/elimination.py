"""Which rows need both passes, by the fit of rows that all make both, at no further network call.

The rest of a row's least-squares fit without a pass follows from the normal equations of the fit with it. Backward elimination
(Efroymson 1960) drops the second pass, and its use by all later rows, that is missed least, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.guidance.pass_weights import Conditions
from fewer.search.row_fit import BOTH, LABEL, Fitted, RowFit


@dataclass(frozen=True)
class Normal:
    """The normal equations of a row: G = A'A (k, k), A'y (k,) and y'y, each divided by the number of equations.

    owners  row and condition of each of the k regressors; None for the state
    """

    gram: Tensor
    slope: Tensor
    square: float
    owners: tuple[tuple[int, str] | None, ...]

    @classmethod
    def of(cls, given: Sequence[Tensor], target: Tensor, owners: Sequence[tuple[int, str] | None]) -> Normal:
        """Of the regressors (n, *shape) and their target."""
        inputs = torch.stack([x.flatten() for x in given], 1).double().cpu()
        y = target.flatten().double().cpu()
        size = len(y)
        return cls(inputs.T @ inputs / size, inputs.T @ y / size, float(y @ y) / size, tuple(owners))

    def rest(self, without: frozenset[int], ridge: float) -> float:
        """The mean squared rest of the best fit without the empty passes of these rows."""
        kept = [
            i for i, owner in enumerate(self.owners) if owner is None or owner[1] != "empty" or owner[0] not in without
        ]
        gram, slope = self.gram[kept][:, kept], self.slope[kept]
        drawn = torch.diag(ridge * gram.diagonal() + torch.finfo(torch.float64).tiny)
        return max(self.square - float(slope @ torch.linalg.solve(gram + drawn, slope)), 0.0)


def normal_equations(fit: RowFit, fitted: Fitted) -> list[Normal]:
    """Of every row of a fit, as its calls gave them."""
    rows: list[Normal] = []
    for n in range(len(fitted.taus)):
        passes = [(j, name, u) for j in range(n + 1) for name, u in zip(fitted.rows[j], fitted.passes[j], strict=True)]
        owners = [None, *((j, name) for j, name, _ in passes)]
        rows.append(Normal.of([fitted.states[n], *(u for *_, u in passes)], fit.target(fitted.taus, n), owners))
    return rows


def eliminated(fit: RowFit, fitted: Fitted, passes: int) -> tuple[Conditions, ...]:
    """The passes of each row, `passes` in all, that a fit of rows with both passes each can spare the least.

    Every row keeps the label's pass.
    """
    equations = normal_equations(fit, fitted)
    without: frozenset[int] = frozenset()

    def rest(dropped: frozenset[int]) -> float:
        return sum(row.rest(dropped, fit.ridge) for row in equations)

    rows = range(len(fitted.taus))
    while 2 * len(rows) - len(without) > max(passes, len(rows)):
        without = min((without | {n} for n in rows if n not in without), key=rest)
    return tuple(LABEL if n in without else BOTH for n in rows)
