"""Which rows need both passes, by forward selection: from rows with the label's pass alone, by the fit at no further call.

Sequential Attention (Yasuda et al. 2022, arXiv:2209.14881) adds to the selected regressors, one after the other, the one whose
attention weight grows largest while the rest is trained. On a linear regression that is orthogonal matching pursuit (Pati,
Rezaiifar & Krishnaprasad 1993, doi:10.1109/ACSSC.1993.342465): with r the rest of the best fit by those selected so far,

    next = argmax_i (x_i'r)^2 / x_i'x_i

the regressor of which a first step explains most. Here what is selected is the second pass of a row, a regressor of that row and of
all later ones, whose gains are added.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewer.guidance.pass_weights import Conditions
from fewer.search.elimination import Normal, normal_equations
from fewer.search.row_fit import BOTH, LABEL, Fitted, RowFit


def gains(gram: Tensor, slope: Tensor, selected: list[int], ridge: float = 0.0) -> Tensor:
    """(x_i'r)^2 / x_i'x_i of each regressor (k,), after the fit by the selected ones; of these, 0.

    gram   A'A (k, k)
    slope  A'y (k,)
    """
    rest = slope
    if selected:
        inner = gram[selected][:, selected]
        drawn = torch.diag(ridge * inner.diagonal())
        rest = slope - gram[:, selected] @ torch.linalg.solve(inner + drawn, slope[selected])
    gained = rest.square() / gram.diagonal().clamp_min(torch.finfo(torch.float64).tiny)
    gained[selected] = 0.0
    return gained


def matching_pursuit(gram: Tensor, slope: Tensor, count: int) -> list[int]:
    """The first `count` regressors that orthogonal matching pursuit selects, in turn."""
    selected: list[int] = []
    for _ in range(count):
        selected.append(int(gains(gram, slope, selected).argmax()))
    return selected


def selected_passes(fit: RowFit, fitted: Fitted, passes: int) -> tuple[Conditions, ...]:
    """The passes of each row, `passes` in all, that forward selection makes of a fit of rows with both passes each.

    Every row keeps the label's pass.
    """
    equations, rows = normal_equations(fit, fitted), range(len(fitted.taus))
    both: set[int] = set()
    while len(rows) + len(both) < min(passes, 2 * len(rows)):
        gained = [sum(_gain(row, n, both, fit.ridge) for row in equations) for n in rows]
        both.add(max((n for n in rows if n not in both), key=gained.__getitem__))
    return tuple(BOTH if n in both else LABEL for n in rows)


def _gain(row: Normal, n: int, both: set[int], ridge: float) -> float:
    """What the second pass of row n would explain of a row's rest; 0 where that row comes before."""
    if (n, "empty") not in row.owners:
        return 0.0
    selected = [i for i, owner in enumerate(row.owners) if owner is None or owner[1] != "empty" or owner[0] in both]
    return float(gains(row.gram, row.slope, selected, ridge)[row.owners.index((n, "empty"))])
