"""Speculative sampling with several drafts: tokens of a cheap model, checked in parallel by a dear one, whose law they keep.

K tokens are drawn from the draft's law p, one of them is chosen by importance weights, draft k with probability
w(x_k) / sum_j w(x_j), which gives it the law p_I, and the choice y is accepted with probability min(1, q(y) / p_I(y)) or replaced
by a draw of (q - p_I)_+ over its sum. Whatever w, the token has the target's law q; it is a draft with probability
sum_y min(q, p_I), which by the duality of flows and cuts is at most

    min over sets S of    q(S) + 1 - p(S)^K,

for K = 2 the paper's closed form, which is 1 where q(S) >= p(S)^2 for all S. Sets of least q / p suffice. The weights that reach
it are fitted by w <- w q / p_I.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.noise import drawn

NODES = 128  # of the quadrature in log s
BEGINS, ENDS = -26.0, 4.5  # in log(s w) of the largest and of the smallest weight: what lies outside is below 1e-11
BOUND, ITERATIONS = 6.0, 40


def acceptance(target: Tensor, draft: Tensor, drafts: int) -> float:
    """The largest probability that one of K independent drafts is accepted, of laws q and p (V,): min_S q(S) + 1 - p(S)^K."""
    q, p = _law("target", target), _law("draft", draft)
    if q.shape != p.shape:
        raise InputError(f"target has {len(q)} tokens and draft {len(p)}; expected as many")
    whole("drafts", drafts)
    order = torch.argsort(torch.where(p > 0, q / p.clamp_min(1e-300), math.inf))
    zero = q.new_zeros(1)
    in_q, in_p = (torch.cat([zero, law[order].cumsum(0)]) for law in (q, p))
    return float((in_q + 1 - in_p.clamp_max(1.0) ** drafts).min())


def chosen_law(log_weights: Tensor, draft: Tensor, drafts: Tensor) -> Tensor:
    """p_I (n, V): the law of the draft chosen among K of law p (n, V), K = `drafts` (n,), by weights w (n, V).

    p_I(y) = K p(y) E[w_y / (w_y + sum of w over K - 1 drafts)] = K p(y) integral_0^inf w_y e^(-s w_y) phi(s)^(K-1) ds with
    phi(s) = sum_x p(x) e^(-s w_x), by the trapezoidal rule in log s, whose error falls exponentially.
    """
    low, high = BEGINS - log_weights.amax(1), ENDS - log_weights.amin(1)
    along = torch.linspace(0, 1, NODES, dtype=torch.float64)
    log_s = low[:, None] + (high - low)[:, None] * along  # (n, nodes)
    exponent = log_s[:, :, None] + log_weights[:, None, :]  # log of s w
    decay = torch.exp(-exponent.exp())
    phi = (decay * draft[:, None, :]).sum(2).clamp_min(1e-300)
    step = ((high - low) / (NODES - 1))[:, None]
    integral = (exponent.exp() * decay * (phi ** (drafts[:, None] - 1))[:, :, None]).sum(1) * step
    unscaled = drafts[:, None] * draft * integral
    return unscaled / unscaled.sum(1, keepdim=True)


def fitted_weights(target: Tensor, draft: Tensor, drafts: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Log-weights (n, V) in [-BOUND, BOUND] by `iterations` of w <- w q / p_I from w = 1, of laws (n, V) with `drafts` (n,) each.

    Where it rests p_I = q between the bounds, p_I <= q at the upper and p_I >= q at the lower: but for exp(-2 BOUND) the tokens of
    the latter are chosen only where no other token is among the drafts, which is the condition of the optimum. Whether it rests yet
    or not, the output's law is exact: weights cost acceptance alone.
    """
    log_weights = torch.zeros_like(draft)
    for _ in range(iterations):
        law = chosen_law(log_weights, draft, drafts)
        step = (target.clamp_min(1e-30) / law.clamp_min(1e-30)).log().clamp(-2, 2)
        log_weights = torch.where(draft > 0, log_weights + step, log_weights).clamp(-BOUND, BOUND)
    return log_weights


def choose(target: Tensor, draft: Tensor, tokens: Tensor, alive: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (n,) of the target's laws q (n, V), and whether each is one of the drafts, by importance weights.

    draft    p (n, V), the law of all drafts of a row
    tokens   (n, K) drafts, of which those that are `alive` (n, K), at least one a row, are taken
    uniform  (n, 3) independent numbers in [0, 1)
    """
    several = alive.sum(1) > 1  # of one draft the law is p, whatever the weights
    log_weights, law = torch.zeros_like(draft), draft.clone()
    if bool(several.any()):
        q, p, count = target[several], draft[several], alive[several].sum(1).double()
        log_weights[several] = fitted = fitted_weights(q, p, count)
        law[several] = chosen_law(fitted, p, count)
    each = log_weights.gather(1, tokens).masked_fill(~alive, -math.inf)
    k = drawn(torch.softmax(each, 1), uniform[:, 0])
    y = tokens.gather(1, k[:, None])[:, 0]
    accepted = uniform[:, 1] * _at(law, y) < _at(target, y)
    rest = (target - law).clamp_min(0)
    return torch.where(accepted, y, drawn(_normalised(rest, target), uniform[:, 2])), accepted


def recursive_rejection(
    target: Tensor, draft: Tensor, tokens: Tensor, alive: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """The same by one draft after the other, each accepted with min(1, q / p), and q <- (q - p)_+ over its sum after a rejection.

    Miao et al. 2023, SpecInfer, arXiv:2305.09781. uniform (n, K + 2): one for each draft, the last for the last resort.
    """
    q, y = target, tokens[:, 0].clone()
    accepted = torch.zeros(len(tokens), dtype=torch.bool)
    for k in range(tokens.shape[1]):
        tried = alive[:, k] & ~accepted
        hit = tried & (uniform[:, k] * _at(draft, tokens[:, k]) < _at(q, tokens[:, k]))
        y, accepted = torch.where(hit, tokens[:, k], y), accepted | hit
        q = torch.where((tried & ~hit)[:, None], _normalised((q - draft).clamp_min(0), q), q)
    return torch.where(accepted, y, drawn(q, uniform[:, -1])), accepted


def _normalised(rest: Tensor, otherwise: Tensor) -> Tensor:
    """Rows of sum 1; the other where nothing is left, so that nothing is ever drawn of it."""
    total = rest.sum(1, keepdim=True)
    return torch.where(total > 1e-15, rest / total.clamp_min(1e-300), otherwise)


def _at(law: Tensor, tokens: Tensor) -> Tensor:
    return law.gather(1, tokens[:, None])[:, 0]


def _law(name: str, law: Tensor) -> Tensor:
    law = law.double()
    if law.ndim != 1 or not bool((law >= 0).all()) or abs(float(law.sum()) - 1) > 1e-6:
        raise InputError(f"{name} has shape {tuple(law.shape)}; expected probabilities (V,) of sum 1")
    return law
