"""Reading a diffusers scheduler into a plan: its own code runs once on basis vectors, and the rows are read off.

Every sample that the scheduler handles is here a vector of coefficients on the starting noise, the outputs u_n and the
held-out noises. One more coordinate carries the same computation on random numbers: where it disagrees with the
coefficients, the scheduler is not linear.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fewer.errors import InputError, first_line
from fewer.integrations.left_out import left_out
from fewer.levels import tau_of_s
from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import BOUNDS, schedule_of
from fewer.models.predictions import affine
from fewer.models.schedules import Discrete, Flow, Schedule, VarianceExploding
from fewer.plan import Plan, Row, Start

_DUST = 1e-12  # below this a coefficient is rounding


class _Basis(TorchFunctionMode):
    """Within it, noise that this thread draws is a new basis vector, and nothing is rounded to float32."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.control = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        self.used = 0

    def vector(self) -> Tensor:
        """The next basis vector, (1, 1, 1, size + 1) as if it were an image; the last entry is its random number."""
        if self.used == len(self.control):
            raise InputError("it draws more noises than a plan has room for")
        out = torch.zeros(1, 1, 1, len(self.control) + 1, dtype=torch.float64)
        out[..., self.used] = 1.0
        out[..., -1] = self.control[self.used]
        self.used += 1
        return out

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every call of torch passes here; two kinds are replaced."""
        if func in (torch.randn, torch.randn_like):
            return self.vector()
        if func is torch.Tensor.to and torch.float32 in (*args[1:], *(kwargs or {}).values()):
            return args[0]
        return func(*args, **(kwargs or {}))


def from_diffusers(
    scheduler: Any, n: int, model: Model | None = None, *, sigmas: Sequence[float] | None = None
) -> Plan:
    """The plan of a diffusers scheduler at `n` steps: the same samples from the same noise, as one table.

    scheduler  any whose step is linear in the sample and the network's output, with Gaussian noise at most. A copy of
               it is run, without its bounds on the data prediction (clip_sample, thresholding: the engine clips by
               the model's) and with fixed variances for learned ones
    n          number of steps of set_timesteps; the plan's calls may be more (Heun, PNDM)
    model      the model that the plan shall name
    sigmas     n levels for set_timesteps too, as pipelines of flow models give them

    Rows have the scheduler's network times, rounded as it rounds them, and its own levels, which it keeps in float32;
    weights are computed in float64. What it returns at the end counts as data, whatever its level (DEIS ends at the
    cleanest trained one). Raises InputError where the scheduler cannot be set up, is not linear (and at which of its
    calls), gives numbers that are not finite, or adds noise in a way that rows do not hold. Warns of what rows leave out:
    learned variances, and bounds on the data prediction alone (as of DDIM).
    """
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise InputError(f"n is {n!r}; expected a whole number of steps, at least 1")
    given = {} if sigmas is None else {"sigmas": sigmas}
    plan = read_off(scheduler, n, given, n)
    said = left_out(scheduler, n, given, float(plan.rows[0].tau))
    if said is not None:
        warnings.warn(said, stacklevel=2)
    return plan if model is None else replace(plan, model={"name": model.name, "hash": model.hash})


def read_off(scheduler: Any, n: int, given: Mapping[str, Any], *steps: int) -> Plan:
    """The plan of a scheduler after set_timesteps(*steps, **given), which makes it take n steps."""
    name = type(scheduler).__name__
    try:
        levels, times, states, outputs, control = _run(scheduler, *steps, **given)
    except Exception as error:  # schedulers raise many types for what they do not take
        raise InputError(f"{name} cannot be read at n = {n!r} steps: {' '.join(str(error).split())}") from error
    for i, state in enumerate(states):
        after = f"the step after call {i - 1} (t = {times[i - 1]:g})" if i else "the start"
        if not bool(state.isfinite().all()):
            raise InputError(f"{name} at n = {n} steps gives numbers that are not finite: {after} does")
        if abs(float(state[:-1] @ control - state[-1])) > 1e-7 * float(1 + state.abs().max()):
            raise InputError(
                f"{name} is not linear in the sample and the network's output, so that no plan holds it: {after} is not"
            )
    rows = tuple(_row(name, i, times[i], levels[i], states, outputs) for i in range(len(levels)))
    return Plan(Start(levels[0], float(states[0][0])), rows, 0.0, f"{name} {n}").check()


def _run(scheduler: Any, *steps: int, **given: Any) -> tuple[list[float], list[float], list[Tensor], list[int], Tensor]:
    """Levels and times of the calls; states before each and at the end; indices of the outputs; random numbers."""
    mine, (schedule, predicts, sigma_data) = _linear_copy(scheduler)
    mine.set_timesteps(*steps, **{name: list(values) for name, values in given.items()})
    if hasattr(mine, "set_begin_index"):  # else its first time is looked up, and found at the second place if repeated
        mine.set_begin_index(0)
    for key, value in vars(mine).items():
        if isinstance(value, Tensor) and value.is_floating_point():
            setattr(mine, key, value.double())
    calls = len(mine.timesteps)
    levels: list[float] = []
    states: list[Tensor] = []
    outputs: list[int] = []
    with _Basis(1 + 3 * calls) as basis:
        x = basis.vector() * float(getattr(mine, "init_noise_sigma", 1.0))
        for i, t in enumerate(mine.timesteps):
            scale = _scale(mine, t)
            levels.append(_level(mine, schedule, sigma_data, i, t, scale))
            c_in, p, q = affine(predicts, schedule, levels[-1], sigma_data)
            state = scale / c_in * x
            states.append(state.flatten())
            outputs.append(basis.used)
            out = (basis.vector() - p * state) / q
            try:
                x = mine.step(out, t, x).prev_sample
            except Exception as error:  # as above
                said = first_line(error)
                raise InputError(f"the step after call {i} (t = {float(t):g}) fails: {said}") from error
        outputs.append(basis.used)
    return levels, mine.timesteps.tolist(), [*states, x.flatten()], outputs, basis.control


def _linear_copy(scheduler: Any) -> tuple[Any, tuple[Schedule, str, float]]:
    """The scheduler without bounds or learned variances, and the process that its network was trained under."""
    mine = copy.deepcopy(scheduler)
    mine.register_to_config(**{key: False for key in BOUNDS if key in mine.config})
    if "learned" in str(mine.config.get("variance_type")):
        mine.register_to_config(variance_type="fixed_small")
        mine.variance_type = "fixed_small"
    if type(scheduler).__name__ == "IPNDMScheduler":  # its betas are sigmas, and its network predicts velocity
        return mine, (Discrete((0.5, 0.25)), "velocity", 0.5)
    return mine, schedule_of(mine)


def _scale(mine: Any, t: Tensor) -> float:
    """The factor from the scheduler's sample to the network's input."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    return float(mine.scale_model_input(one, t)) if hasattr(mine, "scale_model_input") else 1.0


def _level(mine: Any, schedule: Schedule, sigma_data: float, i: int, t: Tensor, scale: float) -> float:
    """Tau of call i: from the factor of the network's input where there is one, else from the scheduler's tables."""
    if abs(scale - 1) > _DUST:  # it is 1 / sqrt(s^2 + 1), or with the data's deviation in place of 1
        one = sigma_data if isinstance(schedule, VarianceExploding) else 1.0
        s = (scale**-2 - one**2) ** 0.5
        return tau_of_s(s)
    if hasattr(mine, "sigmas"):
        sigma = float(mine.sigmas[i])
        if isinstance(schedule, Flow):
            return 1 - sigma if schedule.rising else sigma
        return tau_of_s(sigma)
    if hasattr(mine, "alphas_cumprod"):
        alpha_bar = float(mine.alphas_cumprod[t])
        alpha, sigma = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    else:
        alpha, sigma = float(mine.alphas[i]), float(mine.betas[i])
    return sigma / (alpha + sigma)


def _row(name: str, i: int, t: float, tau: float, states: list[Tensor], outputs: list[int]) -> Row:
    """Row i: as few of the latest states as explain the starting noise and all noise before this row."""
    drawn = [k for a, b in pairwise(outputs) for k in range(a + 1, b)]
    older = [0] + [k for k in drawn if k < outputs[i]]
    then = states[i + 1]
    for first in range(i, -1, -1):
        known = torch.stack(states[first : i + 1])
        a = torch.linalg.lstsq(known[:, older].T, then[older, None]).solution[:, 0]
        rest = then - a @ known
        if float(rest[older].abs().max()) < _DUST * float(1 + then.abs().max()):
            break
    else:
        raise InputError(f"{name}: the noise of row {i} is used again later, which rows do not hold")
    fresh = [c for c in rest[outputs[i] + 1 : outputs[i + 1]].tolist() if abs(c) > _DUST]
    if len(fresh) > 1:
        raise InputError(f"{name}: row {i} adds {len(fresh)} noises; rows hold one")
    weights = {first + j: w for j, w in enumerate(a.tolist()) if abs(w) > _DUST}
    plain = weights.keys() == {i} and abs(weights[i] - 1) < _DUST
    b = {j: w for j in range(i + 1) if abs(w := float(rest[outputs[j]])) > _DUST or j == i}
    return Row(tau, b, None if plain else weights, fresh[0] if fresh else 0.0, t=t)
