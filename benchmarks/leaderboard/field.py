"""A field of samplers on the same noises: all of them on a few, the best on all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

import fewer
from benchmarks.diffusers_settings import settings, steps_for
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.paired import squared_errors
from fewer.files import write_atomically
from fewer.integrations.schedulers import at_steps, play_scheduler
from fewer.models.model import Model
from fewer.plan import Plan

Player = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Standing:
    """What a field scored.

    screened  RMSE on the first few noises, of every sampler that runs at this budget
    errors    squared paired errors (n,) on all noises, of the samplers that did best on the few
    """

    screened: dict[str, float]
    errors: dict[str, Tensor]

    @property
    def best(self) -> str:
        """The sampler of the least RMSE on all noises."""
        return min(self.errors, key=lambda name: float(self.errors[name].mean()))

    def to_dict(self) -> dict[str, Any]:
        """The best with its interval, and the RMSE of the others: on all noises, or else on the few."""
        ranked = sorted(self.errors, key=lambda name: float(self.errors[name].mean()))
        rest = sorted(self.screened.keys() - self.errors.keys(), key=lambda name: self.screened[name])
        return {
            "best": self.best,
            "rmse": paired.rmse(self.errors[self.best]).to_dict(),
            "on all noises": {name: float(self.errors[name].mean().sqrt()) for name in ranked},
            "on the few": {name: self.screened[name] for name in rest},
        }

    def save(self, path: Path) -> None:
        """Writes a safetensors file whole or not at all."""
        write_atomically(path, save(self.errors, {"screened": json.dumps(self.screened)}))

    @classmethod
    def load(cls, path: Path) -> Standing:
        """Reads what `save` wrote."""
        with safe_open(path, "pt") as file:
            return cls(
                json.loads(file.metadata()["screened"]), {name: file.get_tensor(name) for name in sorted(file.keys())}
            )


def run(
    field: dict[str, Player], noise: Tensor, labels: Tensor | None, target: Tensor, screen: int, keep: int
) -> Standing:
    """Plays every sampler on the first `screen` noises (n, *shape), and the `keep` best of them on all.

    The target (n, *shape) is the reference solution. Samplers that cannot run so few steps, or whose samples are not finite,
    are left out. With screen >= n every sampler is played on all noises.
    """
    screen = min(screen, len(noise))
    screened: dict[str, Tensor] = {}
    for name, play in field.items():
        try:
            samples = play(noise[:screen], None if labels is None else labels[:screen])
        except (ValueError, IndexError, RuntimeError, ZeroDivisionError):  # some settings cannot run so few steps
            continue
        if bool(samples.isfinite().all()):
            screened[name] = squared_errors(samples, target[:screen])
    ranked = sorted(screened, key=lambda name: float(screened[name].mean()))
    errors = screened
    if screen < len(noise):
        played = {name: field[name](noise, labels) for name in ranked[:keep]}
        errors = {name: squared_errors(x, target) for name, x in played.items() if bool(x.isfinite().all())}
    return Standing({name: float(e.mean().sqrt()) for name, e in screened.items()}, errors)


def diffusers_field(model: Model, nfe: int) -> dict[str, Player]:
    """The settings of diffusers, each at the most steps that cost at most `nfe` network calls.

    A scheduler whose state is alpha D + sigma eps takes the unit noise for its start, which puts 1 where the reference
    has sigma_T; the noise is multiplied by sigma_T, so that both start from the same state.
    """
    sigma_T = float(model.schedule.scale(model.schedule.tau_max)) * model.schedule.tau_max
    found: dict[str, Player] = {}
    for name, scheduler in settings(model):
        steps = steps_for(scheduler, nfe)
        if steps is None:
            continue
        unit = float(getattr(scheduler, "init_noise_sigma", 1.0)) == 1.0

        def play(
            noise: Tensor, labels: Tensor | None, scheduler: Any = scheduler, steps: int = steps, unit: bool = unit
        ) -> Tensor:
            return play_scheduler(model, at_steps(scheduler, steps), noise * sigma_T if unit else noise, labels)

        found[name] = play
    return found


def plan_field(model: Model, plans: Iterable[Plan]) -> dict[str, Player]:
    """Plans of this package by their names."""

    def player(plan: Plan) -> Player:
        return lambda noise, labels: fewer.sample(model, plan, noise=noise, labels=labels)

    return {plan.name: player(plan) for plan in plans}
