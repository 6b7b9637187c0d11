"""The picture of a plan: levels, weights, passes and blocks of its rows as a small SVG, a column for each row.

It is drawn in the colour of the text around it, so that it can be read on light and on dark pages, and needs nothing else.
Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup
from torch import Tensor

from fewer.plan.row import Row
from fewer.plan.values import Coefficient

MOST_ROWS, MOST_BLOCKS = 60, 24  # that are drawn
LEFT, WIDTH = 104, 640  # pixels to the left of the columns, and of the whole picture
PANEL, CELL, GAP = 72, 12, 22  # height of the levels, of a line of cells at most, and between panels
POSITIVE, NEGATIVE = "#4a86d8", "#d9822b"  # read on white and on black

FRAME = Markup(
    '<rect x="{:.1f}" y="{}" width="{:.1f}" height="{:.1f}" fill="none" stroke="currentColor" stroke-dasharray="3 2"/>'
)


@dataclass
class _Canvas:
    """Shapes so far, and where the next panel begins."""

    column: float
    y: float = GAP
    shapes: list[Markup] = field(default_factory=list)

    def x(self, n: int) -> float:
        """The left edge of row n's column."""
        return LEFT + n * self.column

    def text(self, x: float, y: float, words: str, anchor: str = "start") -> None:
        """Words at a place."""
        form = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
        self.shapes.append(form.format(x, y, anchor, words))

    def cell(self, n: int, y: float, height: float, fill: str, share: float, title: str) -> None:
        """A cell in row n's column, `share` of it opaque, with a tooltip."""
        form = Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" fill-opacity="{:.2f}" stroke="currentColor"'
            ' stroke-opacity=".2"><title>{}</title></rect>'
        )
        self.shapes.append(form.format(self.x(n), y, self.column - 1, height - 1, fill, share, title))


def picture(rows: Sequence[Row], end: Coefficient, title: str, marked: Collection[int] = ()) -> Markup:
    """The SVG of a plan's rows and the level where the last one ends; columns of `marked` rows have a frame.

    Of long plans the first 60 rows are drawn, and 24 of their blocks.
    """
    shown = rows[:MOST_ROWS]
    canvas = _Canvas(min(44.0, (WIDTH - LEFT - 8) / (len(shown) + 1)))
    more = f" (the first {len(shown)} of {len(rows)} rows)" if len(shown) < len(rows) else ""
    canvas.text(0, 13, title + more)
    top = canvas.y
    levels = [float(level) for level in (*(row.tau for row in rows), end)]
    _levels(canvas, levels[: len(shown) + 1])
    _weights(canvas, shown, levels)
    if any(row.passes > 1 for row in shown):
        _passes(canvas, shown)
    if any(row.blocks for row in shown):
        _blocks(canvas, shown)
    _numbers(canvas, len(shown))
    for n in (n for n in marked if n < len(shown)):
        canvas.shapes.append(FRAME.format(canvas.x(n) - 1, top - 4, canvas.column + 1, canvas.y - top - GAP + 4))
    return _svg(canvas.y, canvas.shapes, title)


def _svg(height: float, shapes: Sequence[Markup], title: str) -> Markup:
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1:.0f}" width="{0}" height="{1:.0f}"'
        ' style="max-width:100%;height:auto" role="img" aria-label="{2}" fill="currentColor" font-family="sans-serif"'
        ' font-size="11">'
    )
    return head.format(WIDTH, height, f"plan {title}") + Markup("").join(shapes) + Markup("</svg>")


