"""Plays the blocks column: in rows that leave out a block, its modules return what the row's shortcut says.

During a run the `forward` of the modules of each block that the plan names is another one in the run's thread, and restored
afterwards, also when the run fails. A row that runs a block calls the module's own forward, so that the output is bit
for bit the network's; the block's branch is kept as long as a later row names it, for each pass apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fewer.blocks.actions import RUN, BlockAction, BlockActions
from fewer.blocks.find import Block, block, network_of
from fewer.blocks.forwards import forward_of, replace
from fewer.blocks.streams import Streams
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Coefficient, Row

Kept = dict[tuple[str, ...], Streams]  # the conditions of a call -> the streams of a branch in it
Branches = dict[int, dict[str, Kept]]  # row -> block -> its branch
Call = Callable[[Tensor, Any, Tensor | None], Tensor]


@dataclass
class Played:
    """A model whose blocks follow the rows. The engine calls what `at(n, batch)` gives in the place of the model.

    A call may hold several passes of the `batch` samples, one after another. Outside of such calls (`now` is -1) the
    network is as it was, so that a callback may use it.
    """

    model: Model
    rows: Sequence[Row]
    branches: Branches
    drop: bool
    watch: frozenset[str]
    batch: int = 0
    row: int = 0
    now: int = -1
    call: int = 0
    conditions: tuple[str, ...] = ()
    left: tuple[str, ...] = field(default=())

    def at(self, n: int, batch: int) -> Played:
        """The same, for the network calls of row n."""
        self.row, self.batch, self.left = n, batch, self.rows[n].conditions
        return self

    def __call__(self, x: Tensor, t: Any, labels: Tensor | None) -> Tensor:
        """One network call, of as many of the row's passes as x holds."""
        passes = len(x) // self.batch
        self.conditions, self.left = self.left[:passes], self.left[passes:]
        self.call += 1
        self.now = self.row
        try:
            return self.model(x, t, labels)
        finally:
            self.now = -1


@contextmanager
def playing(
    model: Model,
    rows: Sequence[Row],
    actions: Sequence[BlockActions],
    branches: Branches | None = None,
    watch: Sequence[str] = (),
) -> Iterator[Played | None]:
    """The model with its blocks under the rows' control; None where no row names a block.

    actions   of the blocks in each row, as `bound` gives them
    branches  takes the branches of blocks and keeps all that later rows need, instead of dropping each after its last use
    watch     blocks whose branches are kept in every row

    Raises InputError for names in `watch` that the network has not.
    """
    names = dict.fromkeys([*watch, *(name for each in actions for name in each)])
    if not names:
        yield None
        return
    played = Played(model, rows, {} if branches is None else branches, drop=branches is None, watch=frozenset(watch))
    network = network_of(model)
    undo: list[Callable[[], None]] = []
    try:
        # a block that contains another is put around it, so that it still sees what flows where the other is left out
        for each in sorted((block(model, name) for name in names), key=lambda b: (len(b.modules), -_depth(b))):
            own = [*(row.get(each.name, RUN) for row in actions), RUN]  # the last, at -1, outside of the rows' calls
            undo.extend(_attach(played, each, own, network))
        yield played
    finally:
        for restore in reversed(undo):
            restore()


def _depth(each: Block) -> int:
    return max(name.count(".") for name in each.modules)


def _attach(
    played: Played, each: Block, actions: Sequence[BlockAction], network: nn.Module
) -> Iterator[Callable[[], None]]:
    """Replace the forward of the block's modules, each with a call that restores it."""
    entered: list[Streams] = []
    for number, name in enumerate(each.modules):
        module = network.get_submodule(name)
        make = _leaving if number == len(each.modules) - 1 else _passing
        yield replace(module, make(_Part(played, each, actions, forward_of(module), entered, number)))


@dataclass(frozen=True)
class _Part:
    """A module of a block, by its number in it: the block's actions, the module's own forward, and what entered the block."""

    played: Played
    block: Block
    actions: Sequence[BlockAction]
    own: Callable[..., Any]
    entered: list[Streams]
    number: int

    @property
    def watched(self) -> bool:
        """Whether the block's branch is kept in every row."""
        return self.block.name in self.played.watch


