"""Promises of the parts that say how uncertain samples are."""

from __future__ import annotations

from dataclasses import replace

import torch

from fewer.blocks.find import network_of
from fewer.compression.calibration import Calibration
from fewer.epistemic import Estimator
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
        question = Question(model, standard("ddim", model, 3, "logsnr"), training, 4, model.labels(4), batch=4)
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
