"""Residual guidance: the pass without the label is made once, or never, and then stood for by the way to its data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.passes import Passes
from fewer.guidance.rule import Rule, guided
from fewer.plan import Plan
from fewer.registry import part

VIRTUAL = "virtual"  # the memory's name of the data D'


@part(
    "residual",
    title="Residual guidance: the unconditional pass stood for by the straight way to data known before",
    source="Kodaira et al. 2023, StreamDiffusion: A Pipeline-level Solution for Real-time Interactive Generation, arXiv:2312.12491",
    papers=(146,),
)
@dataclass(frozen=True)
class ResidualGuidance(Rule):
    """eps = delta eps' + scale (eps(label) - delta eps'), with eps' = (x - (1 - tau) D') / tau, the virtual residual noise.

    D' is data that a row before has left (`fresh` 1), or that whoever plays the rows has put into their memory: a frame that
    is being edited (`fewer.tasks.stream`). In the frame of plans, with delta = 1, that is D = D' + scale (D(label) - D').

    scale  1 is the conditional network where delta is 1
    delta  in [0, 1], the share of the negative noise: less guides less where D' is far from what the label wants
    fresh  1 makes the pass without the label in this row, takes its eps for eps', and leaves its data as D' for later rows;
           0 does not

    Raises InputError for numbers out of range, rows of fresh 0 before which nothing left data, and level 1 where delta is
    not 1.
    """

    scale: float
    delta: float = 1.0
    fresh: float = 1.0
    rule: ClassVar[str] = "residual"
    remembers: ClassVar[bool] = True
    ranges: ClassVar = {"delta": (0, 1), "fresh": (0, 1)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fresh not in (0, 1):
            raise InputError(f"guidance fresh is {self.fresh!r}; expected 0 or 1")

    @property
    def conditions(self) -> tuple[str, ...]:
        """Both in a fresh row, else the label alone."""
        return ("label", "empty") if self.fresh else ("label",)

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        with_label, *rest = passes.outputs(*self.conditions)
        if rest:
            residual = rest[0]
            passes.remember(**{VIRTUAL: passes.data(residual)})
        else:
            residual = (passes.x - _left_before(passes)) / passes.tau  # u' = eps' - D'
        u = guided(residual, with_label, self.scale)
        if self.delta == 1:
            return u
        away = 1 - passes.tau
        if not bool((away > 0).all() if isinstance(away, Tensor) else away > 0):
            raise InputError(
                "residual guidance with delta other than 1 needs levels below 1, where the noise is not all"
            )
        return u + (self.scale - 1) * (1 - self.delta) / away * passes.noise(residual)


def _left_before(passes: Passes) -> Tensor:
    """The data that the latest of the rows before has left."""
    past = passes.past or {}
    rows = [n for n, row in past.items() if n < passes.row and VIRTUAL in row.u]
    if not rows:
        raise InputError(
            f"residual guidance in row {passes.row}: no row before leaves data; give an earlier one fresh=1"
        )
    return past[max(rows)].u[VIRTUAL]


@part(
    "residual-once",
    title="Residual guidance with one unconditional pass, in the first row",
    source="Kodaira et al. 2023, StreamDiffusion: A Pipeline-level Solution for Real-time Interactive Generation, arXiv:2312.12491",
    papers=(146,),
)
def residual_once(plan: Plan, scale: float, delta: float = 1.0) -> Plan:
    """The plan with residual guidance whose one pass without the label is the first row's: rows + 1 passes in all."""
    rules = [ResidualGuidance(scale, delta, float(n == 0)) for n in range(len(plan.rows))]
    return replace(plan, rows=tuple(replace(row, guidance=rule) for row, rule in zip(plan.rows, rules, strict=True)))
