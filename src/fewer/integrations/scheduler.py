"""FewerScheduler: a plan as a diffusers scheduler, for pipelines and for loops of one's own.

What its samples are is said in `fewer.integrations.pipeline_samples`; after the last row they are the data. How a row is played is
in `fewer.integrations.playing`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from torch import Tensor

from fewer.engine.times import warn_of_lost_times
from fewer.errors import InputError
from fewer.integrations.beginnings import first_state
from fewer.integrations.front import Choice, as_front, choice_of
from fewer.integrations.handing_on import know
from fewer.integrations.playing import FewerSchedulerOutput, Playing
from fewer.integrations.request_checks import (
    ahead,
    begins_below,
    check_begins,
    check_left,
    check_lists,
    check_number,
    ends_above,
    first_of_strength,
    handed_on,
    times_before,
)
from fewer.integrations.run import Run
from fewer.integrations.trained import OWN, described, frame, packed, unpacked
from fewer.models.edge import in_own_precision
from fewer.models.pipelines.scheduler_config import DECIDING, ENDING, class_named, planned_scheduler
from fewer.models.pipelines.whole_times import ByTime, WholeTimes
from fewer.models.schedules import Discrete
from fewer.plan import Plan
from fewer.plan.file import from_json, migrate, to_json

__all__ = ["FewerScheduler", "FewerSchedulerOutput", "Run", "SchedulerMixin"]

# arguments of set_timesteps by which SCM's pipelines decide levels, where their callers do not
USUAL = {"max_timesteps": 1.57080, "intermediate_timesteps": 1.3}
USUAL_VALUES = "_use_default_values"  # diffusers' entry of the names that were not given
LISTS = ("timesteps", "sigmas")  # arguments of set_timesteps, and of the calls of many pipelines


class FewerScheduler(Playing, SchedulerMixin, ConfigMixin):
    """Plays the rows of a plan in a diffusers pipeline, or of that plan of a front which has as many rows as there are steps.

    Make it with `from_plan`.

    plan        the plan, as its file has it; of a front the first one
    front       the others of a front, each {"plan": , "tensors": }; None for none
    process     variance-preserving | variance-exploding | flow: what the network was trained under
    predicts    what it predicts (see fewer.models.predictions)
    sigma_data  the data's deviation, for EDM networks
    clip        {"bound": , "quantile": } of the data prediction, None for none
    tensors     the plan's tensors: safetensors in base64
    schedule    the numbers of the noise schedule (see fewer.models.schedules); None in configurations of older versions, whose
                plans have the times of all rows
    exploding   whether samples are D + s eps, as those of Euler's schedulers, and not the network's input
    scheduler   class name of the scheduler that it was made from, where it was made from one

    Further entries of the configuration are those of that scheduler. Raises InputError for a configuration that is damaged.
    """

    __module__ = "fewer"  # which diffusers needs to be imported where it loads a pipeline that was saved with its plan
    _compatibles: ClassVar[list[str]] = [
        *(kind.name for kind in KarrasDiffusionSchedulers),
        "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "LCMScheduler", "TCDScheduler",
        "SASolverScheduler", "IPNDMScheduler", "EDMDPMSolverMultistepScheduler",
    ]  # fmt: skip
    order = 1
    init_noise_sigma = 1.0  # the plan's start is made of unit noise where the first sample is scaled

    def __new__(cls, *_: Any, scheduler: str | None = None, **__: Any) -> FewerScheduler:
        """One that is of the pipeline's own scheduler's class, too, where pipelines decide by it what they tell their network."""
        kind: Any = cls
        return object.__new__(_also(kind, scheduler) if scheduler in DECIDING else kind)

    @register_to_config
    def __init__(
        self,
        plan: dict[str, Any],
        process: str = "variance-preserving",
        predicts: str = "noise",
        sigma_data: float = 0.5,
        clip: dict[str, float | None] | None = None,
        tensors: str | None = None,
        schedule: dict[str, Any] | None = None,
        exploding: bool = False,
        scheduler: str | None = None,
        front: list[dict[str, Any]] | None = None,
    ) -> None:
        plans = as_front([_read(plan, tensors), *_others(front)])
        self.frame = frame(process, schedule, predicts, sigma_data, clip)
        if schedule is None:
            plans = tuple(map(_of_any_schedule, plans))
        self.choices = {len(each.rows): Choice.of(each, self.frame, exploding) for each in plans}
        self.exploding = exploding
        self.call_takes: tuple[str, ...] = LISTS  # of these lists, those that the pipeline's call takes from its caller
        self.remade_by: str | None = (
            None  # class of its pipeline, where that makes another scheduler of any it is given
        )
        if isinstance(self.frame.schedule, Discrete):  # numbers of the training process, which some pipelines read
            alpha_bar = torch.tensor(self.frame.schedule.alpha_bar, dtype=torch.float32)
            self.alphas_cumprod = ByTime.of(alpha_bar, self.frame.schedule)
            self.alphas = self.alphas_cumprod / torch.cat([torch.ones(1), self.alphas_cumprod[:-1]])
            self.betas = 1 - self.alphas
        self._begin(self.choices[len(plans[0].rows)])
        self.run.thread = None

    @classmethod
    def from_plan(cls, plan: Plan | Sequence[Plan], trained: Any) -> FewerScheduler:
        """The scheduler of a plan, or of a front, for a network, which a Model or its pipeline's diffusers scheduler describes.

        Raises InputError for noise schedules and predictions that are not known. Warns where rows have times of their own
        under another noise schedule: the network is given its own times at their levels.
        """
        if isinstance(trained, FewerScheduler):
            given, config = {key: trained.config[key] for key in OWN}, dict(trained.config)
        else:
            given, config = described(trained)
        first, *others = map(_written, as_front(plan))
        # by keyword: diffusers takes what comes by position for a default, and drops it
        made = cls(**first, **given, front=others or None)
        more = {key: value for key, value in config.items() if key not in made.config and not key.startswith("_")}
        # which of them were never given: a scheduler that is made of this configuration has its own defaults for those
        usual = [name for name in getattr(trained, "config", {}).get(USUAL_VALUES, ()) if name in more]
        made.register_to_config(**more, **{USUAL_VALUES: [*made.config.get(USUAL_VALUES, ()), *usual]})
        for each in made.plans:
            warn_of_lost_times(made.frame, each)
        return made

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **more: Any) -> Any:
        """diffusers' own, which keeps the entries of the scheduler that it was made from, whether or not they were given."""
        given = {name: value for name, value in config.items() if name != USUAL_VALUES} if config else config
        return super().from_config(given, return_unused_kwargs, **more)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plan, or those of the front."""
        return tuple(each.plan for each in self.choices.values())

    def own(self) -> Any:
        """A scheduler as this one was made from. Raises InputError where it was made from none, as for a Model."""
        return planned_scheduler(self.config)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **more: Any) -> None:
        """Write scheduler_config.json into a folder. Warns where a pipeline that is loaded from it would not play the plan."""
        if self.remade_by is not None:
            warnings.warn(
                f"a {self.remade_by} that is loaded from it does not play the plan, of which it makes a scheduler of its own: "
                f"call fewer.apply(fewer.FewerScheduler.from_pretrained({str(save_directory)!r}).plans, pipe) then",
                stacklevel=2,
            )
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **more)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Set the row to begin with: image-to-image pipelines start in the middle.

        Raises InputError where no row would be left, as at a strength that times the number of rows is below one.
        """
        row = begin_index - self.run.ahead
        check_begins(self.plan, row)
        if handed_on(self.plan):
            self.run.own(self.plan.name).noised = True
        self._begin_index = check_left(self.plan, row)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        *,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        strength: float | None = None,
        original_inference_steps: int | None = None,
        **more: Any,
    ) -> None:
        """Begin a run. `timesteps` are then the times of its rows, float32, and `sigmas` the levels of all rows and of the end.
        Where times of the pipeline's own scheduler are whole numbers, their list tells its dtype as that of such.

        The steps of a plan are its rows: any other number of them, of `sigmas` or of `timesteps` raises InputError, a
        ValueError. Of a front, the plan with this number is played. The levels and the shift `mu` that pipelines work out by
        themselves are replaced by the plan's. Lists that the pipeline's caller gives, and what else decides levels, raise
        InputError. Of `strength`, the run has the last rows.

        The run is this thread's: until it is over, what another one asks of it raises InputError. A run that is under way in
        another thread is broken off.
        """
        lists = {name: each for name, each in (("timesteps", timesteps), ("sigmas", sigmas)) if each is not None}
        chosen = choice_of(self.choices, num_inference_steps, lists)
        plan = chosen.plan
        more = {name: value for name, value in more.items() if value is not None and USUAL.get(name) != value}
        original = self.config.get("original_inference_steps")
        if original_inference_steps not in (None, original):
            more["original_inference_steps"] = original_inference_steps
        if more:
            raise InputError(
                f"{', '.join(more)} is given, but the levels of plan {plan.name!r} are its own: leave it out"
            )
        before = ahead(plan, num_inference_steps, lists)
        if not begins_below(plan):
            check_number(plan, num_inference_steps, lists)
        own = {"timesteps": chosen.times, "sigmas": chosen.scales.sigmas(self.frame)[:-1].tolist()}
        own = {name: [*values[:1] * before, *values] for name, values in own.items()}
        check_lists(plan, lists, own, self.call_takes)
        first = None if begins_below(plan) else first_of_strength(plan, strength)
        self._begin(chosen, device, None if first is None else check_left(plan, first))
        self.run.ahead = before
        if handed_on(plan):
            self.timesteps = self._listed([*self._left_out(before), *self.times, *self._after], device)
        elif before and strength is None:  # a pipeline that gives the strength takes the times as they are
            top = float(self.frame.schedule.time(self.frame.schedule.tau_max))
            self.timesteps = self._listed([*[top] * before, *self.times, *self._after], device)

    def _left_out(self, before: int) -> list[float]:
        """The times of steps that a pipeline leaves out which goes on with another's samples."""
        own = self.own()
        own.set_timesteps(before + len(self.plan.rows))
        return times_before(self.plan, self.times[0], torch.as_tensor(own.timesteps).tolist(), before)

    def _begin(self, chosen: Choice, device: torch.device | str | None = None, first: int | None = None) -> None:
        # the run before its plan, so that one under way in another thread ends there and never goes on under this plan
        self.run = Run(begin=first).own(chosen.plan.name)
        know(self)
        self.plan, self.times, self.scales = chosen.plan, chosen.times, chosen.scales
        self.num_inference_steps = len(self.plan.rows)
        self.timesteps = self._listed([*self.times[first or 0 :], *self._after], device)
        self.sigmas = self.scales.sigmas(self.frame).to(device)

    @property
    def _after(self) -> list[float]:
        """Times that are listed after the rows': that of an end above the data, which a call with its denoising_end leaves out."""
        if ends_above(self.plan):
            return [self.end_time]
        return [0.0] if self.config.get("scheduler") in ENDING else []

    def _listed(self, times: list[float], device: torch.device | str | None) -> Tensor:
        """Times as pipelines list them: as whole ones where those of the pipeline's own scheduler are."""
        listed = torch.tensor(times, dtype=torch.float32, device=device)
        whole = isinstance(self.frame.schedule, Discrete) and not self.exploding
        return WholeTimes.of(listed) if whole and self.config.get("scheduler") is not None else listed

    @in_own_precision
    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The network's input: the scaled sample, or before the first row what the plan's start makes of unit noise."""
        run, n = self.located(timestep)
        run.scales_input = True
        if n == 0 and not run.noised:
            return self.first_input(sample)
        if not self.exploding:
            return sample
        run.scaled = (self.scales.inputs[n] / self.scales.samples[n] * sample.to(torch.float32)).to(sample.dtype)
        return run.scaled

    @in_own_precision
    def first_input(self, noise: Tensor) -> Tensor:
        """The network's first input, made of unit noise by the plan's start."""
        run, _ = self.located()
        run.scaled = (self.scales.inputs[0] * first_state(self.plan, noise / self.scales.noise)).to(noise.dtype)
        return run.scaled

    def __len__(self) -> int:
        return len(self.plan.rows)


@cache
def _also(cls: Any, scheduler: str) -> Any:
    """The class, derived from that of a scheduler of diffusers as well."""
    return type(cls)(cls.__name__, (cls, class_named(scheduler)), {"__module__": cls.__module__})


def _read(content: Any, tensors: str | None) -> Plan:
    """The plan of a configuration."""
    if not isinstance(content, dict):
        raise InputError(
            f"plan is a {type(content).__name__}; for a Plan there is FewerScheduler.from_plan(plan, trained)"
        )
    where = Path("scheduler_config.json")
    return from_json(migrate(content, where), where, unpacked(tensors))


def _others(front: Any) -> list[Plan]:
    """The further plans of a front in a configuration. Raises InputError where it is damaged."""
    entries = [] if front is None else front
    if not isinstance(entries, list) or not all(isinstance(each, dict) and "plan" in each for each in entries):
        raise InputError(f'front is {entries!r:.80}; expected a list of {{"plan": , "tensors": }}')
    return [_read(each["plan"], each.get("tensors")) for each in entries]


def _written(plan: Plan) -> dict[str, Any]:
    """The plan as configurations have it."""
    tensors: dict[str, Tensor] = {}
    content = to_json(plan.check(), tensors)
    return {"plan": content, "tensors": packed(tensors)}


def _of_any_schedule(plan: Plan) -> Plan:
    """The plan of an older configuration, which does not say its network's noise schedule: rows have its times."""
    if any(row.t is None for row in plan.rows):
        raise InputError(f"schedule is missing, and plan {plan.name!r} has rows without a time: make it with from_plan")
    named = {key: value for key, value in (plan.model or {}).items() if key != "schedule"}
    return replace(plan, model=named or None)
