"""What hooks cost a call, and how well the latency table tells the time of plans with blocks.

    python -m benchmarks.shortcuts_clock [--models unet30m dit30m] [--batch 16] [--repeats 15] [--plans 10]

"hooks" is the time of a plan all of whose layers are under the rows' control and run, over that of the same plan without
hooks: the median of ratios of paired rounds, with its 95 % interval (aim: at most 1.02). "plans" are ones drawn at random,
each layer reused with a probability of its own plan: predicted over measured milliseconds, the table's own readings in
the same rounds. unet30m and dit30m have random weights (30 million, 32x32): they are for the clock alone. Writes
benchmarks/results/shortcuts_clock.json, or --out.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

import fewer
from benchmarks.shortcuts import load
from fewer.blocks.actions import RUN
from fewer.blocks.find import at_granularity
from fewer.blocks.pattern import with_cells
from fewer.engine import bind, play
from fewer.evaluate.cost.clock import clock, clock_ratio
from fewer.evaluate.cost.latency import block_shares, fit, sides
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan, Shortcut
from fewer.versions import versions

CALLS = 4
RESULTS = Path(__file__).parent / "results" / "shortcuts_clock.json"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["unet30m", "dit30m"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--plans", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    given = {name: getattr(arguments, name) for name in ("batch", "repeats", "plans", "threads", "seed")}
    found: dict[str, Any] = {**given, "calls": CALLS, "models": {}}
    for name in arguments.models:
        model = load(name)
        found["models"][name] = {
            "parameters": model.parameters,
            "hooks": hooks(model, arguments.batch, arguments.repeats),
            "plans": predicted(model, arguments.batch, arguments.repeats, arguments.plans, arguments.seed),
        }
        print(json.dumps({name: found["models"][name]}, indent=1), flush=True)
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(found | {"versions": versions()}, indent=1) + "\n")


def hooks(model: Model, batch: int, repeats: int) -> dict[str, Any]:
    """Time of a plan with every layer hooked and run, over the plan's own."""
    plan = fewer.standard("ddim", model, CALLS)
    steps = bind(model, plan)
    hooked = [
        replace(step, cells=dict.fromkeys((b.name for b in at_granularity(model, "layer")), RUN)) for step in steps
    ]
    x, labels = unit_noise(0, range(batch), model.shape), model.labels(batch)

    def side(steps: list[Any]) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return play(model, steps, x, labels)

        return run

    return clock_ratio(side(hooked), side(steps), repeats=repeats, warmup=2).to_dict()


def random_plan(model: Model, names: list[str], seed: int) -> Plan:
    """Rows after the first reuse each layer with a probability drawn once, from the row in which it last ran."""
    draw = random.Random(seed)
    plan, share, last = fewer.standard("ddim", model, CALLS), draw.random(), dict.fromkeys(names, 0)
    cells: list[dict[str, Shortcut]] = [{}]
    for n in range(1, CALLS):
        cells.append({name: Shortcut({last[name]: 1.0}) for name in names if draw.random() < share})
        last.update(dict.fromkeys(set(names) - set(cells[n]), n))
    return with_cells(plan, cells)


def predicted(model: Model, batch: int, repeats: int, count: int, seed: int) -> dict[str, Any]:
    """Predicted over measured milliseconds of random plans."""
    names = [block.name for block in at_granularity(model, "layer")]
    plans = {f"random {k}": random_plan(model, names, count * seed + k) for k in range(count)}

    def side(plan: Plan) -> Callable[[], object]:
        return lambda: fewer.sample(model, plan, batch, batch=batch)

    run = {name: side(plan) for name, plan in plans.items()}
    seconds = clock({**sides(model, (batch,)), **run}, repeats=repeats)
    table = fit(model, (batch,), seconds, shares={batch: block_shares(model, batch, names, repeats)})
    ratios = {
        name: {
            "cells left out": sum(len(row.blocks) for row in plan.rows),
            "measured ms": (ms := 1e3 * seconds[name].value),
            "predicted / measured": table.predict(plan, batch) / ms,
        }
        for name, plan in plans.items()
    }
    off = [abs(entry["predicted / measured"] - 1) for entry in ratios.values()]
    return {"median |predicted / measured - 1|": median(off), "largest": max(off), "each": ratios}


if __name__ == "__main__":
    main()
