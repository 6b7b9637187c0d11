"""Times alone, fitted to where the fine solution ends from almost the same noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fewer.engine import begin, bind, play
from fewer.errors import InputError
from fewer.memory import out_of_memory
from fewer.models.schedules import log_s
from fewer.parts import find, part
from fewer.plan import Plan
from fewer.solvers import compile_plan, places
from fewer.tuning.gauss_newton import GaussNewton
from fewer.tuning.on_levels import best, free_levels, on_levels
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space, Vector
from fewer.tuning.study import Candidate

BACKWARD = 2  # evaluations that a call's derivative is counted as, beside the call itself
_SHORTER = 4.0  # what a noise's step is divided by, where it did not lower the sample's error


@dataclass(frozen=True)
class Times(Space):
    """The levels of one solver's plans below a fixed start, and the levels that the network is told instead.

        log s_n = log s_{n-1} - exp(theta_n),      told: log s_n + d_n,      |d_n| <= half the smaller gap beside it

    With `told` False the network is told the levels themselves.
    """

    told: bool = False

    @property
    def names(self) -> list[str]:
        """One name a number."""
        inner = range(1, self.calls)
        return [f"level {n}" for n in inner] + [f"level {n} told" for n in inner if self.told]

    def vector(self, plan: Plan) -> Vector:
        """The vector of a plan whose solver is this space's."""
        logs = self._logs([float(row.tau) for row in plan.rows])
        gaps = [above - below for above, below in itertools.pairwise(logs)]
        told = self._logs([float(self.model.schedule.tau(float(row.t))) for row in plan.rows])
        shifts = [t - s for t, s in zip(told[1:], logs[1:], strict=True)] if self.told else []
        return np.array([*(math.log(gap) for gap in gaps), *shifts])

    def plan(self, theta: Vector, name: str = "learned-times") -> Plan:
        """The plan of a vector. Raises InputError where a number is not finite."""
        if not np.isfinite(theta).all():
            raise InputError("the search left the finite numbers")
        inner = self.calls - 1
        gaps = np.exp(theta[:inner].clip(-12, 3))
        top = self._logs([self.model.start])[0]
        logs = top - np.cumsum(gaps)
        shifts = theta[inner:] if self.told else np.zeros(inner)
        most = np.minimum(gaps, np.append(gaps[1:], math.inf)) / 2
        levels = 1 / (1 + np.exp(-logs))
        told = places(self.model, 1 / (1 + np.exp(-(logs + np.clip(shifts, -most, most)))))
        start = places(self.model, [self.model.start])
        spots = start + [seen._replace(tau=float(tau)) for tau, seen in zip(levels, told, strict=True)]
        solver = self.solver or "ddim"
        plan = compile_plan(find("solvers", solver).make(), spots, self.calls, f"{solver} {name}")
        rows = [replace(row, guidance=own.guidance) for row, own in zip(plan.rows, self.base.rows, strict=True)]
        return replace(plan, rows=tuple(rows), model=self.made_for)

    def _logs(self, taus: list[float]) -> list[float]:
        """Log s, of pure noise that of the level as far from it as the cleanest is from 0."""
        return [float(log_s(min(tau, 1 - self.model.schedule.tau_min))) for tau in taus]


