"""Images a second at equal quality: a tuned plan, diffusers' pipeline and cache-dit, in one DiTPipeline on one machine.

    python -m benchmarks.throughput [--calls 5 | --plans FILE ...] [--device cpu] [--batch 64] [-n 128] [--repeats 31]

All play the same network from the same noises. The plan is what `fewer.tune` finds, put into the pipeline by
`fewer.apply`. Its baselines are the pipeline with its own scheduler and with UniPC-2, of diffusers' settings the best for
this model from 6 to 10 calls (docs/leaderboard.md), each as it is and under cache-dit. Of each rival's settings (steps, cache-dit's
threshold, warm-up and extrapolation) the one is timed that runs the fewest blocks of those whose error is not above the
plan's; it is chosen on the very noises that the errors are told of, which favours it. Errors are RMSE of the pipeline's
images to those of the reference solution, in [-1, 1].

Then all take turns in shuffled order: ratios are medians over rounds with 95 % intervals by order statistics. "compiled"
is torch.compile of the network, on a CUDA device also with CUDA graphs (mode "reduce-overhead"). Runs in an environment
that has cache-dit (`python -m benchmarks.leaderboard.environment FOLDER --of cache-dit` makes one), or without and says
so. Writes benchmarks/results/throughput-DEVICE.json.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fewer
from benchmarks.compiled import name_of
from benchmarks.dit_pipeline import SCHEDULERS, Cache, blocks_run, cache_dit, cached, images, noise_of, pipeline
from fewer.evaluate.cost.clock import median, rounds
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.versions import versions

MODEL = "dit-digits"
RESULTS = Path(__file__).parent / "results"
SEED = 12345
STEPS = (4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 23, 26, 30, 35, 40, 50, 70, 100)
CACHED_STEPS = (10, 12, 14, 16, 18, 20, 25, 30, 40, 50)
CACHES = [Cache(*each) for each in itertools.product((0.04, 0.08, 0.12, 0.16, 0.24), (8, 2), (False, True))]
SCREENED = 32  # noises on which a setting is played first
HOPELESS = 1.5  # times the plan's error there, above which it is not played on the others


@dataclass(frozen=True)
class Setting:
    """A rival's setting: diffusers' scheduler, its steps, and cache-dit's setting where that is used."""

    scheduler: str
    steps: int
    cache: Cache | None = None

    @property
    def rival(self) -> str:
        """Of which rival it is one."""
        return self.scheduler if self.cache is None else f"{self.scheduler}, cache-dit"

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.cache is None else f"{self.steps} steps, {self.cache}"

    def pipe(self, network: nn.Module) -> Any:
        """The pipeline so set."""
        scheduler = SCHEDULERS[self.scheduler]()
        return pipeline(network, scheduler) if self.cache is None else cached(network, scheduler, self.cache)


@dataclass(frozen=True)
class Tried:
    """A setting's squared errors on the noises that it was played on, and how many blocks it ran there."""

    setting: Setting
    errors: Tensor
    blocks: int

    @property
    def rmse(self) -> float:
        """Root mean squared error."""
        return float(self.errors.mean().sqrt())


def settings(with_cache: bool) -> Iterator[Setting]:
    """Every setting of every rival."""
    for scheduler in SCHEDULERS:
        yield from (Setting(scheduler, steps) for steps in STEPS)
        if with_cache:
            yield from (Setting(scheduler, *each) for each in itertools.product(CACHED_STEPS, CACHES))


def tried(setting: Setting, network: nn.Module, labels: list[int], target: Tensor, most: float) -> Tried:
    """The setting's errors on the benchmark's noises; on the first of them only, where they are far above `most` there."""
    pipe = setting.pipe(network)
    for n in (SCREENED, len(target)):
        with blocks_run(pipe.transformer) as count:
            made = images(pipe, setting.steps, labels[:n], SEED)
        found = Tried(setting, squared_errors(made, target[:n]), count[0])
        if found.rmse > HOPELESS * most:
            break
    return found


def baselines(found: Sequence[Tried], most: float, n: int) -> dict[str, Tried]:
    """Each rival's setting of the fewest blocks of those whose RMSE on all n noises is at most `most`; of as many blocks,
    that of the fewest steps.
    """
    best: dict[str, Tried] = {}
    for each in sorted(found, key=lambda each: (each.blocks, each.setting.steps)):
        if len(each.errors) == n and each.rmse <= most:
            best.setdefault(each.setting.rival, each)
    return best


def compiled(network: nn.Module) -> dict[str, nn.Module]:
    """Copies of the network under torch.compile."""
    modes = {"compiled": None}
    if network.device.type == "cuda":
        modes["compiled, CUDA graphs"] = "reduce-overhead"
    copies = {}
    for name, mode in modes.items():
        copies[name] = copy.deepcopy(network)
        copies[name].compile(mode=mode)
    return copies


