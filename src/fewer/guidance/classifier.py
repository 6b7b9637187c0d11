"""Classifier guidance: the gradient of a classifier's log-probability added to the score."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.guidance.cfg import OnGuided
from fewer.guidance.passes import Passes
from fewer.registry import part
from fewer.settings import finite


@dataclass(frozen=True)
class Classifying(OnGuided):
    """score' = score + scale g, that is eps' = eps - scale tau g and u' = u - scale tau / (1 - tau) g.

    scale  of the classifier; `cfg` is that of classifier-free guidance which makes u: 0 the unconditional pass, 1 the
           conditional one, each alone

    Network evaluations are those of `cfg`; calls of `Model.classifier`, one forward and one backward pass a row, are not
    counted. At tau = 1 g is 0, whatever g / (1 - tau) tends to, and u stays. A network without classes is given the
    classifier's by replace(model, classes=K, empty_label=K, classifier=..). Raises InputError for models without a
    classifier or labels.
    """

    scale: float
    cfg: float = 0.0

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        check_classifier(self.rule, passes)
        u = self.guided(passes)
        tau = float(passes.tau)
        if tau == 1:
            return u
        return u - self.scale * tau / (1 - tau) * self.gradient(passes, u).to(u)

    @abstractmethod
    def gradient(self, passes: Passes, u: Tensor) -> Tensor:
        """The gradient g (n, *shape)."""


@part(
    "classifier",
    title="Classifier guidance by a classifier trained on noisy states",
    source="Dhariwal & Nichol 2021, Diffusion Models Beat GANs on Image Synthesis, arXiv:2105.05233",
)
@dataclass(frozen=True)
class NoisyClassifier(Classifying):
    """g = grad_x log p(label | x, tau), p the softmax of the classifier's logits at the state x.

    Where p is the true one, scale 1 makes the conditional model of the unconditional one.
    """

    rule: ClassVar[str] = "classifier"

    def gradient(self, passes: Passes, u: Tensor) -> Tensor:
        """At the state."""
        return _gradient(passes, passes.x, float(passes.tau), 1.0, 1.0)


@part(
    "classifier-on-data",
    title="EluCD: an off-the-shelf classifier on the data prediction, with joint and marginal temperatures",
    source="Ma et al. 2023, Elucidating the Design Space of Classifier-Guided Diffusion Generation, arXiv:2310.11311",
    papers=(325,),
)
@dataclass(frozen=True)
class DataClassifier(Classifying):
    """g = grad_D (joint f_label(D) - log sum_k exp(marginal f_k(D))), f the logits at the data prediction D, tau = 0.

    joint, marginal  temperatures of the label's logit and of those in the sum; 1 and 1 is log p(label | D), a smaller
                     `marginal` favours the joint density of label and image over the label alone

    The derivative of D by the state is left out, so that nothing is taken through the network. The paper's classifiers
    have softplus for ReLU (`softened`), and its scale changes with time, which here is a scale of each row (`guide`).
    """

    joint: float = 1.0
    marginal: float = 1.0
    rule: ClassVar[str] = "classifier-on-data"

    def gradient(self, passes: Passes, u: Tensor) -> Tensor:
        """At the data prediction."""
        return _gradient(passes, passes.data(u), 0.0, self.joint, self.marginal)


def check_classifier(rule: str, passes: Passes) -> None:
    """Raises InputError for models without a classifier, or without labels."""
    if passes.model is None or passes.model.classifier is None:
        raise InputError(f"{rule} needs a model with a classifier: give Model.classifier")
    if passes.labels is None:
        raise InputError(f"{rule} needs labels: give the model its classes")


def logits_at(passes: Passes, x: Tensor, tau: float) -> Tensor:
    """The classifier's logits (n, K) of states x (n, *shape) at a level. Raises InputError where they do not fit the labels."""
    assert passes.model is not None  # all are checked
    assert passes.labels is not None
    return check_logits("classifier", passes.model.logits(x, tau), passes.labels)


def check_logits(what: str, logits: Tensor, labels: Tensor) -> Tensor:
    """The logits themselves; InputError unless they are (n, K) for the n labels, with K above the largest of these."""
    n, most = len(labels), int(labels.max())
    if logits.ndim != 2 or len(logits) != n or most >= logits.shape[1]:
        shape = tuple(logits.shape)
        raise InputError(
            f"the {what} returned shape {shape} for {n} samples with labels up to {most}; expected logits (n, classes)"
        )
    return logits


def softened(network: nn.Module, beta: float = 5.0) -> nn.Module:
    """A copy of the network with softplus(beta x) / beta in the place of ReLU, whose gradients have no jumps."""
    finite("beta", beta, 1e-6)
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus(beta))
    return nn.Softplus(beta) if isinstance(copied, nn.ReLU) else copied


def _gradient(passes: Passes, x: Tensor, tau: float, joint: float, marginal: float) -> Tensor:
    """Gradient (n, *shape) of joint f_label - log sum exp(marginal f) by x, each sample's own."""
    assert passes.labels is not None  # it is checked
    with torch.inference_mode(False), torch.enable_grad():
        at, labels = x.clone().requires_grad_(), passes.labels.clone()  # what inference mode made has no derivatives
        logits = logits_at(passes, at, tau)
        score = joint * logits.gather(1, labels[:, None])[:, 0] - torch.logsumexp(marginal * logits, 1)
        (gradient,) = torch.autograd.grad(score.sum(), at)
    return gradient.detach()
