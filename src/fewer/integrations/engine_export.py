"""A plan as what other engines take: its sigmas, its timesteps, a scheduler of diffusers, a call of k-diffusion; and what is lost.

A list of levels holds no weights: where no sampler of the other engine has those of the plan, its samples are others.
"""

from __future__ import annotations

import pprint
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fewer.engine.times import times_under
from fewer.errors import InputError
from fewer.integrations.engine_guidance import row_scales
from fewer.integrations.engines import COMFY_ONLY, Played, played_by, solvers_of
from fewer.integrations.export import to_diffusers
from fewer.integrations.k_diffusion import check_playable, levels_of
from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import schedule_of
from fewer.models.schedules import Flow, Schedule
from fewer.plan import Plan
from fewer.sigmas import is_flow

WHOLE = 1e-6  # of a training time: a time nearer to a whole one is that
# of a scheduler's configuration, what the network was trained with, which the pipeline's own says
TRAINED = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")


@dataclass(frozen=True)
class Exported:
    """What another engine takes in place of a plan.

    text    to print: numbers between commas, or lines of Python
    lost    sentences on what the other engine does otherwise than the plan; none where its samples are the plan's
    notes   sentences on what to set there
    values  the numbers of a list of levels or times
    """

    text: str
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    values: tuple[float, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "text": self.text, "exact": not self.lost, "lost": list(self.lost), "notes": list(self.notes),
            "values": list(self.values),
        }  # fmt: skip


def exported(plan: Plan, to: str, trained: Any = None, path: str = "plan.json") -> Exported:
    """The plan for another engine, one of `TARGETS`.

    trained  Model, or the diffusers scheduler of its pipeline; None for what the plan says of the model that it was made for
    path     of the plan's file, in lines that load it

    Raises InputError where nothing of the plan can be given to that engine, for plans of posteriors, and for an unknown engine.
    """
    if to not in TARGETS:
        raise InputError(f"to is {to!r:.40}; expected one of {', '.join(TARGETS)}")
    plan.check_plain()
    return TARGETS[to](plan, trained, path)


def _sigmas(plan: Plan, trained: Any, path: str) -> Exported:
    """The list of sigmas."""
    flow = _flow(plan, trained)
    levels, lost, notes = levels_of(plan, flow), list(_beyond_levels(plan)), list(_scale_notes(plan))
    nearest = None if lost else next(iter(played_by(plan, flow)), None)
    if nearest is not None and nearest.exact:
        levels, notes = list(nearest.sigmas), [_in_words(nearest), *notes]
    elif not lost:
        lost.append(_weights(plan, nearest))
    return _listed(levels, lost, notes)


def _timesteps(plan: Plan, trained: Any, path: str) -> Exported:
    """The list of network times, one a call."""
    schedule = _schedule(plan, trained)
    times = [float(t) for t in times_under({0: schedule}, plan)]
    lost, notes = list(_beyond_levels(plan)), list(_scale_notes(plan))
    if isinstance(plan.end, float) and plan.end > 0:
        lost.append(
            f"the end at level {plan.end:.4g} is lost: a list of times has one a call, and the last step goes to the data"
        )
    solvers = [] if lost else list(solvers_of(plan))
    if solvers:
        notes = [f"the rows are those of {', '.join(solvers)} at these times", *notes]
    elif not lost:
        lost.append(_weights(plan, None))
    apart = max(abs(t - round(t)) for t in times)
    if apart > WHOLE:
        notes.append(f"schedulers that round times are off by up to {apart:.2g} of a training time")
    return _listed(times, lost, notes)


def _diffusers(plan: Plan, trained: Any, path: str) -> Exported:
    """Lines that give a pipeline the stock scheduler that plays the plan."""
    export = to_diffusers(plan, trained)
    given = {name: values.tolist() for name, values in export.given.items()}
    call = {**given, **({} if export.guidance is None else {"guidance_scale": export.guidance})}
    own = {key: value for key, value in export.config.items() if key not in TRAINED and value is not None}
    config = pprint.pformat(own, width=100, compact=True, sort_dicts=False)
    arguments = ", ".join(f"{name}={value!r}" for name, value in call.items())
    text = (
        f"from diffusers import {export.kind}\n\nsettings = {config}\n"
        f"pipe.scheduler = {export.kind}.from_config(pipe.scheduler.config, **settings)\n"
        f"images = pipe(prompt, {arguments}).images"
    )
    off = f"its weights differ by up to {export.error:.2g}, and its times by up to {export.time_error:.2g}"
    lost = () if export.exact else (f"{export.kind} comes near to the plan: {off}",)
    return Exported(text, lost, values=tuple(next(iter(given.values()))))


