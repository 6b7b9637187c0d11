"""The leaderboard's plot: a panel a model, typical error (log) over network calls (log), a mark with its 95 % interval a row.

A model that has older rows alone is drawn by paired RMSE, and its panel says so. A model of both kinds is drawn by the newer rows.

Whiskers longer than the frame end there. The file carries its own colours for light and dark, ground included, so that
it is legible wherever it is shown. The marks differ in shape as well as in colour.
"""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

from fewer.report.axis import Axis, log_ticks

WIDE, HIGH, COLUMNS = 350, 270, 2  # of a panel, pixels
LEFT, RIGHT, TOP, BOTTOM, LEGEND = 52, 14, 34, 34, 34

NAMES = {
    "diffusers": "diffusers, best setting",
    "k-diffusion": "k-diffusion, best setting",
    "standard": "fewer, best standard plan",
    "tuned": "fewer.tune",
}
# Okabe & Ito 2008, told apart by colour-blind readers too; lighter on a dark ground
LIGHT = {"diffusers": "#0072b2", "k-diffusion": "#b85c00", "standard": "#00785a", "tuned": "#b0367f"}
DARK = {"diffusers": "#6cb8f0", "k-diffusion": "#f0a04b", "standard": "#3fcf9f", "tuned": "#f08cc4"}


def draw(models: dict[str, Any]) -> str:
    """The SVG file."""
    panels = list(models.items())
    rows = max(1, math.ceil(len(panels) / COLUMNS))
    width, height = COLUMNS * WIDE, LEGEND + rows * HIGH
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="Typical error against network calls, for each model">',
        f"<style>{_style()}</style>",
        f'<rect class="ground" width="{width}" height="{height}"/>',
        *_legend(),
    ]
    for n, (name, entry) in enumerate(panels):
        x, y = n % COLUMNS * WIDE, LEGEND + n // COLUMNS * HIGH
        parts += [f'<g transform="translate({x} {y})">', *_panel(name, entry["rows"]), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _style() -> str:
    def scheme(ground: str, text: str, rule: str, colours: dict[str, str]) -> str:
        marks = "".join(
            f".{name} .line,.{name} .whisker{{stroke:{colour}}}.{name} .mark{{fill:{colour}}}"
            for name, colour in colours.items()
        )
        return f".ground{{fill:{ground}}}text{{fill:{text}}}.rule{{stroke:{rule}}}{marks}"

    return (
        "text{font:11px system-ui,sans-serif}.head{font-weight:600;font-size:12px}.line,.whisker{fill:none;"
        "stroke-width:1.5}"
        + scheme("#ffffff", "#24292f", "#d8dee4", LIGHT)
        + f"@media (prefers-color-scheme:dark){{{scheme('#14181e', '#e2e6ea', '#3a424c', DARK)}}}"
    )


def _legend() -> list[str]:
    parts, x = [], 16.0
    for library, name in NAMES.items():
        parts += [f'<g class="{library}">', _mark(library, x, 18), f'<text x="{x + 10:.0f}" y="22">{name}</text></g>']
        x += 34 + 6.3 * len(name)
    return parts


def _panel(name: str, rows: dict[str, Any]) -> list[str]:
    judged = any("typical error" in row["diffusers"] for row in rows.values())
    key, title = ("typical error", "typical error") if judged else ("rmse", "by RMSE alone: paired RMSE")
    points = {
        library: [(int(nfe), row[library][key]) for nfe, row in rows.items() if key in row.get(library, {})]
        for library in NAMES
    }
    figures = [error for line in points.values() for _, error in line if error["value"] > 0]
    parts = [f'<text class="head" x="{LEFT}" y="14">{escape(name)}</text>']
    if not figures:
        return parts
    calls = sorted({nfe for line in points.values() for nfe, _ in line})
    x = Axis(calls[0] / 1.15, calls[-1] * 1.15, LEFT, WIDE - RIGHT, True)
    # an interval that reaches far ends at the frame instead of setting the scale
    low = min(max(f["low"], f["value"] / 3) for f in figures) / 1.2
    high = max(min(f["high"], f["value"] * 3) for f in figures) * 1.2
    y = Axis(low, high, HIGH - BOTTOM, TOP, True)
    parts.append(f'<text x="{LEFT}" y="28">{title}, log scale</text>')
    for value in log_ticks(low, high, 6):
        at = y(value)
        parts.append(f'<line class="rule" x1="{LEFT}" y1="{at:.1f}" x2="{WIDE - RIGHT}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for nfe in calls:
        parts.append(f'<text x="{x(nfe):.1f}" y="{HIGH - BOTTOM + 15}" text-anchor="middle">{nfe}</text>')
    parts.append(f'<text x="{WIDE - RIGHT}" y="{HIGH - 5}" text-anchor="end">network calls</text>')
    for n, (library, line) in enumerate(points.items()):
        places = [(x(nfe) + 4.5 * (n - 1.5), y(error["value"]), error) for nfe, error in line if error["value"] > 0]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b, _ in places)
        parts += [f'<g class="{library}">', f'<polyline class="line" points="{path}"/>']
        for a, b, error in places:
            ends = f'y1="{y(error["low"]):.1f}" x2="{a:.1f}" y2="{y(error["high"]):.1f}"'
            parts += [f'<line class="whisker" x1="{a:.1f}" {ends}/>', _mark(library, a, b)]
        parts.append("</g>")
    return parts


def _mark(library: str, x: float, y: float) -> str:
    if library == "diffusers":
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    corners = {
        "k-diffusion": ((-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)),
        "standard": ((0, -4.2), (4, 3.2), (-4, 3.2)),
        "tuned": ((0, -5), (4.4, 0), (0, 5), (-4.4, 0)),
    }[library]
    return f'<polygon class="mark" points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}"/>'
