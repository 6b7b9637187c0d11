"""Claims of what tells a plan's cost before it is run."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from statistics import median

from fewer import Model, Plan, load, sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.evaluate.cost.clock import Side, clock
from fewer.evaluate.cost.latency import fit, sides

SOLVERS = ("ddim", "heun", "dpmpp-2m", "ipndm", "unipc", "unipc-3", "ancestral")
REPETITIONS = 20
PLANS = 5
CALLS = 6
BATCH = 8


def random_plans(model: Model, count: int, seed: int, most: int = 20) -> dict[str, Plan]:
    """`count` plans of 2 to `most` calls by solvers drawn at random, half of them guided where the model can be."""
    draw, found = random.Random(seed), {}
    for number in range(count):
        calls, name = draw.randint(2, most), draw.choice(SOLVERS)
        scale = draw.uniform(1.5, 4.0) if model.empty_label is not None and draw.random() < 0.5 else None
        plan = standard(name, model, calls if scale is None else 2 * calls, guidance=scale)
        found[f"random {number}"] = plan.named(f"{name}, {calls} calls" + ("" if scale is None else ", guided"))
    return found


def runs(model: Model, plans: dict[str, Plan], batch: int) -> dict[str, Side]:
    """What the clock has to run of each plan."""
    return {name: partial(sample, model, plan, batch, batch=batch) for name, plan in plans.items()}


@claim(
    "latency-table/prediction",
    statement="median of |predicted / measured - 1| of the time of random plans (2 to 6 calls, half of them guided) "
    f"of dit-digits at batch {BATCH}, on one thread",
    baseline="the clock, on the plans themselves, in the same rounds as the table's own readings",
    below=0.10,
    tier="full",
)
def check_prediction(seed: int, sabotage: bool) -> Measured:
    """A new table and new plans in each repetition. Sabotage: the calls are those of a single sample."""
    model, errors, worst = load("dit-digits"), [], []
    for repetition in range(REPETITIONS):
        plans = random_plans(model, PLANS, seed * REPETITIONS + repetition, CALLS)
        seconds = clock({**sides(model, (1, BATCH)), **runs(model, plans, BATCH)}, repeats=6, warmup=1, threads=1)
        table = fit(model, (1, BATCH), seconds)
        if sabotage:
            table = replace(table, calls={n: {BATCH: by_batch[1]} for n, by_batch in table.calls.items()})
        off = [abs(table.predict(plan, BATCH) / (1e3 * seconds[name].value) - 1) for name, plan in plans.items()]
        errors.append(median(off))
        worst.append(max(off))
    return Measured(mean(errors), {"largest error": mean(worst)})
