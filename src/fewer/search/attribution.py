"""Shares of a plan's steps and blocks in the change of its samples, from stratified random ablations.

Blocks are left out of rows at random, reusing the branch of the row that ran the block last. Were every such action drawn
alone, nearly all draws would leave out half of them. So the number that is left out is the stratum, with as many draws in
each (Rashid et al. 2024 do so for images), and the mean squared change y of the samples is explained in each stratum alike,

    min sum_draws ((y - sum_k w_k m_k) / mean y of the stratum)^2    over w_k >= 0

with m_k the number of rows in which block k was left out; likewise for rows with the number of their blocks. The share of
k is w_k / sum w. Every stratum counts alike, also those where few are left out: there blocks act apart, and w_k is nearly what
leaving out k alone does. It is no Shapley value, which shares out what blocks only do together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from fewer.evaluate.statistics.interval import Interval
from fewer.plan import Plan
from fewer.registry import part
from fewer.results import Attribution, Share
from fewer.search.ablation import Pattern, patterned, whole
from fewer.search.objective import Objective

STRATA = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # shares of the block actions that are left out
RESAMPLED = 200


@part(
    "stratified-attribution",
    title="Shares of blocks and rows in the change of samples, from stratified ablations",
    source="Rashid et al. 2024, arXiv:2403.17742",
    papers=(206,),
    role="procedure",
)
def attribute(objective: Objective, plan: Plan, names: Sequence[str], draws: int, seed: int) -> Attribution:
    """Shares of blocks, and of rows after the first, each adding up to 1, with 95 % intervals (bootstrap over draws).

    They come from `draws` random patterns in each of four strata, in which 1/16 to 1/2 of the blocks of all rows are left out:
    4 draws rows evaluations a noise, and rows more. With y the mean squared change of the samples and m_k the rows that left
    out block k (likewise for rows),

        min sum_draws ((y - sum_k w_k m_k) / mean y of the stratum)^2  over w_k >= 0,    share k = w_k / sum w

    Blocks must share no modules; every row must make all passes of the plan. The first row always runs.
    """
    plan = whole(plan)
    rng = np.random.default_rng(seed)
    parts = objective.parts()
    base = [objective.run(plan, part) for part in parts]
    patterns, changes, scale = [], [], []
    for share in STRATA:
        stratum = []
        for _ in range(draws):
            patterns.append(drawn(len(names), len(plan.rows), share, rng))
            ablated = patterned(plan, names, patterns[-1])
            squares = [
                (objective.run(ablated, part) - samples).double().square().sum()
                for part, samples in zip(parts, base, strict=True)
            ]
            stratum.append(float(sum(squares)) / objective.target.numel())
        changes += stratum
        scale += [max(float(np.mean(stratum)), 1e-300)] * draws
    left_out = ~np.stack(patterns)
    y, by = np.array(changes), np.array(scale)
    blocks = shares(left_out.sum(2), y, by, rng)
    rows = shares(left_out.sum(1)[:, 1:], y, by, rng)
    return Attribution(blocks=_ranked(names, blocks), rows=_ranked(map(str, range(1, len(rows) + 1)), rows))


def _ranked(names: Iterable[str], shares: list[Interval]) -> tuple[Share, ...]:
    """The shares by name, the greatest first."""
    named = [Share(name=name, **share.to_dict()) for name, share in zip(names, shares, strict=True)]
    return tuple(sorted(named, key=lambda share: share.value or 0.0, reverse=True))


def drawn(blocks: int, rows: int, share: float, rng: np.random.Generator) -> Pattern:
    """A pattern with that share of the blocks in rows left out, at least one and none of the first row."""
    runs: Pattern = np.ones((blocks, rows), dtype=np.bool_)
    actions = blocks * (rows - 1)
    out = rng.choice(actions, size=max(1, round(share * actions)), replace=False)
    runs[out // (rows - 1), 1 + out % (rows - 1)] = False
    return runs


def coefficients(
    counts: NDArray[np.int64], changes: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """w (K,) >= 0 of least sum ((changes - counts w) / scale)^2, of counts (draws, K) and the others (draws,).

    The exact ones where changes are counts w and the counts have rank K.
    """
    w: NDArray[np.float64] = nnls(counts / scale[:, None], changes / scale)[0]
    return w


def shares(
    counts: NDArray[np.int64], changes: NDArray[np.float64], scale: NDArray[np.float64], rng: np.random.Generator
) -> list[Interval]:
    """w_k / sum w of the fit, with the 2.5 and 97.5 % points over resampled draws.

    counts (draws, K) of what was left out, changes (draws,) and their scale (draws,)
    """

    def fit(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        w = coefficients(counts[draws], changes[draws], scale[draws])
        return w / w.sum() if w.sum() > 0 else np.full(len(w), 1 / len(w))

    n = len(changes)
    values = fit(np.arange(n))
    again = np.stack([fit(rng.integers(n, size=n)) for _ in range(RESAMPLED)])
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    ends = zip(values, np.minimum(low, values), np.maximum(high, values), strict=True)
    return [Interval(float(v), float(a), float(b), n) for v, a, b in ends]
