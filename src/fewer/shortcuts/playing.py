"""Playing the blocks column: while a plan is played, modules that a row leaves out give what their shortcut says.

For the time of a run each block that the plan names has its modules' `forward` replaced on the instances; afterwards
they are as they were, also when the run fails. A row that runs a block calls the module's own forward, so that its
output is bit for bit the network's; its branch is kept as long as a later row names it, for each pass apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Coefficient, Row
from fewer.shortcuts.cells import RUN, Cell, Cells
from fewer.shortcuts.find import Block, block, network_of
from fewer.shortcuts.streams import Streams

Kept = dict[tuple[str, ...], Streams]  # the conditions of a call -> the streams of a branch in it
Branches = dict[int, dict[str, Kept]]  # row -> block -> what it gave
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
    cells: Sequence[Cells],
    branches: Branches | None = None,
    watch: Sequence[str] = (),
) -> Iterator[Played | None]:
    """The model with its blocks under the rows' control; None where no row names a block.

    cells     of the rows, as `bound` gives them
    branches  takes what blocks gave and keeps all that later rows need, instead of dropping it after its last use
    watch     blocks whose branches are kept in every row

    Raises InputError for names in `watch` that the network has not.
    """
    names = dict.fromkeys([*watch, *(name for each in cells for name in each)])
    if not names:
        yield None
        return
    played = Played(model, rows, {} if branches is None else branches, drop=branches is None, watch=frozenset(watch))
    network = network_of(model)
    undo: list[Callable[[], None]] = []
    try:
        # a block that contains another is put around it, so that it still sees what flows where the other is left out
        for each in sorted((block(model, name) for name in names), key=lambda b: (len(b.modules), -_depth(b))):
            own = [*(row.get(each.name, RUN) for row in cells), RUN]  # the last, at -1, outside of the rows' calls
            for restore in _attach(played, each, own, network):
                undo.append(restore)
        yield played
    finally:
        for restore in reversed(undo):
            restore()


def _depth(each: Block) -> int:
    return max(name.count(".") for name in each.modules)


def _attach(played: Played, each: Block, cells: Sequence[Cell], network: nn.Module) -> Iterator[Callable[[], None]]:
    """Replace the forward of the block's modules; gives what undoes it."""
    entered: list[Streams] = []
    for number, name in enumerate(each.modules):
        module = network.get_submodule(name)
        leaves = number == len(each.modules) - 1
        make = _leaving if leaves else _passing
        yield _replace(module, _untraced(make(played, each, cells, module.forward, entered, number)))


def _replace(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    before = module.__dict__.get("forward")
    module.forward = forward  # type: ignore[method-assign]

    def restore() -> None:
        if before is None:
            del module.forward
        else:
            module.forward = before

    return restore


@contextmanager
def replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """The module with another forward, which is kept out of compiled graphs; afterwards it is as it was."""
    restore = _replace(module, _untraced(forward))
    try:
        yield
    finally:
        restore()


def _untraced(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Kept out of compiled graphs, which would freeze one row's decision; the module's own forward is compiled."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled; importing it takes seconds
        return forward
    return torch.compiler.disable(forward, recursive=False)  # type: ignore[no-any-return]


def _passing(
    played: Played, each: Block, cells: Sequence[Cell], own: Callable[..., Any], entered: list[Streams], number: int
) -> Callable[..., Any]:
    """Forward of a module that is not the block's last: run, or pass on what flows."""
    form, watched = each.forms[number], each.name in played.watch
    notes = number == 0 and each.kind == "residual"  # what the branch is measured from

    def forward(*args: Any, **kwargs: Any) -> Any:
        cell = cells[played.now]
        if cell.terms is not None:
            return form.made(form.taken(args, kwargs))
        if notes and (cell.keep or watched) and played.now >= 0:
            entered[:] = [form.taken(args, kwargs)]
        return own(*args, **kwargs)

    return forward


def _leaving(
    played: Played, each: Block, cells: Sequence[Cell], own: Callable[..., Any], entered: list[Streams], number: int
) -> Callable[..., Any]:
    """Forward of the block's last module: run and keep the branch, or give what the shortcut says."""
    form, name, residual = each.forms[number], each.name, each.kind == "residual"
    watched = name in played.watch
    seen = -1

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        if played.now < 0:
            return own(*args, **kwargs)
        if seen == played.call:
            raise InputError(f"block {name!r} is used twice in one call: blocks share state")
        seen = played.call
        cell = cells[played.now]
        if cell.terms is None:
            output = own(*args, **kwargs)
            if cell.keep or watched:
                streams = form.apart(output)
                if residual:
                    streams = _minus(streams, entered.pop() if number else form.taken(args, kwargs))
                _keep(played, name, streams)
            return output
        taken = form.taken(args, kwargs)
        branch = _forecast(played, name, cell, taken)
        if cell.keep or watched:
            _keep(played, name, branch)
        if played.drop and not played.left:
            for j in cell.done:
                del played.branches[j][name]
        return form.made(_plus(taken, branch) if residual else branch)

    return forward


def _keep(played: Played, name: str, streams: Streams) -> None:
    played.branches.setdefault(played.row, {}).setdefault(name, {})[played.conditions] = streams


def _forecast(played: Played, name: str, cell: Cell, taken: Streams) -> Streams:
    """sum_j weights_j y_j + offset, of the same passes; zero where there is neither."""
    total: Streams | None = None
    for j, weight in cell.terms or ():
        kept = played.branches.get(j, {}).get(name)
        if kept is None:
            raise InputError(f"block {name!r} needs its branch of row {j}, which was not kept when that row was played")
        branch = selected(kept, played.conditions)
        if total is None:
            total = branch if _is_one(weight) else tuple(None if y is None else weight * y for y in branch)
        else:
            total = tuple(_add(s, weight, y) for s, y in zip(total, branch, strict=True))
    if total is None:
        total = tuple(None if y is None else torch.zeros_like(y) for y in taken)
    if isinstance(cell.offset, Tensor) or cell.offset != 0:
        total = tuple(None if s is None else s + cell.offset for s in total)
    return total


def _add(total: Tensor | None, weight: Coefficient, y: Tensor | None) -> Tensor | None:
    if total is None or y is None:
        return None
    return total + weight * y if isinstance(weight, Tensor) else torch.add(total, y, alpha=weight)


def _is_one(weight: Coefficient) -> bool:
    return not isinstance(weight, Tensor) and weight == 1.0


def selected(kept: Kept, conditions: tuple[str, ...]) -> Streams:
    """The branch of these passes, put together from calls that held them in another order or apart."""
    if conditions in kept:
        return kept[conditions]
    parts: list[Streams] = []
    for condition in conditions:
        held, streams = next((held, streams) for held, streams in kept.items() if condition in held)
        at = held.index(condition)
        parts.append(tuple(None if y is None else y.chunk(len(held))[at] for y in streams))
    return tuple(None if ys[0] is None else torch.cat(ys) for ys in zip(*parts, strict=True))


def _plus(one: Streams, other: Streams) -> Streams:
    return tuple(None if a is None or b is None else a + b for a, b in zip(one, other, strict=True))


def _minus(one: Streams, other: Streams) -> Streams:
    return tuple(None if a is None or b is None else a - b for a, b in zip(one, other, strict=True))