@part(
    "learned-times",
    title="Times alone, learnt from where the fine solution ends, with noises that may move a little",
    source="Tong et al. 2025, Learning to discretize denoising diffusion ODEs (LD3)",
)
@dataclass(frozen=True)
class LearnedTimes:
    """The levels xi of a fixed solver that minimise the soft error of its samples Psi_xi to the fine solution Psi,

        mean over noises z of min |Psi_xi(z') - Psi(z)|^2 over z' with |z' - z| <= radius sqrt(d),

    since a few times cannot bring every noise exactly where the fine solution goes, and samples of noises so near are
    as good. `rounds` rounds: `steps` Gauss-Newton steps on the levels at the present z', then one step on every z'
    along its own gradient, of the length of the radius (shorter after each that did not help), back onto the ball and
    taken where it lowers that sample's error. From round `told` on the levels that the network is told are free too.
    The plan whose error from the noises themselves is the lowest is chosen.

    The authors take stochastic gradients of both at once, and choose by noises put aside. Derivatives by the noises run
    back through the network, which must have them: each is counted as two evaluations beside the call's own.
    """

    radius: float = 3e-3
    rounds: int = 4
    steps: int = 4
    told: int = 2

    @property
    def candidates(self) -> int:
        """One a Gauss-Newton step."""
        return self.rounds * (1 + self.steps)

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """One candidate a step on the levels. An interrupted search moves the noises again as it had done."""
        free_levels(space, "learned-times")
        if space.calls == 1:
            return
        solver = space.solver or "ddim"
        plan = on_levels(space, [float(row.tau) for row in space.base.rows], solver, "learned-times")
        descent = GaussNewton(starts=1, trial=1, few=len(problem), candidates=1 + self.steps)
        softened = Softened(problem, self.radius)
        for r in range(self.rounds):
            times = Times(space.model, (plan,), space.keep, solver, told=r >= self.told)
            found = [replace(c, state=c.state["descent"]) for c in done if c.state["round"] == r]
            for step in descent.search(softened.problem, times, list(found), seed):
                softened.count(problem)
                found.append(step)
                state = {"round": r, "descent": step.state}
                yield Candidate(step.plan, problem.rmse(step.plan), "learned-times", state)
            plan = descent.choose(found).plan
            if r + 1 < self.rounds:
                softened.move(plan)
                softened.count(problem)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best from the noises themselves."""
        return best(done)


class Softened:
    """A problem whose noises may move up to `radius` sqrt(d) from where they were; `problem` has them where they are."""

    def __init__(self, problem: Problem, radius: float) -> None:
        self.origin = problem.noise
        self.problem = replace(problem, noise=problem.noise.clone(), target=problem.target.clone(), evaluations=0)
        self.radius = radius * math.sqrt(problem.noise[0].numel())
        self.lengths = torch.full((len(problem),), self.radius, device=problem.noise.device)

    def count(self, problem: Problem) -> None:
        """Hand the evaluations that were spent here over to another problem."""
        problem.evaluations += self.problem.evaluations
        self.problem.evaluations = 0

    def move(self, plan: Plan) -> None:
        """One step of every noise down its sample's error, where that lowers it."""
        if self.radius == 0:
            return
        soft = self.problem
        errors, gradient = soft_errors(soft, plan)
        norms = _norms(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)
        tried = soft.noise - _column(self.lengths / norms, gradient) * gradient
        away = tried - self.origin
        tried = self.origin + _column((self.radius / _norms(away)).clamp(max=1), away) * away
        after = replace(soft, noise=tried, evaluations=0)
        lower = (after.squared_errors(plan) < errors).to(tried.device)
        soft.evaluations += after.evaluations
        soft.noise = torch.where(_column(lower, tried), tried, soft.noise)
        self.lengths = torch.where(lower, self.lengths, self.lengths / _SHORTER)


def soft_errors(problem: Problem, plan: Plan) -> tuple[Tensor, Tensor]:
    """Squared error of each sample (n,), float64 on the CPU, and its gradient by the sample's noise (n, *shape).

    Raises InputError for a network that has no derivatives.
    """
    steps = bind(problem.model, plan)
    errors, gradients = [], []
    for some in problem.parts():
        z = problem.noise[some].clone().requires_grad_()
        labels = None if problem.labels is None else problem.labels[some]
        try:
            x = play(problem.model, steps, begin(plan, z, partial(torch.zeros_like, z)), labels)
            error = (x - problem.target[some]).double().square().flatten(1).mean(1)
            (gradient,) = torch.autograd.grad(error.sum(), z)
        except RuntimeError as refusal:
            if out_of_memory(refusal):
                raise
            raise InputError(
                f"learned-times needs the derivatives of {problem.model.name} by the noise, and it has none: "
                f"{str(refusal).splitlines()[0]}"
            ) from refusal
        problem.evaluations += (1 + BACKWARD) * plan.nfe * len(z)
        errors.append(error.detach().cpu())
        gradients.append(gradient)
    return torch.cat(errors), torch.cat(gradients)


def _norms(x: Tensor) -> Tensor:
    """Euclidean norm of each sample (n,)."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Values (n,) as (n, 1, ...), to go with samples (n, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))
