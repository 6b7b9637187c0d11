"""Quality against cost as inline SVG: typical error (log) over network evaluations, with 95 % intervals of what matters.

At each cost the plan found stands right of the middle and the best standard sampler left of it, and the other standard
samplers spread further to the left, so that no mark covers another; their intervals are in their tooltips and in the table.

A plan that leaves blocks of the network out stands at as many evaluations of the whole network as have its multiply-adds.

Colours are classes that the page's style sheet defines for light and dark. Every text goes through escaping.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from fewer.evaluate.statistics.interval import Interval
from fewer.report.axis import Axis, BrokenAxis, count_ticks, log_ticks
from fewer.report.words import figure, span

Kind = Literal["standard", "best", "pipeline", "tuned"]
ORDER: tuple[Kind, ...] = ("standard", "best", "pipeline", "tuned")
LEAST = 1e-30  # an error below this is zero, which a logarithmic axis cannot show
DODGE = 8.0  # most pixels between a mark and the middle of its cost
LETTER = 7.2  # pixels of a letter of a label, on the safe side
SPACING = 5.4  # pixels between the marks of two standard samplers
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 30, 44  # margins of the plot in pixels


@dataclass(frozen=True)
class Point:
    """One plan in the chart: x = its cost, y = `error.value`. `entry` is the budget that the slider selects it by.

    whole_calls  how many whole calls have the plan's multiply-adds, where blocks are left out; else `nfe`
    """

    name: str
    kind: Kind
    nfe: int
    error: Interval | None
    entry: int | None = None
    whole_calls: float | None = None

    @property
    def x(self) -> float:
        """The cost."""
        return self.nfe if self.whole_calls is None else self.whole_calls

    @property
    def y(self) -> float:
        """The value; > LEAST for every point that is drawn."""
        return 0.0 if self.error is None else self.error.value

    @property
    def title(self) -> str:
        """The tooltip."""
        ends = f"95 % interval {span(self.error)}"
        cost = "" if self.x == self.nfe else f", with the multiply-adds of {figure(self.x)}"
        return f"{self.name}\n{self.nfe:,} network evaluations{cost}\ntypical error {figure(self.error)}, {ends}"


@dataclass(frozen=True)
class Chart:
    """The drawing at two widths, and the number of points above its top."""

    wide: Markup
    narrow: Markup
    above: int


@dataclass(frozen=True)
class Frame:
    """Both axes. Tuned plans stand `dodge` pixels to the right and standard ones to the left of their cost."""

    x: BrokenAxis
    y: Axis
    dodge: float
    width: int
    base: float

    def place(self, point: Point) -> tuple[float, float]:
        """The pixels of a point that has no neighbours."""
        side = {"tuned": self.dodge, "pipeline": 0.0}.get(point.kind, -self.dodge)
        return self.x(point.x) + side, self.y(point.y)

    def spread(self, points: Sequence[Point]) -> list[tuple[float, float]]:
        """The pixels of points, of which those of one cost go to the left until they do not touch, as far as there is room."""
        columns: dict[float, list[tuple[float, float]]] = {}
        for point in points:
            x, y = self.place(point)
            taken = columns.setdefault(point.x, [])
            free = self.x(point.x) - self.x.room * 0.9
            x -= self.dodge
            while x - SPACING >= free and any(math.hypot(x - a, y - b) < SPACING for a, b in taken):
                x -= 1
            taken.append((x, y))
        places = {cost: iter(taken) for cost, taken in columns.items()}
        return [next(places[point.x]) for point in points]


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
    others = [p for p in points if p.kind == "standard"]
    parts += [_mark(p, *place) for p, place in zip(others, frame.spread(others), strict=True)]
    for kind in ("best", "tuned"):
        places = [frame.place(p) for p in points if p.kind == kind]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(kind, path))
    for p in (p for p in points if p.kind != "standard"):
        parts += [_whisker(p, frame), _mark(p, *frame.place(p))]
    parts += _labels(points, frame) if labels else []
    title = "Typical error against network evaluations per sample"
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, title)
    return head + Markup("\n").join(parts) + Markup("</svg>")


def _frame(points: list[Point], width: int, height: int) -> Frame:
    x = BrokenAxis(sorted({p.x for p in points}), LEFT, width - RIGHT)
    # an interval that reaches far, or below 0, ends at the edge instead of setting the scale
    tuned = [p for p in points if p.kind != "standard"]
    ends = [end for p in tuned if p.error for end in (p.error.low, p.error.high) if p.y / 3 < end < p.y * 3]
    values = [p.y for p in points] + ends
    y = Axis(min(values) / 1.3, max(values) * 1.2, height - BOTTOM, TOP, True)
    return Frame(x, y, min(DODGE, x.room / 2.5), width, height - BOTTOM)


def _axes(frame: Frame, calls: list[int], height: int) -> list[Markup]:
    end = frame.width - RIGHT
    parts = [_text("axis-title", 0, 12, "start", "typical error (data units, log scale)")]
    for value in log_ticks(frame.y.low, frame.y.high, 7):
        y = frame.y(value)
        parts += [_line("rule", LEFT, y, end, y), _text("tick", LEFT - 8, y + 4, "end", f"{value:.3g}")]
    parts.append(_line("axis", LEFT, frame.base, end, frame.base))
    for count in count_ticks(frame.x, calls):
        x = frame.x(count)
        parts += [_line("axis", x, frame.base, x, frame.base + 4)]
        parts += [_text("tick", x, frame.base + 18, "middle", f"{count:,}")]
    for x in frame.x.breaks:
        parts.append(_line("gap", x - 4, frame.base, x + 4, frame.base))
        parts += [_line("cut", x + dx - 2, frame.base + 5, x + dx + 2, frame.base - 5) for dx in (-4, 4)]
    cut = ", cut where // stands" if frame.x.breaks else ""
    return [*parts, _text("axis-title", end, height - 6, "end", f"network evaluations per sample{cut}")]


def _whisker(point: Point, frame: Frame) -> Markup:
    """The interval of a point, nothing where it has none."""
    if point.error is None or not point.error.bounded:
        return Markup("")
    x = frame.place(point)[0]
    line = _line("whisker", x, frame.y(point.error.low), x, frame.y(point.error.high))
    return Markup('<g class="mark {}">{}</g>').format(point.kind, line)


def _mark(point: Point, x: float, y: float) -> Markup:
    parts = [Markup("<title>{}</title>").format(point.title)]
    if point.kind == "pipeline":
        corners = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
        parts.append(Markup('<polygon points="{}"/>').format(corners))
    else:
        radius = {"standard": 2.4, "best": 4.0, "tuned": 4.5}[point.kind]
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(x, y, radius))
    entry = Markup("") if point.entry is None else Markup(' data-point="{}"').format(point.entry)
    return Markup('<g class="mark {}"{}>').format(point.kind, entry) + Markup("").join(parts) + Markup("</g>")


def _labels(points: list[Point], frame: Frame) -> list[Markup]:
    """Name and value beside the dearest plan of each kind that matters, at the first place that no other label has."""
    last = {p.kind: p for p in points if p.kind != "standard"}
    parts: list[Markup] = []
    taken: list[tuple[float, float]] = []  # left edge and height of the labels so far; all go to the right
    for point in sorted(last.values(), key=lambda p: -frame.place(p)[1]):
        x, y = frame.place(point)
        said = f"{point.name if len(point.name) <= 28 else point.name[:27] + '…'}, {figure(point.y)}"
        width = LETTER * len(said)
        places = [(x + 12, y + 4 + dy) for dy in (0, -16, 16, -32, 32)]
        places += [(frame.width - width, y + dy) for dy in (-14, 22, -30)]
        for left, height in places:
            apart = all(abs(height - other) >= 14 or left + width < edge for edge, other in taken)
            if apart and TOP < height < frame.base - 2 and left + width <= frame.width:
                taken.append((left, height))
                parts.append(_text(f"label {point.kind}", left, height, "start", said))
                break
    return parts


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    line = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    return line.format(kind, x1, y1, x2, y2)


def _text(kind: str, x: float, y: float, anchor: str, text: str) -> Markup:
    form = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return form.format(kind, x, y, anchor, text)
