"""What a search of a posterior sampler plays: pairs, candidates and baselines, and the network evaluations of all of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fewer.errors import InputError

SEARCHES = 2  # of a method, each of so many candidates: one for each solver
LEAST_PAIRS, LEAST_EACH, LEAST_TRIALS = 8, 2, 2
LEAST = {
    "pairs": LEAST_PAIRS,
    "each": LEAST_EACH,
    "trials": LEAST_TRIALS,
    "finals": 0,
    "variants": 0,
}  # what a bound may lower
FEW_TRIALS = 8  # candidates of a solver, before pairs are given up
FINALISTS = 2  # methods that are searched where all may be, and baselines whose settings are tried
VARIANTS = 2  # further settings of those
FINALS, AGAIN = 4, 4  # candidates that are scored again, and times as many samples a measurement on which they are
TRY = 2  # calls by which it is told whether a method can do with a problem
DERIVATIVES = 3.0  # times as long as a plain call, of one with a derivative through the network, about


@dataclass(frozen=True)
class Effort:
    """The size of a search.

    pairs, each  pairs of the search, as many again held out, and samples a measurement
    trials       candidates of a method by each solver, or twice as many where the method takes levels alone
    methods      that are ranked on their usual plans
    finalists    of these, that are searched
    baselines    that are played at `baseline_calls` calls, and further settings of the best of them
    own          calls of the model's own sample of a pair; 0 where pairs are given
    finals       of all candidates, the nearest that are scored again on `AGAIN` times as many samples
    tried        methods that draw one sample of `TRY` calls beforehand, to tell whether they can do with the problem
    """

    nfe: int
    pairs: int
    each: int
    trials: int
    methods: int
    finalists: int
    baselines: int
    variants: int
    baseline_calls: int
    own: int
    tried: int
    finals: int = FINALS

    @property
    def candidates(self) -> int:
        """Scores of the search, baselines among them."""
        return self.methods + self.baselines + self.variants + self.searched + self.finals

    @property
    def searched(self) -> int:
        """Candidates of the search."""
        return SEARCHES * self.trials * self.finalists

    @property
    def evaluations(self) -> Mapping[str, int]:
        """Network evaluations of single samples, by stage; derivatives through the network are not counted."""
        size = self.pairs * self.each
        stages = {
            f"a sample of {TRY} calls by each method, to see which can do this": TRY * self.tried,
            "true samples by the model itself": 2 * self.pairs * self.own,
            f"methods on their usual plans at {self.nfe} calls": self.methods * size * self.nfe,
            f"baselines at {self.baseline_calls} calls": (self.baselines + self.variants) * size * self.baseline_calls,
            "search": self.searched * size * self.nfe,
            "the nearest candidates on more samples": self.finals * AGAIN * size * self.nfe,
            "comparison on held-out pairs": size * (self.nfe + self.baseline_calls),
        }
        return {stage: made for stage, made in stages.items() if made}

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.evaluations.values())

    @property
    def first(self) -> int:
        """Those before the search."""
        return self.total - self.last - self.searched * self.pairs * self.each * self.nfe

    @property
    def last(self) -> int:
        """Those after the search, which must be left."""
        return self.pairs * self.each * (self.nfe + self.baseline_calls + self.finals * AGAIN * self.nfe)

    def within(self, most: float, what: str) -> Effort:
        """As much of it as `most` evaluations pay for: fewer candidates, then fewer pairs. Raises InputError, which says `what`
        was asked for, where not even the least fits.
        """
        effort = self
        while effort.total > most:
            if effort.trials > FEW_TRIALS:
                effort = replace(effort, trials=max(FEW_TRIALS, effort.trials // 2))
            elif effort.pairs > LEAST_PAIRS:
                effort = replace(effort, pairs=max(LEAST_PAIRS, effort.pairs // 2))
            elif effort.each > LEAST_EACH:
                effort = replace(effort, each=max(LEAST_EACH, effort.each // 2))
            elif effort.finals:
                effort = replace(effort, finals=0)
            elif effort.trials > LEAST_TRIALS:
                effort = replace(effort, trials=LEAST_TRIALS)
            elif effort.variants:
                effort = replace(effort, variants=0)
            else:
                raise InputError(
                    f"{what} is too little: this search takes at least {math.ceil(effort.total):,} network evaluations (fewer "
                    "with a method, and one baseline to compare with)"
                )
        return effort
