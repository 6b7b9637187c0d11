"""Whether priors of layers, learnt from blocks of the tangent kernel, explain the data better and find more bad samples."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewer import standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.claims.uncertainty.bad_samples import BED, CALLS, judged
from fewer.claims.uncertainty.beds import bed
from fewer.compression.calibration import Calibration
from fewer.epistemic.laplace import directions, prior
from fewer.epistemic.layer_priors import LayerPriors, evidence, layer_precisions
from fewer.epistemic.question import Question
from fewer.epistemic.weights import all_of, some_of

NETWORKS, COMPARED, PROBES, COUNT, BLOCK, STEPS = 8, 72, 512, 512, LayerPriors.block, LayerPriors.steps


@cache
def curvature(number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, weights and layers of a random subset of a network's weights."""
    found = bed(number)
    plan = standard("ddim", found.model, CALLS, "uniform")
    question = Question(found.model, plan, Calibration(found.model, found.points, None), 1)
    network = question.network()
    weights = some_of(all_of(network), COUNT, 0)
    sizes = torch.tensor([len(places) for places in weights.places.values()])
    layers = torch.arange(len(sizes)).repeat_interleave(sizes)
    return directions(question, network, weights, PROBES), weights.read(network), layers


def numbers(seed: int, count: int = NETWORKS) -> range:
    """The networks of a seed."""
    return range(count * seed, count * (seed + 1))


@claim(
    "layer-priors/evidence",
    statement=f"Priors of layers that are learnt from blocks of {BLOCK} of {PROBES} rows have the larger evidence, of all rows, "
    f"than the one prior that is likeliest of all rows (mean difference of its logarithm over {NETWORKS} networks; beside, what is "
    f"gained where each step sees all rows): {BED}.",
    baseline="the one prior by MacKay's equation, from all rows",
    above=0.0,
    tier="full",
)
def larger_evidence(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the precisions of other layers."""
    gains, most = [], []
    for number in numbers(seed):
        rows, weights, layers = curvature(number)
        one = torch.tensor(prior(torch.linalg.eigvalsh(rows.T @ rows).clamp(min=0), weights), dtype=torch.float64).log()
        base = float(evidence(rows, weights, one.expand(len(weights))))
        each = {block: layer_precisions(rows, weights, layers, block, STEPS, 0) for block in (BLOCK, PROBES)}
        logs = each[BLOCK].log()
        logs = logs.roll(COUNT // 2) if sabotage else logs
        gains.append(float(evidence(rows, weights, logs)) - base)
        most.append(float(evidence(rows, weights, each[PROBES].log())) - base)
    return Measured(mean(gains), {"by all rows in every step": mean(most)})


@claim(
    "layer-priors/against-last-layer",
    statement="Replays under random weights with learnt priors of layers find bad samples better than those of the last layer "
    f"(mean difference of AUROC over {COMPARED} networks): {BED}.",
    baseline="replays under draws of the last layer's weights, as many, whose one prior is the likeliest",
    above=0.0,
    tier="full",
)
def against_last_layer(seed: int, sabotage: bool) -> Measured:
    """Sabotage: scores of other samples."""
    names, compared = ("layer-priors", "last-layer", "random-weights"), numbers(seed, COMPARED)
    mine, its, one = ([judged(name, k, sabotage and name == names[0])[0] for k in compared] for name in names)
    gaps = [a - b for a, b in zip(mine, its, strict=True)]
    return Measured(
        mean(gaps), {"layer priors": mean(mine), "last layer": mean(its), "random weights, one prior": mean(one)}
    )
