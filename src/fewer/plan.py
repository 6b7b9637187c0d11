"""The plan: a table with one row per network call. It holds every sampler that is linear with Gaussian noise.

In the flow frame (see fewer.models.schedules), with state x = (1 - tau) D + tau eps and output u = eps - D:

    start    x_0 = scale z + sum_k gains_k <v_k, z> v_k + noise z_0 + offset
    row n    u_n = network(x_n, t_n), guided
             x_{n+1} = sum_{j <= n} (a_nj x_j + b_nj u_j) + noise_n z_n + offset_n         a_nn = 1 unless said, else 0

The time t_n that the network is told and the level tau_n where the state is are separate columns. Coefficients are
floats or tensors that broadcast to a sample. z is the starting noise, z_n fresh unit noise.

Within the network of row n, a block k that the row names in its `blocks` is not run. It gives instead a combination of
what it gave in earlier rows, y_n = sum_{j < n} w_nj y_j + offset_n (see `Shortcut`); all others run.

A row may call another network than the model's own: u means the same whichever network gave it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, finfo, float32

from fewer.errors import InputError

Coefficient = float | Tensor
LARGEST = finfo(float32).max  # what the engine computes in


class Guidance(Protocol):
    """How many passes a row makes, and how their outputs become one. A rule that draws noise has a true `draws`."""

    @property
    def rule(self) -> str:
        """The part's name."""

    @property
    def passes(self) -> int:
        """Network evaluations of a guided call."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """What each pass of the network is told in turn: "label", "empty" or another class ("reference")."""

    @property
    def remembers(self) -> bool:
        """Whether it looks at the passes of earlier rows, which the engine then keeps."""

    def parameters(self) -> dict[str, Any]:
        """What the plan file keeps of it: numbers and tuples of numbers."""

    def output(self, passes: Any) -> Tensor:
        """The guided u (n, *shape) of a row; `passes` (fewer.guidance.passes) makes its network calls."""


@dataclass(frozen=True)
class Start:
    """The state before the first call, at level `tau`: scale z + sum_k gains_k <v_k, z> v_k + noise z_0 + offset.

    `noise` is for samplers that add noise before their first call; `offset` for starts that know the data's mean;
    `directions` v (K, *shape), orthonormal, with `gains` (K,), for starts that know its covariance too.
    """

    tau: Coefficient
    scale: Coefficient
    noise: Coefficient = 0.0
    offset: Coefficient = 0.0
    directions: Tensor | None = None
    gains: Tensor | None = None


@dataclass(frozen=True)
class Shortcut:
    """What a block gives in a row that does not run it: y_n = sum_j weights_j y_j + offset, over earlier rows j.

    y is the block's branch (see fewer.shortcuts.find): what a residual block adds to what flows through it, else the
    block's output. Weights may be tensors that broadcast to a branch without its batch. A skip names no rows; a reuse
    is {j: 1}; forecasts weigh several rows; a scale and a shift per channel repair a reuse.
    """

    weights: Mapping[int, Coefficient] = field(default_factory=dict)
    offset: Coefficient = 0.0


@dataclass(frozen=True)
class Row:
    """One network call and the step after it. `guidance` None means one pass with the sample's own label.

    `offset` is added to every sample: solvers that know something of the model's mean output need it.
    `blocks` names the blocks of the network that this row does not run, and what they give instead.
    `network` is which one the row calls: 0 the model itself, k the k-th of its others, with t as that one tells times.
    """

    t: Coefficient
    tau: Coefficient
    b: Mapping[int, Coefficient]
    a: Mapping[int, Coefficient] | None = None
    noise: Coefficient = 0.0
    guidance: Guidance | None = None
    offset: Coefficient = 0.0
    blocks: Mapping[str, Shortcut] = field(default_factory=dict)
    network: int = 0

    @property
    def passes(self) -> int:
        """Network evaluations of this row."""
        return 1 if self.guidance is None else self.guidance.passes

    @property
    def conditions(self) -> tuple[str, ...]:
        """What each of the passes is told: the sample's "label", the "empty" one, or another ("reference")."""
        return ("label",) if self.guidance is None else self.guidance.conditions


