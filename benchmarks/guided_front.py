"""Error against passes of guided plans on the bundled networks: `python -m benchmarks.guided_front`.

At every budget of passes at scale 2: the best standard plan guided in all rows; that plan with its levels and weights tuned; and
the plan whose passes and scales are searched, too. One search of each, stopped after a number of network evaluations, on its own
noises; errors are to the reference solution under constant guidance, from the same held-out noises. Writes figures with the plans
as JSON, and the picture as SVG.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from fewer.claims.search.guided_rows import SCALE, problem, rows_of_two, standards
from fewer.claims.search.joint import spend
from fewer.evaluate.statistics import paired
from fewer.plan import Plan
from fewer.plan.file import to_json
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.guided_rows import GuidedRows

CONSTANT, SEARCHED = (4, 6, 8, 10, 12, 16), (4, 6, 8, 10)  # budgets in passes
NOISES, FRESH = 32, 192  # of the search and of the comparison
SPENT = {"constant": 4_000, "searched": 9_000}  # network evaluations of a search, times its passes
WORDS = {
    "standard": "guided in all rows, best standard plan",
    "constant": "guided in all rows, levels and weights tuned",
    "searched": "passes, scales, levels and weights tuned",
}
COLOURS = {"standard": "#00785a", "constant": "#0072b2", "searched": "#b0367f"}  # after Okabe & Ito 2008
MARKERS = {"standard": "^", "constant": "o", "searched": "D"}
NEUTRAL = "#808080"  # legible on white and on black


def plans(of: Objective, name: str, passes: int, seed: int) -> dict[str, Plan]:
    """The plans of a budget."""
    bases = standards(of, name, passes)
    tuner = GaussNewton(starts=1)
    fixed = Space(of.model, bases[:1], frozenset({"guidance"}))
    found = {
        "standard": bases[0],
        "constant": tuner.choose(spend(tuner, of, fixed, SPENT["constant"] * passes, seed)).plan,
    }
    if passes in SEARCHED:
        freed, most = GuidedRows(grids=1), SPENT["searched"] * passes
        found["searched"] = freed.choose(spend(freed, of, Space(of.model, bases), most, seed)).plan
    return found


def measured(name: str, seed: int) -> list[dict[str, Any]]:
    """A line a plan, with its error and, for searched passes, its ratio to constant guidance of as many and of twice the passes."""
    of, fresh = problem(name, seed, NOISES), problem(name, seed, FRESH, 0)
    lines: list[dict[str, Any]] = []
    errors: dict[tuple[str, int], Tensor] = {}
    for passes in CONSTANT:
        for which, plan in plans(of, name, passes, seed).items():
            e = errors[which, passes] = fresh.squared_errors(plan)
            lines.append(
                {
                    "model": name, "scale": SCALE[name], "plan": which, "passes": plan.nfe, "rows": len(plan.rows),
                    "rows of two passes": int(rows_of_two(plan)), "paired_rmse": paired.rmse(e).to_dict(),
                    "median": float(e.median().sqrt()), "table": to_json(plan, {}),
                }
            )  # fmt: skip
            shown = {k: v for k, v in lines[-1].items() if k != "table"}
            print(json.dumps(shown), flush=True)
    for line in lines:
        if line["plan"] == "searched":
            mine = errors["searched", line["passes"]]
            line["ratios"] = {
                str(passes): paired.ratio(mine, errors["constant", passes]).to_dict()
                for passes in (line["passes"], 2 * line["passes"])
                if ("constant", passes) in errors
            }
            print(name, line["passes"], line["ratios"], flush=True)
    return lines


def draw(lines: list[dict[str, Any]], path: Path) -> None:
    """A panel a network: RMSE with its 95 % interval over passes, both logarithmic, and the median error dotted."""
    import matplotlib.pyplot as plt

    style: dict[Any, Any] = {"svg.hashsalt": "fewer", "svg.fonttype": "none", "font.size": 10} | dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), NEUTRAL
    )
    names = list(dict.fromkeys(line["model"] for line in lines))
    with plt.rc_context(style):
        figure, panels = plt.subplots(1, len(names), figsize=(4.4 * len(names), 3.8), squeeze=False, facecolor="none")
        for panel, name in zip(panels[0], names, strict=True):
            panel.set_facecolor("none")
            for which, label in WORDS.items():
                own = [line for line in lines if line["model"] == name and line["plan"] == which]
                at = [line["passes"] for line in own]
                value, low, high = ([line["paired_rmse"][end] for line in own] for end in ("value", "low", "high"))
                reach = [
                    [v - a for v, a in zip(value, low, strict=True)],
                    [b - v for v, b in zip(value, high, strict=True)],
                ]
                look = {"color": COLOURS[which], "linewidth": 1.5}
                panel.errorbar(at, value, reach, marker=MARKERS[which], markersize=5, label=label, **look)
                panel.plot(at, [line["median"] for line in own], linestyle=":", **look)
            panel.set(xscale="log", yscale="log", title=f"{name}, scale {SCALE[name]:g}", xlabel="passes a sample")
            panel.set_xticks(CONSTANT, map(str, CONSTANT))
            panel.minorticks_off()
            panel.grid(True, color=NEUTRAL, alpha=0.25, linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0][0].set_ylabel("paired RMSE to the reference solution")
        handles, words = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, words, loc="lower center", frameon=False, labelcolor=NEUTRAL)
        figure.tight_layout(rect=(0, 0.19, 1, 1))
        figure.savefig(path, metadata={"Date": None, "Creator": None}, transparent=True)
        plt.close(figure)


def main() -> None:
    """Measure and draw both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["digits", "dit-digits"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/guided_front.json"))
    parser.add_argument("--svg", type=Path, default=Path("docs/guided-front.svg"))
    parser.add_argument("--drawn", action="store_true", help="measure nothing: draw what the JSON file has")
    given = parser.parse_args()
    if given.drawn:
        lines = json.loads(given.json.read_text())
    else:
        lines = [line for name in given.models for line in measured(name, given.seed)]
        given.json.write_text(json.dumps(lines, indent=1) + "\n")
    draw(lines, given.svg)


if __name__ == "__main__":
    main()
