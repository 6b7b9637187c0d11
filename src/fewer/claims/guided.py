"""What classifier-free guidance does, where the class of a sample has a known probability."""

from __future__ import annotations

from fewer import sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise

SAMPLES, SCALE = 1024, 2.0


@claim(
    "cfg/class-probability",
    of=(("guidance", "cfg"),),
    statement=f"A scale of {SCALE:g} makes samples whose class is surer than at scale 1: mean gain of log p(label | x).",
    baseline="the conditional model itself (scale 1), same noise; exact mixture of three classes that overlap",
    above=0.0,
)
def class_probability(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    exact = GaussianMixture.random((1, 1, 2), components=9, seed=0, classes=3)
    process = discrete(betas("scaled_linear"), name="scaled_linear")
    model = Model.from_mixture(exact, process, conditional=True)
    noise, labels = unit_noise(seed, range(SAMPLES), model.shape), model.labels(SAMPLES)
    likely = []
    for scale in (2 - SCALE if sabotage else SCALE, 1.0):
        passes = 1 if scale in (0, 1) else 2
        plan = standard("dpmpp-2m", model, 20 * passes, "logsnr", guidance=scale)
        x = sample(model, plan, noise=noise, labels=labels).double()
        likely.append(exact.log_prob(x, labels=labels) - exact.log_prob(x))  # log p(label | x) - log p(label)
    return Measured(mean((likely[0] - likely[1]).tolist()))
