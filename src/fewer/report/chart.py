"""Quality against cost as inline SVG: paired RMSE (log) over network evaluations, with 95 % intervals.

A plan that leaves blocks of the network out stands at as many evaluations of the whole network as have its multiply-adds.

Colours are classes that the page's style sheet defines for light and dark. Every text goes through escaping.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from markupsafe import Markup

from fewer.evaluate.statistics.interval import Interval
from fewer.report.axis import Axis, count_ticks, log_ticks
from fewer.report.words import figure, span

Kind = Literal["standard", "best", "pipeline", "tuned"]
ORDER: tuple[Kind, ...] = ("standard", "best", "pipeline", "tuned")
LEAST = 1e-30  # an error below this is zero, which a logarithmic axis cannot show
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 30, 44  # margins of the plot in pixels


@dataclass(frozen=True)
class Point:
    """One plan in the chart: x = its cost, y = `rmse.value`. `entry` is the budget that the slider selects it by.

    whole_calls  how many whole calls have the plan's multiply-adds, where blocks are left out; else `nfe`
    """

    name: str
    kind: Kind
    nfe: int
    rmse: Interval | None
    entry: int | None = None
    whole_calls: float | None = None

    @property
    def x(self) -> float:
        """The cost."""
        return self.nfe if self.whole_calls is None else self.whole_calls

    @property
    def y(self) -> float:
        """The value; > LEAST for every point that is drawn."""
        return 0.0 if self.rmse is None else self.rmse.value

    @property
    def title(self) -> str:
        """The tooltip."""
        ends = f"95 % interval {span(self.rmse)}"
        cost = "" if self.x == self.nfe else f", with the multiply-adds of {figure(self.x)}"
        return f"{self.name}\n{self.nfe:,} network evaluations{cost}\npaired RMSE {figure(self.rmse)}, {ends}"


@dataclass(frozen=True)
class Chart:
    """The drawing at two widths, and the number of points above its top."""

    wide: Markup
    narrow: Markup
    above: int


@dataclass(frozen=True)
class Frame:
    """Both axes. Tuned plans stand `dodge` pixels to the right and standard ones to the left of their cost."""

    x: Axis
    y: Axis
    dodge: float
    width: int
    base: float

    def place(self, point: Point) -> tuple[float, float]:
        """The pixels of a point."""
        side = {"tuned": self.dodge, "pipeline": 0.0}.get(point.kind, -self.dodge)
        return self.x(point.x) + side, self.y(point.y)


def draw(points: Sequence[Point]) -> Chart | None:
    """The chart of all points with a positive value; None where there is none.

    The axis ends 10 times above the worst of the plans that matter (tuned, best standard, pipeline), so that a
    sampler that blows up does not flatten the rest; `above` counts the points left out for that.
    """
    points = [p for p in points if p.y > LEAST]
    if not points:
        return None
    ceiling = 10 * max((p.y for p in points if p.kind != "standard"), default=math.inf)
    shown = sorted((p for p in points if p.y <= ceiling), key=lambda p: (ORDER.index(p.kind), p.x, p.y))
    return Chart(_svg(shown, 940, 440, True), _svg(shown, 330, 330, False), len(points) - len(shown))


def _svg(points: list[Point], width: int, height: int, labels: bool) -> Markup:
    frame = _frame(points, width, height)
    parts = _axes(frame, [p.nfe for p in points if p.x == p.nfe], height)
    for kind in ("best", "tuned"):
        places = [frame.place(p) for p in points if p.kind == kind]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(kind, path))
    parts += [_mark(p, frame) for p in points]
    parts += _labels(points, frame) if labels else []
    title = "Paired RMSE against network evaluations per sample"
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, title)
    return head + Markup("\n").join(parts) + Markup("</svg>")


def _frame(points: list[Point], width: int, height: int) -> Frame:
    calls = sorted({p.x for p in points})
    log = calls[-1] / calls[0] > 6
    pad = 1.18 if log else 0.4 + 0.05 * (calls[-1] - calls[0])
    left, right = (calls[0] / pad, calls[-1] * pad) if log else (calls[0] - pad, calls[-1] + pad)
    x = Axis(left, right, LEFT, width - RIGHT, log)
    # an interval that reaches far, or below 0, ends at the edge instead of setting the scale
    ends = [end for p in points if p.rmse for end in (p.rmse.low, p.rmse.high) if p.y / 3 < end < p.y * 3]
    values = [p.y for p in points] + ends
    y = Axis(min(values) / 1.3, max(values) * 1.2, height - BOTTOM, TOP, True)
    spacing = min((x(b) - x(a) for a, b in pairwise(calls)), default=math.inf)
    return Frame(x, y, min(6.0, spacing / 5), width, height - BOTTOM)


def _axes(frame: Frame, calls: list[int], height: int) -> list[Markup]:
    end = frame.width - RIGHT
    parts = [_text("axis-title", 0, 12, "start", "paired RMSE (data units, log scale)")]
    for value in log_ticks(frame.y.low, frame.y.high, 7):
        y = frame.y(value)
        parts += [_line("rule", LEFT, y, end, y), _text("tick", LEFT - 8, y + 4, "end", f"{value:.3g}")]
    parts.append(_line("axis", LEFT, frame.base, end, frame.base))
    for count in count_ticks(frame.x, calls):
        x = frame.x(count)
        parts += [_line("axis", x, frame.base, x, frame.base + 4)]
        parts += [_text("tick", x, frame.base + 18, "middle", f"{count:,}")]
    scale = ", log scale" if frame.x.log else ""
    return [*parts, _text("axis-title", end, height - 6, "end", f"network evaluations per sample{scale}")]


def _mark(point: Point, frame: Frame) -> Markup:
    x, y = frame.place(point)
    parts = [Markup("<title>{}</title>").format(point.title)]
    if point.rmse is not None and point.rmse.bounded:
        parts.append(_line("whisker", x, frame.y(point.rmse.low), x, frame.y(point.rmse.high)))
    if point.kind == "pipeline":
        corners = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
        parts.append(Markup('<polygon points="{}"/>').format(corners))
    else:
        radius = {"standard": 3.2, "best": 4.0, "tuned": 4.5}[point.kind]
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(x, y, radius))
    entry = Markup("") if point.entry is None else Markup(' data-point="{}"').format(point.entry)
    return Markup('<g class="mark {}"{}>').format(point.kind, entry) + Markup("").join(parts) + Markup("</g>")


def _labels(points: list[Point], frame: Frame) -> list[Markup]:
    """Name and value to the right of the dearest plan of each kind that matters, where there is room.

    The pipeline stands alone, often at the right edge: its label goes above it.
    """
    last = {p.kind: p for p in points if p.kind != "standard"}
    parts: list[Markup] = []
    lowest = math.inf
    for point in sorted(last.values(), key=lambda p: -frame.place(p)[1]):
        x, y = frame.place(point)
        said = f"{point.name if len(point.name) <= 28 else point.name[:27] + '…'}, {figure(point.y)}"
        if point.kind == "pipeline":
            parts.append(_text("label pipeline", min(x + 8, frame.width), y - 12, "end", said))
        elif frame.x(point.x) + 24 + 7 * len(said) < frame.width:
            lowest = min(y + 4, lowest - 15)
            parts.append(_text(f"label {point.kind}", frame.x(point.x) + 20, lowest, "start", said))
    return parts


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    line = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    return line.format(kind, x1, y1, x2, y2)


def _text(kind: str, x: float, y: float, anchor: str, text: str) -> Markup:
    form = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return form.format(kind, x, y, anchor, text)
