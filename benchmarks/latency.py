"""How well the latency table tells a plan's time.

    python -m benchmarks.latency [--plans 30] [--batch 8] [--repeats 9]

Random plans (several solvers, 2 to 20 calls, half of them guided) of `digits` and `dit-digits`. All of them are timed,
in shuffled rounds on pinned threads, together with the readings that a table is made of. Two tables predict: one from
the same rounds, which tests the table's form, and one measured before the plans, as a user's is, which also bears the
machine's drift in between. Writes benchmarks/results/latency.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fewer
from fewer.claims.evaluate.latency import random_plans, runs
from fewer.evaluate.cost.clock import clock, median
from fewer.evaluate.cost.latency import LatencyTable, fit, latency_table, sides
from fewer.evaluate.statistics.interval import Interval
from fewer.plan import Plan
from fewer.versions import versions

MODELS = ("digits", "dit-digits")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {name: value for name, value in vars(arguments).items() if name != "threads"}
    found["models"] = {name: _model(name, arguments) for name in MODELS}
    found["versions"] = versions()
    where = Path(__file__).parent / "results" / "latency.json"
    where.parent.mkdir(exist_ok=True)
    where.write_text(json.dumps(found, indent=1) + "\n")


def _model(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    model, batch = fewer.load(name), arguments.batch
    plans = random_plans(model, arguments.plans, arguments.seed)
    before = latency_table(model, (batch,))
    seconds = clock({**sides(model, (batch,)), **runs(model, plans, batch)}, repeats=arguments.repeats)
    together = fit(model, (batch,), seconds)
    found = {
        "table from the same rounds": _errors(together, plans, seconds, batch),
        "table measured before": _errors(before, plans, seconds, batch),
        "calls in ms": {passes: by_batch[batch] for passes, by_batch in together.calls.items()},
        "plans": [
            {
                "plan": plan.name,
                "measured ms": _milliseconds(seconds[key]).to_dict(),
                "predicted ms": together.predict(plan, batch),
            }
            for key, plan in plans.items()
        ],
    }
    print(name, json.dumps({key: value for key, value in found.items() if key != "plans"}, indent=1))
    return found


def _errors(table: LatencyTable, plans: dict[str, Plan], seconds: dict[str, Interval], batch: int) -> dict[str, Any]:
    """|predicted / measured - 1| over the plans: median with interval, 95th percentile, and the signed median."""
    signed = [table.predict(plan, batch) / (1e3 * seconds[key].value) - 1 for key, plan in plans.items()]
    off = np.abs(signed)
    return {
        "median error": median(off.tolist()).to_dict(),
        "95th percentile": float(np.percentile(off, 95)),
        "median of predicted / measured": 1 + float(np.median(signed)),
    }


def _milliseconds(seconds: Interval) -> Interval:
    return Interval(1e3 * seconds.value, 1e3 * seconds.low, 1e3 * seconds.high, seconds.n)


if __name__ == "__main__":
    main()
