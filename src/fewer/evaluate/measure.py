"""`fewer.measure`: the quality of a plan on a model, each figure with its interval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from fewer.arguments import as_count, as_model, as_number_or_none, as_plan
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.features import Features
from fewer.evaluate.held_out import held_out_noise
from fewer.evaluate.probability_flow.likelihood import flow_nll
from fewer.evaluate.scoring import scoring_of
from fewer.evaluate.statistics.interval import Interval
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.plan import Plan


def reference_guidance(plan: Plan) -> float | None:
    """The scale of classifier-free guidance that a plan approximates: the one it was made for, or its rows' largest.

    Rules that guide by more than that have it as `cfg`. Raises InputError where all rules are weights on passes, which have none.
    """
    if (made_for := plan.evidence.get("guidance")) is not None:
        return float(made_for)
    rules = [row.guidance.parameters() for row in plan.rows if row.guidance is not None]
    scales = [float(rule[name]) for rule in rules if (name := "cfg" if "cfg" in rule else "scale") in rule]
    if rules and not scales:
        raise InputError(
            f"guidance is missing: the rows of plan {plan.name!r} have no scale; give the one it approximates"
        )
    return max(scales, default=None)


@in_own_precision
def measure(
    model: Model,
    plan: Plan,
    n: int = 512,
    seed: int = 1,
    data: Tensor | None = None,
    *,
    labels: Any = None,
    guidance: float | None = None,
    batch: int | None = None,
    features: Features | None = None,
    metric: OwnMetric | None = None,
    nll: bool = False,
) -> dict[str, Interval]:
    """Quality of a plan on n held-out noises.

    Distances to the reference solution of the same noise, in data units: `typical_error`, their mean on a log scale without the
    highest and lowest tenth, and `paired_rmse`, their root mean square, which is mostly that of the samples that end in another
    mode; these are the share `elsewhere` (`fewer.evaluate.statistics.endings`). All three are left out for plans that add noise,
    which are compared by distance. Where samples are latents, `paired_rmse_images` is that of up to 256 of them as
    decoded images. With `data` (N, *shape) in the model's data range also `fd` (Frechet
    distance), `energy` (energy distance) and `sw2` (sliced Wasserstein-2, squared) to it, on its leading principal
    components; plans that add noise are compared with the reference solution of other noises where no data is given.

    seed      of the noises, of which a search never uses the same ones
    guidance  scale of the reference solution, by default the plan's own
    features  that the distances to data are on, instead of its principal components
    metric    one more figure, under its own name, against the data, or the reference solution where there is none or the
              metric is of pairs (then not of plans that add noise)
    nll       also `nll`, the negative log-likelihood of `data` in nats per dimension (see `flow_nll`): a property of the
              model's flow, whatever the plan; of the empty class where the model has classes

    Raises InputError for features or a metric that do not fit the samples, and for `nll` of a network without derivatives.
    """
    if nll and data is None:
        raise InputError("nll is the likelihood of data, and data is missing")
    model, plan, n, seed = as_model(model), as_plan(plan), as_count(n, "n", 8), as_count(seed, "seed", 0)
    size = MICRO_BATCH if batch is None else as_count(batch, "batch")
    guidance = as_number_or_none(guidance, "guidance")
    scoring = scoring_of(model, data, features, metric)
    noises = Evaluator(
        model, held_out_noise(model, n, seed), model.labels(n, labels), batch=size, scoring=scoring, seed=seed
    )
    samples = noises.samples(plan)
    guidance = reference_guidance(plan) if guidance is None else guidance
    if not plan.stochastic:
        noises = noises.with_reference([samples], guidance=guidance)
    elif data is None:
        others = replace(noises, noise=held_out_noise(model, 2 * n, seed, n)).with_reference(
            [samples], guidance=guidance
        )
        noises = replace(noises, scoring=replace(scoring, data=others.target))
    score = noises.quality(samples, pairs=not plan.stochastic).figures
    if nll and scoring.data is not None:
        score["nll"] = flow_nll(model, scoring.data, batch=size).nats()
    return score
