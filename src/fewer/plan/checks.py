"""Faults of a plan's table as text: numbers, shapes, levels and names that make no sense."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor, finfo, float32

from fewer.plan.row import Row, Start, is_zero
from fewer.plan.values import Coefficient

LARGEST = finfo(float32).max  # what the engine computes in


def faults(start: Start, rows: Sequence[Row], end: Coefficient, shape: tuple[int, ...] | None = None) -> Iterator[str]:
    """Faults of a start, rows and an end, in order; none for a table that can be played.

    With the `shape` of a sample, coefficients that are tensors must broadcast to it.
    """
    yield from _number_faults(start, rows, end, shape)
    yield from _direction_faults(start, shape)
    yield from _block_faults(rows)
    for n, row in enumerate(rows):
        for j in (*row.b, *(row.a or {})):
            if not 0 <= j <= n:
                yield f"row {n} names call {j}, which has not been made"
    yield from _level_faults(start, rows, end)


def _number_faults(start: Start, rows: Sequence[Row], end: Coefficient, shape: tuple[int, ...] | None) -> Iterator[str]:
    for where, value in _numbers(start, rows, end):
        finite = bool(value.isfinite().all()) if isinstance(value, Tensor) else abs(value) <= LARGEST
        if not finite:
            yield f"{where} is not finite"
        if shape is not None and isinstance(value, Tensor) and not _broadcasts(value.shape, shape):
            yield f"{where} has shape {tuple(value.shape)}; samples are {shape}"


def _numbers(start: Start, rows: Sequence[Row], end: Coefficient) -> Iterator[tuple[str, Coefficient]]:
    for name in ("tau", "scale", "noise", "offset"):
        yield f"start {name}", getattr(start, name)
    for n, row in enumerate(rows):
        yield f"row {n} tau", row.tau
        if row.t is not None:
            yield f"row {n} t", row.t
        yield f"row {n} noise", row.noise
        yield f"row {n} offset", row.offset
        for letter, weights in (("a", row.a or {}), ("b", row.b)):
            for j, value in weights.items():
                yield f"row {n} {letter}[{j}]", value
        if row.guidance is not None:
            for name, value in row.guidance.parameters().items():
                for parameter in value if isinstance(value, tuple) else (value,):
                    yield f"row {n} guidance {name}", parameter
    yield "end", end


def _broadcasts(part: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    return len(part) <= len(whole) and all(p in (1, w) for p, w in zip(part[::-1], whole[::-1], strict=False))


def _direction_faults(start: Start, shape: tuple[int, ...] | None) -> Iterator[str]:
    v, gains = start.directions, start.gains
    if v is None and gains is None:
        return
    if v is None or gains is None or gains.ndim != 1 or v.ndim < 2 or len(v) != len(gains):
        yield "start directions (K, *shape) and gains (K,) go together"
        return
    if not bool(v.isfinite().all() & gains.isfinite().all()):
        yield "start directions or gains are not finite"
    if shape is not None and tuple(v.shape[1:]) != shape:
        yield f"start directions are of shape {tuple(v.shape[1:])}; samples are {shape}"


def _block_faults(rows: Sequence[Row]) -> Iterator[str]:
    """Shortcuts must name earlier rows of the same network that make all passes of the row, with finite numbers."""
    for n, row in enumerate(rows):
        if row.network < 0:
            yield f"row {n} calls network {row.network}; expected 0 or more"
        for name, shortcut in row.blocks.items():
            what = f"row {n} block {name!r}"
            if not name:
                yield f"{what}: the name is empty"
            for value in (*shortcut.weights.values(), shortcut.offset):
                if not (bool(value.isfinite().all()) if isinstance(value, Tensor) else math.isfinite(value)):
                    yield f"{what}: a weight or the offset is not finite"
            for j in shortcut.weights:
                if not 0 <= j < n:
                    yield f"{what} names row {j}; expected rows 0 .. {n - 1}"
                    continue
                if rows[j].network != row.network:
                    yield f"{what} names row {j}, which calls another network"
                missing = set(row.conditions) - set(rows[j].conditions)
                if missing:
                    yield f"{what} names row {j}, which makes no pass with the {min(missing)} label"


def _level_faults(start: Start, rows: Sequence[Row], end: Coefficient) -> Iterator[str]:
    """Levels must lie in [0, 1] and fall, but in tables that rise throughout (inversion) and after added noise (restart)."""
    levels = [*(float(row.tau) for row in rows), float(end)]
    for n, level in enumerate([*levels, float(start.tau)]):
        if not 0 <= level <= 1:
            yield f"level {n} is {level:g}; levels lie in [0, 1]"
    if abs(float(start.tau) - levels[0]) > 1e-9:
        yield f"starts at level {float(start.tau):g}, its first row at {levels[0]:g}"
    rises = [n for n, row in enumerate(rows) if levels[n + 1] > levels[n] and is_zero(row.noise)]
    falls = any(after < before for before, after in pairwise(levels))
    if rises and falls:
        yield f"times out of order, the noise level rises after row {rises[0]} without added noise"
