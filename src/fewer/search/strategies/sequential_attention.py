"""Guided rows by regression, their second passes by forward selection."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.guidance.pass_weights import Conditions
from fewer.registry import part
from fewer.search.forward_selection import selected_passes
from fewer.search.row_fit import Fitted, RowFit
from fewer.search.strategies.guided_regression import GuidedRegression


@part(
    "sequential-attention",
    title="Guided rows by regression, which make both passes by forward selection (Sequential Attention)",
    source="Yasuda et al. 2022, Sequential Attention for Feature Selection, arXiv:2209.14881",
    papers=(62,),
)
@dataclass(frozen=True)
class SequentialAttention(GuidedRegression):
    """The search of `guided-regression`, which begins with the label's pass in all rows and adds the second pass of one row after
    the other, by what it explains of what is left (`fewer.search.forward_selection`), in place of dropping those missed least.

    That is the paper's method for linear regression, as the fit of rows is; for a network it trains attention weights.
    """

    most: int = 0

    name = "sequential-attention"

    def kept(self, fit: RowFit, fitted: Fitted, passes: int) -> tuple[Conditions, ...]:
        """The passes of each row, so many in all, of a fit of rows with both passes each."""
        return selected_passes(fit, fitted, passes)
