"""What a plan that was tuned elsewhere brings to a search, on exact mixtures."""

from __future__ import annotations

from dataclasses import replace

from fewer import Model, Plan
from fewer.claims.broken import reversed_weights
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.exact import against, images, mixture_of
from fewer.claims.reference import Reference
from fewer.claims.search.joint import spend
from fewer.claims.search.strategies import NFE, best_start, chosen, problem
from fewer.noise import Stream
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton

TRIAL, ENOUGH = 4, 10  # iterations of a descent on few noises, and candidates of the search from standard plans
SHRUNK = 0.8  # the other mixture's means, of which this one's are a fine-tune's
CLOSE = 768  # noises of the comparison, whose sides are near each other


def shrunk() -> Model:
    """The images' mixture before its classes moved apart: all means nearer to zero."""
    mixture = mixture_of(images())
    moved = replace(mixture, means=SHRUNK * mixture.means)
    return Model.from_mixture(moved, images().schedule, name="shrunk", hash="shrunk")


def tuned_before(of: Objective, base: Plan, seed: int) -> Plan:
    """The plan that was tuned, from `base`, on the mixture before it moved."""
    before = Reference.of(shrunk(), seed, len(of), 64, stream=Stream.CHOICE).problem()
    return chosen(GaussNewton(starts=1, trial=TRIAL, candidates=ENOUGH), before, Space(before.model, (base,)), seed)


@claim(
    "gauss-newton/from-a-plan",
    statement=f"At {NFE} calls a search that begins with a plan tuned on the same mixture with its means moved to {SHRUNK:g} of "
    "theirs has, after as many network evaluations, a lower error on held-out noise.",
    baseline=f"the search from the best standard plan, stopped after {ENOUGH} candidates; exact 16x16 image mixture",
    below=1.0,
)
def from_a_plan(seed: int, sabotage: bool) -> Measured:
    """The broken variant begins with the weights of each row in the opposite order."""
    of = problem(seed)
    best = best_start(of)
    strategy = GaussNewton(starts=1, trial=TRIAL, candidates=ENOUGH)
    before = tuned_before(of, best, seed)
    of.counter.reset()
    cold = strategy.choose(list(strategy.search(of, Space(of.model, (best,)), [], seed)))
    spent = of.evaluations
    begins = Space(of.model, (best,), starts=(reversed_weights(before) if sabotage else before,))
    warm = strategy.choose(spend(replace(strategy, candidates=100), of, begins, spent, seed))
    untouched = against(before, cold.plan, seed, noises=CLOSE)
    beside: Beside = {"evaluations": float(spent), "the plan as it was tuned before": untouched}
    return Measured(against(warm.plan, cold.plan, seed, noises=CLOSE), beside)
