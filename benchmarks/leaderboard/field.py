"""A field of samplers on the same noises: all of them on a few, the best on all.

Samplers are judged by the two figures of `fewer.evaluate.statistics.endings`: they are sorted by their typical error, and one
against another counts the error of samples that end where the reference does, and the share of those that end elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

import fewer
from benchmarks.diffusers_settings import settings, steps_for
from fewer.evaluate.modes import Modes
from fewer.evaluate.statistics import endings, paired
from fewer.evaluate.statistics.paired import squared_errors
from fewer.files import write_atomically
from fewer.integrations.schedulers import at_steps, play_scheduler
from fewer.models.model import Model
from fewer.plan import Plan

Player = Callable[[Tensor, Tensor | None], Tensor]
MARGIN = 0.05  # of not worse


@dataclass(frozen=True, eq=False)
class Endpoints:
    """How a sampler's samples stand to the reference's from the same noises.

    errors  squared paired errors (n,)
    apart   which end in another mode, (n,) bool; None where the model's modes are not known, and a gap in the errors shows it
    """

    errors: Tensor
    apart: Tensor | None = None

    @classmethod
    def of(cls, samples: Tensor, target: Tensor, modes: Modes | None) -> Self:
        """Those of samples (n, *shape)."""
        return cls(squared_errors(samples, target), None if modes is None else modes.apart(samples, target))

    def figures(self) -> dict[str, Any]:
        """The three figures with their intervals."""
        found = {
            "typical error": endings.typical(self.errors), "elsewhere": endings.elsewhere(self.errors, self.apart),
            "rmse": paired.rmse(self.errors),
        }  # fmt: skip
        return {name: interval.to_dict() for name, interval in found.items()}

    def against(self, other: Endpoints) -> dict[str, Any]:
        """The decision by the two figures with a margin of `MARGIN`, both with their intervals, and the ratio of RMSEs."""
        pair = None if self.apart is None or other.apart is None else (self.apart, other.apart)
        found = endings.endings(self.errors, other.errors, pair)
        return {
            "decision": found.decision(MARGIN),
            "error": None if found.error is None else found.error.to_dict(),
            "elsewhere": found.elsewhere.to_dict(),
            "rmse": paired.ratio(self.errors, other.errors).to_dict(),
        }


@dataclass(frozen=True)
class Standing:
    """What a field scored.

    screened  typical error on the first few noises, of every sampler that runs at this budget
    ends      what the samplers that did best on the few scored on all noises
    """

    screened: dict[str, float]
    ends: dict[str, Endpoints]

    @property
    def ranked(self) -> dict[str, float]:
        """Typical error on all noises, the least first."""
        found = {name: endings.typical(ends.errors).value for name, ends in self.ends.items()}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    @property
    def best(self) -> str:
        """The sampler of the least typical error on all noises."""
        return next(iter(self.ranked))

    def to_dict(self) -> dict[str, Any]:
        """The best with its figures, and the typical errors of the others: on all noises, or else on the few."""
        rest = sorted(self.screened.keys() - self.ends.keys(), key=lambda name: self.screened[name])
        return {
            "best": self.best,
            **self.ends[self.best].figures(),
            "on all noises": self.ranked,
            "on the few": {name: self.screened[name] for name in rest},
        }

    def save(self, path: Path) -> None:
        """Writes a safetensors file whole or not at all."""
        tensors = {f"errors {name}": ends.errors for name, ends in self.ends.items()}
        tensors |= {f"apart {name}": ends.apart for name, ends in self.ends.items() if ends.apart is not None}
        write_atomically(path, save(tensors, {"screened": json.dumps(self.screened)}))

    @classmethod
    def load(cls, path: Path) -> Standing:
        """Reads what `save` wrote."""
        tensors = load_file(path)
        names = sorted(key.removeprefix("errors ") for key in tensors if key.startswith("errors "))
        with safe_open(path, "pt") as file:
            screened = json.loads(file.metadata()["screened"])
        return cls(
            screened, {name: Endpoints(tensors[f"errors {name}"], tensors.get(f"apart {name}")) for name in names}
        )


def run(
    field: dict[str, Player],
    noise: Tensor,
    labels: Tensor | None,
    target: Tensor,
    screen: int,
    keep: int,
    modes: Modes | None = None,
) -> Standing:
    """Plays every sampler on the first `screen` noises (n, *shape), and the `keep` best of them on all.

    The target (n, *shape) is the reference solution, `modes` those of the model where they are known. Samplers that cannot run
    so few steps, or whose samples are not finite, are left out. With screen >= n every sampler is played on all noises.
    """
    screen = min(screen, len(noise))
    screened: dict[str, Endpoints] = {}
    for name, play in field.items():
        try:
            samples = play(noise[:screen], None if labels is None else labels[:screen])
        except (ValueError, IndexError, RuntimeError, ZeroDivisionError):  # some settings cannot run so few steps
            continue
        if bool(samples.isfinite().all()):
            screened[name] = Endpoints.of(samples, target[:screen], modes)
    few = {name: endings.typical(ends.errors).value for name, ends in screened.items()}
    ends = screened
    if screen < len(noise):
        played = {name: field[name](noise, labels) for name in sorted(few, key=lambda name: few[name])[:keep]}
        ends = {name: Endpoints.of(x, target, modes) for name, x in played.items() if bool(x.isfinite().all())}
    return Standing(few, ends)


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
