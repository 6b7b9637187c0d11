"""What a plan that was tuned elsewhere brings to a search, on exact mixtures."""

from __future__ import annotations

from dataclasses import replace

from fewer.claims.claim import Measured, claim
from fewer.claims.exact import against, images
from fewer.claims.joint import spend
from fewer.claims.searches import NFE, last, problem, ranked
from fewer.claims.solvers import reversed_weights
from fewer.engine import sample
from fewer.measures.interval import Interval
from fewer.measures.reference import fine_plan
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.tuning.gauss_newton import GaussNewton
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space, fits

TRIAL, ENOUGH = 4, 10  # iterations of a descent on few noises, and candidates of the search from standard plans
SHRUNK = 0.8  # the other mixture's means, of which this one's are a fine-tune's


def shrunk() -> Model:
    """The images' mixture before its classes moved apart: all means nearer to zero."""
    model = images()
    assert isinstance(model.exact, GaussianMixture)
    moved = replace(model.exact, means=SHRUNK * model.exact.means)
    return Model.from_mixture(moved, model.schedule, name="shrunk", hash="shrunk")


def tuned_before(of: Problem, base: Plan, seed: int) -> Plan:
    """The plan that was tuned, from `base`, on the mixture before it moved."""
    model = shrunk()
    fine = sample(model, fine_plan(model, 64), noise=of.noise, labels=of.labels)
    before = Problem(model, of.noise, of.labels, fine)
    strategy = GaussNewton(starts=1, trial=TRIAL, candidates=ENOUGH)
    return last(strategy.search(before, Space(model, (base,)), [], seed), strategy)


@claim(
    "gauss-newton/from-a-plan",
    of=(("tuning", "gauss-newton"),),
    statement=f"At {NFE} calls a search that begins with a plan tuned on the same mixture with its means moved to {SHRUNK:g} of "
    "theirs has, after as many network evaluations, a lower error on fresh noise.",
    baseline=f"the search from the best standard plan, stopped after {ENOUGH} candidates; exact 16x16 image mixture",
    below=1.0,
)
def from_a_plan(seed: int, sabotage: bool) -> Measured:
    """The broken variant begins with the weights of each row in the opposite order."""
    of = problem(seed)
    best = next(plan for plan in ranked(of) if fits(plan))
    strategy = GaussNewton(starts=1, trial=TRIAL, candidates=ENOUGH)
    before = tuned_before(of, best, seed)
    of.evaluations = 0
    cold = strategy.choose(list(strategy.search(of, Space(of.model, (best,)), [], seed)))
    spent = of.evaluations
    begins = Space(of.model, (best,), starts=(reversed_weights(before) if sabotage else before,))
    warm = strategy.choose(spend(replace(strategy, candidates=100), of, begins, spent, seed))
    beside: dict[str, Interval | float] = {
        "evaluations": float(spent),
        "the plan as it was tuned before": against(before, cold.plan, seed),
    }
    return Measured(against(warm.plan, cold.plan, seed), beside)
