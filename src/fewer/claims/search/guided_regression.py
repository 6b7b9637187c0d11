"""What weights on each pass bring under guidance, against guidance at one scale in all rows with levels and weights tuned."""

from __future__ import annotations

from dataclasses import replace

from fewer import Plan
from fewer.claims.claim import Measured, claim
from fewer.claims.search.guided_rows import CLOSE, MARGIN, compared, constant, problem, standards
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.guided_regression import GuidedRegression

NETWORK, NOISES, ITERATIONS = "digits", 64, 24
OF = (("search", "guided-regression"), ("guidance", "pass-weights"))


def fitted(of: Objective, passes: int) -> Plan:
    """The plan that the search chooses."""
    strategy = GuidedRegression()
    return strategy.choose(list(strategy.search(of, Space(of.model, standards(of, NETWORK, passes)), [], 0))).plan


def against_constant(seed: int, sabotage: bool, passes: int, more: int) -> Measured:
    """A plan of so many passes and one of `more` under constant guidance. The broken variant is led along other noises' ways."""
    of = problem(NETWORK, seed, NOISES)
    its = constant(of.apart(), NETWORK, more, ITERATIONS)
    mine = fitted(replace(of, noise=of.noise.roll(1, 0)) if sabotage else of, passes)
    return compared(NETWORK, mine, its, seed, CLOSE)


@claim(
    "guided-regression/equal-passes",
    of=OF,
    statement=f"Of 6 passes at scale 2 on {NETWORK}, a plan that weighs each pass by itself has a lower error than "
    "one guided in all rows at that scale, levels and weights tuned: ratio on held-out noise.",
    baseline="Gauss-Newton with guidance kept, from the best standard plan, same noises",
    below=1.0,
    tier="full",
)
def equal_passes(seed: int, sabotage: bool) -> Measured:
    """Both have as many."""
    return against_constant(seed, sabotage, 6, 6)


@claim(
    "guided-regression/two-thirds-of-the-passes",
    of=OF,
    statement=f"At scale 2 on {NETWORK} a plan of 8 passes that weighs each by itself is not worse than one of 12 guided in "
    "all rows at that scale, levels and weights tuned: ratio of errors on held-out noise.",
    baseline="Gauss-Newton with guidance kept at 12 passes, from the best standard plan, same noises",
    below=1 + MARGIN,
    tier="full",
)
def two_thirds(seed: int, sabotage: bool) -> Measured:
    """Four passes fewer."""
    return against_constant(seed, sabotage, 8, 12)
