"""Claims of the search of distilled models: whether one of four calls may go is told, where it may and where it may not."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from fewer import sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.flow_maps import consistency_model, truth
from fewer.evaluate.distances.energy import energy_difference
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.many_steps import ToManySteps
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.renoising import Renoising

CALLS, FEWER, N, DATA, MARGIN = 4, 3, 4096, 16_384, 0.05
SEARCHED, TRIALS = 256, 64


def noises(model: Model, seed: int, stream: Stream, n: int) -> Evaluator:
    """Starting noises, with row noises of their own."""
    numbers = stream.numbers(n)
    return Evaluator(model, unit_noise(seed, numbers, model.shape), batch=n, seed=seed, number=numbers[0])


def beyond(blur: float, seed: int, sabotage: bool) -> Measured:
    """Distance of three calls less that of four, and less what the margin tolerates. The broken variant exchanges the models."""
    model = consistency_model(seed, (0.0 if blur else 1.0) if sabotage else blur)
    by = ToManySteps().with_samples(truth(seed).sample(DATA, seed=seed + 1)[0].float())
    judge = noises(model, seed, Stream.HELD_OUT, N)
    few, many = (judge.samples(standard("lcm", model, calls, "lcm")) for calls in (FEWER, CALLS))
    found = by.compared(judge, few, many, MARGIN)
    return Measured(found.beyond, {"difference": found.value, "tolerated": found.bound})


ON = f"{CALLS} calls of lcm on {N} held-out noises; two independent mixtures of three on the line, {DATA} draws of them"
FIGURE = f"the difference of the energy distances to the data, less what a margin of {MARGIN:.0%} tolerates"

claim(
    "renoising/three-suffice",
    statement=f"Of a model whose data prediction is the end of the flow, {FEWER} calls are as good as {CALLS}: {FIGURE}.",
    baseline=ON,
    below=0.0,
)(partial(beyond, 0.0))

claim(
    "renoising/three-do-not-suffice",
    statement=f"Of a denoiser that is taken for such a model, {FEWER} calls are not as good as {CALLS}: {FIGURE}.",
    baseline=ON,
    above=0.0,
)(partial(beyond, 1.0))


@claim(
    "renoising/found",
    statement=f"Levels and shares of fresh noise that were searched bring the samples of {FEWER} calls of a model that errs "
    "nearer to the data: difference of the energy distances.",
    baseline=f"lcm on its own levels; a flow map blurred by 0.3; {TRIALS} candidates on {SEARCHED} noises",
    below=0.0,
)
def found(seed: int, sabotage: bool) -> Measured:
    """The broken variant takes the worst candidate."""
    model = consistency_model(seed, 0.3)
    data = truth(seed).sample(2 * N, seed=seed + 1)[0].float()
    start, by = standard("lcm", model, FEWER, "lcm"), ToManySteps().with_samples(data[:N])
    own = noises(model, seed, Stream.SAMPLES, SEARCHED)
    objective = Objective(
        model, own.noise, batch=SEARCHED, scoring=by.scoring, seed=seed, number=own.number, criterion=by
    )
    tried = list(replace(Renoising(), candidates=TRIALS).search(objective, Space(model, (start,)), [], seed))
    plan = (max if sabotage else min)(tried, key=lambda candidate: candidate.error).plan
    mine, its = (sample(model, each, n=N, seed=seed + 1, batch=N).double() for each in (plan, start))
    return Measured(energy_difference(mine, its, data[N:].double()))
