"""FewerScheduler: a plan as a diffusers scheduler, for pipelines and for loops of one's own.

The pipeline's sample is what the network takes, c x~ with x~ = (1 - tau) D + tau eps the plan's state and c the input
scale of its level: alpha D + sigma eps for variance-preserving processes, (1 - tau) D + tau eps for flows, and for EDM
networks the preconditioned input. After the last row it is x~ itself, the data. State and outputs are kept in float32.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from fewer.batch import per_sample
from fewer.engine import Step, advance, begin, bind, output, times
from fewer.engine.times import warn_of_lost_times
from fewer.errors import InputError
from fewer.guidance.passes import Past
from fewer.integrations.trained import described, frame, packed, unpacked
from fewer.integrations.turn import Turn
from fewer.models.edge import in_own_precision
from fewer.plan import Plan, Row, Start
from fewer.plan.file import from_json, migrate, to_json

NEAR = 1e-2  # pipelines that start from z itself, as diffusers' own samplers for pixels do, are this near to c scale z


@dataclass
class FewerSchedulerOutput(BaseOutput):
    """The sample before the next call, and the data prediction of this one, both of the sample's shape and dtype."""

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None


@dataclass
class Run:
    """State of a scheduler's run, from one `set_timesteps` to the next.

    thread              of `set_timesteps`, which alone plays the run; None before one
    begin, at           the row to begin with, where the pipeline has set it; the row in play, None before the first
    first, rows, steps  the rows that are played, from row `first` on, and their numbers; None for rows before it
    state               before the row in play, as the last step left it
    states, outputs     those that later rows name, counted from `first`
    started             the first samples, once they have been scaled
    noised              whether the run began with noised data
    played, turn        of `apply`: the last row of which it saw the network's calls, and the passes of one of a plan that guides
    past                passes of guided rows, for rules that remember them
    """

    thread: int | None = None
    begin: int | None = None
    at: int | None = None
    first: int = 0
    rows: tuple[Row, ...] = ()
    steps: list[Step | None] = field(default_factory=list)
    state: Tensor | None = None
    states: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    started: Tensor | None = None
    noised: bool = False
    played: int | None = None
    turn: Turn | None = None
    past: dict[int, Past] = field(default_factory=dict)


