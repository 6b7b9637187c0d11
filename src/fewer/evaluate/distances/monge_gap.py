"""The Monge gap: how far a map, such as a plan's from noise to samples, is from optimal transport."""

from __future__ import annotations

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError
from fewer.evaluate.distances.transport import EntropicPlan, sinkhorn_newton_sparse
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.evaluate.statistics.twosample import two_samples
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.registry import part

LEAST = 4  # batches, of which the interval is made


@part(
    "monge-gap",
    title="Monge gap of a map, or of a plan from noise to samples",
    source="Uscidda & Cuturi 2023, arXiv:2302.04953",
    papers=(356,),
    role="procedure",
)
def monge_gap(x: Tensor, y: Tensor, batch: int = 256, eps: float = 0.0, seed: int = 0) -> Interval:
    """Cost of moving points x (n, d) to their images y = T(x) (n, d), less the least cost of moving the one set to the other.

        M(T) = E |x - T(x)|^2 - W(x, T(x)),   W = min over couplings P of sum P C,  C_ij = |x_i - y_j|^2

    At least 0, and 0 where no other pairing of the same points is shorter: then T is the gradient of a convex function on
    them. In the unit of x squared. The mean over random batches of at most `batch` pairs, drawn from `seed`, with
    Student's 95 % interval.

    batch  in pairs. W between samples is on average above that between distributions, so that a batch's gap is on average
           below the map's: little in 2 dimensions at 256 pairs, most of it in 100. It rises with the batch, whose cost is cubic
    eps    0 takes W exactly, as an assignment. Above 0 it is the cost sum P C of the entropic plan (Sinkhorn): at least W, so
           that the gap is lower, by at most eps log(batch), and may be negative; in the unit of x squared

    The paper adds the gap to a loss from which a map is learnt. That is not here: this is the measure alone.
    Raises InputError for shapes that differ, values not finite, eps below 0, and pairs for fewer than 4 batches of 2.
    """
    x, y = two_samples(x, y, least=2 * LEAST)
    if len(x) != len(y):
        raise InputError(f"x and y must be pairs, got {len(x)} and {len(y)} rows")
    if batch < 2:
        raise InputError(f"batch must be at least 2, got {batch}")
    if not 0 <= eps < math.inf:
        raise InputError(f"eps must be finite and at least 0, got {eps}")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    batches = order.tensor_split(max(LEAST, math.ceil(len(x) / batch)))
    found = student([_gap(x[rows], y[rows], eps) for rows in batches])
    return Interval(found.value, found.low, found.high, len(x))


def plan_monge_gap(
    model: Model, plan: Plan, n: int = 1024, batch: int = 256, eps: float = 0.0, seed: int = 0
) -> Interval:
    """The Monge gap of the map from starting noise to samples that a plan makes of a model; labels in turn, if it has any.

    Noise and samples are flattened, in the model's unit. Raises InputError for plans that add noise, whose samples are no
    function of the starting noise, and as `monge_gap` does.
    """
    if plan.stochastic:
        raise InputError("the plan adds noise between its rows, so that its samples are no map of the starting noise")
    noise = unit_noise(seed, Stream.SAMPLES.numbers(n), model.shape)
    made = sample(model, plan, noise=noise, labels=model.labels(n))
    found: Interval = monge_gap(noise.flatten(1).to(made.device), made.flatten(1), batch, eps, seed)
    return found


def pairs_gap(samples: Tensor, reference: Tensor) -> tuple[float, float, float]:
    """The Monge gap of the map from reference samples to a plan's (n, *shape), as a metric of pairs: value and interval.

    `fewer compare --metric fewer.evaluate.distances.monge_gap:pairs_gap`: what the plan's error has of swaps, which take
    samples to others' places; the least distance between both sets is the rest. Of few images, which are far from each other,
    it is 0 unless samples end in another mode than their own, and another sample's takes theirs.
    """
    found = monge_gap(reference.flatten(1), samples.flatten(1))
    return found.value, found.low, found.high


pairs_gap.paired = True  # type: ignore[attr-defined]


def _gap(x: Tensor, y: Tensor, eps: float) -> float:
    """Of one batch: differences of entries of one cost matrix, so that an optimal pairing's is 0."""
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square().cpu()
    own = float(cost.diagonal().mean())
    if eps == 0:
        rows, columns = linear_sum_assignment(cost.numpy())
        return max(own - float(cost[rows, columns].mean()), 0.0)  # below 0 by rounding only
    weights = cost.new_full((len(cost),), 1 / len(cost))
    plan: EntropicPlan = sinkhorn_newton_sparse(cost, weights, weights, eps)
    if not plan.converged:
        raise InputError(f"eps = {eps} is too small: the marginal error reached is {plan.error:.2g}")
    return own - plan.value