def _k_diffusion(plan: Plan, trained: Any, path: str) -> Exported:
    """Lines that call a sampler of k-diffusion, or fewer's own where none of those has the plan's rows."""
    flow, scales = _flow(plan, trained), set(row_scales(plan))
    check_playable(plan)
    nearest = None if any(_beyond_levels(plan)) else next(iter(played_by(plan, flow)), None)
    if nearest is not None and nearest.exact and nearest.sampler not in COMFY_ONLY:
        lines = [
            "import torch",
            "from k_diffusion import sampling",
            "",
            f"sigmas = torch.tensor({list(nearest.sigmas)})",
        ]
        lines.append(f"samples = sampling.sample_{nearest.sampler}(model, noise * sigmas[0], sigmas)")
        return Exported("\n".join(lines), notes=tuple(_scale_notes(plan)), values=nearest.sigmas)
    lines = ["import fewer", "", f"plan = fewer.Plan.load({path!r})", f"sigmas = fewer.plan_sigmas(plan, flow={flow})"]
    lines.append("samples = fewer.sample_k_diffusion(model, noise * sigmas[0], sigmas, plan=plan)")
    each = ["rows have scales of their own: give cond_scale in extra_args, which they set"] if len(scales) > 1 else []
    return Exported("\n".join(lines), (), (*_scale_notes(plan), *each), tuple(levels_of(plan, flow)))


TARGETS: Mapping[str, Callable[[Plan, Any, str], Exported]] = {
    "sigmas": _sigmas, "timesteps": _timesteps, "diffusers": _diffusers, "k-diffusion": _k_diffusion,
}  # fmt: skip


def _listed(values: list[float], lost: list[str], notes: list[str]) -> Exported:
    return Exported(",".join(map(_number, values)), tuple(lost), tuple(notes), tuple(values))


def _number(value: float) -> str:
    """The shortest text that reads back as this very number."""
    return "0" if value == 0 else repr(value)


def _schedule(plan: Plan, trained: Any) -> Schedule:
    """The noise schedule that the plan is played under. Raises InputError where nothing tells it."""
    if trained is not None:
        return trained.schedule if isinstance(trained, Model) else schedule_of(trained)[0]
    named = (plan.model or {}).get("schedule")
    if named is None or named == Flow().describe():
        if named is None and any(row.t is None for row in plan.rows):
            raise InputError(f"plan {plan.name!r} names no noise schedule: give the model, or its scheduler (--model)")
        return Flow()
    if all(row.t is not None for row in plan.rows):
        return Flow()  # the rows' own times stand, whatever the schedule
    raise InputError(
        f"plan {plan.name!r} was made under {named}, whose times are not in the plan: give the model, or its scheduler (--model)"
    )


def _flow(plan: Plan, trained: Any) -> bool:
    """Whether the plan is played on a flow."""
    if trained is None:
        return is_flow((plan.model or {}).get("schedule"))
    return is_flow(_schedule(plan, trained))


def _in_words(played: Played) -> str:
    engine = "ComfyUI" if played.sampler in COMFY_ONLY else "k-diffusion and ComfyUI"
    return f"the sampler {played.sampler} of {engine} plays the plan from these sigmas"


def _scale_notes(plan: Plan) -> Iterator[str]:
    """What to set where the plan guides all rows by one scale."""
    rules = [row.guidance for row in plan.rows]
    if all(rule is not None and rule.rule == "cfg" and rule == rules[0] for rule in rules):
        yield f"the plan guides by {row_scales(plan)[0]:g}: set that guidance scale there"


def _beyond_levels(plan: Plan) -> Iterator[str]:
    """What the plan does that no list of levels tells, but for its weights."""
    rules = list(dict.fromkeys(row.guidance for row in plan.rows))
    named = [rule.rule for rule in rules if rule is not None and rule.rule != "cfg"]
    if named:
        yield f"guidance by {', '.join(dict.fromkeys(named))} is lost"
    elif len(rules) > 1:
        scales = ", ".join("none" if scale is None else f"{scale:g}" for scale in row_scales(plan))
        yield f"guidance by a scale of each row ({scales}) is lost: other engines have one for all"
    rows = plan.rows
    held = [plan.start.scale, plan.end, *(v for row in rows for v in (row.tau, row.noise, row.offset, *row.b.values()))]
    for what, there in (
        ("the noise that rows add", plan.stochastic), ("leaving out blocks", any(row.blocks for row in rows)),
        ("the second network", plan.networks != [0]), ("the start's scale and offset", not plan.start.plain),
        ("coefficients for each pixel", any(isinstance(value, Tensor) for value in held)),
        ("the rows' offsets", any(isinstance(row.offset, float) and row.offset != 0 for row in rows)),
    ):  # fmt: skip
        if there:
            yield f"{what} {'are' if what.endswith('s') else 'is'} lost"


def _weights(plan: Plan, nearest: Played | None) -> str:
    """That no sampler has the plan's weights."""
    near = ""
    if nearest is not None and nearest.error < float("inf"):
        near = f" (those of {nearest.sampler} differ by up to {nearest.error:.2g})"
    return (
        f"the weights of the rows are lost: no sampler has them{near}; fewer.sample_k_diffusion and fewer.apply play them, and "
        "fewer tune --playable-by finds levels for a sampler"
    )