@dataclass(frozen=True)
class Plan:
    """A start, rows, and the level where the last row ends (0: data).

    `model` is {"name", "hash"} of the model that it was made for, `others` those of the further networks that its rows
    call, `evidence` what was measured of it.
    """

    start: Start
    rows: tuple[Row, ...]
    end: Coefficient = 0.0
    name: str = "plan"
    model: Mapping[str, str] | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[Mapping[str, str], ...] = ()

    @property
    def nfe(self) -> int:
        """Network evaluations per sample; a row under classifier-free guidance costs 2."""
        return sum(row.passes for row in self.rows)

    @property
    def stochastic(self) -> bool:
        """Whether noise is drawn after the start, by rows or by their rules of guidance."""
        added = (self.start.noise, *(row.noise for row in self.rows))
        drawn = (getattr(row.guidance, "draws", False) for row in self.rows)
        return any(isinstance(c, Tensor) or c != 0 for c in added) or any(drawn)

    @property
    def levels(self) -> list[Coefficient]:
        """The level before each row, and after the last."""
        return [row.tau for row in self.rows] + [self.end]

    @property
    def networks(self) -> list[int]:
        """The networks that rows call, in the order of their first call."""
        return list(dict.fromkeys(row.network for row in self.rows))

    def named(self, name: str) -> Plan:
        """The same table under another name."""
        return replace(self, name=name)

    def save(self, path: str | Path) -> Path:
        """Write the plan as JSON, with safetensors beside it where coefficients are tensors; returns the path."""
        from fewer.planfile import write

        return write(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Plan:
        """Read and validate a plan file. Raises InputError that says what is wrong with it; never runs code."""
        from fewer.planfile import read

        return read(Path(path))

    def check(self, shape: tuple[int, ...] | None = None) -> Plan:
        """The plan itself, when every number of it makes sense; else InputError with the first that does not.

        Levels must not rise, but for plans that rise throughout (inversion) and rows that add noise (restart). With
        the `shape` of a sample, coefficients that are tensors must broadcast to it.
        """
        if not self.rows:
            raise InputError(f"plan {self.name!r} has no rows")
        for where, value in _numbers(self):
            finite = bool(value.isfinite().all()) if isinstance(value, Tensor) else abs(value) <= LARGEST
            if not finite:
                raise InputError(f"plan {self.name!r}: {where} is not finite")
            if shape is not None and isinstance(value, Tensor) and not _broadcasts(value.shape, shape):
                raise InputError(f"plan {self.name!r}: {where} has shape {tuple(value.shape)}; samples are {shape}")
        _check_directions(self, shape)
        _check_blocks(self)
        for n, row in enumerate(self.rows):
            for j in (*row.b, *(row.a or {})):
                if not 0 <= j <= n:
                    raise InputError(f"plan {self.name!r}: row {n} names call {j}, which has not been made")
        levels = [float(level) for level in self.levels]
        for n, level in enumerate([*levels, float(self.start.tau)]):
            if not 0 <= level <= 1:
                raise InputError(f"plan {self.name!r}: level {n} is {level:g}; levels lie in [0, 1]")
        if abs(float(self.start.tau) - levels[0]) > 1e-9:
            raise InputError(
                f"plan {self.name!r}: starts at level {float(self.start.tau):g}, its first row at {levels[0]:g}"
            )
        rises = [n for n, row in enumerate(self.rows) if levels[n + 1] > levels[n] and _is_zero(row.noise)]
        falls = any(after < before for before, after in pairwise(levels))
        if rises and falls:
            raise InputError(
                f"plan {self.name!r}: times out of order, the noise level rises after row {rises[0]} without added noise"
            )
        return self

    def from_level(self, tau: float) -> Plan:
        """The part of the plan at and below a level, for starts in the middle (image-to-image).

        It starts at the first row whose level is at most `tau`. Outputs that were not made are replaced by the oldest one
        that was, of the same passes where that level has such, so the plan stays exact on straight lines; rows that then
        move nothing (a second stage without its first) are left out. Blocks whose shortcut names a row that was not
        played are run. Raises InputError when no row is left or an earlier state is needed.
        """
        first = next((n for n, row in enumerate(self.rows) if float(row.tau) <= tau + 1e-12), len(self.rows))
        return self.from_row(first, f"at or below level {tau:.3g}: ask for a larger strength")

    def from_row(self, first: int, where: str = "that moves anything") -> Plan:
        """The part of the plan from row `first` on, as `from_level` has it; `where` ends the error of no row left.

        Raises InputError also for a row whose step takes the pass of the row before it, at the same level.
        """
        while 0 <= first < len(self.rows) and _wasted(self.rows, first):
            first += 1
        if not 0 <= first < len(self.rows):
            raise InputError(f"plan {self.name!r} has no row {where}")
        if first == 0:
            return self
        if _gives(self.rows, first - 1):
            raise InputError(
                f"plan {self.name!r} cannot start at row {first}, whose step takes the pass of row {first - 1} at the same level"
            )
        tau = float(self.rows[first].tau)
        rows = []
        for n, row in enumerate(self.rows[first:], first):
            b: dict[int, Coefficient] = {}
            for j, value in row.b.items():
                k = (j if j >= first else _stand_in(self.rows, j, first, n)) - first
                b[k] = b[k] + value if k in b else value
            a = None if row.a is None else {j - first: value for j, value in row.a.items()}
            if a is not None and min(a) < 0:
                raise InputError(f"plan {self.name!r} names states before level {tau:.3g} and cannot start there")
            rows.append(replace(row, a=a, b=b, blocks=_later(row.blocks, first)))
        start = Start(tau=rows[0].tau, scale=rows[0].tau)
        return replace(self, start=start, rows=tuple(rows), evidence={})

    def to_diffusers(self, trained: Any = None) -> Any:
        """The stock diffusers scheduler that comes closest to the plan, and how close: see fewer.integrations.export."""
        from fewer.integrations.export import to_diffusers

        return to_diffusers(self, trained)


def _is_zero(value: Coefficient) -> bool:
    return not bool(value.any()) if isinstance(value, Tensor) else value == 0


def _broadcasts(part: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    return len(part) <= len(whole) and all(p in (1, w) for p, w in zip(part[::-1], whole[::-1], strict=False))


def _check_directions(plan: Plan, shape: tuple[int, ...] | None) -> None:
    v, gains = plan.start.directions, plan.start.gains
    if v is None and gains is None:
        return
    if v is None or gains is None or gains.ndim != 1 or v.ndim < 2 or len(v) != len(gains):
        raise InputError(f"plan {plan.name!r}: start directions (K, *shape) and gains (K,) go together")
    if not bool(v.isfinite().all() & gains.isfinite().all()):
        raise InputError(f"plan {plan.name!r}: start directions or gains are not finite")
    if shape is not None and tuple(v.shape[1:]) != shape:
        raise InputError(f"plan {plan.name!r}: start directions are of shape {tuple(v.shape[1:])}; samples are {shape}")


def _check_blocks(plan: Plan) -> None:
    """Every shortcut names earlier rows of its network, which make all passes that it is needed for; numbers are finite."""
    for n, row in enumerate(plan.rows):
        if row.network < 0:
            raise InputError(f"plan {plan.name!r}: row {n} calls network {row.network}; expected 0 or more")
        for name, cell in row.blocks.items():
            what = f"plan {plan.name!r}: row {n} block {name!r}"
            if not name:
                raise InputError(f"{what}: the name is empty")
            for value in (*cell.weights.values(), cell.offset):
                if not (bool(value.isfinite().all()) if isinstance(value, Tensor) else math.isfinite(value)):
                    raise InputError(f"{what}: a weight or the offset is not finite")
            for j in cell.weights:
                if not 0 <= j < n:
                    raise InputError(f"{what} names row {j}; expected rows 0 .. {n - 1}")
                if plan.rows[j].network != row.network:
                    raise InputError(f"{what} names row {j}, which calls another network")
                missing = set(row.conditions) - set(plan.rows[j].conditions)
                if missing:
                    raise InputError(f"{what} names row {j}, which makes no pass with the {min(missing)} label")


def _later(blocks: Mapping[str, Shortcut], first: int) -> dict[str, Shortcut]:
    """The shortcuts that name rows from `first` on alone, counted from there."""
    return {
        name: replace(cell, weights={j - first: weight for j, weight in cell.weights.items()})
        for name, cell in blocks.items()
        if all(j >= first for j in cell.weights)
    }


def _wasted(rows: tuple[Row, ...], n: int) -> bool:
    """Whether row n, started without history, would be a call that moves nothing and is of no use to the next."""
    row = rows[n]
    still = row.a is None and _is_zero(row.noise) and abs(float(sum(row.b.values()))) < 1e-9
    return still and not _gives(rows, n)


def _gives(rows: tuple[Row, ...], n: int) -> bool:
    """Whether row n leaves the state to the next row, at the same level, whose step takes its output too."""
    row, then = rows[n], rows[n + 1 : n + 2]
    still = row.a is None and _is_zero(row.noise) and all(map(_is_zero, row.b.values()))
    return still and any(float(row.tau) == float(r.tau) and not _is_zero(r.b.get(n, 0.0)) for r in then)


def _stand_in(rows: tuple[Row, ...], j: int, first: int, n: int) -> int:
    """The row for row j, which was not played, in row n: of those from `first` on at its level the one of the same passes."""
    here = [k for k in range(first, n + 1) if float(rows[k].tau) == float(rows[first].tau)]
    return next((k for k in here if rows[k].conditions == rows[j].conditions), first)


def _numbers(plan: Plan) -> Iterator[tuple[str, Coefficient]]:
    for name in ("tau", "scale", "noise", "offset"):
        yield f"start {name}", getattr(plan.start, name)
    for n, row in enumerate(plan.rows):
        yield f"row {n} t", row.t
        yield f"row {n} tau", row.tau
        yield f"row {n} noise", row.noise
        yield f"row {n} offset", row.offset
        for letter, weights in (("a", row.a or {}), ("b", row.b)):
            for j, value in weights.items():
                yield f"row {n} {letter}[{j}]", value
        if row.guidance is not None:
            for name, given in row.guidance.parameters().items():
                for parameter in given if isinstance(given, tuple) else (given,):
                    yield f"row {n} guidance {name}", parameter
    yield "end", plan.end
