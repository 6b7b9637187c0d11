"""What the engine adds to a network's own time.

    python -m benchmarks.overhead [--model digits] [--batch 64] [--repeats 61]

Three sides take turns in shuffled order, threads pinned: `fewer.sample` on a plan, the same number of network calls in
a bare loop, and the loop of a diffusers pipeline around its own scheduler. Ratios are medians over rounds with 95 %
intervals by order statistics. The engine's and the scheduler's own work is less than the network's time varies, so the
two are also timed around a network that costs nothing. Writes benchmarks/results/overhead.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import diffusers
import torch
from torch import Tensor

import fewer
from fewer.engine import times
from fewer.evaluate.cost.clock import clock, clock_ratio
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.versions import versions


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=61)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = fewer.load(arguments.model)
    noise = unit_noise(0, range(arguments.batch), model.shape)
    labels = model.labels(arguments.batch)
    plan = fewer.standard("ddim", model, arguments.calls, "leading")
    told = [torch.full((arguments.batch,), float(t)) for t in times(model, plan)]
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(arguments.calls)
    module = model.network.module
    free = replace(model, network=lambda x, t, labels: noise)

    def engine(model: Model) -> Callable[[], object]:
        return lambda: fewer.sample(model, plan, noise=noise, labels=labels, batch=arguments.batch)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return module(x, t, class_labels=labels, return_dict=False)[0]

    def bare() -> object:
        with torch.inference_mode():
            for t in told:
                out = network(noise, t)
        return out

    def pipeline(network: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        def run() -> object:
            x = noise * scheduler.init_noise_sigma
            with torch.inference_mode():
                for t in scheduler.timesteps:
                    x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample
            return x

        return run

    ours, theirs = engine(model), pipeline(network)
    ours_alone, theirs_alone = engine(free), pipeline(lambda x, t: noise)
    alone = clock({"engine": ours_alone, "diffusers": theirs_alone}, repeats=arguments.repeats)
    found = {
        "model": model.name,
        "batch": arguments.batch,
        "calls": arguments.calls,
        "threads": arguments.threads,
        "engine / bare loop": clock_ratio(ours, bare, repeats=arguments.repeats).to_dict(),
        "engine / diffusers loop": clock_ratio(ours, theirs, repeats=arguments.repeats).to_dict(),
        "engine / diffusers loop, without the network": clock_ratio(
            ours_alone, theirs_alone, repeats=arguments.repeats
        ).to_dict(),
        "ms without the network": {name: round(1e3 * seconds.value, 4) for name, seconds in alone.items()},
        "versions": versions(),
    }
    print(json.dumps(found, indent=1))
    where = Path(__file__).parent / "results" / "overhead.json"
    where.parent.mkdir(exist_ok=True)
    where.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
