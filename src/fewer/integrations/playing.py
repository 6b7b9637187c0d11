"""Playing the rows of a plan as the `step` of a diffusers scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from fewer.batch import per_sample
from fewer.errors import InputError
from fewer.integrations.beginnings import check_scaled, first_state, is_plain
from fewer.integrations.handing_on import check_taken
from fewer.integrations.pipeline_samples import Scales, narrowed, with_values
from fewer.integrations.request_checks import check_begins, ends_above, handed_on, one_time, row_of
from fewer.integrations.run import Run
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.models.schedules import Discrete
from fewer.plan import Plan


@dataclass
class FewerSchedulerOutput(BaseOutput):
    """The sample before the next call, and the data prediction of this one, both of the sample's shape and dtype."""

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None


class Playing:
    """The part of FewerScheduler that plays a run's rows. State and outputs are kept in float32, whatever the pipeline's dtype.

    plan, frame       the plan, and a model that has its network's numbers
    scales, times     of the rows
    exploding         whether samples are D + s eps, where the pipeline has them scaled
    run               the run under way
    """

    plan: Plan
    frame: Model
    scales: Scales
    times: list[float]
    exploding: bool
    run: Run

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
        self.run.own(self.plan.name).begin = index

    @property
    def _step_index(self) -> int | None:
        return self.run.at

    @_step_index.setter
    def _step_index(self, index: int | None) -> None:
        self.run.own(self.plan.name).at = index

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
        per_token_timesteps: Tensor | None = None,
        prev_timestep: Any = None,
        return_dict: bool = True,
        **more: Any,
    ) -> FewerSchedulerOutput | tuple[Tensor, Tensor]:
        """The step after a row's network call.

        model_output  of the sample's shape, or with more entries on an axis, of which the first are used
        sample        (n, ...) as the last step returned it; where it has been changed since (inpainting), the change
                      counts, elsewhere the float32 state goes on; samples of the batch may be left out or repeated
        generator     of the fresh noise of rows that add some
        per_token_timesteps  (n, tokens) of samples (n, tokens, ..): tokens of another time than the row's stay as they are. With
                      it the output is D - eps, as diffusers' flow schedulers have it
        prev_timestep  the next row's time, which the plan knows itself: pipelines with a prior give it
        return_dict   False for (prev_sample, pred_original_sample)

        Derivatives go through to the output and the sample. How much noise is added and what is clipped is the plan's: `eta`
        and `use_clipped_model_output`, which the DDIM pipeline passes on, must be left alone. Raises InputError for them, for
        what else a pipeline gives, and for samples that do not fit the plan.
        """
        if more:
            raise InputError(
                f"step is given {', '.join(more)}, for which plan {self.plan.name!r} has no use: it plays rows"
            )
        if eta or use_clipped_model_output:
            raise InputError("eta and use_clipped_model_output are the plan's to decide; leave them at their defaults")
        timestep = one_time(timestep)
        run, n = self.located(timestep)
        self._check_next(n, prev_timestep)
        self._follow_batch(run, n, sample)
        self._check(run, n, timestep, sample)
        x = self._current(run, n, sample)
        f = narrowed(model_output, sample.shape, self.plan.name)
        x, data = run.advance(n, x, f if per_token_timesteps is None else -f, generator)
        self.run.own(self.plan.name)  # another thread may have begun a run meanwhile, of another plan
        run.at, run.state = n + 1, x
        if n + 1 == len(run.steps):
            data = x  # which some pipelines take for the result
        previous = self.shown(run, n + 1, x, sample.dtype)
        if per_token_timesteps is not None:
            stay = abs(per_token_timesteps - self.times[n]) > 1e-3 * max(self.times)
            previous = torch.where(stay[..., None], sample, previous)
        if not return_dict:
            return previous, data.to(sample.dtype)
        return FewerSchedulerOutput(previous, data.to(sample.dtype))

    @in_own_precision
    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """Data with noise, as the scheduler's samples are: k ((1 - tau) D + tau eps). `timesteps` (n,) or one.

        At the time of a row tau is the row's level, at others that of the network's noise schedule.
        """
        over = self.run.at == len(self.plan.rows)
        run = self.run if over else self.run.own(self.plan.name)
        times = torch.as_tensor(timesteps).flatten()
        rows = [row_of(self.times, t, self._here(run)) for t in times]
        if run.at is None:
            run.noised, run.noised_at = True, rows[0]
        levels = [
            float(self.frame.schedule.tau(t.item())) if n is None else self.scales.levels[n]
            for n, t in zip(rows, times, strict=True)
        ]
        numbers = torch.tensor(
            [(Scales.at(self.frame, tau, self.exploding), tau) for tau in levels], dtype=torch.float32
        ).to(original_samples.device)
        scale, tau = (per_sample(each, original_samples) for each in numbers.unbind(1))
        mixed = scale * ((1 - tau) * original_samples.to(torch.float32) + tau * noise.to(torch.float32))
        return mixed.to(original_samples.dtype)

    def scale_noise(self, sample: Tensor, timestep: Any, noise: Tensor) -> Tensor:
        """`add_noise`, as pipelines of flow models call it."""
        return self.add_noise(sample, noise, timestep)

    def located(self, timestep: Any = None) -> tuple[Run, int]:
        """This thread's run and the row in play.

        Before the first, the run begins: with the row of `set_begin_index`, or else of the time, or of data that were noised.
        """
        run = self.run.own(self.plan.name)
        if run.at is None:
            first = run.begin
            if first is None:
                first = (run.noised_at or 0) if timestep is None else self._place(run, timestep)
            check_begins(self.plan, first if run.noised else None)
            run.start(self.plan, self.frame, first)
        assert run.at is not None
        return run, run.at

    def time_of(self, time: Any) -> Any:
        """A network's time where it is that of a row, as it is under processes of whole times; else None."""
        if time is None or not isinstance(self.frame.schedule, Discrete):
            return None
        return time if row_of(self.times, time, None) is not None else None

    def starts_plainly(self) -> bool:
        """Whether the network's first input is unit noise itself."""
        return is_plain(self.plan, self.scales.first)

    @property
    def end_time(self) -> float:
        """The network's time at the plan's end, where that is above the data."""
        return float(self.frame.schedule.time(float(self.plan.end)))

    def _here(self, run: Run) -> int | None:
        return run.at if run.at is not None else run.begin

    def _place(self, run: Run, timestep: Any) -> int:
        """The row of a time; where several have it, the one in play or to begin with, else the first."""
        found = row_of(self.times, timestep, self._here(run))
        if found is None:
            rows = ", ".join(f"{t:g}" for t in self.times)
            raise InputError(
                f"timestep {float(timestep):g} is none of plan {self.plan.name!r}, whose rows are at {rows}"
            )
        return found

    def _check(self, run: Run, n: int, timestep: Any, sample: Tensor) -> None:
        name = self.plan.name
        if n >= len(self.plan.rows) and ends_above(self.plan):
            raise InputError(
                f"plan {name!r} ends at time {self.end_time:g}, and the pipeline goes on: call it with the denoising_end that the "
                "plan was made for"
            )
        if n >= len(self.plan.rows):
            raise InputError(f"plan {name!r} has been played to its end; call set_timesteps first")
        if run.state is None:  # once a run: the time may have to come from a GPU
            self.plan.check(tuple(sample.shape[1:]))
            if self._place(run, timestep) != n:
                raise InputError(
                    f"the run begins at time {float(timestep):g}, which is not row {n}; call set_begin_index"
                )
            if (n > 0 or handed_on(self.plan)) and run.noised_at is None:
                check_taken(self, n, sample)
        row = self.plan.rows[n]
        if (row.guidance is not None or row.blocks) and run.played != n:
            what = "guidance" if row.guidance is not None else "blocks"
            raise InputError(f"plan {name!r} has {what} in row {n}; fewer.apply(plan, pipe) plays it")

    def _check_next(self, n: int, time: Any) -> None:
        """Raises InputError where the pipeline tells another time of the next row than the plan's."""
        following = self.times[n + 1 : n + 2]
        if time is not None and (not following or row_of(following, time, None) is None):
            raise InputError(
                f"step is given {float(time):g} as the next time, which is not that of plan {self.plan.name!r}"
            )

    def _follow_batch(self, run: Run, n: int, sample: Tensor) -> None:
        """Go on with those samples of the batch that are still there, or there more than once."""
        if run.state is None or len(sample) == len(run.state):
            return
        shown = self.shown(run, n, run.state, sample.dtype)
        places = [next((j for j, one in enumerate(shown) if torch.equal(one, each)), None) for each in sample]
        known = [place for place in places if place is not None]
        if len(known) < len(places):
            raise InputError(
                f"plan {self.plan.name!r}: the batch had {len(shown)} samples and now has {len(sample)}, of which some are new; "
                "change the number of samples before the run, or the samples in another step"
            )
        run.keep(known)

    def _current(self, run: Run, n: int, sample: Tensor) -> Tensor:
        """The float32 state before row n's step."""
        scaled, run.scaled = run.scaled, None
        # DiT's pipeline steps from the scaled samples, others from those that it scaled
        fed = scaled is not None and scaled.shape == sample.shape and torch.equal(scaled, sample)
        given = sample.to(torch.float32) / (self.scales.inputs[n] if fed else self._scale(run, n))
        if run.state is not None:
            shown = (
                (self.scales.inputs[n] * run.state).to(sample.dtype)
                if fed
                else self.shown(run, n, run.state, sample.dtype)
            )
            return with_values(torch.where(sample == shown, run.state, given), given)
        if n > 0 or run.noised:
            if self.exploding and not run.scales_input:
                raise InputError(
                    f"plan {self.plan.name!r} begins with data D + s eps, as the pipeline's own scheduler has them, and the "
                    "pipeline does not call scale_model_input to scale them for its network"
                )
            return given
        if fed:
            return given
        check_scaled(self.plan, self.scales.first, scaled, sample)
        return given if scaled is None else first_state(self.plan, sample / self.scales.noise)

    def _scale(self, run: Run, n: int) -> float:
        """The scale of the pipeline's samples before row n."""
        return (self.scales.samples if self.exploding and run.scales_input else self.scales.inputs)[n]

    def shown(self, run: Run, n: int, state: Tensor, dtype: torch.dtype) -> Tensor:
        """A state before row n as the pipeline sees it."""
        return (self._scale(run, n) * state).to(dtype)
