"""A tuned sampler of posteriors at few calls against the best of all methods at many, where the posterior is known."""

from __future__ import annotations

from collections.abc import Mapping

from fewer.claims.claim import Measured, claim
from fewer.claims.tasks.posterior_beds import PROBLEMS, SETTINGS, problem
from fewer.evaluate.posteriors import energy_distances
from fewer.evaluate.statistics.jackknife import student
from fewer.registry import find, name_of
from fewer.search.posterior_space import settings_at
from fewer.search.posteriors import tune_posterior
from fewer.tasks.inverse import PosteriorSampler

CALLS, BASELINE_CALLS, MARGIN = 20, 100, 0.01
PAIRS, EACH, TRIALS, DRAWS = 192, 4, 25, 32
HELD_OUT = 192  # measurements of the comparison
CLOSE = {"denoise": 768, "deblur": 1800}  # of it, where two samplers are close


def baselines() -> Mapping[str, PosteriorSampler]:
    """Every registered method in each of its settings, by both."""
    return {
        " ".join([name, *(f"{key} {value}" for key, value in each.items())]): find("tasks", name).make(**each)
        for name, settings in SETTINGS.items()
        for each in settings
    }


def tuned_claim(name: str) -> None:
    """Register that what a search finds at few calls is as near to the exact posteriors of a problem as the best method at many."""
    count = sum(map(len, SETTINGS.values()))

    @claim(
        f"tuned-posterior/{name}",
        statement=f"On {name} ({PROBLEMS[name]}), a plan of {CALLS} calls whose method, levels, noise, solver and settings are "
        f"chosen by the energy score of {PAIRS} pairs is as near to the exact posteriors as the best of all methods at "
        f"{BASELINE_CALLS} calls: difference of energy distances on other measurements, at most {MARGIN}; beside, both distances, "
        "and the search's own verdict by held-out pairs. Derivatives through the network are no calls.",
        baseline=f"the best of {len(SETTINGS)} methods in {count} settings on their usual plans at {BASELINE_CALLS} calls, chosen "
        "by the same pairs; mixture in 16 dimensions",
        below=MARGIN,
        tier="full",
    )
    def check(seed: int, sabotage: bool) -> Measured:
        """Sabotage: the tuned sampler sees other samples' measurements."""
        case, others = problem(16, name), baselines()
        tuned = tune_posterior(
            case.model, case.operator, nfe=CALLS, noise=case.noise, pairs=PAIRS, each=EACH, trials=TRIALS,
            baseline_calls=BASELINE_CALLS, baselines=others, exact=False, seed=seed,
        )  # fmt: skip
        _, y, posteriors = case.measured(CLOSE.get(name, HELD_OUT), 10_000 + seed)
        seen, method = y.roll(int(sabotage), 0), tuned.method
        mine = energy_distances(case.samples(seen, method, tuned.plan, DRAWS, seed), posteriors, seed)
        its = energy_distances(case.samples(y, others[tuned.against], BASELINE_CALLS, DRAWS, seed), posteriors, seed)
        settings = ", ".join(f"{key} {value:.3g}" for key, value in settings_at(method).items())
        return Measured(
            student((mine - its).tolist()),
            {
                f"tuned: {name_of('tasks', method)}, {settings}": student(mine.tolist()),
                f"best at {BASELINE_CALLS}: {tuned.against}": student(its.tolist()),
                f"energy score less the best's on held-out pairs: {tuned.decision}": tuned.difference,
            },
        )


for _name in PROBLEMS:
    tuned_claim(_name)
