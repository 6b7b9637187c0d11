"""Choosing among classifiers for guidance without labels, by the mutual information of their answers with the images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.registry import part


@part(
    "mutual-information",
    room="guidance",
    title="Classifiers chosen without labels, by mutual information, calibrated by marginalisation",
    source="Yang et al. 2023, Improving Probability-based Prompt Selection Through Unified Evaluation and "
    "Analysis, arXiv:2305.14877",
    papers=(378,),
    role="procedure",
)
def choose_classifier(probabilities: Sequence[Tensor], calibrate: bool = True) -> int:
    """The number of the classifier with the largest mutual information between image and answer,

        MI = H(mean_x p(y | x)) - mean_x H(p(y | x)),    H(p) = -sum_y p_y log p_y

    of `probabilities` (n, K), one tensor of the same n unlabelled images a classifier. With `calibrate` they are first
    divided by their mean over the images (`marginalised`), which takes a leaning to some classes out of them.

    A classifier that is sure and wrong has as much of it as one that is sure and right: it ranks classifiers that are
    about as well calibrated. Raises InputError for no classifiers, other shapes, and rows that are no probabilities.
    """
    if not probabilities:
        raise InputError("probabilities are of no classifier; expected at least one")
    shape = tuple(probabilities[0].shape)
    information = []
    for number, p in enumerate(probabilities):
        if tuple(p.shape) != shape or p.ndim != 2 or not len(p):
            raise InputError(
                f"probabilities of classifier {number} have shape {tuple(p.shape)}; expected one (n, K) of all"
            )
        if not bool((p >= 0).all()) or not torch.allclose(p.sum(1).double(), torch.ones(len(p)).double(), atol=1e-3):
            raise InputError(f"probabilities of classifier {number} hold a row that is not one of probabilities")
        information.append(float(mutual_information(marginalised(p) if calibrate else p)))
    return max(range(len(information)), key=information.__getitem__)


def mutual_information(p: Tensor) -> Tensor:
    """MI in nats, in [0, log K], of probabilities (n, K)."""
    p = p.double()
    return _entropy(p.mean(0)) - _entropy(p).mean()


def marginalised(p: Tensor) -> Tensor:
    """p'(y | x) ~ p(y | x) / mean_x p(y | x), rows of sum 1; a class that is never given stays so."""
    p = p.double()
    divided = p / p.mean(0).clamp_min(1e-300)
    return divided / divided.sum(1, keepdim=True)


def _entropy(p: Tensor) -> Tensor:
    return -torch.xlogy(p, p).sum(-1)
