"""Entropic optimal transport between weighted samples, to a marginal error of 1e-9: Sinkhorn, then sparse Newton."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.statistics.twosample import two_samples
from fewer.registry import part

WARM = 20  # Sinkhorn iterations before Newton's
DENSITY = 0.1  # share of the plan's entries that the Hessian keeps
HALVINGS = 12  # of a Newton step
SLOPE = 1e-4  # least ascent relative to the gradient's (Armijo)
ROUNDING = 1e-12  # of the dual
DAMPING = 0.1  # of the Hessian's diagonal, relative to the marginal error
POOR = 0.1  # what a short step leaves of the error, above which the Hessian's density doubles
NEAR = 1.0  # a step so short, in units of eps: with the whole Hessian it would leave a small part of the error
DENSE = 0.25  # density from which products of the whole plan cost no more than sparse ones
FORCING = 1e-2  # of conjugate gradients: the residual relative to the gradient, and lower near the solution


@dataclass(frozen=True)
class EntropicPlan:
    """P_ij = exp((f_i + g_j - C_ij) / eps), and how it was found.

    value       sum P C, the plan's cost
    dual        a . f + b . g - eps (sum P - 1), at the solution the least of sum P C + eps sum P log P
    f, g        potentials (n,), (m,), float64, unique up to a constant that one gains and the other loses
    error       |P 1 - a|_1 + |P^T 1 - b|_1 as reached
    converged   whether error <= tol; else `most` iterations came first, or rounding let nothing better be found
    sinkhorn, newton, conjugate_gradient   iterations of each stage
    evaluations   times that all n m exponentials were taken: Sinkhorn takes two an iteration, a Newton step one a trial
    """

    value: float
    dual: float
    f: Tensor
    g: Tensor
    error: float
    converged: bool
    sinkhorn: int
    newton: int
    conjugate_gradient: int
    evaluations: int


@part(
    "sinkhorn-newton-sparse",
    title="Entropic transport by Sinkhorn, then sparse Newton iterations",
    source="Tang et al. 2024, arXiv:2401.12253",
    papers=(333,),
    role="procedure",
)
def sinkhorn_newton_sparse(
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    eps: float,
    tol: float = 1e-9,
    most: int = 1000,
    warm: int = WARM,
    density: float = DENSITY,
) -> EntropicPlan:
    """The entropic plan between weights a (n,), b (m,) under cost (n, m): Newton's method on the concave dual.

        max over f, g of  a . f + b . g - eps sum_ij P_ij,   P_ij = exp((f_i + g_j - C_ij) / eps)

    Its gradient is (a - P 1, b - P^T 1), its Hessian -(1 / eps) [[diag P 1, P], [P^T, diag P^T 1]]. After `warm` Sinkhorn
    iterations P is nearly sparse: of its off-diagonal blocks the largest `density` n m entries are kept, and the step
    is found by conjugate gradients, preconditioned by the diagonal, in products of that cost. The constant shift
    (1, -1), along which the dual is flat, is taken out of every step. Steps are halved until the dual rises (or, where
    its rise is below rounding, until the error falls); where none of 12 halvings does, `warm` more Sinkhorn iterations
    follow, then twice as many: they always ascend. Two things are added to the paper. The Hessian's diagonal is raised
    by the share error / 10 (Levenberg 1944), without which steps are wild where a small eps makes P fall apart into
    blocks. And `density` doubles after a short step that leaves more than a tenth of the error, since what the
    sparsification drops then decides the rate.

    eps    in the cost's unit. The smaller, the nearer to unregularised transport and the harder: below 0.3 % of the mean
           cost, equal weights on as many points each (an assignment) may not reach 1e-9 in 1000 iterations
    tol    the marginal error in L1 at which it stops, above about 1e-14 sqrt(n m) max|C| / eps (rounding)
    most   Sinkhorn and Newton iterations in all
    Float64, on the CPU. Raises InputError for shapes that do not fit, values that are not finite, weights that are not
    positive or do not sum to one (within 1e-6; then they are divided by their sum), eps or tol not above 0, most below 1,
    warm below 0, density out of (0, 1].
    Source: Tang et al. 2024; Brauer et al. 2017 (Newton's method on this dual).
    """
    dual = Dual(cost, a, b, eps, tol, most)
    if warm < 0:
        raise InputError(f"warm must be at least 0, got {warm}")
    if not 0 < density <= 1:
        raise InputError(f"density must be above 0 and at most 1, got {density}")
    dual.density = density
    return newton_from(dual, warm)


def newton_from(dual: Dual, warm: int) -> EntropicPlan:
    """`warm` Sinkhorn iterations, then Newton's until the tolerance or `most`."""
    dual.scale_up_to(min(warm, dual.most))
    more = max(warm, 1)
    while dual.error > dual.tol and dual.scalings + dual.steps < dual.most:
        if not dual.newton():
            dual.scale_up_to(min(dual.scalings + more, dual.most - dual.steps))
            more *= 2
    return dual.result()


def sinkhorn(cost: Tensor, a: Tensor, b: Tensor, eps: float, tol: float = 1e-9, most: int = 100_000) -> EntropicPlan:
    """The same plan by Sinkhorn's iteration alone, in logarithms; arguments and errors as above.

        f = eps (log a - logsumexp_j ((g - C) / eps)),   g = eps (log b - logsumexp_i ((f - C) / eps))

    Source: Sinkhorn & Knopp 1967; Cuturi 2013.
    """
    dual = Dual(cost, a, b, eps, tol, most)
    dual.scale_up_to(most)
    return dual.result()


def sinkhorn_divergence(x: Tensor, y: Tensor, eps: float, tol: float = 1e-9) -> float:
    """OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2 of samples x (n, d), y (m, d), OT the entropic cost of |x - y|^2.

        OT = min over plans of sum P C + eps KL(P | a b^T) = a . f + b . g + eps (H(a) + H(b)),   H(a) = -a . log a

    0 for equal samples, else above 0; in the features' unit squared, as eps is. It has no interval: it is the plug-in
    value, whose bias of order 1 / n (the samples' noise) is left in. Between distributions that must be distinguished use a
    distance with an interval, such as `sliced_w2`. Raises InputError below 2 samples, for values not finite, eps or tol
    not above 0, and where 1000 iterations do not reach tol.
    Source: Genevay et al. 2018, Feydy et al. 2019 (debiasing).
    """
    x, y = two_samples(x, y, least=2)
    origin = y.mean(0)
    xy, xx, yy = (_relative_cost(u - origin, v - origin, eps, tol) for u, v in ((x, y), (x, x), (y, y)))
    return xy - xx / 2 - yy / 2


def _relative_cost(x: Tensor, y: Tensor, eps: float, tol: float) -> float:
    """sum P C + eps KL(P | a b^T) of equal weights, at the solution: the dual, and the entropies log n and log m."""
    n, m = len(x), len(y)
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    plan = sinkhorn_newton_sparse(cost, x.new_full((n,), 1 / n), x.new_full((m,), 1 / m), eps, tol)
    if not plan.converged:
        raise InputError(f"eps = {eps} is too small for tol = {tol}: the marginal error reached is {plan.error:.2g}")
    return float(plan.dual + eps * (math.log(n) + math.log(m)))


class Dual:
    """The dual, its potentials in units of eps, the plan at them, and the iterations so far."""

    def __init__(self, cost: Tensor, a: Tensor, b: Tensor, eps: float, tol: float, most: int) -> None:
        if not 0 < eps < math.inf or not 0 < tol < math.inf:
            raise InputError(f"eps and tol must be finite and above 0, got {eps} and {tol}")
        if most < 1:
            raise InputError(f"most must be at least 1, got {most}")
        if cost.ndim != 2 or a.shape != cost.shape[:1] or b.shape != cost.shape[1:] or not cost.numel():
            raise InputError(
                f"cost, a, b must be (n, m), (n,), (m,), got {tuple(cost.shape)}, {tuple(a.shape)}, {tuple(b.shape)}"
            )
        self.cost = cost.detach().to("cpu", torch.float64) / eps
        if not self.cost.isfinite().all():
            raise InputError("cost / eps holds a value that is not finite")
        self.a, self.b = _weights(a, "a"), _weights(b, "b")
        self.eps, self.tol, self.most, self.error, self.density = eps, tol, most, math.inf, DENSITY
        self.f, self.g = torch.zeros_like(self.a), torch.zeros_like(self.b)
        self.plan = torch.empty(0)
        self.scalings = self.steps = self.inner = self.evaluations = 0

    def scale(self) -> None:
        """One Sinkhorn iteration. `error` becomes that of the rows before it, which it does not raise."""
        f = self.a.log() - (self.g - self.cost).logsumexp(1)
        if self.scalings:  # the columns fit already; before the first they do not
            self.error = float((self.a * (self.f - f).expm1()).abs().sum())
        self.f = f
        self.g = self.b.log() - (f[:, None] - self.cost).logsumexp(0)
        self.scalings += 1
        self.evaluations += 2

    def scale_up_to(self, scalings: int) -> None:
        """Sinkhorn iterations until there were so many, or the error is met; then the plan and its error."""
        while self.scalings < scalings and self.error > self.tol:
            self.scale()
        self.plan, self.error, _ = self._at(self.f, self.g)

    def block(self) -> csr_array | NDArray[np.float64]:
        """The largest `density` n m entries of the plan and no others, or the whole plan from a density of `DENSE` on."""
        entries = self.plan.numpy()
        if self.density >= DENSE:
            return entries
        kept = max(1, math.ceil(self.density * entries.size))
        least = np.partition(entries.ravel(), entries.size - kept)[entries.size - kept]
        return csr_array(np.where(entries >= least, entries, 0.0))

    def newton(self) -> bool:
        """One Newton step with line search; False where no step along its direction ascends."""
        n, rows, columns = len(self.a), self.plan.sum(1), self.plan.sum(0)
        gradient = torch.cat([self.a - rows, self.b - columns])
        step, inner = _solve(self.block(), rows, columns, gradient, min(FORCING, self.error), DAMPING * self.error)
        self.inner += inner
        slope, before = float(gradient @ step), self._value(self.f, self.g, self.plan)
        unseen = slope < ROUNDING * (1 + abs(before))  # the dual's rise is lost in its rounding
        for t in 0.5 ** np.arange(HALVINGS):
            f, g = self.f + t * step[:n], self.g + t * step[n:]
            plan, error, value = self._at(f, g)
            if error < self.error if unseen else value >= before + SLOPE * t * slope:
                if error > POOR * self.error and t * step.abs().max() < NEAR:
                    self.density = min(2 * self.density, 1.0)
                self.f, self.g, self.plan, self.error = f, g, plan, error
                self.steps += 1
                return True
        return False

    def _at(self, f: Tensor, g: Tensor) -> tuple[Tensor, float, float]:
        """The plan at f and g, both marginals' error, and the dual."""
        plan = (f[:, None] + g - self.cost).exp()
        self.evaluations += 1
        error = float((plan.sum(1) - self.a).abs().sum() + (plan.sum(0) - self.b).abs().sum())
        value = self._value(f, g, plan)
        return (plan, error, value) if math.isfinite(error) else (plan, math.inf, -math.inf)

    def _value(self, f: Tensor, g: Tensor, plan: Tensor) -> float:
        return float(self.a @ f + self.b @ g - (plan.sum() - 1))

    def result(self) -> EntropicPlan:
        """In the cost's unit."""
        return EntropicPlan(
            value=float((self.plan * self.cost).sum()) * self.eps,
            dual=self._value(self.f, self.g, self.plan) * self.eps,
            f=self.f * self.eps,
            g=self.g * self.eps,
            error=self.error,
            converged=self.error <= self.tol,
            sinkhorn=self.scalings,
            newton=self.steps,
            conjugate_gradient=self.inner,
            evaluations=self.evaluations,
        )


def _weights(w: Tensor, name: str) -> Tensor:
    w = w.detach().to("cpu", torch.float64)
    total = float(w.sum())
    if not (w > 0).all() or not abs(total - 1) <= 1e-6:
        raise InputError(f"{name} must hold positive weights that sum to 1, got a least of {w.min()} and sum {total}")
    return w / total


def _solve(
    sparse: csr_array, rows: Tensor, columns: Tensor, gradient: Tensor, forcing: float, damping: float
) -> tuple[Tensor, int]:
    """s of [[D rows, P], [P^T, D columns]] s = gradient, D = (1 + damping) diag, and the iterations to `forcing`.

    Conjugate gradients preconditioned by the diagonal, to a residual of `forcing` times the gradient, which has no part
    along the shift (1, -1); what the sparsification and rounding bring into s along it is taken out.
    """
    n, back = len(rows), sparse.T
    diagonal = (1 + damping) * torch.cat([rows, columns]).numpy()
    residual = gradient.numpy().copy()
    s, least = np.zeros_like(residual), forcing * float(np.linalg.norm(residual))
    direction, before, iterations = np.zeros_like(residual), math.inf, 0
    while iterations < len(residual) and np.linalg.norm(residual) > least:
        scaled = residual / diagonal
        now = float(residual @ scaled)
        direction = scaled + now / before * direction
        product = diagonal * direction + np.concatenate([sparse @ direction[n:], back @ direction[:n]])
        curvature = float(direction @ product)
        iterations += 1
        if curvature <= 0:  # only rounding is left
            break
        s += now / curvature * direction
        residual -= now / curvature * product
        before = now
    shift = (s[:n].sum() - s[n:].sum()) / len(s)
    s[:n] -= shift
    s[n:] += shift
    return torch.from_numpy(s), iterations
