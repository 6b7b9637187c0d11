"""What leaving blocks out saves on the clock, what the hooks cost, and how well the latency table tells it.

    python -m benchmarks.shortcuts [--models digits dit-digits unet30m dit30m] [--batch 16] [--repeats 9]

For each model and part of the room `shortcuts`, a plan of 8 calls with its blocks column against the same plan without:
share of the multiply-accumulates, share of the time (median of rounds in shuffled order, 95 % interval), and the share
that a latency table of the same minutes predicts. "hooks" is the time of a plan all of whose layers are under the rows'
control and run, over the plan's own. unet30m and dit30m have random weights (30 million, 32x32): they are for the clock
alone. Writes benchmarks/results/shortcuts.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch

import fewer
from fewer.blocks.actions import RUN
from fewer.blocks.find import at_granularity
from fewer.engine import bind, play
from fewer.evaluate.cost.clock import clock
from fewer.evaluate.cost.latency import block_shares, fit, sides
from fewer.evaluate.cost.price import plan_macs
from fewer.models.model import Model
from fewer.models.pipelines.folder import DiffusersNetwork
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.registry import parts
from fewer.versions import versions

CALLS = 8
FEW = {"block-cache": {"noises": 2}, "inherit": {"noises": 2}, "first-block": {"noises": 2, "threshold": 0.3}}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["digits", "dit-digits", "unet30m", "dit30m"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {"batch": arguments.batch, "calls": CALLS, "repeats": arguments.repeats}
    found["models"] = {name: measured(load(name), arguments.batch, arguments.repeats) for name in arguments.models}
    found["versions"] = versions()
    print(json.dumps(found["models"], indent=1))
    where = Path(__file__).parent / "results" / "shortcuts.json"
    where.parent.mkdir(exist_ok=True)
    where.write_text(json.dumps(found, indent=1) + "\n")


def load(name: str) -> Model:
    """A bundled model, or one of the two large ones with random weights."""
    if name not in ("unet30m", "dit30m"):
        return fewer.load(name)
    torch.manual_seed(0)
    if name == "unet30m":
        network: Any = diffusers.UNet2DModel(
            sample_size=32, in_channels=3, out_channels=3, block_out_channels=(128, 224, 320), layers_per_block=2,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=32,
        )  # fmt: skip
    else:
        network = diffusers.DiTTransformer2DModel(
            sample_size=32, in_channels=3, out_channels=3, num_layers=10, patch_size=2, num_attention_heads=6,
            attention_head_dim=64, num_embeds_ada_norm=10,
        )  # fmt: skip
    labelled = name == "dit30m"
    return Model(
        DiffusersNetwork(network.eval().requires_grad_(False), labelled), discrete(betas("linear")), "noise",
        (3, 32, 32), 10 if labelled else None, name=name, hash=name,
    )  # fmt: skip


def measured(model: Model, batch: int, repeats: int) -> dict[str, Any]:
    """Shares of each part's plan, and of the hooks alone."""
    whole = fewer.standard("ddim", model, CALLS)
    plans = {"": whole}
    for part in parts("blocks"):
        try:
            plans[part.name] = part.make(**FEW.get(part.name, {})).apply(whole, model)
        except fewer.InputError:  # a part for networks of the other kind
            continue
    names = sorted({name for plan in plans.values() for row in plan.rows for name in row.blocks})
    run = {f"plan of {name}": _sampled(model, plan, batch) for name, plan in plans.items()}
    run |= {"bare": _played(model, whole, batch, hooked=False), "hooked": _played(model, whole, batch, hooked=True)}
    seconds = clock({**sides(model, (batch,)), **run}, repeats=repeats)
    table = fit(model, (batch,), seconds, shares={batch: block_shares(model, batch, names, repeats)})
    full = seconds["plan of "].value
    shares = {
        name: {
            "macs": plan_macs(model, plan) / plan_macs(model, whole),
            "clock": {
                "value": (s := seconds[f"plan of {name}"]).value / full,
                "low": s.low / full,
                "high": s.high / full,
            },
            "predicted / measured": table.predict(plan, batch) / (1e3 * s.value),
        }
        for name, plan in plans.items()
    }
    return {"ms": 1e3 * full, "hooks": seconds["hooked"].value / seconds["bare"].value, "plans": shares}


def _sampled(model: Model, plan: Plan, batch: int) -> Callable[[], object]:
    return lambda: fewer.sample(model, plan, batch, batch=batch)


def _played(model: Model, plan: Plan, batch: int, *, hooked: bool) -> Callable[[], object]:
    """The plan with every layer under the rows' control, all of them running, or without any hook."""
    cells = dict.fromkeys((block.name for block in at_granularity(model, "layer")), RUN) if hooked else {}
    steps = [replace(step, cells=cells) for step in bind(model, plan)]
    x, labels = unit_noise(0, range(batch), model.shape), model.labels(batch)

    def run() -> object:
        with torch.inference_mode():
            return play(model, steps, x, labels)

    return run


if __name__ == "__main__":
    main()
