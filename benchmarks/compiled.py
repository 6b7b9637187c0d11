"""What torch.compile of the network brings to a sample's time.

    python -m benchmarks.compiled [--models digits dit-digits] [--batches 1 64] [--device cpu] [--repeats 31]

`fewer.sample` on one plan with the network as it is and with `torch.compile(model.network)`, taking turns in shuffled
order, threads pinned. Ratios are medians over rounds with 95 % intervals by order statistics; compiling, which the
first call of a batch's size waits for, is told apart. Writes benchmarks/results/compiled-DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

import fewer
from fewer.evaluate.cost.clock import clock_ratio
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.versions import versions


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["digits", "dit-digits"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    found = {
        "device": name_of(device),
        "calls": arguments.calls,
        "threads": arguments.threads,
        "rows": [
            measured(fewer.load(name, device), batch, arguments.calls, arguments.repeats)
            for name in arguments.models
            for batch in arguments.batches
        ],
        "versions": versions(),
    }
    print(json.dumps(found, indent=1))
    where = Path(__file__).parent / "results" / f"compiled-{device.type}.json"
    where.parent.mkdir(exist_ok=True)
    where.write_text(json.dumps(found, indent=1) + "\n")


def measured(model: Model, batch: int, calls: int, repeats: int) -> dict[str, Any]:
    """The compiled network's time over the network's own, how far the samples are apart, and what compiling took."""
    torch._dynamo.reset()
    fast = replace(model, network=torch.compile(model.network))
    noise, labels = unit_noise(0, range(batch), model.shape, device=model.device), model.labels(batch)
    plan = fewer.standard("dpmpp-2m", model, calls, "logsnr")

    def side(model: Model) -> Callable[[], torch.Tensor]:
        return lambda: fewer.sample(model, plan, noise=noise, labels=labels, batch=batch)

    began = perf_counter()
    compiled = side(fast)()
    took = perf_counter() - began
    apart = float((compiled - side(model)()).abs().max() / compiled.std())
    return {
        "model": model.name,
        "batch": batch,
        "compiled / as it is": clock_ratio(side(fast), side(model), repeats=repeats).to_dict(),
        "largest difference of the samples, of their standard deviation": apart,
        "seconds of compiling": took,
    }


def name_of(device: torch.device) -> str:
    """The device's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
