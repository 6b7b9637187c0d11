"""What fewer bits cost: samples of quantised networks against those of the network as it is, from the same noise and plan.

The figures are ratios of paired RMSE to the samples of the network as it is, of two quantised ones at equal size, unless said
otherwise. Calibration states and noises are drawn anew for each seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from torch import Tensor

from fewer import Model, Plan, sample, standard
from fewer.claims.bundled import BEST, model_of
from fewer.claims.bundled import reference as fine
from fewer.claims.claim import Measured, claim
from fewer.compression.quantise import Task
from fewer.compression.quantise.adaround import AdaRound
from fewer.compression.quantise.budget import cheapest
from fewer.compression.quantise.flexround import FlexRound
from fewer.compression.quantise.hawq import HawqV2, mean_traces
from fewer.compression.quantise.inputs import calibrated
from fewer.compression.quantise.quantise import QuantisedModel, made, quantised
from fewer.compression.quantise.reste import ReSTE
from fewer.compression.quantise.slim_llm import SliMLLM
from fewer.compression.quantise.states import States, states_of
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.quantised.grid import Format
from fewer.noise import Stream, unit_noise

CALLS, NOISES = 10, 128
CLOSE, CLOSER = 1024, 4096  # noises that two near each other take
LEVELS, EACH = 8, 16
STEPS = 60  # of learned roundings, for each block


def plan_of(name: str) -> Plan:
    """The plan whose samples are compared."""
    solver, grid = BEST[name]
    return standard(solver, model_of(name), CALLS, grid)


@cache
def states(name: str, seed: int) -> States:
    """States to calibrate on."""
    return states_of(model_of(name), LEVELS, EACH, seed)


def samples(name: str, model: Model, seed: int, n: int = NOISES) -> Tensor:
    """Samples of a model, or of a quantised one, from the seed's noises."""
    noise = unit_noise(seed, Stream.SAMPLES.numbers(n), model.shape)
    return sample(model, plan_of(name), noise=noise, labels=model.labels(n))


@cache
def own(name: str, seed: int, n: int) -> Tensor:
    """Samples of the network as it is."""
    return samples(name, model_of(name), seed, n)


def errors(name: str, model: Model, seed: int, n: int = NOISES) -> Tensor:
    """Squared errors (n,) of a quantised network's samples."""
    return squared_errors(samples(name, model, seed, n), own(name, seed, n))


@dataclass(frozen=True)
class Trial:
    """A network with a format of few bits, and the noises of a comparison."""

    model: str
    bits: int
    how: tuple[tuple[str, Any], ...] = ()
    noises: int = NOISES

    def made(self, rounding: Any, seed: int) -> QuantisedModel:
        """Quantised by a rounding."""
        given = states(self.model, seed)
        return quantised(model_of(self.model), self.bits, rounding=rounding, states=given, seed=seed, **dict(self.how))

    def errors(self, rounding: Any, seed: int) -> Tensor:
        """Squared errors (n,) of samples with a rounding."""
        return errors(self.model, self.made(rounding, seed).model, seed, self.noises)


TENSOR = Trial("digits", 3, (("per", "tensor"),))
GROUPS = Trial("dit-digits", 2, (("kind", "asymmetric"), ("group", 16)))
SIGNS = Trial("digits", 1, (("kind", "half-step"),))


@claim(
    "nearest/eight-bits",
    statement=f"With weights of 8 bits and inputs of 8 bits the error of {CALLS} calls on digits, to the model's own "
    "flow, is at most 5 % larger (ratio of paired RMSE).",
    baseline="the network as it is, same plan and noise",
    below=1.05,
    tier="full",
)
def eight_bits(seed: int, sabotage: bool) -> Measured:
    """Sabotage: 4 bits."""
    bits = 4 if sabotage else 8
    made = quantised(model_of("digits"), bits, inputs=bits, states=states("digits", seed))
    reference, models = fine("digits", seed, CLOSER), (made.model, model_of("digits"))
    mine, its = (squared_errors(samples("digits", each, seed, CLOSER), reference.samples) for each in models)
    return Measured(paired.ratio(mine, its), {"size, share of float32": made.share})


