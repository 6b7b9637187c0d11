"""A plan as the table that a reader sees: one row per network call, in the flow frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fewer.levels import half_log_snr, s_of_tau
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

    blocks  that some row leaves out, in the order of the lines' marks
    """

    name: str = field(compare=False)
    start: Line
    formula: str
    lines: tuple[Line, ...]
    end: Line
    more: int
    blocks: tuple[str, ...] = ()

    def has(self, column: str) -> bool:
        """Whether some line has an entry in a column."""
        return any(getattr(line, column) for line in self.lines)


def tabulate(plan: Plan) -> Table:
    """The table of a plan. Weights are b_nj / (tau_{n+1} - tau_n); where the level stands still, b_nj itself."""
    levels = [float(level) for level in plan.levels]
    shown = plan.rows[:MOST_ROWS]
    blocks = sorted({name for row in plan.rows for name in row.blocks}, key=_natural)
    return Table(
        plan.name,
        start=Line("start", "", *_level(float(plan.start.tau))),
        formula=_formula(plan),
        lines=tuple(_line(n, row, levels[n + 1] - levels[n], blocks, plan) for n, row in enumerate(shown)),
        end=Line("end", "", *_level(levels[-1])),
        more=len(plan.rows) - len(shown),
        blocks=tuple(blocks),
    )


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """block.2 before block.10."""
    return [(word.isdigit(), int(word) if word.isdigit() else 0, word) for word in name.split(".")]


def _marks(row: Row, blocks: list[str]) -> str:
    """■ for a block that runs, □ for one that gives what it gave before, · for one that is skipped."""
    return "".join("■" if name not in row.blocks else "□" if row.blocks[name].weights else "·" for name in blocks)


def _network(row: Row, plan: Plan) -> str:
    """The name of the second network that a row calls, "" for the model's own."""
    other = plan.others[row.network - 1] if 0 < row.network <= len(plan.others) else {}
    return (other.get("name") or f"network {row.network}") if row.network else ""


def _line(n: int, row: Row, step: float, blocks: list[str], plan: Plan) -> Line:
    still = abs(step) < 1e-12
    weights = tuple(_places(row.b[j] / (1.0 if still else step), 3) if j in row.b else "" for j in range(n + 1))
    return Line(
        str(n + 1), "" if row.t is None else _places(row.t, 1), *_level(float(row.tau)),
        guidance="" if row.guidance is None else _guidance(row.guidance), weights=weights, absolute=still,
        states=_states(n, row.a), noise="" if _zero(row.noise) else _places(row.noise, 4),
        blocks=_marks(row, blocks), network=_network(row, plan),
    )  # fmt: skip


def _level(tau: float) -> tuple[str, str, str]:
    """tau, s = tau / (1 - tau), log-SNR = -2 log s."""
    return figure(tau, 4), figure(s_of_tau(tau)), figure(2 * half_log_snr(tau), 2)


def _guidance(guidance: Guidance) -> str:
    values = (value if isinstance(value, tuple) else (value,) for value in guidance.parameters().values())
    return " ".join([guidance.rule, *(figure(value) for entries in values for value in entries)])


def _states(n: int, a: Mapping[int, Coefficient] | None) -> str:
    """The states that the next one is made of, where that is not the present one alone."""
    if a is None or (set(a) == {n} and not isinstance(a[n], Tensor) and a[n] == 1):
        return ""
    return _sum(f"{_places(value, 3)} x{_subscript(j)}" for j, value in sorted(a.items()))


def _formula(plan: Plan) -> str:
    terms = [(plan.start.scale, "z"), (plan.start.noise, "z′"), (plan.start.offset, "")]
    shown = [f"{_places(value, 4)} {what}".strip() for value, what in terms if what == "z" or not _zero(value)]
    if plan.start.gains is not None:
        shown.insert(1, f"{len(plan.start.gains)} directions of z")
    return "x₀ = " + _sum(shown)


def _sum(terms: Iterable[str]) -> str:
    return " + ".join(terms).replace("+ −", "− ")


def _places(value: Coefficient, places: int) -> str:
    return "tensor" if isinstance(value, Tensor) else figure(value, places)


def _zero(value: Coefficient) -> bool:
    return not isinstance(value, Tensor) and value == 0


def _subscript(n: int) -> str:
    return str(n).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
