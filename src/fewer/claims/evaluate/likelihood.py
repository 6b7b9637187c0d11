"""Claims of the likelihood by the probability flow, on mixtures whose density is known."""

from __future__ import annotations

import torch
from torch import Tensor

from fewer import GaussianMixture, Model
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.evaluate.probability_flow.likelihood import divergence, flow_nll
from fewer.models.schedules import Flow

DIM, COMPONENTS, SAMPLES = 8, 3, 16
MIXTURES = 10
LEVELS, PROBES = (0.2, 0.5, 0.8), 256
PART = (("evaluate", "probability-flow-nll"),)


def _drawn(seed: int, number: int) -> tuple[GaussianMixture, Model, Tensor]:
    """A mixture of its own for each repetition, its exact model on straight paths, and samples of it."""
    own = seed * MIXTURES + number
    mixture = GaussianMixture.random(DIM, COMPONENTS, seed=own)
    return mixture, Model.from_mixture(mixture, Flow(), dtype=torch.float64), mixture.sample(SAMPLES, seed=own + 1)[0]


@claim(
    "likelihood/exact",
    of=PART,
    statement="The likelihood by the probability flow, with the exact trace, is the model's: the mean absolute error over "
    f"samples of mixtures in {DIM} dimensions, in nats per dimension, is below 0.001.",
    baseline="the mixture's closed form at tau = 0",
    below=1e-3,
)
def exact(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the divergence counts with the wrong sign."""
    errors = []
    for number in range(MIXTURES):
        mixture, model, x = _drawn(seed, number)
        found = flow_nll(model, x, trace="exact")
        nll = found.prior + found.volume if sabotage else found.nll
        errors.append(float((nll + mixture.log_prob(x)).abs().mean()) / DIM)
    return Measured(mean(errors))


@claim(
    "likelihood/hutchinson",
    of=PART,
    statement="Hutchinson's estimate of the divergence is unbiased: its mean over Rademacher probes less the exact trace, "
    "relative to the root mean square of the exact trace, is between -0.03 and 0.03.",
    baseline="the exact trace of the same states",
    above=-0.03,
    below=0.03,
)
def hutchinson(seed: int, sabotage: bool) -> Measured:
    """Sabotage: probes uniform on [-1, 1], whose variance is a third of what it has to be."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(MIXTURES):
        _, model, x = _drawn(seed, number)
        gaps, traces = [], []
        for tau in LEVELS:
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            state = (1 - tau) * x + tau * noise
            uniform = 2 * torch.rand(PROBES, *x.shape, generator=generator, dtype=torch.float64) - 1
            probes = uniform if sabotage else uniform.sign()
            trace = divergence(model, state, tau)[:, 0]
            # where the trace is negative an estimate that is too small lies above it
            gaps.append((divergence(model, state, tau, vectors=probes).mean(1) - trace) * trace.sign())
            traces.append(trace)
        size = torch.cat(traces).square().mean().sqrt()
        found.append(float(torch.cat(gaps).mean() / size))
    return Measured(mean(found))
