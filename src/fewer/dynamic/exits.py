"""Plays early exits: each sample leaves a transformer after blocks of its own number.

In row n sample i runs the first k blocks alone. Its tokens then go to the network's own output layer, through a head,
while the later blocks are run with the samples that have not left. A table of rows cannot hold this, since its rows are
the same for all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fewer.blocks.find import block, candidates, network_of
from fewer.blocks.forwards import forward_of, replaced
from fewer.engine import begin, bind, play
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.models.model import Model
from fewer.plan import Plan

Decide = Callable[[int, int, Tensor, Tensor], Tensor]
Head = Callable[[int, int, Tensor], Tensor]


@dataclass
class Leaving:
    """The state of a run whose samples may leave; `here` are the samples that have not left the current row.

    decide  decide(row, depth, who, tokens) -> (m,) bool: which of the samples `who` (m,), whose tokens (m, T, C) have run
            `depth` blocks, leave; called after every block but the last
    head    head(row, depth, tokens) -> tokens (m, T, C) that the output layer is given of those that leave
    depths  of each row the number of blocks (n,) that each sample ran
    """

    decide: Decide
    head: Head
    layers: int
    depths: list[Tensor] = field(default_factory=list)
    here: Tensor = field(default_factory=lambda: torch.empty(0))

    def after(self, depth: int, tokens: Tensor) -> Tensor:
        """The tokens (n, T, C) of all samples, once those that are here have run `depth` blocks."""
        if depth == self.layers or not len(self.here):
            return tokens
        row, own = len(self.depths) - 1, tokens[self.here]
        leaves = self.decide(row, depth, self.here, own)
        if bool(leaves.any()):
            who = self.here[leaves]
            tokens = tokens.index_copy(0, who, self.head(row, depth, own[leaves]))
            self.depths[row][who] = depth
            self.here = self.here[~leaves]
        return tokens


def chain(model: Model) -> list[str]:
    """The modules that all samples run one after another, each from tokens to tokens.

    Raises InputError for networks without such a list, with two, or whose blocks take the text along.
    """
    network = network_of(model)
    known = candidates(network)
    names = [known[f"block.{k}"][0][0] for k in range(len(known)) if f"block.{k}" in known]
    two_lists = any(name.startswith("single.") for name in known)
    if len(names) < 2 or two_lists or len(block(model, "block.0").forms[0].sources) > 1:
        raise InputError(f"{model.name} has no one list of transformer blocks that samples could leave early")
    return names


def exit_macs(model: Model) -> list[int]:
    """Multiply-accumulates of a call that is left after 1, 2, .. blocks, the last the whole call, heads not counted."""
    full = call_macs(model)
    return [full - block(model, f"after.{k}").macs for k in range(1, len(chain(model)))] + [full]


def play_exits(
    model: Model, plan: Plan, noise: Tensor, labels: Tensor | None, decide: Decide, head: Head
) -> tuple[Tensor, Tensor]:
    """Samples (n, *shape) of a plan from unit noise, and how many blocks each row ran of each (rows, n).

    Raises InputError for plans that add noise, guide, leave out blocks or call a second network, which are not combined.
    """
    check_exits(plan)
    with torch.inference_mode(), leaving(model, decide, head) as run:
        x = play(model, bind(model, plan), begin(plan, noise, lambda: noise), labels)
    return x, torch.stack(run.depths)


def check_exits(plan: Plan) -> None:
    """Raises InputError for plans that `play_exits` refuses."""
    if plan.stochastic or plan.networks != [0] or any(row.passes != 1 or row.blocks for row in plan.rows):
        raise InputError(f"plan {plan.name!r}: early exits go with rows of one whole pass, without noise")


@contextmanager
def leaving(model: Model, decide: Decide, head: Head) -> Iterator[Leaving]:
    """A context in which samples may leave the model's network; each call of the network counts as a row."""
    modules = [network_of(model).get_submodule(name) for name in chain(model)]
    run = Leaving(decide, head, len(modules))
    with ExitStack() as stack:
        for k, module in enumerate(modules):
            stack.enter_context(replaced(module, _block(run, k, forward_of(module))))
        yield run


def _block(run: Leaving, k: int, own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Forward of block k, for the samples that are here."""

    def forward(hidden_states: Tensor, **kwargs: Any) -> Tensor:
        n = len(hidden_states)
        if k == 0:
            run.here = torch.arange(n, device=hidden_states.device)
            run.depths.append(torch.full((n,), run.layers, device=hidden_states.device))
        if not len(run.here):
            return hidden_states
        if len(run.here) == n:
            return run.after(k + 1, own(hidden_states, **kwargs))
        batched = {name: value for name, value in kwargs.items() if isinstance(value, Tensor) and len(value) == n}
        kwargs |= {name: value[run.here] for name, value in batched.items()}
        tokens = hidden_states.index_copy(0, run.here, own(hidden_states[run.here], **kwargs))
        return run.after(k + 1, tokens)

    return forward
