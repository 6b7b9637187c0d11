"""Units by what comes out at the end of sampling, and removal with a bound for each range of noise levels."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from fewer import sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import FIRST, HELD_OUT, SHARE, Reversed, errors, light, subject
from fewer.compression import Score
from fewer.compression.allocate.knapsack import Global, Uniform
from fewer.compression.allocate.pagcp import PAGCP
from fewer.compression.calibration import Batch
from fewer.compression.scores.ecodiff import EcoDiff
from fewer.compression.scores.magnitude import Magnitude, Random
from fewer.compression.scores.taylor import Taylor
from fewer.compression.subject import Subject
from fewer.evaluate.statistics.paired import ratio, squared_errors
from fewer.noise import Stream, unit_noise

CALLS, NOISES, LEFT = 6, 512, 0.8
BINS = 4


def ends(of: Subject, network: nn.Module, seed: int) -> Tensor:
    """Samples of a plan from noises that no score has seen (n, *shape)."""
    noise = unit_noise(seed, Stream.HELD_OUT.numbers(NOISES), of.model.shape)
    model = of.with_network(network)
    return sample(model, standard("dpmpp-2m", of.model, CALLS, "logsnr"), noise=noise, labels=of.model.labels(NOISES))


@claim(
    "ecodiff/against-magnitude",
    statement=f"Cut to {LEFT:.0%} of its multiply-adds by gates that were learnt through {CALLS} calls, without any repair, "
    "dit-digits' samples are nearer to the full network's than by magnitudes (ratio of paired RMSE).",
    baseline="magnitudes, all units ranked together as by the gates, same plan and noise",
    below=1.0,
    tier="full",
)
def by_ends(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the units whose gates are closed first stay."""
    of = subject(seed)
    whole = ends(of, of.network, seed)

    def off(score: Score) -> Tensor:
        return squared_errors(ends(of, light(of, score, Global(), LEFT)[0], seed), whole)

    mine = off(Reversed(EcoDiff(calls=CALLS)) if sabotage else EcoDiff(calls=CALLS))
    others: dict[str, Score] = {"random units": Random(), "first-order changes of the loss": Taylor()}
    beside = {} if sabotage else {f"against {name}": ratio(mine, off(score)) for name, score in others.items()}
    return Measured(ratio(mine, off(Magnitude())), beside)


class Misread(Subject):
    """A subject whose states have each other's outputs."""

    @cached_property
    def states(self) -> list[Batch]:
        """The calibration batches, each output that of the state before."""
        return [replace(batch, target=batch.target.roll(1, 0)) for batch in super().states]


@claim(
    "pagcp/against-global",
    statement=f"At {SHARE:.0%} of dit-digits' multiply-adds removal with a tolerance for each quarter of the noise levels leaves "
    "the outputs of the worst quarter nearer to the full network's than all units ranked together, and than the same share of each "
    "group.",
    baseline="the nearer of `global` and `uniform`, the same magnitudes; the worst quarter of each",
    below=1.0,
    tier="full",
)
def by_bins(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the largest units go first, and removals are judged by other states' outputs."""
    of = subject(seed)
    judged = Misread(of.model, of.groups, of.calibration, of.batch, of.batches) if sabotage else of
    mine = worst(of, light(judged, Reversed(Magnitude()) if sabotage else Magnitude(), PAGCP(BINS))[0])
    others = {
        name: worst(of, light(of, Magnitude(), how)[0]) for name, how in (("global", Global()), ("uniform", Uniform()))
    }
    nearer = min(others, key=lambda name: float(others[name].mean()))
    return Measured(
        ratio(mine, others[nearer]), {f"against {name}": ratio(mine, each) for name, each in others.items()}
    )


def worst(of: Subject, network: nn.Module) -> Tensor:
    """Squared errors, over the mean square of the outputs, of the held-out states in the worst quarter of noise levels (n,)."""
    batches = list(of.calibration.batches(of.batch, HELD_OUT, FIRST))
    t = torch.cat([batch.t for batch in batches])
    scale = torch.cat([batch.target.flatten(1).square().mean(1) for batch in batches])
    off, order = errors(of, network), t.argsort(stable=True)
    quarters = [off[which] / scale[which].mean() for which in order.chunk(BINS)]
    return max(quarters, key=lambda each: float(each.mean()))
