"""The blocks column of a plan bound to a model: the action of each block in each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fewer.blocks.find import Block, block
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Coefficient, Row


@dataclass(frozen=True, slots=True)
class BlockAction:
    """The action of a block in a row: run, or a weighted sum of its branches in earlier rows plus an offset.

    terms   (row, weight) of the earlier branches; None where the block runs
    keep    whether a later row names this row's branch, so that it must be kept
    done    rows whose branches no later row names
    """

    terms: tuple[tuple[int, Coefficient], ...] | None = None
    offset: Coefficient = 0.0
    keep: bool = False
    done: tuple[int, ...] = ()


RUN = BlockAction()
BlockActions = Mapping[str, BlockAction]  # of a row, by block; blocks without an entry run and are not kept


def bound(model: Model, rows: Sequence[Row]) -> list[BlockActions]:
    """The block actions of each row. Tensors are put on the model's device, in its dtype.

    Raises InputError for blocks that the network has not, for rows that name blocks which share modules, skip what is
    not residual, or name a branch of a row that left out a block around it.
    """
    named = {name: block(model, name) for row in rows for name in row.blocks}
    if not named:
        return [{}] * len(rows)
    _check(rows, named)
    last: dict[tuple[str, int], int] = {}
    for n, row in enumerate(rows):
        last.update({(name, j): n for name, shortcut in row.blocks.items() for j in shortcut.weights})
    column: list[dict[str, BlockAction]] = [{} for _ in rows]
    for name, j in last:
        column[j][name] = BlockAction(keep=True)
    for n, row in enumerate(rows):
        for name, shortcut in row.blocks.items():
            terms = tuple((j, _on_device(model, weight)) for j, weight in shortcut.weights.items())
            done = tuple(j for j in shortcut.weights if last[name, j] == n)
            column[n][name] = BlockAction(terms, _on_device(model, shortcut.offset), (name, n) in last, done)
    return list(column)


def _on_device(model: Model, value: Coefficient) -> Coefficient:
    return value.to(device=model.device, dtype=model.dtype) if isinstance(value, Tensor) else value


def _check(rows: Sequence[Row], named: Mapping[str, Block]) -> None:
    around = {a: {b for b in named if a != b and named[a].overlaps(named[b])} for a in named}
    hidden = [{b for a in row.blocks for b in around[a]} for row in rows]
    for n, row in enumerate(rows):
        inside = sorted(hidden[n] & set(row.blocks))
        if inside:
            raise InputError(f"row {n} names blocks that share modules: {', '.join(inside[:3])}")
        for name, shortcut in row.blocks.items():
            if not shortcut.weights and not named[name].skippable:
                raise InputError(f"row {n} skips block {name!r}, which is not residual: it can be reused only")
            for j in shortcut.weights:
                if name in hidden[j]:
                    raise InputError(f"row {n} names block {name!r} in row {j}, which leaves out a block around it")
