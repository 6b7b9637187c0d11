"""Whether plans tuned on `digits` hold on fine-tunes of it, and at another resolution: `python -m benchmarks.transfer FOLDER`

FOLDER holds the fine-tunes of `benchmarks.fine_tunes`. On `digits` itself, on each fine-tune, and on `digits` at 12x12, plans
of 5 calls are held against the standard sampler that wins a race of all of them there on 32 noises, on 256 others:

    tuned       on digits, every number free
    consistent  on digits, every step exact on straight lines
    own         on the model itself, every number free
    warm        the same for about half as long, beginning with the plan tuned on digits

`fewer compare` does likewise, with all standard samplers on all noises. Writes benchmarks/results/transfer.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

import fewer
from fewer.evaluate.equal_cost import EqualCost, PlanVerdict
from fewer.evaluate.leaderboard import STANDARD_BASELINES
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import squared_errors
from fewer.evaluate.verdict import Verdict
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.samplers import standard_plans
from fewer.search.objective import Objective
from fewer.search.ranking import Ranking
from fewer.transfer import transferred

NFE, NOISES, FRESH, TRIALS = 5, 32, 32, 24
WARM_TRIALS = 13  # 4 from each of two plans, and 5 from the better
RACED, FINE, MARGIN = 32, 128, 0.05
ELSEWHERE = 1 << 21  # sample numbers of the race's noises
PLANS = {
    "tuned": "tuned on `digits`, every number free",
    "consistent": "tuned on `digits`, exact on straight lines",
    "own": "tuned on the model itself",
    "warm": "tuned on the model itself, from the first line's plan",
}
OUT = Path("benchmarks/results/transfer.json")


def models(folder: Path) -> dict[str, Model]:
    """The model that plans are tuned on, its fine-tunes, and itself at another size of sample."""
    digits = fewer.load("digits")
    there = {name: fewer.load(folder / f"digits-{name}") for name in ("negated", "thick")}
    wide = replace(digits, shape=(1, 12, 12), name="digits at 12x12", hash=f"{digits.hash} 12")
    return {"digits": digits, **there, "12x12": wide}


def tuned(model: Model, strategy: str, folder: Path, start: Plan | None = None) -> tuple[Plan, int, float]:
    """The plan of a short search, from standard plans or `start`, with its network evaluations and seconds; kept in the
    folder.
    """
    out = folder / f"plans/{model.name.replace(' ', '-')}-{strategy}{'' if start is None else '-warm'}"
    if not (out / "plan.json").exists():
        trials, starts = (TRIALS, []) if start is None else (WARM_TRIALS, [start])
        fewer.tune(
            model, NFE, strategy=strategy, noises=NOISES, fresh=FRESH, trials=trials, start_from=starts, out=out,
            resume=out.exists(),
        )  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    return Plan.load(out / "plan.json"), results["evaluations"], results["seconds"]


def paths(model: Model, noises: range, seed: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Starting noises, labels and the reference solution from them."""
    noise, labels = unit_noise(seed, noises, model.shape), model.labels(len(noises))
    return noise, labels, fewer.sample(model, reference_plan(model, FINE), noise=noise, labels=labels)


def best_standard(model: Model, seed: int) -> Plan:
    """The standard plan that wins the race on noises that nothing else is played on."""
    race = Ranking(Objective(model, *paths(model, range(ELSEWHERE, ELSEWHERE + RACED), seed)))
    plans = sorted(standard_plans(model, NFE), key=lambda plan: plan.name not in STANDARD_BASELINES)
    scores = [(score.value, i) for i, plan in enumerate(plans) if (score := race.score(plan)) is not None]
    return plans[min(scores)[1]]


def held(model: Model, plans: dict[str, Plan], n: int, seed: int) -> list[dict[str, Any]]:
    """A line for each plan on a model."""
    noise, labels, fine = paths(model, Stream.HELD_OUT.numbers(n), seed)
    rival = best_standard(model, seed)

    def errors(plan: Plan) -> Tensor:
        return squared_errors(fewer.sample(model, plan, noise=noise, labels=labels), fine)

    theirs, lines = errors(rival), []
    for name, plan in plans.items():
        moved, _ = transferred(model, plan)
        mine = errors(moved)
        ratio = paired.ratio(mine, theirs)
        verdict = Verdict(rival.name, MARGIN, paired.decide(ratio, MARGIN), ratio)
        found = PlanVerdict(moved.named(name), model, EqualCost.of(model, moved), verdict)
        rmse = {"plan_rmse": paired.rmse(mine).to_dict(), "standard_rmse": paired.rmse(theirs).to_dict()}
        lines.append({"model": model.name, "plan": name, **found.to_dict(), **rmse})
    return lines


def table(content: dict[str, Any]) -> str:
    """The page's table: each plan's error over that of the best standard sampler, a column a model."""
    lines = content["lines"]
    names = list(dict.fromkeys(line["model"] for line in lines))
    found = {(line["model"], line["plan"]): line for line in lines}
    rows = ["| plan of 5 calls | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for plan, what in PLANS.items():
        cells = [
            f"{Interval.from_dict(line['verdict']['ratio'])}" if (line := found.get((name, plan))) else "-"
            for name in names
        ]
        rows.append(f"| {what} | " + " | ".join(cells) + " |")
    baselines = {line["model"]: line["verdict"]["against"] for line in lines}
    rows.append("| *the best standard sampler there* | " + " | ".join(baselines[name] for name in names) + " |")
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Tune, play, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=OUT)
    given = parser.parse_args(argv)
    lines: list[dict[str, Any]] = []
    searches: list[dict[str, Any]] = []
    elsewhere: dict[str, Plan] = {}
    for name, model in models(given.folder).items():
        plans = dict(elsewhere)
        strategies = {"digits": ("gauss-newton", "gauss-newton-consistent"), "12x12": ()}.get(name, ("gauss-newton",))
        for strategy in strategies:
            plan, evaluations, seconds = tuned(model, strategy, given.folder)
            searches.append({"model": model.name, "strategy": strategy, "evaluations": evaluations, "seconds": seconds})
            if name == "digits":
                elsewhere["consistent" if strategy.endswith("consistent") else "tuned"] = plan
                plans = dict(elsewhere)
            else:
                plans["own"] = plan
                plan, evaluations, seconds = tuned(model, strategy, given.folder, elsewhere["tuned"])
                plans["warm"] = plan
                searches.append(
                    {"model": model.name, "strategy": "warm", "evaluations": evaluations, "seconds": seconds}
                )
        for line in held(model, plans, given.n, given.seed):
            print(line["says"], flush=True)
            lines.append(line)
        content = {"nfe": NFE, "n": given.n, "seed": given.seed, "lines": lines, "searches": searches}
        given.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
