"""Noise levels as other engines write them: a list of sigmas, falling, the last of them 0.

sigma is s = sigma / alpha for diffusion models (k-diffusion, ComfyUI, A1111) and tau for flows, whose list begins at 1. A solver
on such a list is a plan: of one row a sigma but the last for solvers that call the network once a level, and of more for the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from fewer.arguments import as_model, as_number_or_none
from fewer.errors import InputError
from fewer.guidance.cfg import passes_at
from fewer.levels import s_of_tau, tau_of_s
from fewer.models.model import Model
from fewer.models.schedules import Flow, Schedule
from fewer.plan import Plan
from fewer.registry import guarded, resolve
from fewer.samplers import standard
from fewer.solvers import Solver

MOST_CALLS = 4  # of a solver at one level
ROUNDED = 1e-3  # share by which a first sigma may be above the noisiest one: lists are typed


def read_sigmas(text: str) -> tuple[float, ...]:
    """The sigmas of a text such as `14.6,5.2,1.1,0`: two at least, finite, none negative. Raises InputError for all else."""
    words = re.split(r"\s*[,;]\s*|\s+", text.strip(" \t\n[]()"))
    if words == [""]:
        raise InputError("sigmas is an empty list; expected falling noise levels such as 14.6,5.2,1.1,0")
    values = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError:
            raise InputError(
                f"sigmas has {word!r:.40}, which is no number; expected levels such as 14.6,5.2,1.1,0"
            ) from None
    return checked_sigmas(values)


def checked_sigmas(sigmas: Sequence[float]) -> tuple[float, ...]:
    """The sigmas as floats: two at least, finite, none negative; else InputError."""
    try:
        values = tuple(float(sigma) for sigma in sigmas)
    except (TypeError, ValueError) as error:
        raise InputError(f"sigmas is {sigmas!r:.80}; expected numbers such as 14.6, 5.2, 1.1, 0") from error
    for n, sigma in enumerate(values):
        if not 0 <= sigma < math.inf:  # nan is not
            raise InputError(f"sigmas: number {n} is {sigma:g}; expected finite levels, none below 0")
    if len(values) < 2:
        raise InputError(f"sigmas has {len(values)} number{'s'[: len(values) != 1]}; expected two at least, the last 0")
    return values


def is_flow(schedule: Schedule | str | None) -> bool:
    """Whether sigma is tau under a noise schedule, or under one that is described so (`Plan.model`)."""
    return schedule.startswith("flow ") if isinstance(schedule, str) else isinstance(schedule, Flow)


def taus_of(sigmas: Sequence[float], flow: bool) -> list[float]:
    """The levels tau of sigmas."""
    return [float(sigma) if flow else tau_of_s(float(sigma)) for sigma in sigmas]


def sigmas_of(taus: Sequence[float], flow: bool) -> list[float]:
    """The sigmas of levels tau; infinite at tau = 1 but for flows."""
    return [float(tau) if flow else s_of_tau(float(tau)) for tau in taus]


def calls_on(solver: Solver, levels: int) -> int:
    """Network calls of a solver that takes every one of so many levels in full, the last of its steps ending at level 0.

    Raises InputError for a solver that cannot go over so many levels.
    """
    fitting = [calls for calls in range(1, MOST_CALLS * levels + MOST_CALLS) if solver.steps(calls) == levels]
    if not fitting:
        raise InputError(f"this solver cannot go over {levels} levels")
    return fitting[-1]


def from_sigmas(
    sigmas: Sequence[float], model: Model, solver: str | Solver = "euler", *, guidance: float | None = None
) -> Plan:
    """The plan of a solver on a list of sigmas, as k-diffusion or ComfyUI would play the list.

    sigmas    falling, the last 0: s = sigma / alpha, for flows tau (from 1 down)
    solver    name of a solver (see `fewer methods`), or an object of one's own (see `fewer.solvers.Solver`)
    guidance  scale of classifier-free guidance in every row

    Raises InputError for lists that rise, repeat, do not end at 0 or are above what the model's process has, and as
    `fewer.standard` does. `fewer.audit.given_levels.faults_of` says more of what is wrong with a list.
    """
    model, guidance, values = as_model(model), as_number_or_none(guidance, "guidance"), checked_sigmas(sigmas)
    _check_falling(values, is_flow(model.schedule))
    (top,) = sigmas_of([model.schedule.tau_max], is_flow(model.schedule))
    if values[0] > top * (1 + ROUNDED):
        raise InputError(f"sigmas begin at {values[0]:g}; the noisiest level of {model.name} is {top:.6g}")
    found: Solver = resolve("solvers", solver)
    with guarded("solvers", found):
        calls = calls_on(found, len(values) - 1)
    taus = taus_of(values[:-1], is_flow(model.schedule))
    plan = standard(solver, model, calls * passes_at(guidance), taus, guidance=guidance)
    return plan.named(f"{plan.recipe.solver} {len(values) - 1} sigmas")


def _check_falling(sigmas: Sequence[float], flow: bool) -> None:
    """Raise InputError for sigmas that no solver plays down to the data."""
    if flow and sigmas[0] > 1:
        raise InputError(f"sigmas begin at {sigmas[0]:g}; of a flow sigma is tau, in [0, 1], which is s / (1 + s) of s")
    for n in range(1, len(sigmas)):
        if not sigmas[n] < sigmas[n - 1]:
            how = "repeats" if sigmas[n] == sigmas[n - 1] else "rises above"
            raise InputError(f"sigmas: number {n} ({sigmas[n]:g}) {how} the one before it; levels must fall")
    if sigmas[-1] > 0:
        raise InputError(f"sigmas end at {sigmas[-1]:g}, where noise is left in the samples; end the list with 0")
