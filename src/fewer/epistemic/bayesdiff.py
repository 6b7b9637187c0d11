"""BayesDiff: the variance of a state carried through the rows of a plan (Kou et al. 2024, arXiv:2310.11142).

The network's output at a state is Gaussian, with the network's own output as mean and a variance from the last layer, whose weights
have a diagonal Laplace posterior. A row x' = a x + b u then gives, value by value (eqs. 8, 9),

    E x'   = a E x + b E u
    Var x' = a^2 Var x + 2 a b Cov(x, u) + b^2 Var u

where E u, Cov(x, u) and the part of Var u that comes of the state are taken over states x_i = E x + sqrt(Var x) z_i, z_i unit noise
(eq. 12), and the other part is the output's variance at E x: Var u = Var u(x_i) + gamma^2. Noise that rows add is the samples'
own, so that it moves the mean alone.

The errors that the weights make in two rows are taken for independent, though the weights are the same ones; in return no plan is
played again. Of a linear or convolutional layer y = W h + c with independent weights the variance is the layer's own form
of squares, Var y = Var(W) h^2 + Var(c), which is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewer.blocks.find import network_of
from fewer.compression.calibration import Batch
from fewer.compression.subject import watched
from fewer.engine import bind
from fewer.engine.bind import Step
from fewer.engine.play import begun, output
from fewer.epistemic import Effort
from fewer.epistemic.laplace import CURVATURE, variances
from fewer.epistemic.question import Question
from fewer.epistemic.weights import LAST_LAYER_SEEN, all_of, last_layer
from fewer.errors import InputError, whole
from fewer.models.model import Model
from fewer.noise import Draw
from fewer.registry import part

REORDERED = 4  # evaluations that tell whether the output is the last layer's values


@part(
    "bayesdiff",
    title="Variance carried through the rows from the last layer's posterior",
    source="Kou et al. 2024, BayesDiff, arXiv:2310.11142",
    papers=(38,),
)
@dataclass(frozen=True)
class BayesDiff:
    """The recursion above with `states` states x_i a row, and a posterior from `probes` backward passes.

    For plans whose rows take one state and one output without guidance, as those of ddim and ddpm do.
    """

    states: int = 10
    probes: int = 512

    def __post_init__(self) -> None:
        whole("states", self.states, least=2)
        whole("probes", self.probes)

    def effort(self, nfe: int, n: int) -> Effort:
        """The states' outputs, a derivative of each, and in every row the states x_i and the output's variance."""
        return Effort(
            {CURVATURE: 2 * self.probes + LAST_LAYER_SEEN + REORDERED, "rows": nfe * n * (self.states + 2)}, self.probes
        )

    def variance(self, question: Question) -> Tensor:
        """See the module."""
        steps = bind(question.model, question.plan)
        terms = [_terms(step, n) for n, step in enumerate(steps)]
        of_output = OutputVariance.of(question, self.probes)
        with torch.no_grad():
            fresh = partial(question.noise, Draw.START_NOISE())
            mean = begun(question.model, question.plan, question.noise(Draw.START()), question.labels, fresh).double()
            variance = torch.zeros_like(mean)
            for n, (step, (a, b)) in enumerate(zip(steps, terms, strict=True)):
                draws = [question.noise(Draw.STATE(n * self.states + i)).double() for i in range(self.states)]
                x = torch.stack([mean + variance.sqrt() * z for z in draws])
                u = torch.stack([_in_batches(question, partial(output, step), each) for each in x])
                covariance = (x * u).mean(0) - x.mean(0) * u.mean(0)
                open_weights = _in_batches(question, partial(of_output, step.t), float(step.c_in) * mean)
                uncertain = u.var(0, correction=0) + float(step.q) ** 2 * open_weights
                variance = (a**2 * variance + 2 * a * b * covariance + b**2 * uncertain).clamp(min=0)
                mean = a * mean + b * u.mean(0)
                if step.noisy:
                    mean = mean + float(step.row.noise) * question.noise(Draw.ROW(n))
                question.progress("rows", n + 1, len(steps))
        return variance


@dataclass(frozen=True)
class OutputVariance:
    """The variance of a network's output where its last layer's weights have these variances and all others are known.

    model   with the network whose last layer is called `layer`
    weight, bias  variances of the layer's own
    """

    model: Model
    layer: str
    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, question: Question, probes: int) -> OutputVariance:
        """From the last layer's diagonal posterior. Raises InputError where the output is more than its values reordered."""
        network, state = question.network(), question.training.batch(1, 0)
        name = last_layer(question.model, state)
        weights = all_of(network, f"{name}.")
        known = weights.split(variances(question, network, weights, probes))
        shaped = {
            key.removeprefix(f"{name}."): value.view_as(network.get_parameter(key)) for key, value in known.items()
        }
        bias = shaped["bias"].float() if "bias" in shaped else None
        found = cls(question.model_with(network), name, shaped["weight"].float(), bias)
        if not found.reorders(state):
            raise InputError(
                f"the output of {question.model.name} is more than the values of its last layer {name} in another order: bayesdiff "
                "cannot carry their variance"
            )
        return found

    def __call__(self, t: Tensor, x: Tensor, labels: Tensor | None) -> Tensor:
        """The variance (n, *shape), at a time and inputs as the network takes them."""
        network = network_of(self.model)
        with watched(network, [self.layer], inputs=True) as seen:
            self.model(x, t, labels)
        squares, layer = seen[self.layer].square(), network.get_submodule(self.layer)
        return self._after(_same_form(layer, squares, self.weight, self.bias), x, t, labels)

    def reorders(self, state: Batch) -> bool:
        """Whether the network does nothing to the layer's values but to put them in another order, or to leave some out."""
        with watched(network_of(self.model), [self.layer]) as seen:
            self.model(state.x, state.t, state.labels)
        own = seen[self.layer]
        values = torch.linspace(0.5, 1.5, own.numel()).view_as(own).to(own)
        zero, once, twice = (
            self._after(v, state.x, state.t, state.labels) for v in (0 * values, values, values.square())
        )
        return not bool(zero.any()) and torch.equal(once.square(), twice)

    def _after(self, values: Tensor, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """The network's output where its last layer gives these values."""
        layer = network_of(self.model).get_submodule(self.layer)
        handle = layer.register_forward_hook(lambda layer, given, output: values)
        try:
            return self.model(x, t, labels)
        finally:
            handle.remove()


def _same_form(layer: nn.Module, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What the layer gives of these values with other weights in the place of its own."""
    own = {name: p for name, p in (("weight", weight), ("bias", bias)) if p is not None}
    return functional_call(layer, own, (values,))  # type: ignore[no-any-return]


def _terms(step: Step, n: int) -> tuple[float, float]:
    """a and b of a row x' = a x + b u. Raises InputError for rows of another form."""
    if step.row.guidance is not None or [j for j, _ in step.a] != [n] or [j for j, _ in step.b] != [n] or step.shifted:
        raise InputError(
            f"row {n} of the plan is guided, or takes more than its own state and output: bayesdiff is for plans such as those of "
            "ddim and ddpm without guidance; random-weights takes any"
        )
    return float(step.a[0][1]), float(step.b[0][1])


def _in_batches(question: Question, of: Callable[[Tensor, Tensor | None], Tensor], x: Tensor) -> Tensor:
    """A function of states (n, *shape) and labels, a batch at a time, in float64."""
    labels, batch = question.labels, question.batch
    starts = range(0, len(x), batch)
    parts = [of(x[k : k + batch].float(), None if labels is None else labels[k : k + batch]) for k in starts]
    return torch.cat(parts).double()
