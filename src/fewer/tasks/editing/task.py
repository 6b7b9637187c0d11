"""What an editing method is given: images, labels, a mask and noise, and the ways up to noise and down to an image.

In the flow frame x = (1 - tau) D + tau eps every model has the velocity u = eps - D of a rectified flow, whatever process it was
trained under, so that methods for flows are for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from fewer.engine import Draws, Step, advance, bind, output
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.noise import Draw, DrawNumber
from fewer.plan import Plan
from fewer.plan.row import is_zero

Unit = Callable[[DrawNumber, Sequence[int]], Tensor]
Control = Callable[[Tensor, float, Tensor], Tensor]
"""u' (n, *shape) of states x at a level on the way up, and their u."""
Change = Callable[[int, Tensor, Tensor], Tensor]
"""D' (n, *shape) of a row on the way down, its states x, and their data prediction D."""


def rising(plan: Plan) -> list[tuple[int, float, float]]:
    """The steps from an image up to the plan's first level: (row that is called, level, next level), one a level.

    A level's output is that of its cleaner end. No network knows level 0: the image is seen as if it lay at the cleanest level.
    """
    at: dict[float, int] = {}
    for n, row in enumerate(plan.rows):
        at.setdefault(float(row.tau), n)
    levels = sorted(at)
    return [(at[max(here, levels[0])], here, there) for here, there in pairwise([0.0, *levels])]


def falling(plan: Plan) -> list[tuple[int, float, float]]:
    """DDIM's steps between the plan's levels: (row that is called, level, next level), from the highest on."""
    ways = rising(plan)
    called = [n for n, _, _ in ways[1:]] + [0]
    return [(n, there, here) for n, (_, here, there) in zip(called, ways, strict=True)][::-1]


def check_plan(plan: Plan, shape: tuple[int, ...]) -> None:
    """InputError for plans that editing methods cannot play."""
    plan.check(shape)
    plan.check_plain()
    if isinstance(plan.end, Tensor) or plan.end != 0:
        raise InputError(f"plan {plan.name!r} ends at level {float(plan.end):g}; edits end at an image, level 0")
    start = plan.start
    if isinstance(start.noise, Tensor) or start.noise != 0 or start.directions is not None or not is_zero(start.offset):
        raise InputError(f"plan {plan.name!r} begins with noise of its own law; edits begin with images or unit noise")
    for n, row in enumerate(plan.rows):
        if row.blocks or row.network:
            raise InputError(f"row {n} of plan {plan.name!r} leaves out blocks or calls another network; edits cannot")
        if isinstance(row.tau, Tensor) or not row.tau > 0:
            raise InputError(
                f"row {n} of plan {plan.name!r} has a level that is a tensor or 0; edits need numbers above 0"
            )
        if row.guidance is not None and row.guidance.remembers:
            raise InputError(f"{row.guidance.rule} remembers earlier rows, which edits are not made with")


def check_model(model: Model) -> None:
    """InputError for models that are no denoisers from noise to data."""
    if model.beginning is not None:
        raise InputError(f"{model.name} begins with images of its own call; edits need a model that begins with noise")
    if model.distilled is not None:
        raise InputError(f"{model.name} is distilled to few calls, and its outputs are samples: edits need a denoiser")


@dataclass(frozen=True)
class Task:
    """One micro-batch of images that are to be edited.

    images  (n, *shape) in the model's data range
    labels, source, avoid  (n,) what images become, what they are, and what they shall keep away from; None of models without
            classes, `avoid` also where none was given
    mask    (n, 1 or C, ..) 1 where an image may change, 0 where it stays; None for everywhere
    unit    unit(draw, shape) is unit noise (n, *shape) of each image, its own in any batch
    """

    model: Model
    plan: Plan
    images: Tensor
    labels: Tensor | None
    source: Tensor | None
    avoid: Tensor | None
    mask: Tensor | None
    unit: Unit

    @cached_property
    def steps(self) -> list[Step]:
        """The plan's rows with the numbers of the model."""
        return bind(self.model, self.plan)

    @cached_property
    def unguided(self) -> list[Step]:
        """Likewise without guidance."""
        return bind(self.model, replace(self.plan, rows=tuple(replace(row, guidance=None) for row in self.plan.rows)))

    @property
    def draws(self) -> Draws:
        """The noise of rows and of their guidance."""
        return Draws(
            lambda k: self.unit(Draw.ROW(k), self.model.shape), lambda k, size: self.unit(Draw.GUIDANCE(k), size)
        )

    @property
    def noise(self) -> Tensor:
        """Unit noise (n, *shape), a typical end of the way up."""
        return self.unit(Draw.START(), self.model.shape)

    @property
    def top(self) -> float:
        """The level of the plan's first row."""
        return float(self.plan.rows[0].tau)

    def noised(self, noise: Tensor, tau: float) -> Tensor:
        """The images at a level, (1 - tau) D + tau eps."""
        return (1 - tau) * self.images + tau * noise

    def seen(self, n: int, x: Tensor, labels: Tensor | None) -> Tensor:
        """u (n, *shape) of row n at states x, without guidance."""
        return output(self.unguided[n], x, labels)

    def guided(self, n: int, x: Tensor) -> Tensor:
        """u (n, *shape) of row n at states x, towards the labels, as the plan's rule guides."""
        return output(self.steps[n], x, self.labels, None, n, draws=self.draws)

    def up(self, velocity: Callable[[int, Tensor], Tensor] | None = None, control: Control | None = None) -> Tensor:
        """States (n, *shape) at the top level, by Euler's steps x' = x + (tau' - tau) u from the images on.

        velocity  u of a row and states; by default under the source's label without guidance
        """
        x = self.images
        for n, here, there in rising(self.plan):
            u = self.seen(n, x, self.source) if velocity is None else velocity(n, x)
            if control is not None:
                u = control(x, here, u)
            x = torch.add(x, u, alpha=there - here)
        return x

    def down(self, x: Tensor, change: Change | None = None) -> Tensor:
        """Images (n, *shape) from states x at the top level, by the plan; D of its rows may be changed.

        Under a mask what stays is put back after each row, with the noise that x has of it.
        """
        states: dict[int, Tensor] = {}
        outputs: dict[int, Tensor] = {}
        noise = self.noise_in(x)
        for n, (step, there) in enumerate(zip(self.steps, self.plan.levels[1:], strict=True)):
            u, tau = self.guided(n, x), float(step.row.tau)
            if change is not None:
                data = torch.add(x, u, alpha=-tau)
                u = (x - change(n, x, data)) / tau
            states[n], outputs[n] = x, u
            x = self.kept(advance(n, step, states, outputs, self.draws.row), noise, float(there))
            step.forget(states, outputs)
        return x

    def noise_in(self, x: Tensor) -> Tensor:
        """The noise of the images in states x at the top level: (x - (1 - tau) D) / tau."""
        return (x - (1 - self.top) * self.images) / self.top

    def kept(self, x: Tensor, noise: Tensor, tau: float) -> Tensor:
        """States x at a level, with the images under this noise where the mask is 0."""
        return x if self.mask is None else torch.lerp(self.noised(noise, tau), x, self.mask)
