"""Quality against cost as inline SVG: what plans were judged by over network evaluations, with 95 % intervals of what matters.

Errors and distances stand on a logarithmic axis; a figure that can be 0 or below, or of which more is better, on an even one.

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
from fewer.report.axis import Axis, BrokenAxis, count_ticks, even_ticks, log_ticks
from fewer.report.words import capital, figure, span
from fewer.results import Objective

Kind = Literal["standard", "best", "pipeline", "tuned"]
ORDER: tuple[Kind, ...] = ("standard", "best", "pipeline", "tuned")
PAIRED = Objective()  # errors of pairs
LEAST = 1e-30  # an error below this is zero, which a logarithmic axis cannot show
DODGE = 8.0  # most pixels between a mark and the middle of its cost
LETTER = 7.2  # pixels of a letter of a label, on the safe side
SPACING = 5.4  # pixels between the marks of two standard samplers
WIDE, NARROW = (940, 440), (330, 330)  # pixels; marks have labels at the first only
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 30, 44  # margins of the plot in pixels


@dataclass(frozen=True)
class Point:
    """One plan in the chart: x = its cost, y = `drawn.value`. `entry` is the budget that the slider selects it by.

    whole_calls  how many whole calls have the plan's multiply-adds, where blocks are left out; else `nfe`
    """

    name: str
    kind: Kind
    nfe: int
    drawn: Interval | None
    entry: int | None = None
    whole_calls: float | None = None

    @property
    def x(self) -> float:
        """The cost."""
        return self.nfe if self.whole_calls is None else self.whole_calls

    @property
    def y(self) -> float:
        """The value; nan where there is none, which is not drawn."""
        return math.nan if self.drawn is None else self.drawn.value

    def title(self, what: str) -> str:
        """The tooltip; `what` is the figure's name."""
        ends = f"95 % interval {span(self.drawn)}"
        cost = "" if self.x == self.nfe else f", with the multiply-adds of {figure(self.x)}"
        return f"{self.name}\n{self.nfe:,} network evaluations{cost}\n{what} {figure(self.drawn)}, {ends}"


@dataclass(frozen=True)
class Chart:
    """The drawing at two widths, and the number of points far beyond its end."""

    wide: Markup
    narrow: Markup
    beyond: int


@dataclass(frozen=True)
class Frame:
    """Both axes. Tuned plans stand `dodge` pixels to the right and standard ones to the left of their cost.

    what  the name of the figure that is drawn
    """

    x: BrokenAxis
    y: Axis
    dodge: float
    width: int
    base: float
    what: str

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


def draw(points: Sequence[Point], by: Objective = PAIRED) -> Chart | None:
    """The chart of all points with a finite value, of errors a positive one; None where there is none.

    by  what is drawn: its title, and whether higher is better

    The axis ends 10 times above the worst of the plans that matter (tuned, best standard, pipeline), an even axis 3 times their
    range beyond it, so that a sampler that blows up does not flatten the rest; `beyond` counts the points left out for that.
    """
    finite = [p for p in points if math.isfinite(p.y) and (p.y > LEAST or not by.paired)]
    if not finite:
        return None
    log = not by.higher and all(p.y > LEAST for p in finite)
    shown = sorted(_near(finite, by.higher, log), key=lambda p: (ORDER.index(p.kind), p.x, p.y))
    wide, narrow = (_svg(shown, size, log, by.title) for size in (WIDE, NARROW))
    return Chart(wide, narrow, len(finite) - len(shown))


def _near(points: list[Point], higher: bool, log: bool) -> list[Point]:
    """The points that are not far worse than the worst of those that matter."""
    sign = -1 if higher else 1
    losses = [sign * p.y for p in points if p.kind != "standard"]
    if not losses:
        return points
    worst = max(losses)
    end = 10 * worst if log else worst + 3 * _range(points)
    return [p for p in points if sign * p.y <= end]


def _range(points: list[Point]) -> float:
    """What differences between the plans that matter are seen against on an even axis: their range, or their intervals."""
    matter = [p for p in points if p.kind != "standard"] or points
    values = [p.y for p in matter]
    halves = [(p.drawn.high - p.drawn.low) / 2 for p in matter if p.drawn is not None and p.drawn.bounded]
    return max(values) - min(values) or min(halves, default=0.0) or abs(values[0]) or 1.0


def _svg(points: list[Point], size: tuple[int, int], log: bool, what: str) -> Markup:
    frame = _frame(points, size, log, what)
    height = size[1]
    parts = _axes(frame, [p.nfe for p in points if p.x == p.nfe], height)
    others = [p for p in points if p.kind == "standard"]
    parts += [_mark(p, what, *place) for p, place in zip(others, frame.spread(others), strict=True)]
    for kind in ("best", "tuned"):
        places = [frame.place(p) for p in points if p.kind == kind]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(kind, path))
    for p in (p for p in points if p.kind != "standard"):
        parts += [_whisker(p, frame), _mark(p, what, *frame.place(p))]
    parts += _labels(points, frame) if size == WIDE else []
    title = f"{capital(what)} against network evaluations per sample"
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(*size, title)
    return head + Markup("\n").join(parts) + Markup("</svg>")


def _frame(points: list[Point], size: tuple[int, int], log: bool, what: str) -> Frame:
    width, height = size
    x = BrokenAxis(sorted({p.x for p in points}), LEFT, width - RIGHT)
    low, high = _ends(points, log)
    return Frame(x, Axis(low, high, height - BOTTOM, TOP, log), min(DODGE, x.room / 2.5), width, height - BOTTOM, what)


def _ends(points: list[Point], log: bool) -> tuple[float, float]:
    """The ends of the upright axis. An interval that reaches far ends at its edge instead of setting the scale."""
    values, reach = [p.y for p in points], 1.5 * _range(points)
    for p in points:
        if p.kind != "standard" and p.drawn is not None:
            far = (p.y / 3, p.y * 3) if log else (p.y - reach, p.y + reach)
            values += [end for end in (p.drawn.low, p.drawn.high) if far[0] < end < far[1]]
    low, high = min(values), max(values)
    if log:
        return low / 1.3, high * 1.2
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _axes(frame: Frame, calls: list[int], height: int) -> list[Markup]:
    end = frame.width - RIGHT
    units = ", ".join(["data units"] * (frame.what == PAIRED.title) + ["log scale"] * frame.y.log)
    parts = [_text("axis-title", 0, 12, "start", f"{frame.what} ({units})" if units else frame.what)]
    ticks = log_ticks if frame.y.log else even_ticks
    for value in ticks(frame.y.low, frame.y.high, 7):
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
    if point.drawn is None or not point.drawn.bounded:
        return Markup("")
    x = frame.place(point)[0]
    line = _line("whisker", x, frame.y(point.drawn.low), x, frame.y(point.drawn.high))
    return Markup('<g class="mark {}">{}</g>').format(point.kind, line)


def _mark(point: Point, what: str, x: float, y: float) -> Markup:
    parts = [Markup("<title>{}</title>").format(point.title(what))]
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