class FewerScheduler(SchedulerMixin, ConfigMixin):
    """Plays the rows of a plan in a diffusers pipeline. Make it with `from_plan`.

    plan        the plan, as its file has it
    process     variance-preserving | variance-exploding | flow: what the network was trained under
    predicts    what it predicts (see fewer.models.predictions)
    sigma_data  the data's deviation, for EDM networks
    clip        {"bound": , "quantile": } of the data prediction, None for none
    tensors     the plan's tensors: safetensors in base64
    schedule    the numbers of the noise schedule (see fewer.models.schedules); None in configurations of older versions, whose
                plans have the times of all rows

    Further entries of the configuration are those of the scheduler that it was made from. Raises InputError for
    a configuration that is damaged.
    """

    _compatibles: ClassVar[list[str]] = [
        *(kind.name for kind in KarrasDiffusionSchedulers),
        "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "LCMScheduler", "TCDScheduler",
        "SASolverScheduler", "IPNDMScheduler", "EDMDPMSolverMultistepScheduler",
    ]  # fmt: skip
    order = 1
    init_noise_sigma = 1.0  # the plan's start is made of unit noise where the first sample is scaled

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
    ) -> None:
        if not isinstance(plan, dict):
            raise InputError(
                f"plan is a {type(plan).__name__}; for a Plan there is FewerScheduler.from_plan(plan, trained)"
            )
        where = Path("scheduler_config.json")
        self.plan = from_json(migrate(plan, where), where, unpacked(tensors))
        if self.plan.networks != [0]:
            raise InputError(f"plan {self.plan.name!r} calls a second model; a pipeline has one network")
        self.frame = frame(process, schedule, predicts, sigma_data, clip)
        if schedule is None:
            self.plan = _of_any_schedule(self.plan)
        self._times = [float(t) for t in times(self.frame, self.plan)]
        self._levels = [float(level) for level in self.plan.levels]
        levels = torch.tensor(self._levels[:-1], dtype=torch.float64)
        self._scales: list[float] = [*self.frame.affine(levels).c_in.expand_as(levels).tolist(), 1.0]
        self._begin()
        self.run.thread = None

    @classmethod
    def from_plan(cls, plan: Plan, trained: Any) -> FewerScheduler:
        """The scheduler of a plan for a network, which a Model or the diffusers scheduler of its pipeline describes.

        Raises InputError for noise schedules and predictions that are not known. Warns where rows have times of their own
        under another noise schedule: the network is given its own times at their levels.
        """
        if isinstance(trained, FewerScheduler):
            given = {key: trained.config[key] for key in ("process", "schedule", "predicts", "sigma_data", "clip")}
            config = dict(trained.config)
        else:
            given, config = described(trained)
        tensors: dict[str, Tensor] = {}
        content = to_json(plan.check(), tensors)
        # by keyword: diffusers takes what comes by position for a default, and drops it
        made = cls(plan=content, tensors=packed(tensors), **given)
        more = {key: value for key, value in config.items() if key not in made.config and not key.startswith("_")}
        made.register_to_config(**more)
        warn_of_lost_times(made.frame, made.plan)
        return made

    @property
    def begin_index(self) -> int | None:
        """The row that a run begins with, where the pipeline has set it."""
        return self.run.begin

    @property
    def step_index(self) -> int | None:
        """The row in play; None before a run, the number of rows after it."""
        return self.run.at

    # as diffusers' own schedulers call them, and some pipelines
    @property
    def _begin_index(self) -> int | None:
        return self.run.begin

    @_begin_index.setter
    def _begin_index(self, index: int | None) -> None:
        self._own_run().begin = index

    @property
    def _step_index(self) -> int | None:
        return self.run.at

    @_step_index.setter
    def _step_index(self, index: int | None) -> None:
        self._own_run().at = index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Set the row to begin with: image-to-image pipelines start in the middle.

        Raises InputError where no row would be left, as at a strength that times the number of rows is below one.
        """
        rows = len(self.plan.rows)
        if begin_index >= rows:
            raise InputError(
                f"plan {self.plan.name!r} has {rows} rows, and none is left to play from row {begin_index} on: give a strength "
                f"of {1 / rows:.2g} or more"
            )
        self._begin_index = begin_index

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        *,
        sigmas: Any = None,
        mu: float | None = None,
    ) -> None:
        """Begin a run. `timesteps` are the times of all rows, float32.

        The steps of a plan are its rows: any other number of them, or of `sigmas`, raises InputError, a ValueError. The
        levels of `sigmas` and the shift `mu`, which pipelines of flow models work out by themselves, are the plan's.

        The run is this thread's: until it is over, what another one asks of it raises InputError. A run that is under way in
        another thread is broken off.
        """
        rows = len(self.plan.rows)
        asked = num_inference_steps if sigmas is None else len(sigmas)
        if asked is not None and asked != rows:
            raise InputError(
                f"num_inference_steps is {asked}; plan {self.plan.name!r} has {rows} rows: give num_inference_steps={rows}"
            )
        self._begin(device)

    def _begin(self, device: torch.device | str | None = None) -> None:
        self.num_inference_steps = len(self.plan.rows)
        self.timesteps = torch.tensor(self._times, dtype=torch.float32, device=device)
        self.run = Run(thread=threading.get_ident())

    def _own_run(self) -> Run:
        """The run, of this thread. Raises InputError where it is another's."""
        run, here = self.run, threading.get_ident()
        if run.thread is None:
            run.thread = here
        if run.thread != here:
            raise InputError(
                f"this scheduler of plan {self.plan.name!r} is in use in another thread: give each thread a pipeline with a "
                "scheduler of its own (the recipe for servers in docs/drop-in.md), or put a lock around the pipeline's call"
            )
        return run

    @in_own_precision
    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The network's input: the sample, or before the first row what the plan's start makes of unit noise."""
        run, n = self.located(timestep)
        if n > 0 or run.noised:
            return sample
        run.started = self._sample(self._begun(sample), n, sample.dtype)
        return run.started

    @in_own_precision
    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        *,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        return_dict: bool = True,
    ) -> FewerSchedulerOutput | tuple[Tensor, Tensor]:
        """The step after a row's network call.

        model_output  (n, C, ...), or with more channels, of which the first are used
        sample        (n, C, ...) as the last step returned it; where it has been changed since (inpainting), the change
                      counts, elsewhere the float32 state goes on
        generator     of the fresh noise of rows that add some
        return_dict   False for (prev_sample, pred_original_sample)

        How much noise is added and what is clipped is the plan's: `eta` and `use_clipped_model_output`, which the DDIM
        pipeline passes on, must be left alone. Raises InputError for them, and for samples that do not fit the plan.
        """
        if eta or use_clipped_model_output:
            raise InputError("eta and use_clipped_model_output are the plan's to decide; leave them at their defaults")
        run, n = self.located(timestep)
        self._check(run, n, timestep, sample)
        x = self._current(run, n, sample)
        step, data = run.steps[n], x
        if step is not None:
            f = model_output[:, : sample.shape[1]] if model_output.shape[1] > sample.shape[1] else model_output
            u = self._output(run, n - run.first, step, x, f)
            data = x - self._levels[n] * u

            def draw(_: int) -> Tensor:
                return randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=torch.float32)

            k = n - run.first
            run.states[k], run.outputs[k] = x, u
            x = advance(k, step, run.states, run.outputs, draw)
            for j in step.done_states:
                del run.states[j]
            for j in step.done_outputs:
                del run.outputs[j]
        run.at, run.state = n + 1, x
        previous = self._sample(x, n + 1, sample.dtype)
        if not return_dict:
            return previous, data.to(sample.dtype)
        return FewerSchedulerOutput(previous, data.to(sample.dtype))

    @in_own_precision
    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """Data at the levels of rows: c ((1 - tau) D + tau eps). `timesteps` (n,) or one, each of the plan's own."""
        over = self.run.at == len(self.plan.rows)
        run = self.run if over else self._own_run()
        run.noised = run.noised or run.at is None
        places = [self._place(run, t) for t in torch.as_tensor(timesteps).flatten()]
        numbers = torch.tensor(
            [(self._scales[n], self._levels[n]) for n in places], dtype=torch.float32, device=original_samples.device
        )
        scale, tau = (per_sample(each, original_samples) for each in numbers.unbind(1))
        mixed = scale * ((1 - tau) * original_samples.to(torch.float32) + tau * noise.to(torch.float32))
        return mixed.to(original_samples.dtype)

    def scale_noise(self, sample: Tensor, timestep: Any, noise: Tensor) -> Tensor:
        """`add_noise`, as pipelines of flow models call it."""
        return self.add_noise(sample, noise, timestep)

    def __len__(self) -> int:
        return len(self.plan.rows)

    def located(self, timestep: Any = None) -> tuple[Run, int]:
        """This thread's run and the row in play. Before it, that of `set_begin_index` or of the time, where it then begins."""
        run = self._own_run()
        if run.at is None:
            first = run.begin if run.begin is not None else 0 if timestep is None else self._place(run, timestep)
            plan = self.plan if first == 0 else self.plan.from_row(first)
            run.first = len(self.plan.rows) - len(plan.rows)
            run.rows = plan.rows
            rows = tuple(replace(row, blocks={}) for row in plan.rows)  # blocks are played around the network
            run.steps = [*[None] * run.first, *bind(self.frame, replace(plan, rows=rows))]
            run.at = first
        return run, run.at

    def starts_plainly(self, within: float = 1e-6) -> bool:
        """Whether the first sample that the plan's start makes is unit noise itself, but for `within` of its scale."""
        start = self.plan.start
        if start.directions is not None or isinstance(start.offset, Tensor) or start.offset != 0:
            return False
        if isinstance(start.scale, Tensor) or isinstance(start.noise, Tensor):
            return False
        return abs(self._scales[0] * math.hypot(start.scale, start.noise) - 1) < within

    def _place(self, run: Run, timestep: Any) -> int:
        """The row of a time; where several have it, the one in play or to begin with, else the first."""
        t = torch.as_tensor(timestep).to(device=self.timesteps.device, dtype=self.timesteps.dtype)
        rows = (self.timesteps == t).nonzero().flatten().tolist()
        if not rows:
            times = ", ".join(f"{t:g}" for t in self.timesteps.tolist())
            raise InputError(f"timestep {float(t):g} is none of plan {self.plan.name!r}, whose rows are at {times}")
        here = run.begin if run.at is None else run.at
        return here if here is not None and here in rows else int(rows[0])

    def _check(self, run: Run, n: int, timestep: Any, sample: Tensor) -> None:
        name = self.plan.name
        if n >= len(self.plan.rows):
            raise InputError(f"plan {name!r} has been played to its end; call set_timesteps first")
        if run.state is None:  # once a run: the time may have to come from a GPU
            self.plan.check(tuple(sample.shape[1:]))
            if self._place(run, timestep) != n:
                raise InputError(
                    f"the run begins at time {float(timestep):g}, which is not row {n}; call set_begin_index"
                )
        row = self.plan.rows[n]
        if (row.guidance is not None or row.blocks) and run.played != n:
            what = "guidance" if row.guidance is not None else "blocks"
            raise InputError(f"plan {name!r} has {what} in row {n}; fewer.apply(plan, pipe) plays it")

    def _output(self, run: Run, k: int, step: Step, x: Tensor, model_output: Tensor) -> Tensor:
        """u of the k-th row of the run at its state x, guided where the row guides."""
        told = {"label": model_output} if run.turn is None else run.turn.passes(model_output)
        passes = {condition: f.to(torch.float32) for condition, f in told.items()}
        if step.row.guidance is None:
            return output(step, x, None, lambda x_in, t, labels: passes["label"])

        def call(x_in: Tensor, t: Any, labels: Tensor | None) -> Tensor:
            asked = labels[:: len(x)].tolist() if labels is not None else [0]
            return torch.cat([passes["empty" if label else "label"] for label in asked])

        labels = torch.zeros(len(x), dtype=torch.int64)
        past = run.past if any(row.guidance is not None and row.guidance.remembers for row in run.rows) else None
        return output(step, x, labels, call, k, past)

    def _begun(self, noise: Tensor) -> Tensor:
        """The plan's first state from unit noise. Noise that its start adds is of one law with a larger scale."""
        start, z = self.plan.check(tuple(noise.shape[1:])).start, noise.to(torch.float32)
        if isinstance(start.noise, Tensor) or start.noise != 0:
            if start.directions is not None or isinstance(start.scale, Tensor) or isinstance(start.noise, Tensor):
                raise InputError(f"plan {self.plan.name!r} starts from two noises; a scheduler has one")
            start = Start(start.tau, math.hypot(start.scale, start.noise), offset=start.offset)
        return begin(replace(self.plan, start=start), z, lambda: z)

    def _current(self, run: Run, n: int, sample: Tensor) -> Tensor:
        """The float32 state before row n's step."""
        given = sample.to(torch.float32) / self._scales[n]
        if run.state is not None:
            return torch.where(sample == self._sample(run.state, n, sample.dtype), run.state, given)
        if n > 0 or run.noised:
            return given
        started, run.started = run.started, None
        if started is not None and started.shape[1:] == sample.shape[1:]:
            # DiT's pipeline steps from the scaled samples, others from those that it scaled
            same = started.shape == sample.shape and torch.equal(started, sample)
            return given if same else self._begun(sample)
        if not self.starts_plainly(NEAR):
            raise InputError(
                f"plan {self.plan.name!r} does not start from the noise as it is, and this pipeline does not call "
                "scale_model_input with its sample; fewer.apply(plan, pipe) may play it"
            )
        return given

    def _sample(self, state: Tensor, n: int, dtype: torch.dtype) -> Tensor:
        """The state before row n as the pipeline sees it."""
        return (self._scales[n] * state).to(dtype)


def _of_any_schedule(plan: Plan) -> Plan:
    """The plan of an older configuration, which does not say its network's noise schedule: rows have its times."""
    if any(row.t is None for row in plan.rows):
        raise InputError(f"schedule is missing, and plan {plan.name!r} has rows without a time: make it with from_plan")
    named = {key: value for key, value in (plan.model or {}).items() if key != "schedule"}
    return replace(plan, model=named or None)