def _levels(canvas: _Canvas, levels: Sequence[float]) -> None:
    """The level of the state before each row and after the last, from 1 (noise) down to 0 (data)."""
    base, top = canvas.y + PANEL, max(1.0, *levels)
    canvas.text(0, canvas.y + 10, "level τ")
    canvas.text(LEFT - 8, canvas.y + 8, f"{top:g}", "end")
    canvas.text(LEFT - 8, base, "0", "end")
    places = [(canvas.x(n), base - level / top * PANEL) for n, level in enumerate(levels)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    line = '<polyline points="{}" fill="none" stroke="currentColor" stroke-opacity=".5"/>'
    canvas.shapes.append(Markup(line).format(path))
    dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>')
    for n, (x, y) in enumerate(places):
        title = f"before row {n + 1}" if n < len(levels) - 1 else "at the end"
        canvas.shapes.append(dot.format(x, y, f"{title}: tau = {levels[n]:.5g}"))
    canvas.y = base + GAP


def _weights(canvas: _Canvas, rows: Sequence[Row], levels: Sequence[float]) -> None:
    """How much each row's step takes of each output so far: b_nj over the step in tau, or b_nj where the level stands still."""
    height = min(CELL, 200 / len(rows))
    canvas.text(0, canvas.y + 10, "weights of")
    canvas.text(0, canvas.y + 23, "outputs")
    for k, (colour, sign) in enumerate(((POSITIVE, "above 0"), (NEGATIVE, "below 0"))):
        form = Markup('<text x="0" y="{:.1f}" fill="{}">{}</text>')
        canvas.shapes.append(form.format(canvas.y + 36 + 13 * k, colour, sign))
    steps = [b - a for a, b in pairwise(levels)]
    cells = [
        (n, j, _number(b) / (1.0 if abs(steps[n]) < 1e-12 else steps[n]), isinstance(b, Tensor))
        for n, row in enumerate(rows)
        for j, b in row.b.items()
    ]
    most = max((abs(weight) for _, _, weight, _ in cells), default=0.0) or 1.0
    for n, j, weight, tensor in cells:
        title = f"row {n + 1}: {weight:.4g}{' on average' if tensor else ''} of the output of row {j + 1}"
        share = 0.08 + 0.92 * abs(weight) / most
        canvas.cell(n, canvas.y + j * height, height, POSITIVE if weight >= 0 else NEGATIVE, share, title)
    canvas.y += max(50.0, len(rows) * height) + GAP


def _passes(canvas: _Canvas, rows: Sequence[Row]) -> None:
    """A mark for each network evaluation of a row."""
    most = max(row.passes for row in rows)
    canvas.text(0, canvas.y + 10, "passes")
    for n, row in enumerate(rows):
        for k in range(row.passes):
            title = f"row {n + 1}: {' and '.join(row.conditions)}"
            canvas.cell(n, canvas.y + (most - 1 - k) * CELL, CELL, "currentColor", 0.35, title)
    canvas.y += most * CELL + GAP


def _blocks(canvas: _Canvas, rows: Sequence[Row]) -> None:
    """Which blocks a row runs (filled), takes from earlier rows (pale) or skips (empty); those that all rows run are left out."""
    names = sorted({name for row in rows for name in row.blocks})
    canvas.text(0, canvas.y - 6, f"blocks that some row leaves out{_left_out(names)}")
    for k, name in enumerate(names[:MOST_BLOCKS]):
        y = canvas.y + k * CELL
        canvas.text(LEFT - 8, y + 9, name if len(name) <= 15 else f"…{name[-14:]}", "end")
        for n, row in enumerate(rows):
            shortcut = row.blocks.get(name)
            share, does = (
                (0.8, "run") if shortcut is None else (0.25, "reused") if shortcut.weights else (0.0, "skipped")
            )
            canvas.cell(n, y, CELL, "currentColor", share, f"row {n + 1}: {name} {does}")
    canvas.y += min(len(names), MOST_BLOCKS) * CELL + GAP


def _left_out(names: Sequence[str]) -> str:
    return f" (the first {MOST_BLOCKS} of {len(names)})" if len(names) > MOST_BLOCKS else ""


def _numbers(canvas: _Canvas, rows: int) -> None:
    """Row numbers below the columns, as far as there is room."""
    every = max(1, round(22 / canvas.column))
    canvas.text(0, canvas.y - 6, "row")
    for n in range(0, rows, every):
        canvas.text(canvas.x(n) + canvas.column / 2, canvas.y - 6, str(n + 1), "middle")
    canvas.y += GAP


def _number(value: Coefficient) -> float:
    """A coefficient as one number: the mean of a tensor."""
    return float(value.float().mean()) if isinstance(value, Tensor) else value