def compare(
    model: Model, plan: Plan, found: Sequence[Tried], target: Tensor, batch: int, repeats: int, compile_too: bool
) -> dict[str, Any]:
    """The plan and its baselines at equal error, timed."""
    network = model.network.module

    def with_plan(network: nn.Module) -> Any:
        pipe = pipeline(network, SCHEDULERS["Euler (its own)"]())
        fewer.apply(plan, pipe, model)
        return pipe

    labels = [int(label) for label in model.labels(len(target))]
    own = squared_errors(images(with_plan(network), len(plan.rows), labels, SEED), target)
    best = baselines(found, float(own.mean().sqrt()), len(target))
    pipes = {"fewer": (with_plan(network), len(plan.rows))}
    pipes |= {name: (each.setting.pipe(network), each.setting.steps) for name, each in best.items()}
    for how, fast in (compiled(network) if compile_too else {}).items():
        pipes[f"fewer, {how}"] = with_plan(fast), len(plan.rows)
        for name, each in best.items():
            if each.setting.cache is None:
                pipes[f"{name}, {how}"] = each.setting.pipe(fast), each.setting.steps
    few = [int(label) for label in model.labels(batch)]

    def side(pipe: Any, steps: int) -> Callable[[], Tensor]:
        return lambda: images(pipe, steps, few, SEED)

    sides = {name: side(*given) for name, given in pipes.items()}
    seconds = rounds(sides, repeats)  # in whose first rounds, which do not count, networks are compiled
    rows = {}
    for name, taken in seconds.items():
        rows[name] = {
            "images a second": median([batch / s for s in taken]).to_dict(),
            "time / the plan's": median([s / o for s, o in zip(taken, seconds["fewer"], strict=True)]).to_dict(),
        }
    for name, each in best.items():
        told = {"setting": str(each.setting), "blocks run": each.blocks, "rmse": paired.rmse(each.errors).to_dict()}
        rows[name] = told | rows[name]
    blocks = len(plan.rows) * len(network.transformer_blocks)
    rows["fewer"] = {"setting": plan.name, "blocks run": blocks, "rmse": paired.rmse(own).to_dict()} | rows["fewer"]
    return {"calls": len(plan.rows), "plan": plan.name, "sides": rows}


def plans_of(files: Sequence[Path], calls: str, model: Model, evaluations: int | None) -> list[Plan]:
    """Those of the files; or tuned ones, kept in benchmarks/results for another run."""
    if files:
        return [Plan.load(path) for path in files]
    budgets = [int(n) for n in calls.split(",")]
    front = fewer.tune(model, nfe=budgets, seed=0, noises=128, fresh=64, evaluations=evaluations).front
    for outcome in front:
        outcome.plan.save(RESULTS / f"throughput-plan-{outcome.nfe}.json")
    return [outcome.plan for outcome in front]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="5")
    parser.add_argument("--plans", nargs="+", type=Path, default=[], help="plans to play instead of tuning some")
    parser.add_argument("--evaluations", type=int, help="most network evaluations of the search, of single samples")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    model = fewer.load(MODEL, device)
    try:
        library = f"cache-dit {cache_dit().__version__}"
    except ImportError as error:
        library = "none"
        print(f"without cache-dit: {error}", file=sys.stderr)
    RESULTS.mkdir(exist_ok=True)
    plans = plans_of(given.plans, given.calls, model, given.evaluations)
    noise, labels = noise_of(model, given.n, SEED), model.labels(given.n)
    made = [fewer.sample(model, plan, noise=noise, labels=labels) for plan in plans]
    fine = Evaluator(model, noise, labels).with_reference(made).reference
    assert fine is not None  # it was just made
    target = fine.samples.clamp(-1, 1)  # as the pipeline's images are
    listed = [int(label) for label in labels]
    network = model.network.module
    most = max(float(squared_errors(x.clamp(-1, 1), target).mean().sqrt()) for x in made)
    tries = [tried(setting, network, listed, target, most) for setting in settings(library != "none")]
    found = {
        "model": MODEL, "device": name_of(device), "threads": given.threads, "batch": given.batch, "n": given.n,
        "cache-dit": library, "reference": {"nfe": fine.nfe, "error": fine.error},
        "plans": [compare(model, plan, tries, target, given.batch, given.repeats, not given.no_compile) for plan in plans],
        "tried": [
            {"rival": t.setting.rival, "setting": str(t.setting), "blocks run": t.blocks, "rmse": t.rmse, "n": len(t.errors)}
            for t in tries
        ],
        "versions": versions(),
    }  # fmt: skip
    print(json.dumps({name: entry for name, entry in found.items() if name != "tried"}, indent=1))
    (RESULTS / f"throughput-{device.type}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