@claim(
    "nearest/all-levels",
    statement="With grids of the layers' inputs that are calibrated on all noise levels the error of 8 bits on digits "
    "is below half of that with grids calibrated on as many states of the noisiest level (ratio of paired "
    "RMSE).",
    baseline="the noisiest level alone, same weights and noise",
    below=0.5,
)
def all_levels(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the cleanest level alone."""
    model, given = model_of("digits"), states("digits", seed)
    weights = quantised(model, 8, states=given)
    layers = [name.rpartition(".")[0] for name in weights.quantised.weights]

    def of(some: States) -> Tensor:
        grids = calibrated(weights.model, some, layers)
        return errors("digits", made(model, replace(weights.quantised, inputs=grids)), seed)

    return Measured(paired.ratio(of(given.only(-1) if sabotage else given), of(given.only(0))))


@claim(
    "adaround/against-nearest",
    statement="At 3 bits with one scale for each tensor its error on digits is below that of rounding to nearest "
    "(ratio of paired RMSE).",
    baseline="rounding to nearest on the same grids, same noise",
    below=1.0,
    tier="full",
)
def adaround(seed: int, sabotage: bool) -> Measured:
    """Sabotage: one step, so that no choice is learned."""
    mine = TENSOR.errors(AdaRound(1 if sabotage else STEPS, batch=32), seed)
    return Measured(paired.ratio(mine, TENSOR.errors("nearest", seed)))


@claim(
    "flexround/against-adaround",
    statement="At 3 bits with one scale for each tensor its error on digits is below that of learned choices between "
    "the two neighbours of each weight, after as many steps of block reconstruction (ratio of paired RMSE).",
    baseline="AdaRound on the same states, same noise",
    below=1.0,
    tier="full",
)
def flexround(seed: int, sabotage: bool) -> Measured:
    """Sabotage: one step, so that no divisor is learned."""
    mine = TENSOR.errors(FlexRound(1 if sabotage else STEPS, batch=32), seed)
    return Measured(
        paired.ratio(mine, TENSOR.errors(AdaRound(STEPS, batch=32), seed)),
        {"against rounding to nearest": paired.ratio(mine, TENSOR.errors("nearest", seed))},
    )


@claim(
    "gptq/against-nearest",
    statement="At 2 bits in groups of 16 its error on dit-digits is below that of rounding to nearest (ratio of paired "
    "RMSE).",
    baseline="rounding to nearest of the same groups, same noise",
    below=1.0,
    tier="full",
)
def gptq(seed: int, sabotage: bool) -> Measured:
    """Sabotage: compared with three bits."""
    other = replace(GROUPS, bits=3) if sabotage else GROUPS
    return Measured(paired.ratio(GROUPS.errors("gptq", seed), other.errors("nearest", seed)))


@claim(
    "slim-llm/against-gptq",
    statement="At 2 bits on average in groups of 16 its error on dit-digits is below that of 2 bits for every group "
    "(ratio of paired RMSE).",
    baseline="GPTQ with uniform bits at equal size, same noise",
    below=1.0,
    tier="full",
)
def slim_llm(seed: int, sabotage: bool) -> Measured:
    """Sabotage: its bits are compared with three for every group."""
    trial = replace(GROUPS, noises=CLOSE)
    other = replace(trial, bits=3) if sabotage else trial
    mine = trial.errors(SliMLLM(), seed)
    return Measured(
        paired.ratio(mine, other.errors("gptq", seed)),
        {"against rounding to nearest": paired.ratio(mine, trial.errors("nearest", seed))},
    )


def against_uniform(name: str, bits: int, seed: int, sabotage: bool) -> Measured:
    """Samples with bits by HAWQ-V2 against those with these bits for all. Sabotage: traces upside down, so that the most sensitive
    weights count least.
    """
    model, given, method = model_of(name), states(name, seed), HawqV2(draws=2)
    uniform = quantised(model, bits, states=given)
    task = Task(model, dict.fromkeys(uniform.quantised.weights, Format(bits)), given, seed)
    traces = mean_traces(task, method.draws)
    if sabotage:
        traces = {weight: 1 / max(trace, 1e-12) for weight, trace in traces.items()}
    budget = sum(uniform.quantised.sizes.values())
    mixed = quantised(model, cheapest(method.options(task, traces), budget), states=given)
    size = sum(mixed.quantised.sizes.values()) / budget
    figure = paired.ratio(errors(name, mixed.model, seed), errors(name, uniform.model, seed))
    return Measured(figure, {"size, of uniform's": size})


for model, bits, ending in (("digits", 3, ""), ("dit-digits", 4, "-dit-digits")):
    claim(
        f"hawq-v2/against-uniform{ending}",
        statement=f"With weights of 2 to 8 bits in the size of {bits} bits for all its error on {model} is below that of "
        f"{bits} bits for all (ratio of paired RMSE).",
        baseline="uniform bits at equal size, rounded to nearest likewise, same noise",
        below=1.0,
        tier="full",
    )(partial(against_uniform, model, bits))


@claim(
    "reste/against-straight-through",
    statement="After 150 steps with weights of one bit its error on digits is below that of the straight-through "
    "estimator (ratio of paired RMSE).",
    baseline="the same training with o = 1 throughout, same states and noise",
    below=1.0,
    tier="full",
)
def reste(seed: int, sabotage: bool) -> Measured:
    """Sabotage: a power of 40, whose slope is far from the sign's and uneven."""
    power = 40.0 if sabotage else 3.0
    mine, its = (SIGNS.errors(ReSTE(150, each, batch=32), seed) for each in (power, 1.0))
    return Measured(paired.ratio(mine, its))
