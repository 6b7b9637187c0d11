"""Gradient-free classifier guidance: away from the class that a classifier would take the sample for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.batch import per_sample
from fewer.errors import InputError
from fewer.guidance.classifier import check_classifier, logits_at
from fewer.guidance.passes import Passes
from fewer.guidance.rule import Rule
from fewer.registry import part


@part(
    "gradient-free",
    title="Gradient-free classifier guidance: away from the most confused class, as far as the classifier is unsure",
    source="Shenoy et al. 2024, Gradient-Free Classifier Guidance (its abstract; the scale's rule is ours), "
    "arXiv:2411.15393",
    papers=(321,),
)
@dataclass(frozen=True)
class GradientFree(Rule):
    """D' = D(y) + w (D(y) - D(r)), of each sample and in each row from p = softmax of the classifier's logits at D(y):

        r = argmax_{k != y} p_k,        w = (scale - 1) (1 - p_y)

    Of the paper we have read the abstract: it has a reference class and a scale from the classifier's forward pass in each
    step. Which class, and the scale's rule, are ours, for this reason. With the true posterior of the noisy state,

        grad log p(y | x) = sum_{k != y} p_k (score(x | y) - score(x | k)),

    whose weights sum to 1 - p_y: classifier-free guidance goes away from the mean of the other classes, and this from the
    likeliest of them in the place of all. With two classes both are the same, at the same `scale`; at 1 neither guides.

    A pass with the label y, then one with r, so two calls; with scale 1 only the first. The classifier (`Model.classifier`)
    runs forward once a row, on data predictions (n, *shape) at tau = 0, and is not counted. No empty label is needed.
    Raises InputError for a scale that is no finite number, models without a classifier or labels, logits of another shape,
    and a classifier that knows other classes than the model or only one.
    """

    scale: float
    rule: ClassVar[str] = "gradient-free"

    @property
    def conditions(self) -> tuple[str, ...]:
        """The "reference" is a label too, each sample's own; at scale 1 it is not needed."""
        return ("label",) if self.scale == 1 else ("label", "reference")

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        (u,) = passes.outputs("label")
        if self.passes == 1:
            return u
        reference, weight = self.away(passes, u)
        towards = passes.u(passes.call(passes.x_in, passes.t, reference))
        return u + per_sample(weight, u).to(u) * (u - towards)

    def away(self, passes: Passes, u: Tensor) -> tuple[Tensor, Tensor]:
        """The reference class r (n,) and the weight w (n,), by the classifier at the data prediction of u."""
        check_classifier(self.rule, passes)
        assert passes.model is not None  # both are checked
        assert passes.labels is not None
        classes = passes.model.classes or 0
        logits, label = logits_at(passes, passes.data(u), 0.0), passes.labels[:, None]
        if logits.shape[1] != classes or classes < 2:
            raise InputError(
                f"{self.rule} has a classifier of {logits.shape[1]} classes and a model of {classes}; "
                "expected as many, at least 2"
            )
        p = torch.softmax(logits, 1)
        return p.scatter(1, label, -1.0).argmax(1), self.weight(p.gather(1, label)[:, 0])

    def weight(self, surety: Tensor) -> Tensor:
        """w (n,) where the classifier gives the label these probabilities (n,)."""
        return (self.scale - 1) * (1 - surety)
