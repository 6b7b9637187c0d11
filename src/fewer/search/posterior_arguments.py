"""What a search of a posterior sampler is called with, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_count_or_none, as_margin, as_model, as_number_or_none
from fewer.errors import InputError, NotFinite
from fewer.evaluate.cost.pace import timed_pace
from fewer.models.model import Model
from fewer.registry import name_of
from fewer.search.posterior_effort import (
    DERIVATIVES,
    FINALISTS,
    LEAST,
    LEAST_EACH,
    LEAST_PAIRS,
    LEAST_TRIALS,
    TRY,
    VARIANTS,
    Effort,
)
from fewer.search.posterior_pairs import FINE, Case, is_exact, made_pairs
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.given_operators import as_operator
from fewer.tasks.inverse.named import fitting, sampler_of
from fewer.tasks.inverse.operators import Operator
from fewer.tasks.inverse.solve import solve

BASELINE_CALLS = 100


@dataclass(frozen=True)
class Asked:
    """The checked arguments of a search.

    effort       its size, that of `whole` where no bound makes it smaller
    time         most seconds, and `evaluations` most evaluations; None for as many as it takes
    """

    model: Model
    operator: Operator
    noise: float | Tensor
    methods: Mapping[str, PosteriorSampler]
    baselines: Mapping[str, PosteriorSampler]
    effort: Effort
    whole: Effort
    time: float | None
    evaluations: int | None
    margin: float
    seed: int
    batch: int
    data: Any
    exact: bool
    notes: tuple[str, ...] = ()


def arguments(
    model: Model, operator: Any, *, nfe: int, method: Any, noise: Any, data: Any, pairs: int, each: int, trials: int,
    baseline_calls: int, baselines: Mapping[str, PosteriorSampler] | None, exact: bool, margin: float, time: float | None,
    evaluations: int | None, seed: int, batch: int, against: str | None = None,
) -> Asked:  # fmt: skip
    """The checked arguments of `tune_posterior`; raises InputError as it does. `against` is the only baseline, by its name."""
    model, nfe, seed = as_model(model), as_count(nfe, "nfe", 2), as_count(seed, "seed", 0)
    pairs, each = as_count(pairs, "pairs", LEAST_PAIRS), as_count(each, "each", LEAST_EACH)
    trials, baseline_calls = as_count(trials, "trials", LEAST_TRIALS), as_count(baseline_calls, "baseline_calls", 2)
    measured = as_operator(operator, model.shape)
    margin = as_margin(margin)
    own_method = {} if method is None else _named(method)
    own_baselines = dict(baselines or {}) if against is None else {against: sampler_of(against)}
    chosen = [*own_method.values(), *own_baselines.values()]
    for each_method in chosen:
        _try(model, measured, each_method, noise)
    usual = {} if own_method and own_baselines else _able(model, measured, fitting(measured), noise)
    methods, others = own_method or usual, own_baselines or usual
    own = 0 if data is not None or (model.exact is not None and model.classes is None) else FINE
    finalists = min(FINALISTS, len(methods))
    variants = VARIANTS * min(FINALISTS, len(others)) if not baselines else 0
    effort = Effort(
        nfe, pairs, each, trials, len(methods), finalists, len(others), variants, baseline_calls, own, len(chosen) + len(usual)
    )  # fmt: skip
    whole, notes = effort, list[str]()
    evaluations = as_count_or_none(evaluations, "evaluations")
    bounds: dict[str, float | None] = {f"evaluations of {evaluations}": evaluations}
    seconds = as_number_or_none(time, "time")
    if seconds is not None:
        bounds[f"a time of {seconds:g} s"] = seconds * timed_pace(model, None, batch) / DERIVATIVES
    for what, most in bounds.items():
        if most is not None:
            fewer = effort.within(most, what)
            if fewer != effort:
                notes.append(_smaller(f"in {what}", fewer))
            effort = fewer
    return Asked(
        model, measured, noise, methods, others, effort, whole, seconds, evaluations, margin, seed, batch, data,
        exact and data is None and is_exact(model, measured), tuple(notes),
    )  # fmt: skip


def _smaller(why: str, effort: Effort) -> str:
    return f"{why}: {effort.trials} candidates of a solver on {effort.pairs} pairs; more makes it surer"


def as_begun(asked: Asked, noted: Any) -> Asked:
    """With the sizes that an interrupted search was begun with, as `noted`, where they came of a bound in time: they depend on how
    fast the network was then.
    """
    if asked.time is None or not isinstance(noted, dict):
        return asked
    whole, sizes = asked.whole, {name: size for name in LEAST if isinstance(size := noted.get(name), int)}
    if sizes.keys() != LEAST.keys() or not all(LEAST[name] <= sizes[name] <= getattr(whole, name) for name in LEAST):
        return asked
    effort = replace(whole, **sizes)
    if asked.evaluations is not None and effort.total > asked.evaluations:
        return asked
    return replace(asked, effort=effort, notes=() if effort == whole else (_smaller("as it was begun", effort),))


def _named(method: Any) -> dict[str, PosteriorSampler]:
    one = sampler_of(method)
    return {name_of("tasks", one): one}


def _try(model: Model, operator: Operator, method: PosteriorSampler, noise: float | Tensor) -> None:
    """One sample of `TRY` calls; raises InputError where the method cannot do with the operator or the network."""
    with suppress(NotFinite):
        solve(model, operator, torch.zeros(operator.measured), plan=TRY, method=method, noise=noise, n=1)


def _able(
    model: Model, operator: Operator, methods: Mapping[str, PosteriorSampler], noise: float | Tensor
) -> dict[str, PosteriorSampler]:
    """The methods that can do with the operator and the network; raises InputError, of the first, where there is none."""
    able, refused = dict[str, PosteriorSampler](), list[InputError]()
    for name, method in methods.items():
        try:
            _try(model, operator, method, noise)
            able[name] = method
        except InputError as error:
            refused.append(error)
    if not able:
        raise refused[0] if refused else InputError("no method can do with this operator")
    return able


def cases(asked: Asked) -> tuple[Case, Case]:
    """The pairs of the search, and held-out ones."""
    n = asked.effort.pairs
    made = made_pairs(asked.model, asked.operator, asked.noise, 2 * n, asked.seed, asked.data, asked.exact)
    first, second = (
        Case(asked.model, asked.operator, asked.noise, made.part(rows), asked.effort.each, asked.seed + k, asked.batch)
        for k, rows in enumerate((slice(n), slice(n, 2 * n)))
    )
    return first, second
