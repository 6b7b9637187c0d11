"""Mutual information of a condition and the samples made from it: what guidance or compression leaves of the condition.

High-dimensional samples are first compressed to a few principal components, then the information is estimated from
nearest neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.registry import part

Array = NDArray[np.float64]
SUBSETS = 8  # whose spread gives the interval


@part(
    "compressed-mutual-information",
    title="Mutual information of condition and sample, from their principal components",
    source="Butakov et al. 2023, arXiv:2305.08013; Kraskov et al. 2004, doi:10.1103/PhysRevE.69.066138; Ross 2014, "
    "doi:10.1371/journal.pone.0087357",
    papers=(90,),
    role="procedure",
)
def compressed_information(condition: Tensor, samples: Tensor, components: int = 4, k: int = 3) -> Interval:
    """I(condition; samples) in nats, with a 95 % interval.

    condition   (n,) int64: class labels; or (n, ...) real: vectors, such as a prompt's features or what a task measured
    samples     (n, ...) real, sample i made under condition i
    components  to which samples, and vectors as conditions, are compressed where they have more: the principal ones, each
                scaled to variance 1. Compressing loses information and never adds any: I(E(c); F(x)) <= I(c; x)
    k           neighbours

    With e_i the distance (greatest difference of a coordinate of either code) of pair i to its k-th nearest pair, psi the
    digamma function, and n_c, n_x the numbers of other codes of condition and sample nearer than e_i,

        I = mean_i [ psi(k) + psi(n) - psi(n_c + 1) - psi(n_x + 1) ]

    of vectors (Kraskov et al.). With labels, e_i is the distance to the k-th nearest sample of the same label, N_i that
    label's number and m_i that of all other samples within e_i,

        I = mean_i [ psi(k) + psi(n) - psi(N_i) - psi(m_i) ]

    (Ross). The interval is that of the estimate's mean at this n, from the spread of the estimates on 8 disjoint subsets
    (Student's). A bias is not in it: it is small up to 1 nat in 1 + 1 or 2 + 2 dimensions, and grows downwards with the
    information and the dimensions (by a fifth of 0.9 nats at 1,000 Gaussian pairs in 4 + 4). The value may be negative where
    there is no information: it is not cut off. Equal codes get a shift of about 1e-10 of their spread: of conditions that take
    few values, give labels. Measured coverage of the nominal 95 % over 100 repetitions of Gaussian pairs in up to 2 + 2
    dimensions and of two labels: 89 to 97 %.
    Raises InputError for lengths that differ, values not finite, components or k below 1, and fewer than 8 (k + 1) pairs, or
    samples of a label.
    """
    if condition.ndim == 0 or samples.ndim < 2 or len(condition) != len(samples):
        raise InputError(
            f"condition and samples must be of the same n, got {tuple(condition.shape)} and {tuple(samples.shape)}"
        )
    if components < 1 or k < 1 or len(samples) < SUBSETS * (k + 1):
        raise InputError(
            f"expected components >= 1, k >= 1 and at least {SUBSETS} (k + 1) samples, got {components}, {k} and {len(samples)}"
        )
    codes, order = compressed(samples, components, "samples"), np.random.default_rng(0).permutation(len(samples))
    if condition.ndim == 1 and not condition.is_floating_point():
        given: Array = condition.cpu().numpy()
        least = np.unique(given, return_counts=True)[1].min()
        if least < SUBSETS * (k + 1):
            raise InputError(f"a label has {least} samples; with {k} neighbours each needs {SUBSETS * (k + 1)}")
        order = order[np.argsort(given[order], kind="stable")]  # so that each subset has its share of every label
        estimate: Callable[[Array, Array, int], float] = _of_labels
    else:
        given = compressed(condition.reshape(len(codes), -1), components, "condition")
        estimate = _of_vectors
    subsets = [estimate(given[rows], codes[rows], k) for rows in (order[start::SUBSETS] for start in range(SUBSETS))]
    return replace(student(subsets, estimate(given, codes, k)), n=len(codes))


def compressed(x: Tensor, components: int, name: str = "x") -> Array:
    """The first principal components of rows x (n, ...), each of variance 1, (n, at most `components`).

    Directions in which the rows do not vary are left out. Raises InputError, which names x, where nothing varies.
    """
    x = x.detach().to("cpu", torch.float64).flatten(1)
    if not x.isfinite().all():
        raise InputError(f"{name} holds a value that is not finite")
    centred = x - x.mean(0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    kept = int((sizes[:components] > 1e-10 * sizes[:1].clamp_min(1e-300)).sum())
    if kept == 0:
        raise InputError(f"{name} must hold rows that differ")
    codes: Array = left[:, :kept].numpy() * math.sqrt(len(x) - 1)
    return codes + 1e-10 * np.random.default_rng(0).standard_normal(codes.shape)


def _of_vectors(c: Array, x: Array, k: int) -> float:
    """Kraskov's first estimator, of codes (n, .) and (n, .)."""
    joint = np.hstack([c, x])
    reach = np.nextafter(cKDTree(joint).query(joint, k + 1, p=np.inf)[0][:, k], 0)
    near = [cKDTree(z).query_ball_point(z, reach, p=np.inf, return_length=True) for z in (c, x)]  # with oneself
    return float(digamma(k) + digamma(len(x)) - np.mean(digamma(near[0]) + digamma(near[1])))


def _of_labels(labels: Array, x: Array, k: int) -> float:
    """Ross's estimator, of labels (n,) and codes (n, .)."""
    tree, total = cKDTree(x), 0.0
    for label in np.unique(labels):
        own = x[labels == label]
        reach = cKDTree(own).query(own, k + 1, p=np.inf)[0][:, k] * (1 + 1e-12)  # the k-th neighbour is counted
        near = tree.query_ball_point(own, reach, p=np.inf, return_length=True) - 1  # without oneself
        total += float((digamma(len(own)) + digamma(near)).sum())
    return float(digamma(k) + digamma(len(x))) - total / len(x)
