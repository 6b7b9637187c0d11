"""Gates on units that are learnt by what comes out at the end of sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fewer.arguments import as_count
from fewer.compression.gated import Gated
from fewer.compression.subject import Subject
from fewer.compression.units import Group, require_widths
from fewer.compression.work import Work
from fewer.engine.bind import bind
from fewer.engine.play import begun, play
from fewer.errors import InputError
from fewer.noise import Stream, unit_noise
from fewer.registry import part
from fewer.samplers import standard

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1  # of hard concrete variables, Louizos et al. 2018


class Checkpointed(nn.Module):
    """A network of whose calls only what they were given is kept; the rest is computed again on the way back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own output."""
        return checkpoint(self.network, *args, use_reentrant=False, **kwargs)


@part(
    "ecodiff",
    title="Gates learnt by the end of the trajectory, with checkpointing in time",
    source="Zhang et al. 2024, Effortless Efficiency: Low-Cost Pruning of Diffusion Models, arXiv:2412.02852; gates of Louizos, "
    "Welling & Kingma 2018, Learning Sparse Neural Networks through L0 Regularization, arXiv:1712.01312",
    papers=(327,),
)
@dataclass(frozen=True)
class EcoDiff:
    """s_u = P(gate_u > 0) after steps of Adam on    E |x_0 - x_0(gates)|^2 / E |x_0|^2 + sparsity mean_u P(gate_u > 0)

    x_0 is the sample that a plan of `calls` calls makes of a noise with the whole network, x_0(gates) that with each unit's output
    times its gate; no weight changes. A gate is hard concrete with a parameter a: clamp(1.2 sigmoid((logit(v) + a) / (2/3)) - 0.1,
    0, 1) with v uniform, open with probability sigmoid(a + (2/3) log 11). All calls of a step are differentiated together, and only
    their states are kept on the way: memory does not grow with the calls, but for those. Probabilities order units, as the
    paper's threshold does, and are no losses that add up: `global` takes them as they are, and is the default allocator with them.

    steps     gradient steps, of `batch` noises each; `lr` the rate
    calls     of DPM-Solver++(2M)
    sparsity  weight of the open gates
    """

    steps: int = 30
    batch: int = 16
    calls: int = 6
    lr: float = 0.2
    sparsity: float = 0.1
    orders: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "calls"):
            as_count(getattr(self, name), name, 1)
        if not (0 < self.lr < math.inf and 0 <= self.sparsity < math.inf):
            raise InputError(f"lr and sparsity are {self.lr} and {self.sparsity}; expected above 0, and at least 0")

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for blocks and single weights."""
        require_widths(groups, "ecodiff")

    def work(self, subject: Subject) -> Work:
        """Of each noise a sample of the full network's, and one with gates whose calls are computed again on the way back."""
        calls = self.steps * self.batch * self.calls
        return Work(3 * calls, calls, self.steps)

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale, from 0 to 1. Raises InputError for blocks and single weights."""
        self.check_units(subject.groups)
        with torch.inference_mode(False), torch.enable_grad():
            levels = {g.name: torch.full((g.size,), 2.0, requires_grad=True) for g in subject.groups}
            optimizer = torch.optim.Adam(levels.values(), self.lr)
            generator = torch.Generator().manual_seed(subject.calibration.seed)
            for step in range(self.steps):
                subject.progress("gates", step, self.steps)
                optimizer.zero_grad()
                drawn = {name: gates(level, generator).to(subject.model.device) for name, level in levels.items()}
                open_ = torch.cat([opened(level) for level in levels.values()]).mean()
                loss = self._loss(subject, Gated(subject.network, subject.groups, drawn), step)
                (loss + self.sparsity * open_).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return {name: opened(level.detach()).double() for name, level in levels.items()}

    def _loss(self, subject: Subject, gated_network: nn.Module, step: int) -> Tensor:
        """How far samples end from those of the whole network, relative to their mean square."""
        model, seed = subject.model, subject.calibration.seed
        plan = standard("dpmpp-2m", model, self.calls, "logsnr")
        numbers = Stream.CALIBRATION.numbers(self.batch, step * self.batch)
        noise, labels = unit_noise(seed, numbers, model.shape, device=model.device), model.labels(self.batch)

        def end(network: nn.Module) -> Tensor:
            played = subject.with_network(network)
            return play(played, bind(played, plan), begun(played, plan, noise, labels, _no_noise), labels)

        with torch.no_grad():
            target = end(subject.network)
        return (end(Checkpointed(gated_network)) - target).square().mean() / target.square().mean()


def gates(level: Tensor, generator: torch.Generator) -> Tensor:
    """Hard concrete gates (units,) in [0, 1]."""
    v = torch.rand(level.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
    return ((HIGH - LOW) * torch.sigmoid((v.logit() + level) / TEMPERATURE) + LOW).clamp(0, 1)


def opened(level: Tensor) -> Tensor:
    """The probability that a gate is above 0."""
    return torch.sigmoid(level - TEMPERATURE * math.log(-LOW / HIGH))


def _no_noise() -> Tensor:
    raise AssertionError("a plan without noise draws none")
