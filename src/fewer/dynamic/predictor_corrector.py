"""Predictor-corrector sampling: a plan's rows lead from level to level, and Markov steps mend the law at each level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.dynamic import Corrector, Law, score_of
from fewer.engine import MICRO_BATCH, Step, advance, begun, bind, output
from fewer.errors import InputError, NotFinite, whole
from fewer.memory import halving
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.noise import Draw, DrawNumber, unit_noise
from fewer.plan import Plan
from fewer.registry import part

Density = Callable[[Tensor, float, Tensor | None], Tensor]


@dataclass(frozen=True)
class Corrected:
    """Samples x (n, *shape), the share of steps that was taken at each corrected level, and network evaluations a sample."""

    x: Tensor
    accepted: tuple[float, ...]
    evaluations: int


@part(
    "predictor-corrector",
    title="Predictor-corrector sampling: Markov steps at every level that a plan passes",
    source="Song et al. 2021, Score-Based Generative Modeling through SDEs (algorithm 1), arXiv:2011.13456",
)
@dataclass(frozen=True)
class PredictorCorrector:
    """After each row of the plan, `steps` steps of the corrector at the level that the row leads to.

    plan       each of whose rows names its own state and output alone (ddim, ancestral, ..): a corrector moves the state off
               the past of others
    corrector  any of the role, such as `Langevin`, `Mala`
    steps      a level, at least 0
    within     (low, high): levels tau that are corrected; never the start, nor level 0, which has no density
    density    (x, tau, labels) -> log p (n,) for correctors that know the law's density; by default that of an exact mixture

    A level costs `steps` calls of its row's passes: the score at its last state is the row's own where the corrector knows it,
    else the row calls once more and the first score is the row's. So all is plan.nfe + levels x steps x passes. Samples of a
    seed are the same in any batch. Raises InputError for other plans, rules of guidance that remember, and numbers out of range.
    """

    plan: Plan
    corrector: Corrector
    steps: int = 1
    within: tuple[float, float] = (0.0, 1.0)
    density: Density | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps, 0)
        low, high = self.within
        if not 0 <= low < high <= 1:
            raise InputError(f"within is {self.within}; expected levels 0 <= low < high <= 1")
        for n, row in enumerate(self.plan.rows):
            if set(row.b) - {n} or set(row.a or {n}) - {n} or isinstance(row.tau, Tensor):
                raise InputError(
                    f"plan {self.plan.name!r}: row {n} names more than its own state; take ddim, ancestral, .."
                )
            if row.guidance is not None and row.guidance.remembers:
                raise InputError(f"plan {self.plan.name!r}: the guidance of row {n} remembers earlier rows")

    @property
    def corrected(self) -> tuple[int, ...]:
        """Numbers of the rows whose state is corrected before they are played."""
        low, high = self.within
        rows = enumerate(self.plan.rows)
        return tuple(
            n for n, row in rows if n and low <= float(row.tau) <= high and 0 < float(row.tau) < 1 and self.steps
        )

    @property
    def evaluations(self) -> int:
        """Network evaluations of a sample."""
        own = sum(self.plan.rows[n].passes for n in self.corrected)
        return self.plan.nfe + own * self.steps * self.corrector.calls

    @in_own_precision
    def sample(
        self, model: Model, n: int = 64, *, seed: int = 0, noise: Tensor | None = None, labels: Any = None,
        batch: int = MICRO_BATCH,
    ) -> Corrected:  # fmt: skip
        """Samples as `fewer.sample` draws them from these arguments, which they are where nothing is corrected.

        Raises InputError for labels and plans that do not fit the model, and where the model returns NaN.
        """
        n = n if noise is None else len(noise)
        self.plan.check(tuple(model.shape))
        steps, y = bind(model, self.plan), model.labels(n, labels)

        def some(part: range) -> tuple[Tensor, Tensor]:
            run = _Run(self, model, steps, None if y is None else y[part.start : part.stop], seed, part)
            z = (
                run.unit(Draw.START())
                if noise is None
                else noise[part.start : part.stop].to(model.device, torch.float32)
            )
            return run.play(begun(model, self.plan, z, run.labels, lambda: run.unit(Draw.START_NOISE())))

        with torch.inference_mode():
            done = [found for _, found in halving(n, batch, some)]
        x, accepted = (torch.cat(each, dim) for each, dim in zip(zip(*done, strict=True), (0, 1), strict=True))
        if not bool(x.isfinite().all()):
            raise NotFinite(
                f"{model.name} returned values that are not finite under plan {self.plan.name!r}, corrected"
            )
        return Corrected(x, tuple(accepted.double().mean(1).tolist()), self.evaluations)


@dataclass(frozen=True)
class _Run:
    """One micro-batch: samples of these numbers with their labels."""

    of: PredictorCorrector
    model: Model
    steps: list[Step]
    labels: Tensor | None
    seed: int
    numbers: range

    def unit(self, draw: DrawNumber, shape: tuple[int, ...] | None = None) -> Tensor:
        """Unit noise (n, *shape)."""
        return unit_noise(
            self.seed, self.numbers, self.model.shape if shape is None else shape, draw, self.model.device
        )

    def play(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (n, *shape) from the starting state, and the share of taken steps (levels, n)."""
        shares: list[Tensor] = []
        for n, step in enumerate(self.steps):
            u = output(step, x, self.labels, number=n)
            if n in self.of.corrected:
                x, u, share = self.correct(n, x, u)
                shares.append(share)
            x = advance(n, step, {n: x}, {n: u}, lambda k: self.unit(Draw.ROW(k)))
        return x, torch.stack(shares) if shares else torch.zeros(0, len(x))

    def correct(self, n: int, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The state and its output after the steps at row n's level, and the share of steps (n,) that each took."""
        law, taken = self.law(n), torch.zeros(len(x), device=x.device)
        tau, score = law.tau, score_of(x, u, law.tau)
        known: Tensor | None = score
        for k in range(self.of.steps):
            number = n * self.of.steps + k
            here = law.score(x) if known is None else known
            log_u = torch.special.log_ndtr(self.unit(Draw.CHANCE(number), ()).double())
            moved = self.of.corrector.move(law, x, here, self.unit(Draw.MOVE(number)), log_u)
            x, known, taken = moved.x, moved.score, taken + moved.accepted.to(taken)
        score = law.score(x) if known is None else known
        return x, -(x + tau * score) / (1 - tau), taken / self.of.steps

    def law(self, n: int) -> Law:
        """The law at row n's level, by its network and guidance."""
        step, tau = self.steps[n], float(self.steps[n].row.tau)
        density = self.of.density
        if density is None and self.model.exact is not None and step.row.guidance is None:
            density = self.model.exact.log_prob

        def score(x: Tensor) -> Tensor:
            return score_of(x, output(step, x, self.labels, number=n), tau)

        return Law(tau, score, None if density is None else lambda x: density(x, tau, self.labels))
