"""Steps, blocks and both under one budget of multiply-adds, on the bundled networks: `python -m benchmarks.joint`.

From the best plan of 20 calls, at a share of its multiply-adds: the error on held-out noise of what each search finds with as
many network evaluations, with the milliseconds beside it. Prints one line a plan and writes them as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fewer.claims.bundled import CALLS, errors, model_of
from fewer.claims.search.joint import SPENT, blocks_alone, joint_plan, rows_of, steps_alone
from fewer.evaluate.cost.plans import clock
from fewer.evaluate.cost.price import plan_macs
from fewer.evaluate.statistics import paired
from fewer.plan import Plan


def measured(name: str, seed: int) -> list[dict[str, Any]]:
    """A line for the 20-call plan and for each search's plan."""
    model = model_of(name)
    plans: dict[str, Plan] = {
        f"{CALLS} calls": rows_of(name, CALLS),
        "steps": steps_alone(name, seed),
        "blocks": blocks_alone(name, seed),
        "steps and blocks": joint_plan(name, seed),
    }
    taken = clock(model, plans, batch=16)
    return [
        {
            "model": name, "free": free, "calls": plan.nfe, "macs": plan_macs(model, plan), "ms": taken[free].to_dict(),
            "paired_rmse": paired.rmse(errors(name, plan, seed)).to_dict(), "evaluations": SPENT[name],
        }
        for free, plan in plans.items()
    ]  # fmt: skip


def main() -> None:
    """Measure both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["dit-digits", "digits"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/joint.json"))
    given = parser.parse_args()
    lines = []
    for name in given.models:
        for line in measured(name, given.seed):
            print(
                f"{line['model']:<12} {line['free']:<18} {line['calls']:>3} calls {line['macs']:>12,} MACs "
                f"{line['ms']['value']:8.3f} ms  RMSE {line['paired_rmse']['value']:.4f} "
                f"[{line['paired_rmse']['low']:.4f}, {line['paired_rmse']['high']:.4f}]"
            )
            lines.append(line)
    given.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
