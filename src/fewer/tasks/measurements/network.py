"""A small network that tells the targets from measurements, and its training with early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from fewer.tasks.measurements.acquired import Acquired

HIDDEN, BATCH, RATE = 64, 128, 2e-3
PATIENCE, LONGEST = 12, 120  # epochs without a better held-out error, and in all at most


def perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """A network with two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


@contextmanager
def training(seed: int) -> Iterator[torch.Generator]:
    """Where networks are made and trained: with derivatives, by a generator that leaves the caller's as it was."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def epoch(
    module: nn.Module, optimiser: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], rows: Tensor,
    generator: torch.Generator,
) -> None:  # fmt: skip
    """One pass over the training rows in random order; `loss` is a function of row numbers."""
    module.train()
    for some in rows[torch.randperm(len(rows), generator=generator)].split(BATCH):
        optimiser.zero_grad()
        loss(some).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def until_no_better(
    module: nn.Module, one: Callable[[], None], held_out: Callable[[], float], longest: int = LONGEST
) -> float:
    """Epochs `one` until the held-out error is no better for some; the best one's weights are put back, its error is given."""
    best, weights, since = math.inf, deepcopy(module.state_dict()), 0
    for _ in range(longest):
        one()
        with torch.no_grad():
            error = held_out()
        if error < best:
            best, weights, since = error, deepcopy(module.state_dict()), 0
        else:
            since += 1
        if since == PATIENCE:
            break
    module.load_state_dict(weights)
    return best


def task_error(acquired: Acquired, judged: Acquired, seed: int = 0) -> float:
    """Mean squared error of a network trained on some examples, on others: in unit of the targets' variance.

    It is 0 where everything can be told, about 1 where nothing can. Both have the same channels; `judged` is not looked at in
    training.
    """
    both = Acquired(torch.cat([acquired.values, judged.values]), torch.cat([acquired.targets, judged.targets]))
    x, y = (each.float() for each in both.scaled)
    n, x = len(acquired.values), x.flatten(1)
    rows, stop = (~acquired.held_out).nonzero()[:, 0], acquired.held_out.nonzero()[:, 0]
    with training(seed) as generator:
        net = perceptron(x.shape[1], y.shape[1])
        optimiser = torch.optim.Adam(net.parameters(), RATE)

        def loss(some: Tensor) -> Tensor:
            return (net(x[some]) - y[some]).square().mean()

        until_no_better(net, lambda: epoch(net, optimiser, loss, rows, generator), lambda: float(loss(stop)))
        with torch.no_grad():
            return float((net(x[n:]) - y[n:]).square().mean() / y[n:].var(0, correction=0).mean())
