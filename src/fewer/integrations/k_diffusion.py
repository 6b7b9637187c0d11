"""A plan as a sampler of k-diffusion: one function, which takes what every `sample_...` there takes.

A k-diffusion model gives the data prediction D(x; sigma) at x = D + sigma eps, and that of a flow in ComfyUI at
x = (1 - sigma) D + sigma eps. The rows' states are these over 1 / (1 - tau), or themselves for flows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import trange

from fewer.arguments import as_plan
from fewer.engine import advance, begin, bind, output
from fewer.errors import InputError
from fewer.integrations.engine_guidance import row_scales
from fewer.models.model import Model
from fewer.models.schedules import Flow, Schedule, VarianceExploding
from fewer.plan import Plan
from fewer.sigmas import is_flow, sigmas_of

SAME = 1e-4  # share by which sigmas may differ from a plan's: other engines keep them in float32
SCALE = "cond_scale"  # what k-diffusion's guided denoisers call their guidance scale
NEAR_ZERO = 1e-6  # sigmas below it are 0

KModel = Callable[..., Tensor]
NoiseSampler = Callable[[Tensor, Tensor], Tensor]


def sample_k_diffusion(
    model: KModel,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    disable: bool | None = None,
    *,
    plan: Plan,
    noise_sampler: NoiseSampler | None = None,
) -> Tensor:
    """Samples (n, *shape) of a k-diffusion model under a plan, in x's dtype; with `plan` bound, a sampler of k-diffusion's.

    model       model(x, sigma, **extra_args) -> data prediction (n, *shape), with sigma (n,)
    x           (n, *shape) noise times sigmas[0], with the data to start from added where there is some
    sigmas      levels of the plan (`plan_sigmas`): all, or a run of neighbours, for starts in the middle and early ends
    extra_args  further arguments of the model. Rows with scales of classifier-free guidance of their own pass them as
                `cond_scale`, where it is among these; else the rows' one scale is the model's own to apply
    callback    called after each network call with {"i", "x", "sigma", "sigma_hat", "denoised"}
    disable     no progress bar; None for one where stderr is a terminal
    noise_sampler  noise_sampler(sigma, next sigma) -> the unit noise (n, *shape) that rows add; by default torch.randn_like

    Raises InputError for sigmas that are not the plan's, and for plans that such a model cannot play: of blocks left out,
    second networks, network times of their own, and guidance otherwise than by scales.
    """
    plan, extra = as_plan(plan), dict(extra_args or {})
    scales = row_scales(plan)
    part, first, flow = _part(plan, [float(sigma) for sigma in sigmas])
    own = _scales_for(plan, scales[first : first + len(part.rows)], extra)
    run = _Run(model, part, flow, extra, own, noise_sampler)
    with torch.no_grad():
        return run.samples(x, callback, disable, len(sigmas) - 1)


def plan_sigmas(plan: Plan, flow: bool | None = None) -> Tensor:
    """The sigmas (N + 1,) of a plan's N rows and its end, float32: tau for a flow, else s = sigma / alpha.

    flow  whether the model is a flow; None for what the plan says of the model that it was made for

    Raises InputError where s is infinite: pure noise is a level of flows only.
    """
    return torch.tensor(levels_of(plan, flow), dtype=torch.float32)


def levels_of(plan: Plan, flow: bool | None = None) -> list[float]:
    """`plan_sigmas` in float64."""
    if any(isinstance(tau, Tensor) for tau in plan.levels):
        raise InputError(f"plan {plan.name!r} has a level for each pixel, which no list of sigmas holds")
    flow = is_flow((plan.model or {}).get("schedule")) if flow is None else flow
    sigmas = sigmas_of([float(tau) for tau in plan.levels], flow)
    if not np.isfinite(sigmas).all():
        raise InputError(
            f"plan {plan.name!r} starts from pure noise, where sigma / alpha is infinite: its sigmas are those of a flow"
        )
    return sigmas


def _part(plan: Plan, given: Sequence[float]) -> tuple[Plan, int, bool]:
    """The part of the plan whose levels are the given sigmas, the number of its first row, and whether they are a flow's."""
    check_playable(plan)
    schedule = (plan.model or {}).get("schedule")
    for flow in (False, True) if schedule is None else (is_flow(schedule),):
        levels = sigmas_of([float(tau) for tau in plan.levels], flow)
        for first in range(len(levels) - len(given) + 1):
            if len(given) > 1 and np.allclose(levels[first : first + len(given)], given, rtol=SAME, atol=NEAR_ZERO):
                return _rows(plan, first, len(given) - 1), first, flow
    raise InputError(
        f"sigmas are not those of plan {plan.name!r}: give fewer.plan_sigmas(plan), or a run of neighbours among them"
    )


def _rows(plan: Plan, first: int, n: int) -> Plan:
    """The n rows of a plan from row `first` on. Raises InputError for a row that nothing can start at."""
    part = plan.from_row(first)
    if len(part.rows) < len(plan.rows) - first:
        raise InputError(
            f"plan {plan.name!r} cannot start at sigma number {first}, in the middle of a step of more calls"
        )
    return replace(part, rows=part.rows[:n], end=part.levels[n])


