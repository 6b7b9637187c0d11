"""Plans as stock diffusers schedulers, which take levels or times: nothing of fewer is needed to play them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
from torch import Tensor

from fewer.engine.times import times_under
from fewer.errors import InputError
from fewer.integrations.probe import read_off
from fewer.levels import s_of_tau
from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import PREDICTS, clip_of, quiet, schedule_of, settings
from fewer.models.schedules import Discrete, Flow, Schedule
from fewer.plan import Plan
from fewer.plan.unrolled import Array, deterministic

FARTHEST = 0.01  # a scheduler whose weights differ by more does not play the plan
EXACT = 1e-5  # schedulers keep their levels in float32
MULTISTEP: list[dict[str, Any]] = [
    {"algorithm_type": "dpmsolver++", "solver_order": order, "solver_type": kind}
    for order in (2, 3)
    for kind in ("midpoint", "heun")
]


@dataclass(frozen=True, eq=False)
class Export:
    """A stock scheduler that plays a plan, and how accurately.

    kind        class in diffusers, and `config` its configuration
    given       arguments of pipelines and of `set_timesteps`: sigmas or timesteps
    error       largest difference of a weight, on the starting noise or on an output u, in any state of the flow frame
    time_error  largest difference of a network time
    guidance    guidance_scale of the pipeline's call, None for a plan that does not guide
    """

    kind: str
    config: dict[str, Any]
    given: dict[str, np.ndarray]
    error: float
    time_error: float
    guidance: float | None = None

    @property
    def exact(self) -> bool:
        """Whether it is the plan, but for rounding in float32."""
        return self.error < EXACT and self.time_error < 1000 * EXACT

    def make(self) -> Any:
        """The scheduler."""
        with quiet():
            return getattr(diffusers, self.kind).from_config(self.config)

    def __str__(self) -> str:
        given = ", ".join(f"{name}={[float(f'{v:.6g}') for v in values]}" for name, values in self.given.items())
        scale = "" if self.guidance is None else f", guidance_scale={self.guidance:g}"
        return f"{self.kind}, {given}{scale}: weights within {self.error:.1g}, times within {self.time_error:.1g}"


def to_diffusers(plan: Plan, trained: Any = None) -> Export:
    """The stock scheduler that comes closest to the plan, for a network that `trained` describes.

    trained  a Model, or the diffusers scheduler of its pipeline; None for a flow model of times 1000 tau

    Its own code is run, read off as a table and compared with the plan's. Raises InputError where none comes near, and
    for what no stock scheduler holds: added noise, blocks, a second network, offsets, guidance that changes from row to row.
    """
    guidance = _plain(plan)
    schedule, base, clip = _trained(plan, trained)
    found = []
    for kind, options, given in _candidates(plan, schedule):
        with quiet():
            scheduler = getattr(diffusers, kind).from_config(base | options)
        if clip_of(scheduler) != clip:
            continue
        try:
            with quiet():
                table = read_off(scheduler, len(plan.rows), given)
        except InputError:
            continue
        if len(table.rows) != len(plan.rows):
            continue
        error = float(np.abs(deterministic(table) - deterministic(plan)).max())
        late = float(np.abs(_times(table, schedule) - _times(plan, schedule)).max())
        found.append(Export(kind, settings(scheduler), given, error, late, guidance))
    nearest = min(found, key=lambda export: (export.error, export.time_error), default=None)
    if nearest is None or not nearest.error <= FARTHEST:
        near = f"; the nearest is {nearest}" if nearest is not None else ""
        raise InputError(f"no stock scheduler plays plan {plan.name!r}; FewerScheduler does{near}")
    return nearest


def _plain(plan: Plan) -> float | None:
    """The one guidance scale of a plan that a stock scheduler may play."""
    offsets = [plan.start.offset, *(row.offset for row in plan.rows)]
    shifted = plan.start.directions is not None or any(isinstance(each, Tensor) or each != 0 for each in offsets)
    blocks, second = any(row.blocks for row in plan.rows), plan.networks != [0]
    for what, wrong in (
        ("adds noise", plan.stochastic), ("leaves out blocks", blocks), ("calls a second model", second), ("has offsets", shifted),
    ):  # fmt: skip
        if wrong:
            raise InputError(f"plan {plan.name!r} {what}, which no stock scheduler with levels of one's own does")
    rules = {row.guidance for row in plan.rows}
    if rules == {None}:
        return None
    rule = rules.pop()
    if rules or rule is None or rule.rule != "cfg":
        raise InputError(f"plan {plan.name!r} guides otherwise than by one scale, which is for fewer.apply(plan, pipe)")
    return float(rule.parameters()["scale"])


def _trained(plan: Plan, trained: Any) -> tuple[Schedule, dict[str, Any], Any]:
    """Noise schedule, a scheduler's configuration that has it, and the bounds on the data prediction."""
    if trained is None:
        named = (plan.model or {}).get("schedule", Flow().describe())
        if named != Flow().describe() or any(
            row.t is not None and abs(float(row.t) - 1000 * float(row.tau)) > 1e-3 for row in plan.rows
        ):
            raise InputError(
                f"plan {plan.name!r} does not take 1000 tau as its time: give the model, or the scheduler of its pipeline"
            )
        return Flow(), {}, None
    if not isinstance(trained, Model):
        return schedule_of(trained)[0], settings(trained), clip_of(trained)
    if trained.pipeline is not None:
        return trained.schedule, dict(trained.pipeline.config), trained.clip
    schedule = trained.schedule
    if isinstance(schedule, Flow) and trained.predicts == ("data-flow" if schedule.rising else "flow"):
        return schedule, {"num_train_timesteps": schedule.steps, "invert_sigmas": schedule.rising}, trained.clip
    prediction = next((name for name, predicts in PREDICTS.items() if predicts == trained.predicts), None)
    if prediction is None or not isinstance(schedule, Discrete):
        raise InputError(f"no stock scheduler knows {trained.predicts} under {schedule.describe()}")
    alpha_bar = np.array([1.0, *schedule.alpha_bar])
    table = {"trained_betas": (1 - alpha_bar[1:] / alpha_bar[:-1]).tolist(), "num_train_timesteps": len(alpha_bar) - 1}
    return schedule, table | {"prediction_type": prediction}, trained.clip


