"""Times alone, fitted to where the reference solution ends from almost the same noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fewer.engine import begun, bind, play, times
from fewer.errors import ForeignError, InputError, first_line, out_of_memory
from fewer.evaluate.criterion import PAIRED
from fewer.levels import log_s, tau_of_log_s
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import find, part
from fewer.search.objective import Objective
from fewer.search.on_levels import free_levels, on_levels
from fewer.search.space import Space, Vector
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategy import Candidate, Strategy
from fewer.solvers import compile_plan, places
from fewer.solvers.trace import Level

BACKWARD = 2  # evaluations that a call's derivative is counted as, beside the call itself
_SHORTER = 4.0  # what a noise's step is divided by, where it did not lower the sample's error


@dataclass(frozen=True)
class Times(Space):
    """The levels of one solver's plans below a fixed start, and the levels whose times the network is conditioned on.

        log s_n = log s_{n-1} - exp(theta_n),      conditioning: log s_n + d_n,      |d_n| <= half the smaller gap beside it

    Without `shifted` the network is conditioned on the levels themselves.
    """

    shifted: bool = False

    @property
    def names(self) -> list[str]:
        """One name a number."""
        inner = range(1, self.calls)
        return [f"level {n}" for n in inner] + [f"level {n} conditioning" for n in inner if self.shifted]

    def vector(self, plan: Plan) -> Vector:
        """The vector of a plan whose solver is this space's."""
        logs = self._logs([float(row.tau) for row in plan.rows])
        gaps = [above - below for above, below in itertools.pairwise(logs)]
        network_logs = self._logs([float(self.model.schedule.tau(float(t))) for t in times(self.model, plan)])
        shifts = [t - s for t, s in zip(network_logs[1:], logs[1:], strict=True)] if self.shifted else []
        return np.array([*(math.log(gap) for gap in gaps), *shifts])

    def plan(self, theta: Vector, name: str = "learned-times") -> Plan:
        """The plan of a vector. Raises InputError where a number is not finite."""
        if not np.isfinite(theta).all():
            raise InputError("the search left the finite numbers")
        inner = self.calls - 1
        gaps = np.exp(theta[:inner].clip(-12, 3))
        top = self._logs([self.model.start])[0]
        logs = top - np.cumsum(gaps)
        shifts = theta[inner:] if self.shifted else np.zeros(inner)
        most = np.minimum(gaps, np.append(gaps[1:], math.inf)) / 2
        levels = places(self.model, [self.model.start, *tau_of_log_s(logs)])
        if self.shifted:
            taus = tau_of_log_s(logs + np.clip(shifts, -most, most))
            levels[1:] = [self._conditioned(level, float(tau)) for level, tau in zip(levels[1:], taus, strict=True)]
        solver = self.solver or "ddim"
        plan = compile_plan(find("solvers", solver).make(), levels, self.calls, f"{solver} {name}")
        return self.adopt(plan, Recipe(solver, strategy=name))

    def _conditioned(self, level: Level, tau: float) -> Level:
        """The level with the network time of tau."""
        return level if tau == level.tau else level._replace(t=float(self.model.schedule.time(tau)))

    def _logs(self, taus: list[float]) -> list[float]:
        """Log s, of pure noise that of the level as far from it as the cleanest is from 0."""
        return [float(log_s(min(tau, 1 - self.model.schedule.tau_min))) for tau in taus]