def check_playable(plan: Plan) -> None:
    """Raise InputError for what a model that is given x and sigma alone cannot play."""
    flow = is_flow((plan.model or {}).get("schedule"))
    for n, row in enumerate(plan.rows):
        late = row.t is not None and not (flow and np.allclose(float(row.t), 1000 * np.asarray(row.tau), atol=1e-3))
        for what, wrong in (
            ("leaves out blocks", bool(row.blocks)), ("calls a second model", row.network != 0),
            ("has a level for each pixel", isinstance(row.tau, Tensor)), ("has a network time of its own", late),
        ):  # fmt: skip
            if wrong:
                raise InputError(f"plan {plan.name!r}: row {n} {what}, which a k-diffusion model does not play")


def _scales_for(plan: Plan, scales: Sequence[float | None], extra: Mapping[str, Any]) -> list[float | None]:
    """The scale that each row passes as `cond_scale`; None for the model's own. Raises InputError where neither serves."""
    if SCALE in extra:
        return [1.0 if scale is None else scale for scale in scales] if set(scales) != {None} else list(scales)
    if len(set(scales)) > 1:
        raise InputError(
            f"plan {plan.name!r} guides each row by a scale of its own: give {SCALE} in extra_args, which rows then set"
        )
    return [None] * len(scales)


@dataclass(frozen=True)
class _Run:
    """One run of a plan on a k-diffusion model."""

    model: KModel
    plan: Plan
    flow: bool
    extra: dict[str, Any]
    scales: Sequence[float | None]
    noise_sampler: NoiseSampler | None

    def samples(
        self, x: Tensor, callback: Callable[[dict[str, Any]], Any] | None, disable: bool | None, n: int
    ) -> Tensor:
        """The state after the last row, from x at the first level."""
        steps = bind(self._shell(x), replace(self.plan, rows=tuple(replace(r, guidance=None) for r in self.plan.rows)))
        like = torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        states, outputs = {0: self._begun(x, like)}, dict[int, Tensor]()
        for i in trange(n, disable=disable):
            tau, state = float(steps[i].row.tau), states[i]
            outputs[i] = output(steps[i], state, None, self._call(i, x.dtype))
            if callback is not None:
                sigma, denoised = self._sigma(i, x), torch.add(state, outputs[i], alpha=-tau)
                callback(
                    {"i": i, "x": self._scaled(state, tau), "sigma": sigma, "sigma_hat": sigma, "denoised": denoised}
                )
            states[i + 1] = advance(i, steps[i], states, outputs, lambda k: self._noise(k, like))
            steps[i].forget(states, outputs)
        return self._scaled(states[n], self._tau(n)).to(x.dtype)

    def _shell(self, x: Tensor) -> Model:
        """What a plan is bound to: a model of the sample's shape that predicts data, whose time is sigma."""
        top = max(self._sigma_of(n) for n in range(len(self.plan.rows)))
        schedule: Schedule = Flow() if self.flow else VarianceExploding(top / 1e6, 2 * top)

        def nothing(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            raise AssertionError("a row calls the k-diffusion model in place of this")

        return Model(nothing, schedule, "data", tuple(x.shape[1:]), device=x.device, name="k-diffusion model")

    def _call(self, i: int, dtype: torch.dtype) -> Callable[..., Tensor]:
        """The network call of row i."""

        def call(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            scale = {} if self.scales[i] is None else {SCALE: self.scales[i]}
            sigma = x.new_full((len(x),), self._sigma_of(i)).to(dtype)
            return self.model(x.to(dtype), sigma, **self.extra | scale).to(x.dtype)

        return call

    def _begun(self, x: Tensor, like: Tensor) -> Tensor:
        """The first state from x, whose noise the plan's start may scale or shift."""
        state = x.to(like) * self._factor(self._tau(0), inverse=True)
        if self.plan.start.plain:
            return state
        return begin(self.plan, state / self._tau(0), lambda: self._noise(-1, like))

    def _noise(self, i: int, like: Tensor) -> Tensor:
        """The unit noise that is added after row i."""
        if self.noise_sampler is None:
            return torch.randn_like(like)
        return self.noise_sampler(self._sigma(max(i, 0), like), self._sigma(i + 1, like)).to(like)

    def _tau(self, i: int) -> float:
        """The level before row i; after the part's last row that of its end."""
        return float(self.plan.rows[i].tau if i < len(self.plan.rows) else self.plan.end)

    def _sigma_of(self, i: int) -> float:
        return sigmas_of([self._tau(i)], self.flow)[0]

    def _sigma(self, i: int, like: Tensor) -> Tensor:
        return torch.tensor(self._sigma_of(i), dtype=torch.float32, device=like.device)

    def _factor(self, tau: float, inverse: bool = False) -> float:
        """What a state at a level is multiplied by to be k-diffusion's, or the inverse."""
        scale = 1.0 if self.flow else 1 - tau
        return scale if inverse else 1 / scale

    def _scaled(self, state: Tensor, tau: float) -> Tensor:
        return state * self._factor(tau)
