"""Posteriors of measurements by an operator that gives values alone: an external simulator, a rounded or a discrete one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_model, as_plan
from fewer.engine import sample
from fewer.errors import InputError, NotFinite
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.processes.ensemble_score import EnsembleScore
from fewer.registry import part
from fewer.settings import positive
from fewer.tasks.inverse.given_operators import as_operator
from fewer.tasks.inverse.solve import Solved, classes_of, measurements

BATCH = 4096


@dataclass(frozen=True, eq=False)
class BlackBoxSolved(Solved):
    """Samples of a posterior, as of `fewer.solve`, and how they were found.

    evaluations   of network and operator together that a sample took, its own last one among them
    log_evidence  log p(y) under the plan's prior
    effective     draws that the points found are worth; see `fewer.processes.ensemble_score.Drawn`
    """

    evaluations: int
    log_evidence: float
    effective: float

    @property
    def nfe(self) -> int:
        """Network evaluations a sample: those of the plan, for each point."""
        return self.plan.nfe * self.evaluations


@part(
    "black-box",
    title="Posteriors under black-box operators: ensemble score sampling of a plan's starting noise",
    source="Bischoff & Riel 2024, Enhancing Score-Based Sampling Methods with Ensembles, arXiv:2401.17539; its density in a "
    "plan's noise is this package's",
    papers=(134,),
    role="procedure",
)
@in_own_precision
def solve_black_box(
    model: Model, operator: Any, y: Tensor, *, plan: Plan, method: EnsembleScore | None = None, noise: float = 0.05, n: int = 16,
    seed: int = 0, label: int | None = None, batch: int = BATCH, progress: Callable[[int, int], Any] | None = None,
) -> BlackBoxSolved:  # fmt: skip
    """Samples of p(x | y) for y = A(x) + noise e, by values of A and of the network alone.

    A deterministic plan makes a sample G(z) of its starting noise z. So the posterior of z has the density
    N(z; 0, I) N(y; A(G(z)), noise^2), from which ensemble score sampling draws, and x = G(z). The prior is the plan's own: what
    the posterior lacks to that of the model is what the plan lacks.

    operator  A, of anything that `fewer.solve` takes; it needs no derivative, and may be of any kind
    y         one measurement, of the operator's shape
    plan      without noise in its rows
    method    particles, points and levels; a sample takes `method.evaluations` + 1 passes of the plan
    noise     standard deviation of e's part in y, above 0: one number
    label     class of the samples, of models with classes; None for any class, by the empty label
    batch     samples that the network makes at once
    progress  progress(done, all) ensembles of particles after each

    For models of few values, up to about ten: beyond, an ensemble finds too few points, and `effective` says so. Raises InputError
    for plans with noise, models with classes but without a label for any, measurements that do not fit, and noise that is no
    number above 0.
    """
    model, plan = as_model(model), as_plan(plan)
    n, seed, batch = as_count(n, "n"), as_count(seed, "seed", 0), as_count(batch, "batch")
    own = EnsembleScore() if method is None else method
    if not isinstance(own, EnsembleScore):
        raise InputError(f"method is {method!r:.80}; expected an EnsembleScore")
    if plan.stochastic:
        raise InputError(f"plan {plan.name!r} draws noise; the posterior of a starting noise needs a plan without")
    if label is None and model.classes is not None and model.empty_label is None:
        raise InputError(f"{model.name} has classes and no empty label: give the label of the samples")
    positive("noise", noise)
    measured, given, deviation, many = measurements(as_operator(operator, model.shape), y, noise)
    if many:
        raise InputError(f"y has shape {tuple(y.shape)}; a black-box operator takes one measurement at a time")
    labels = classes_of(model, 1, label)
    seen = given[0].numel()
    constant = -_log_normaliser(math.prod(model.shape)) - _log_normaliser(seen) - seen * math.log(deviation)

    def made(z: Tensor) -> Tensor:
        return sample(
            model, plan, noise=z.float().view(-1, *model.shape), batch=batch,
            labels=None if labels is None else labels.expand(len(z)),
        )  # fmt: skip

    def log_density(z: Tensor) -> Tensor:
        misfit = (given.to(model.device) - measured(made(z))).double().flatten(1).square().sum(1).cpu()
        return constant - z.square().sum(1) / 2 - misfit / (2 * deviation**2)

    with torch.no_grad():
        found = own.sample(log_density, math.prod(model.shape), n, seed=seed, progress=progress)
        x = made(found.samples)
        if not bool(x.isfinite().all()):
            raise NotFinite(f"samples are not finite under plan {plan.name!r}")
        misfit = float((given.to(x) - measured(x)).double().square().mean()) / deviation**2
    return BlackBoxSolved(x, 0, "black-box", plan, misfit, own.evaluations + 1, found.log_evidence, found.effective)


def _log_normaliser(dim: int) -> float:
    """Of the standard normal density in so many dimensions."""
    return dim / 2 * math.log(2 * math.pi)