def _candidates(plan: Plan, schedule: Schedule) -> Iterator[tuple[str, dict[str, Any], dict[str, np.ndarray]]]:
    """Class, options, and arguments of set_timesteps, of schedulers that take levels or times."""
    taus, times = np.array([float(row.tau) for row in plan.rows]), _times(plan, schedule)
    grids = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_dynamic_shifting")
    own = dict.fromkeys(grids, False) | {"final_sigmas_type": "zero", "timestep_spacing": "linspace"}
    if isinstance(schedule, Flow):
        yield "FlowMatchEulerDiscreteScheduler", own | {"shift": 1.0, "shift_terminal": None}, {"sigmas": taus}
        flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 1.0}
        for order in () if schedule.rising else (1, 2, 3):
            for kind in ("bh1", "bh2"):
                options = flow | {"solver_order": order, "solver_type": kind}
                yield "UniPCMultistepScheduler", own | options, {"sigmas": taus}
    elif isinstance(schedule, Discrete):
        if taus.max() < 1:
            yield "EulerDiscreteScheduler", own, {"sigmas": np.append(s_of_tau(taus), 0.0)}
        yield "HeunDiscreteScheduler", own, {"timesteps": np.append(times[:1], times[1::2])}
        whole = {"timesteps": times.round()}
        for options in MULTISTEP:
            yield "DPMSolverMultistepScheduler", own | options, whole


def _times(plan: Plan, schedule: Schedule) -> Array:
    """(N,) times of the rows under this schedule."""
    return np.array([float(t) for t in times_under({0: schedule}, plan)])