@part(
    "learned-times",
    title="Times alone, learnt from where the reference solution ends, with noises that may move a little",
    source="Tong et al. 2025, Learning to discretize denoising diffusion ODEs (LD3), arXiv:2405.15506",
)
@dataclass(frozen=True)
class LearnedTimes(Strategy):
    """The levels xi of a fixed solver that minimise the soft error of its samples Psi_xi to the reference solution Psi,

        mean over noises z of min |Psi_xi(z') - Psi(z)|^2 over z' with |z' - z| <= radius sqrt(d),

    since a few times cannot bring every noise exactly where the reference solution goes, and samples of noises so near are
    as good. `rounds` rounds: `steps` Gauss-Newton steps on the levels at the present z', then one step on every z'
    along its own gradient, of the length of the radius (shorter after each that did not help), back onto the ball and
    taken where it lowers that sample's error. From round `shifted` on the times that the network is conditioned on are free too.
    The plan whose error from the noises themselves is the lowest is chosen.

    The authors take stochastic gradients of both at once, and choose by noises put aside. Derivatives by the noises run
    back through the network, which must have them: each is counted as two evaluations beside the call's own.
    """

    name = "learned-times"
    columns = frozenset({"steps"})
    by_objective = True

    radius: float = 3e-3
    rounds: int = 4
    steps: int = 4
    shifted: int = 2

    @property
    def candidates(self) -> int:
        """One a Gauss-Newton step."""
        return self.rounds * (1 + self.steps)

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """One candidate a step on the levels. An interrupted search moves the noises again as it had done."""
        free_levels(space, self.name)
        if space.calls == 1:
            return
        solver = space.solver or "ddim"
        plan = on_levels(space, [float(row.tau) for row in space.base.rows], solver, self.name)
        descent = GaussNewton(starts=1, trial=1, few=len(objective), candidates=1 + self.steps)
        softened = Softened(objective, self.radius)
        for r in range(self.rounds):
            times = Times(space.model, (plan,), space.keep, solver, shifted=r >= self.shifted)
            steps = [replace(c, state=c.state["descent"]) for c in done if c.state["round"] == r]
            for step in descent.search(softened.objective, times, list(steps), seed):
                steps.append(step)
                state = {"round": r, "descent": step.state}
                yield Candidate(step.plan, objective.score(step.plan), self.name, state)
            plan = descent.choose(steps).plan
            if r + 1 < self.rounds:
                softened.move(plan)


class Softened:
    """An objective whose noises may move up to `radius` sqrt(d) from where they were; `objective` has them where they are."""

    def __init__(self, objective: Objective, radius: float) -> None:
        self.origin = objective.noise
        self.objective = replace(
            objective, noise=objective.noise.clone(), target=objective.target.clone(), criterion=PAIRED
        )
        self.radius = radius * math.sqrt(objective.noise[0].numel())
        self.lengths = torch.full((len(objective),), self.radius, dtype=torch.float32, device=objective.noise.device)

    def move(self, plan: Plan) -> None:
        """One step of every noise down its sample's error, where that lowers it."""
        if self.radius == 0:
            return
        soft = self.objective
        errors, gradient = soft_errors(soft, plan)
        norms = _norms(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)
        tried = soft.noise - _column(self.lengths / norms, gradient) * gradient
        away = tried - self.origin
        tried = self.origin + _column((self.radius / _norms(away)).clamp(max=1), away) * away
        after = replace(soft, noise=tried)
        lower = (after.squared_errors(plan) < errors).to(tried.device)
        soft.noise = torch.where(_column(lower, tried), tried, soft.noise)
        self.lengths = torch.where(lower, self.lengths, self.lengths / _SHORTER)


def soft_errors(objective: Objective, plan: Plan) -> tuple[Tensor, Tensor]:
    """Squared error of each sample (n,), float64 on the CPU, and its gradient by the sample's noise (n, *shape).

    Raises InputError for a network that has no derivatives.
    """
    steps = bind(objective.model, plan)
    errors, gradients = [], []
    for some in objective.parts():
        z = objective.noise[some].clone().requires_grad_()
        labels = None if objective.labels is None else objective.labels[some]
        try:
            x = play(
                objective.model, steps, begun(objective.model, plan, z, labels, partial(torch.zeros_like, z)), labels
            )
            error = (x - objective.target[some]).double().square().flatten(1).mean(1)
            (gradient,) = torch.autograd.grad(error.sum(), z)
        except (ForeignError, RuntimeError) as refusal:
            if out_of_memory(refusal):
                raise
            raise InputError(
                f"learned-times needs the derivatives of {objective.model.name} by the noise, and it has none: "
                f"{first_line(refusal)}"
            ) from refusal
        objective.counter.add((1 + BACKWARD) * plan.nfe * len(z))
        errors.append(error.detach().cpu())
        gradients.append(gradient)
    return torch.cat(errors), torch.cat(gradients)


def _norms(x: Tensor) -> Tensor:
    """Euclidean norm of each sample (n,)."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Values (n,) as (n, 1, ...), to go with samples (n, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))
