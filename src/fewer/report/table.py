"""A plan as the table that a reader sees: one row per network call, in the flow frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fewer.plan import Coefficient, Guidance, Plan, Row
from fewer.report.words import figure

MOST_ROWS = 64


@dataclass(frozen=True)
class Line:
    """One row of the table, as text; weights has one cell per call so far, blocks one mark per block that some row leaves out."""

    call: str
    t: str
    tau: str
    s: str
    log_snr: str
    guidance: str = ""
    weights: tuple[str, ...] = ()
    absolute: bool = False
    states: str = ""
    noise: str = ""
    blocks: str = ""
    network: str = ""


@dataclass(frozen=True)
class Table:
    """The plan's lines between its start and its end; `more` rows are left out of long plans. Names do not compare.

    blocks     that some row leaves out, in the order of the lines' marks
    networked  whether some row calls a second network
    """

    name: str = field(compare=False)
    start: Line
    formula: str
    lines: tuple[Line, ...]
    end: Line
    columns: int
    guided: bool
    stateful: bool
    noisy: bool
    absolute: bool
    more: int
    blocks: tuple[str, ...] = ()
    networked: bool = False


def tabulate(plan: Plan) -> Table:
    """The table of a plan. Weights are b_nj / (tau_{n+1} - tau_n); where the level stands still, b_nj itself."""
    levels = [_number(level) for level in plan.levels]
    shown = plan.rows[:MOST_ROWS]
    blocks = sorted({name for row in plan.rows for name in row.blocks}, key=_natural)
    lines = tuple(_line(n, row, levels[n + 1] - levels[n], blocks, plan) for n, row in enumerate(shown))
    start = Line("start", "", *_level(_number(plan.start.tau)))
    end = Line("end", "", *_level(levels[-1]))
    return Table(
        name=plan.name,
        start=start,
        formula=_formula(plan),
        lines=lines,
        end=end,
        columns=len(lines),
        guided=any(line.guidance for line in lines),
        stateful=any(line.states for line in lines),
        noisy=any(line.noise for line in lines),
        absolute=any(line.absolute for line in lines),
        more=len(plan.rows) - len(shown),
        blocks=tuple(blocks),
        networked=any(row.network for row in shown),
    )


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """block.2 before block.10."""
    return [(word.isdigit(), int(word) if word.isdigit() else 0, word) for word in name.split(".")]


def _marks(row: Row, blocks: list[str]) -> str:
    """■ for a block that runs, □ for one that gives what it gave before, · for one that is skipped."""
    return "".join("■" if name not in row.blocks else "□" if row.blocks[name].weights else "·" for name in blocks)


def _network(row: Row, plan: Plan) -> str:
    """The name of the second network that a row calls, "" for the model's own."""
    there = 0 < row.network <= len(plan.others)
    return plan.others[row.network - 1].get("name", "") if there else f"network {row.network}" if row.network else ""


def _line(n: int, row: Row, step: float, blocks: list[str], plan: Plan) -> Line:
    still = abs(step) < 1e-12
    weights = tuple(_weight(row.b.get(j), 1.0 if still else step) for j in range(n + 1))
    return Line(
        str(n + 1), _places(row.t, 1), *_level(_number(row.tau)),
        guidance="" if row.guidance is None else _guidance(row.guidance), weights=weights, absolute=still,
        states=_states(n, row.a), noise="" if _zero(row.noise) else _places(row.noise, 4),
        blocks=_marks(row, blocks), network=_network(row, plan),
    )  # fmt: skip


def _level(tau: float) -> tuple[str, str, str]:
    """tau, s = tau / (1 - tau), log-SNR = -2 log s."""
    s = math.inf if tau >= 1 else tau / (1 - tau)
    log_snr = math.inf if s == 0 else -math.inf if s == math.inf else -2 * math.log(s)
    return figure(tau, 4), figure(s), figure(log_snr, 2)


def _weight(b: Coefficient | None, step: float) -> str:
    if b is None:
        return ""
    return "tensor" if isinstance(b, Tensor) else figure(b / step, 3)


def _guidance(guidance: Guidance) -> str:
    told = (value if isinstance(value, tuple) else (value,) for value in guidance.parameters().values())
    return " ".join([guidance.rule, *(figure(value) for values in told for value in values)])


def _states(n: int, a: Mapping[int, Coefficient] | None, offset: Coefficient = 0.0) -> str:
    """The states that the next one is made of, and what is added, where that is not the present one alone."""
    if _zero(offset) and (a is None or (set(a) == {n} and not isinstance(a[n], Tensor) and a[n] == 1)):
        return ""
    a = {n: 1.0} if a is None else a
    said = [f"{_places(value, 3)} x{_subscript(j)}" for j, value in sorted(a.items())]
    said += [] if _zero(offset) else [_places(offset, 3)]
    return " + ".join(said).replace("+ −", "− ")


def _formula(plan: Plan) -> str:
    terms = [(plan.start.scale, "z"), (plan.start.noise, "z′"), (plan.start.offset, "")]
    said = [f"{_places(value, 4)} {what}".strip() for value, what in terms if what == "z" or not _zero(value)]
    if plan.start.gains is not None:
        said.insert(1, f"{len(plan.start.gains)} directions of z")
    return "x₀ = " + " + ".join(said).replace("+ −", "− ")


def _places(value: Coefficient, places: int) -> str:
    return "tensor" if isinstance(value, Tensor) else figure(value, places)


def _number(value: Coefficient) -> float:
    return float(value)


def _zero(value: Coefficient) -> bool:
    return not isinstance(value, Tensor) and value == 0


def _subscript(n: int) -> str:
    return str(n).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
