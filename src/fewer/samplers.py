"""The well-known samplers as plans: a solver on a grid, under guidance."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from fewer.arguments import as_count, as_model, as_number_or_none
from fewer.errors import InputError
from fewer.grids import Grid, Range, given_levels, levels
from fewer.guidance.cfg import ClassifierFree, passes_at
from fewer.models.ending import Ended, named
from fewer.models.model import Model
from fewer.models.schedules import VarianceExploding
from fewer.noise import MOST
from fewer.plan import Plan, Row
from fewer.plan.recipe import Recipe
from fewer.registry import Part, find, guarded, name_of, parts, resolve
from fewer.solvers import Solver, compile_plan, places


def standard(
    name: str | Solver,
    model: Model,
    nfe: int,
    steps: str | Grid | Sequence[float] = "karras",
    *,
    guidance: float | None = None,
    start: float | None = None,
) -> Plan:
    """A well-known sampler as a plan of exactly `nfe` network evaluations per sample.

    name      of a solver (see `fewer methods`), or an object of one's own with `order`, `steps` and `run` (see `Solver`)
    steps     name of a grid, a function of one's own (see `Grid`), or the levels tau themselves: falling, in (0, 1], as
              many as the solver takes
    guidance  scale of classifier-free guidance, each guided row costing 2; an odd budget leaves the last row
              without it, an only row too, of which it warns
    start     level to start from, for grids; by default the model's safe start

    Raises InputError for unknown names, levels that repeat or rise, a budget below one call or above 10,000, or guidance on
    a model that cannot be guided.
    """
    model, nfe = as_model(model), as_count(nfe, "nfe")
    guidance, start = as_number_or_none(guidance, "guidance"), as_number_or_none(start, "start")
    plan = named(model.schedule, compiled(name, model, nfe, steps, guidance, start))
    if (note := short_of_guidance(guidance, nfe)) is not None:
        warnings.warn(note, stacklevel=2)
    return plan


def short_of_guidance(guidance: float | None, *nfe: int) -> str | None:
    """Note for the user where budgets are a pass short of guiding every row; None where none is."""
    odd = [n for n in nfe if n % passes_at(guidance)]
    if guidance is None or not odd:
        return None
    which = "the only row of a plan of 1" if odd == [1] else f"the last row of a plan of {', '.join(map(str, odd))}"
    return (
        f"a row under guidance {guidance:g} takes 2 evaluations: {which} is drawn without guidance; give an even number"
    )


def compiled(
    name: str | Solver, model: Model, nfe: int, steps: str | Grid | Sequence[float], guidance: float | None,
    start: float | None = None,
) -> Plan:  # fmt: skip
    """The plan of `standard`, in the frame of the model's end where that is above the data (see fewer.models.ending)."""
    solver: Solver = resolve("solvers", name)
    calls = rows_for(model, nfe, guidance)
    with guarded("solvers", solver):
        n = solver.steps(calls)
    if start is not None and not (isinstance(steps, str) or callable(steps)):
        raise InputError(f"start is {start:g}, but the levels in steps have a start of their own")
    start = None if start is None else float(_in_frame(model, start))
    span = Range(model.schedule, model.start if start is None else start)
    if isinstance(steps, str) or callable(steps):
        grid = name_of("grids", steps)
        with guarded("grids", resolve("grids", steps)):
            taus = levels(steps, span, n)
        if model.beginning is not None and model.beginning.handed_on:
            taus = np.array([span.start, *taus[1:]])  # some grids begin below, where no such samples are
    else:
        taus, grid = _in_frame(model, given_levels(steps, n)), None
    titled = name_of("solvers", name)
    with guarded("solvers", solver):
        plan = compile_plan(solver, places(model, taus), calls, f"{titled} {grid or 'given levels'}")
    return replace(guided(plan, guidance, nfe), model=model.signature, recipe=Recipe(titled, grid))


def _in_frame(model: Model, taus: Any) -> Any:
    """Levels in the frame of the model's end. Raises InputError for some that are not above that."""
    if not isinstance(model.schedule, Ended):
        return taus
    if not np.all(model.schedule.counted(taus) > 0):
        raise InputError(
            f"steps go down to {np.min(taus):g}; samples of {model.name} are at level {model.schedule.end:g}"
        )
    return model.schedule.counted(taus)


