"""The blocks column of a plan made ready for a model: what each block does in each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Coefficient, Row
from fewer.shortcuts.find import Block, block


@dataclass(frozen=True, slots=True)
class Cell:
    """What a block does in a row.

    terms   (row, weight) of the earlier branches that it weighs; None where it runs
    keep    whether a later row names this one, so that the branch must be kept
    done    rows whose branches no later row names
    """

    terms: tuple[tuple[int, Coefficient], ...] | None = None
    offset: Coefficient = 0.0
    keep: bool = False
    done: tuple[int, ...] = ()


RUN = Cell()
Cells = Mapping[str, Cell]  # of a row, by block; those that it does not name run and are not kept


def bound(model: Model, rows: Sequence[Row]) -> list[Cells]:
    """The cells of each row. Tensors are put on the model's device, in its dtype.

    Raises InputError for blocks that the network has not, for rows that name blocks which share modules, skip what is
    not residual, or name a branch of a row that left out a block around it.
    """
    found = {name: block(model, name) for row in rows for name in row.blocks}
    if not found:
        return [{}] * len(rows)
    _check(rows, found)
    last: dict[tuple[str, int], int] = {}
    for n, row in enumerate(rows):
        last.update({(name, j): n for name, cell in row.blocks.items() for j in cell.weights})
    column: list[dict[str, Cell]] = [{} for _ in rows]
    for name, j in last:
        column[j][name] = Cell(keep=True)
    for n, row in enumerate(rows):
        for name, cell in row.blocks.items():
            terms = tuple((j, _placed(model, weight)) for j, weight in cell.weights.items())
            done = tuple(j for j in cell.weights if last[name, j] == n)
            column[n][name] = Cell(terms, _placed(model, cell.offset), (name, n) in last, done)
    return list(column)


def _placed(model: Model, value: Coefficient) -> Coefficient:
    return value.to(device=model.device, dtype=model.dtype) if isinstance(value, Tensor) else value


def _check(rows: Sequence[Row], found: Mapping[str, Block]) -> None:
    around = {a: {b for b in found if a != b and found[a].overlaps(found[b])} for a in found}
    hidden = [{b for a in row.blocks for b in around[a]} for row in rows]
    for n, row in enumerate(rows):
        inside = sorted(hidden[n] & set(row.blocks))
        if inside:
            raise InputError(f"row {n} names blocks that share modules: {', '.join(inside[:3])}")
        for name, cell in row.blocks.items():
            if not cell.weights and not found[name].skippable:
                raise InputError(f"row {n} skips block {name!r}, which is not residual: it can be reused only")
            for j in cell.weights:
                if name in hidden[j]:
                    raise InputError(f"row {n} names block {name!r} in row {j}, which leaves out a block around it")
