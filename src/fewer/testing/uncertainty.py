"""Promises of the parts that say how uncertain samples are."""

from __future__ import annotations

from dataclasses import replace

import torch

from fewer.blocks.find import network_of
from fewer.compression.calibration import Calibration
from fewer.epistemic import Estimator
from fewer.epistemic.gate import ErrorPredictor
from fewer.epistemic.question import Question
from fewer.noise import unit_noise
from fewer.samplers import standard
from fewer.testing import demand
from fewer.testing.models import counted, transformer, unet


def check(estimator: Estimator) -> None:
    """Variances of every value, above 0 somewhere, the same each time and in any batch; the network is left as it was."""
    for model in (transformer(), unet()):
        samples = unit_noise(1, range(16), model.shape)
        training = Calibration(model, samples, model.labels(16))
        question = Question(model, standard("ddim", model, 2, "logsnr"), training, 4, model.labels(4), batch=4)
        own = {name: weight.clone() for name, weight in network_of(model).state_dict().items()}
        with counted(model) as calls:
            found = estimator.variance(question)
        said = sum(estimator.effort(question.plan.nfe, question.n).evaluations.values())
        demand(sum(calls) == said, f"{estimator} takes {sum(calls)} evaluations and says {said}")
        demand(found.shape == (4, *model.shape), f"{estimator} gives variances {tuple(found.shape)} of 4 samples")
        demand(bool((found.isfinite() & (found >= 0)).all()), f"{estimator} gives variances below 0, or none")
        demand(bool((found > 0).any()), f"{estimator} is sure of every value of a network that was never trained")
        demand(torch.equal(found, estimator.variance(question)), f"{estimator} gives other variances the second time")
        labels = None if question.labels is None else question.labels[2:]
        last = estimator.variance(replace(question, n=2, first=2, labels=labels, batch=1))
        demand(
            torch.allclose(last, found[2:], rtol=1e-3), f"{estimator} gives sample 2 another variance in another batch"
        )
        same = all(torch.equal(weight, own[name]) for name, weight in network_of(model).state_dict().items())
        demand(same, f"{estimator} changes the network")
        demand(not any(p.requires_grad for p in network_of(model).parameters()), f"{estimator} leaves gradients on")


def check_predictor(predictor: ErrorPredictor) -> None:
    """Finite predictions of every sample by itself, the same each time, that know a number better which depends on the features."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 3, generator=generator, dtype=torch.float64)
    y = (x[:, 0] + 0.1 * torch.randn(96, generator=generator)).double()
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    with torch.inference_mode():  # as users' code may have it
        found = predictor.fit(x[:64], y[:64])(x[64:])
    demand(
        found.mean.shape == found.scale.shape == (32,),
        f"{predictor} gives shapes {tuple(found.mean.shape)} of 32 samples",
    )
    demand(bool((found.scale > 0).all()) and bool(found.mean.isfinite().all()), f"{predictor} gives what is not finite")
    again = predictor.fit(x[:64], y[:64])(x[70:])
    demand(torch.allclose(again.mean, found.mean[6:]), f"{predictor} gives other predictions the second time")
    demand(torch.allclose(again.scale, found.scale[6:]), f"{predictor} gives other deviations the second time")
    miss, spread = float((found.mean - y[64:]).square().mean()), float(y[64:].square().mean())
    demand(
        miss < spread / 2,
        f"{predictor} misses by {miss:.2f} what depends on the features and has a variance of {spread:.2f}",
    )