def rows_for(model: Model, nfe: int, guidance: float | None) -> int:
    """Number of rows within a budget of network evaluations.

    Raises InputError for a budget beyond what a plan's file holds, and where guidance is not possible.
    """
    if nfe > MOST:
        raise InputError(f"nfe is {nfe}; expected at most {MOST} network evaluations")
    if guidance is None:
        return nfe
    rule = ClassifierFree(guidance)
    if model.embedded_guidance is not None:
        raise InputError(
            f"guidance {guidance:g} is by a second pass; the network of {model.name} takes its scale as an input "
            f"(--guidance, in Python model.with_guidance({guidance:g}))"
        )
    if model.classes is None or model.empty_label is None:
        raise InputError(f"guidance {guidance:g} needs a model with labels and an empty label; {model.name} has none")
    return -(-nfe // rule.passes)


def guided(plan: Plan, guidance: float | None, nfe: int) -> Plan:
    """The plan with this guidance scale in every row, but for the last where the budget is a pass short."""
    if guidance is None:
        return plan
    rows: list[Row] = [replace(row, guidance=ClassifierFree(guidance)) for row in plan.rows]
    if sum(row.passes for row in rows) > nfe:
        rows[-1] = replace(rows[-1], guidance=ClassifierFree(1.0))
    return replace(plan, rows=tuple(rows))


def standard_plans(
    model: Model, nfe: int, guidance: float | None = None, solver: str | None = None, steps: str | None = None
) -> list[Plan]:
    """Plans of every solver on every grid with `nfe` network evaluations, or of one solver or one grid.

    Left out are stochastic solvers, which are not compared by paired error, repeated tables, grids that cannot place so
    few calls, and parts that are not ranked, unless requested by name.
    """
    return list(each_standard_plan(model, nfe, guidance, solver, steps))


def each_standard_plan(
    model: Model, nfe: int, guidance: float | None = None, solver: str | None = None, steps: str | None = None
) -> Iterator[Plan]:
    """The plans of `standard_plans`, each made as it is asked for."""
    kinds = [kind for kind in parts("solvers") if _requested(kind, solver)]
    grids = [grid for grid in parts("grids") if _requested(grid, steps)]
    made = _each(model, nfe, guidance, kinds, grids)
    return _distinct(plan for plan in made if not plan.stochastic)


GRIDS_OF_NOISY = ("logsnr", "karras", "uniform")  # that samplers with noise are usually played on


def each_noisy_plan(
    model: Model, nfe: int, guidance: float | None = None, solver: str | None = None, steps: str | None = None
) -> Iterator[Plan]:
    """Plans of every solver that adds noise on the grids that such are usually played on, or of one solver or one grid.

    They are for comparisons of distributions. Left out are repeated tables and grids that cannot place so few calls.
    """
    kinds = [kind for kind in parts("solvers") if solver in (None, kind.name)]
    grids = [grid for grid in parts("grids") if (grid.name in GRIDS_OF_NOISY if steps is None else grid.name == steps)]
    return _distinct(plan for plan in _each(model, nfe, guidance, kinds, grids) if plan.stochastic)


def _each(
    model: Model, nfe: int, guidance: float | None, solvers: Sequence[Part], grids: Sequence[Part]
) -> Iterator[Plan]:
    """The plans of these solvers on these grids that can be made."""
    for kind, grid in product(solvers, grids):
        with suppress(InputError):  # a grid that cannot place so few calls
            yield compiled(kind.name, model, nfe, grid.name, guidance)


def _distinct(plans: Iterable[Plan]) -> Iterator[Plan]:
    """The plans but for those whose levels, weights and noise an earlier one has."""
    tables = set()
    for plan in plans:
        table = tuple(
            (round(float(row.tau), 9), round(float(row.noise), 9), *(round(float(b), 9) for b in row.b.values()))
            for row in plan.rows
        )
        if table not in tables:
            tables.add(table)
            yield plan


RENOISING = ("lcm", "tcd", "ddim")  # solvers of distilled models
EXPLODING = ("consistency", "tcd", "ddim")  # those of models whose data have a cleanest level above 0


def renoising_plans(
    model: Model, nfe: int, guidance: float | None = None, solver: str | None = None, steps: str | None = None
) -> list[Plan]:
    """The samplers of distilled models, or one, on every grid, or one; grids that cannot place so few calls are left out."""
    usual = EXPLODING if isinstance(model.schedule, VarianceExploding) else RENOISING
    kinds = [find("solvers", kind) for kind in (usual if solver is None else (solver,))]
    grids = [grid for grid in parts("grids") if _requested(grid, steps) or (steps is None and grid.name == "lcm")]
    return list(_distinct(_each(model, nfe, guidance, kinds, grids)))


def _requested(which: Part, name: str | None) -> bool:
    return which.ranked if name is None else which.name == name