def _passing(part: _Part) -> Callable[..., Any]:
    """Forward of a module that is not the block's last: run, or pass on what flows."""
    played, form, watched = part.played, part.block.forms[part.number], part.watched
    notes = part.number == 0 and part.block.kind == "residual"  # what the branch is measured from

    def forward(*args: Any, **kwargs: Any) -> Any:
        action = part.actions[played.now]
        if action.terms is not None:
            return form.made(form.taken(args, kwargs))
        if notes and (action.keep or watched) and played.now >= 0:
            part.entered[:] = [form.taken(args, kwargs)]
        return part.own(*args, **kwargs)

    return forward


def _leaving(part: _Part) -> Callable[..., Any]:
    """Forward of the block's last module: run and keep the branch, or give what the shortcut says."""
    played, form, watched = part.played, part.block.forms[part.number], part.watched
    name, residual = part.block.name, part.block.kind == "residual"
    seen = -1

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        if played.now < 0:
            return part.own(*args, **kwargs)
        if seen == played.call:
            raise InputError(f"block {name!r} is used twice in one call: blocks share state")
        seen = played.call
        action = part.actions[played.now]
        keep = action.keep or watched
        if action.terms is None:
            output = part.own(*args, **kwargs)
            if keep:
                branch = form.apart(output)
                if residual:
                    branch = _each(torch.sub, branch, part.entered.pop() if part.number else form.taken(args, kwargs))
                _keep(played, name, branch)
            return output
        inputs = form.taken(args, kwargs)
        branch = _forecast(played, name, action, inputs)
        if keep:
            _keep(played, name, branch)
        if played.drop and not played.left:
            for j in action.done:
                del played.branches[j][name]
        return form.made(_each(torch.add, inputs, branch) if residual else branch)

    return forward


def _keep(played: Played, name: str, streams: Streams) -> None:
    played.branches.setdefault(played.row, {}).setdefault(name, {})[played.conditions] = streams


def _forecast(played: Played, name: str, action: BlockAction, inputs: Streams) -> Streams:
    """sum_j weights_j y_j + offset, of the same passes; zero where there is neither."""
    total: Streams | None = None
    for j, weight in action.terms or ():
        kept = played.branches.get(j, {}).get(name)
        if kept is None:
            raise InputError(f"block {name!r} needs its branch of row {j}, which was not kept when that row was played")
        branch = selected(kept, played.conditions)
        if total is not None:
            total = _each(partial(_add, weight), total, branch)
        else:
            total = (
                branch
                if not isinstance(weight, Tensor) and weight == 1
                else _each(partial(torch.mul, other=weight), branch)
            )
    if total is None:
        total = _each(torch.zeros_like, inputs)
    if isinstance(action.offset, Tensor) or action.offset != 0:
        total = _each(lambda s: s + action.offset, total)
    return total


def _add(weight: Coefficient, total: Tensor, y: Tensor) -> Tensor:
    return total + weight * y if isinstance(weight, Tensor) else torch.add(total, y, alpha=weight)


def _each(function: Callable[..., Tensor], *streams: Streams) -> Streams:
    """function(y, ..) of the tensors of each stream; None where one of them is missing."""
    return tuple(None if any(y is None for y in ys) else function(*ys) for ys in zip(*streams, strict=True))


def selected(kept: Kept, conditions: tuple[str, ...]) -> Streams:
    """The branch of these passes, joined from calls that held them in another order or apart."""
    if conditions in kept:
        return kept[conditions]
    parts: list[Streams] = []
    for condition in conditions:
        held, streams = next((held, streams) for held, streams in kept.items() if condition in held)
        count, at = len(held), held.index(condition)
        parts.append(tuple(None if y is None else y.chunk(count)[at] for y in streams))
    return tuple(None if ys[0] is None else torch.cat(ys) for ys in zip(*parts, strict=True))
