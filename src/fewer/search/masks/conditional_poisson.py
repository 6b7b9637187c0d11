"""Conditional Poisson sampling, and the stochastic beam of it (Meister, Amini, Vieira & Cotterell 2021, arXiv:2109.11034).

Of N candidates with weights w_i a set of exactly K is drawn, without replacement, with probability

    P(S) = prod_{i in S} w_i / e_K(w)        e_k: the elementary symmetric polynomials, by
    e_k(w_1 .. w_i) = e_k(w_1 .. w_{i-1}) + w_i e_{k-1}(w_1 .. w_{i-1})

in O(N K). Candidate i is in S with probability pi_i = w_i e_{K-1}(w without i) / e_K(w), so that the sum of f_i / pi_i over S is
unbiased for that of all f_i (Horvitz & Thompson 1952). All is computed in logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_expit

from fewer.search.masks.choices import Array, Choices, Mask


def log_symmetric(log_w: Array, k: int) -> Array:
    """log e_j of the first i weights (N + 1, k + 1), of logarithms (N,)."""
    table = np.full((len(log_w) + 1, k + 1), -np.inf)
    table[:, 0] = 0.0
    for i, w in enumerate(log_w):
        table[i + 1, 1:] = np.logaddexp(table[i, 1:], w + table[i, :-1])
    return table


def log_inclusion(log_w: Array, k: int) -> Array:
    """log pi_i (N,) of sets of k."""
    if k >= len(log_w):
        return np.zeros(len(log_w))
    before, after = log_symmetric(log_w, k), log_symmetric(log_w[::-1], k)[::-1]
    rest = before[:-1, :k] + after[1:, k - 1 :: -1]  # j of those before i and k - 1 - j of those after
    pi: Array = log_w + np.logaddexp.reduce(rest, 1) - before[-1, k]
    return pi


def drawn_set(log_w: Array, k: int, rng: np.random.Generator) -> list[int]:
    """A set of k of the candidates, rising; all where there are no more."""
    if k >= len(log_w):
        return list(range(len(log_w)))
    table, chosen = log_symmetric(log_w, k), []
    for i in range(len(log_w) - 1, -1, -1):
        if k and np.log(rng.random()) < log_w[i] + table[i, k - 1] - table[i + 1, k]:
            chosen.append(i)
            k -= 1
    return chosen[::-1]


@dataclass(frozen=True)
class Beam:
    """Masks (m, n), log p of each (m,), and the logarithm of the product of its steps' inclusion probabilities (m,)."""

    masks: Mask
    log_p: Array
    log_pi: Array

    @property
    def weights(self) -> Array:
        """p / pi: sum_k weights_k f(m_k) is unbiased for the sum of p(m) f(m) over all masks that fit."""
        weights: Array = np.exp(self.log_p - self.log_pi)
        return weights


def stochastic_beam(logits: Array, choices: Choices, k: int, rng: np.random.Generator) -> Beam:
    """At most k different masks of independent bits with these logits, decided one by one.

    Each step extends every mask by both values of the next bit, what does not fit left out, and keeps a conditional Poisson sample
    of k weighted by p so far. By the tower rule, weights of products of the steps' inclusion probabilities are unbiased.
    """
    beam = Beam(np.zeros((1, len(choices)), dtype=np.bool_), np.zeros(1), np.zeros(1))
    for i, logit in enumerate(logits):
        on = beam.masks.copy()
        on[:, i] = True
        fit = np.array([choices.fits(mask) for mask in on], dtype=np.bool_)
        masks = np.concatenate([beam.masks, on[fit]])
        log_p = np.concatenate([beam.log_p + log_expit(-logit), beam.log_p[fit] + log_expit(logit)])
        log_pi = np.concatenate([beam.log_pi, beam.log_pi[fit]])
        kept = drawn_set(log_p, k, rng)
        beam = Beam(masks[kept], log_p[kept], (log_pi + log_inclusion(log_p, k))[kept])
    return beam
