"""What a network predicts, turned into the output u = eps - D that the engine works with.

Every prediction F is affine in the output: u = p x~ + q F, with x~ = (1 - tau) D + tau eps the state and p, q two
numbers of the level. With alpha = (1 - tau) c and sigma = tau c, c = alpha + sigma, and x = c x~ the unscaled state:

    noise     F = eps                               u = (F - x~) / (1 - tau)
    data      F = D                                 u = (x~ - F) / tau
    velocity  F = alpha eps - sigma D               u = [(sigma - alpha) x + c F] / (alpha^2 + sigma^2)
    flow      F = eps - D                           u = F
    data-flow F = D - eps                           u = -F
    score     F = -eps / sigma                      u = -(sigma F + x~) / (1 - tau)
    edm       D = sd^2 x / (s^2 + sd^2) + s sd F / sqrt(s^2 + sd^2), x / alpha the input; sd the data's deviation
    trigflow  D = cos(t) x - sin(t) F, t the angle: alpha = cos t, sigma = sd sin t, under schedules of angles alone
    consistency  the same with s - e in place of the first and second s, e the cleanest level: D = x there

Velocity is Salimans & Ho 2022, edm Karras et al. 2022 (table 1), consistency Song et al. 2023 (appendix C),
trigflow Lu & Song 2024 (sCM). The network's input is
c x~, for edm and consistency x~ / sqrt(tau^2 + sd^2 (1 - tau)^2).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.levels import Number, s_of_tau
from fewer.models.angles import Angle
from fewer.models.schedules import Schedule

OF_ANY_PROCESS = ("noise", "data", "velocity", "flow", "data-flow", "score", "edm", "consistency")
PREDICTIONS = (*OF_ANY_PROCESS, "trigflow")  # which is of schedules of angles


class Affine(NamedTuple):
    """At one level: network input c_in x~, output u = p x~ + q F. Float64, 0-dim."""

    c_in: Tensor
    p: Tensor
    q: Tensor


def check_prediction(predicts: str, schedule: Schedule) -> None:
    """Raise InputError for an unknown prediction, and for one of angles under another schedule."""
    if predicts not in (PREDICTIONS if isinstance(schedule, Angle) else OF_ANY_PROCESS):
        raise InputError(unknown(predicts, schedule))


def unknown(predicts: str, schedule: Schedule) -> str:
    """What is wrong with a prediction that has no numbers under a schedule."""
    if predicts == "trigflow":
        return f"predicts is 'trigflow', of networks whose times are angles; the schedule is {schedule.describe()}"
    return f"predicts is {predicts!r}; expected one of {', '.join(PREDICTIONS)}"


def affine(predicts: str, schedule: Schedule, tau: Number, sigma_data: float = 0.5) -> Affine:
    """The three numbers of a prediction at a level. Noise and score have none at tau = 1: InputError."""
    tau = torch.as_tensor(tau, dtype=torch.float64)
    c = schedule.scale(tau)
    alpha, sigma = (1 - tau) * c, tau * c
    if predicts in ("noise", "score") and bool((tau >= 1).any()):
        raise InputError(
            f"a network that predicts {predicts} says nothing about the data at alpha = 0: start below tau = 1"
        )
    match predicts:
        case "noise":
            return Affine(c, -1 / (1 - tau), 1 / (1 - tau))
        case "data":
            return Affine(c, 1 / tau, -1 / tau)
        case "velocity":
            norm = alpha**2 + sigma**2
            return Affine(c, (sigma - alpha) * c / norm, c / norm)
        case "flow":
            return Affine(c, torch.zeros_like(tau), torch.ones_like(tau))
        case "data-flow":
            return Affine(c, torch.zeros_like(tau), -torch.ones_like(tau))
        case "score":
            return Affine(c, -1 / (1 - tau), -sigma / (1 - tau))
        case "edm":
            w = tau**2 + sigma_data**2 * (1 - tau) ** 2
            return Affine(w**-0.5, (tau - sigma_data**2 * (1 - tau)) / w, -sigma_data * w**-0.5)
        case "consistency":
            w, above = tau**2 + sigma_data**2 * (1 - tau) ** 2, s_of_tau(tau) - s_of_tau(schedule.tau_min)
            norm = (above**2 + sigma_data**2) * (1 - tau)
            p = (above**2 * (1 - tau) / tau - sigma_data**2) / norm
            return Affine(w**-0.5, p, -above * sigma_data * (1 - tau) * w**-0.5 / tau)
        case "trigflow" if isinstance(schedule, Angle):
            return Affine(c, (1 - alpha * c) / tau, schedule.angle(tau).sin() / tau)
    raise InputError(unknown(predicts, schedule))
