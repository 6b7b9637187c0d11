"""`fewer.gate`: a gate between a cheap and a dear plan of a model, from samples of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fewer.arguments import as_count, as_model, as_number, as_plan, as_plans
from fewer.dynamic.escalation import Escalation, sample_with_trail
from fewer.engine import sample
from fewer.epistemic.gate import ErrorPredictor
from fewer.epistemic.gate.gate import Gate, Origin, Pairs, check_predictor, distances, features_of
from fewer.epistemic.gate.promise import Promise
from fewer.errors import InputError
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan

NOISES = 1024  # half of which teach, and half of which are held out
FEWEST = 8  # that teach


@in_own_precision
def gate(
    model: Model | str | Path,
    cheap: Plan | str | Path | Sequence[Plan | str | Path],
    dear: Plan | str | Path,
    *,
    error: float,
    share: float = 0.05,
    confidence: float = 0.95,
    predictor: str | ErrorPredictor = "ensemble",
    noises: int = NOISES,
    seed: int = 0,
    label: int | None = None,
    batch: int | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> Gate:
    """A gate that plays a cheap plan for all samples, and the dear plan for those that it does not trust.

    It promises that at most a `share` of samples is farther than `error` from the dear plan's sample of the same noise, with a
    `confidence` over the noises that it was made on. They are no noises that `fewer.sample` draws.

    cheap       a plan, or several, of which the one is taken whose gate takes the fewest evaluations a sample
    error       root mean squared difference over a sample's values, in data units
    predictor   a part of the role `error predictor` (`fewer methods --room uncertainty`)
    noises      how many all plans are played on: half teach the predictor, half are held out
    label       the class of all samples that it is for; None draws them evenly where the model has classes
    progress    called during long work: (stage, done, total)

    Raises InputError for plans that add noise, a cheap plan of one row or of as many evaluations as the dear one, and too few
    noises for the promise.
    """
    model, plans, dear = as_model(model), as_plans(cheap), as_plan(dear, "dear")
    if not plans:
        raise InputError("cheap holds no plan; expected one at least")
    promise = Promise(
        as_number(error, "error"), as_number(share, "share"), as_number(confidence, "confidence"), len(plans)
    )
    teach = check_noises(promise, as_count(noises, "noises"))
    check_cheaper(plans, dear)
    check_predictor(predictor)
    for plan in plans:
        Escalation(plan, dear, 0.0)
    report = progress or (lambda stage, done, total: None)
    z = unit_noise(as_count(seed, "seed", 0), Stream.CALIBRATION.numbers(noises), model.shape, device=model.device)
    y = model.labels(noises, label)
    ends = sample(
        model, dear, noise=z, labels=y, batch=batch, progress=lambda done, total: report(dear.name, done, total)
    )
    made = []
    for plan in plans:
        pairs = known_pairs(model, plan, ends, z, y, batch, report)
        learnt, held_out = pairs.split(teach)
        made.append(Gate(plan, dear, promise, learnt, held_out, predictor, of=Origin.of(model), label=label))
    return min(made, key=lambda gate: gate.nfe)


def check_cheaper(cheap: Sequence[Plan], dear: Plan) -> None:
    """Raise InputError for a cheap plan that saves no evaluation, whatever the gate does."""
    for plan in cheap:
        if plan.nfe >= dear.nfe:
            raise InputError(
                f"cheap plan {plan.name!r} takes {plan.nfe} evaluations and the dear one {dear.nfe}: there is nothing to save"
            )


def known_pairs(
    model: Model, cheap: Plan, ends: Tensor, noise: Tensor, labels: Tensor | None, batch: int | None,
    report: Callable[[str, int, int], object],
) -> Pairs:  # fmt: skip
    """Features of the cheap plan's runs from these noises (n, *shape), and their errors to the dear plan's samples `ends`."""
    x, trail = sample_with_trail(
        model, cheap, noise, labels, batch, lambda done, total: report(cheap.name, done, total)
    )
    if torch.equal(x, ends):
        raise InputError(f"plan {cheap.name!r} gives the same samples as the dear plan")
    return Pairs(features_of(trail), distances(x, ends))


def check_noises(promise: Promise, noises: int) -> int:
    """How many of so many noises teach. Raises InputError where those that are left are too few for the promise."""
    held_out = noises - noises // 2
    if noises // 2 < FEWEST or promise.allowed(held_out) < 0:
        raise InputError(
            f"noises is {noises}, of which half are held out; a share of {promise.share:g} with confidence "
            f"{promise.confidence:g} needs at least {2 * max(promise.least, FEWEST)}"
        )
    return noises // 2
