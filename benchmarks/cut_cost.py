"""What asking a pipeline for its network's output costs, over calling the network.

    python -m benchmarks.cut_cost [--batch 4] [--repeats 41]

A DDIM pipeline of a network of some 30 million random weights, asked through `Model.from_pipeline`, and the network itself take
turns in shuffled order. The ratio is the median over rounds, with a 95 % interval by order statistics. The cut's own work is less
than a network's time varies on a busy machine. So it is also taken around a network that costs next to nothing, in seconds that the
processor computes, to which other processes add nothing, and as a share of such seconds of a call of the large network. Writes
benchmarks/results/cut_cost.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import diffusers
import torch

from fewer.evaluate.cost.clock import LEAST, clock, clock_ratio, median, rounds
from fewer.evaluate.statistics.interval import Interval
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.versions import versions

SIZE = 16  # height and width of a state


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=41)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    large, small = network((128, 256, 384)), network((8, 8, 8))
    cut, direct = sides(large, arguments.batch)
    alone = dict(zip(("cut", "network"), sides(small, arguments.batch), strict=True))
    seconds = rounds(alone, repeats=arguments.repeats, timer=process_time)
    own = median([a - b for a, b in zip(seconds["cut"], seconds["network"], strict=True)])
    (whole,) = clock({"network": direct}, repeats=LEAST, timer=process_time).values()
    found = {
        "weights": sum(each.numel() for each in large.parameters()),
        "batch": arguments.batch,
        "cut / network": clock_ratio(cut, direct, repeats=arguments.repeats).to_dict(),
        "computed ms of the cut itself": scaled(own, 1e3).to_dict(),
        "of those of a call": scaled(own, 1 / whole.value).to_dict(),
        "versions": versions(),
    }
    print(json.dumps(found, indent=1))
    where = Path(__file__).parent / "results" / "cut_cost.json"
    where.write_text(json.dumps(found, indent=1) + "\n")


def scaled(value: Interval, factor: float) -> Interval:
    """A positive multiple of a figure."""
    return replace(value, value=factor * value.value, low=factor * value.low, high=factor * value.high)


def network(channels: tuple[int, ...]) -> Any:
    """A network for images of three channels."""
    torch.manual_seed(0)
    made = diffusers.UNet2DModel(
        sample_size=SIZE, in_channels=3, out_channels=3, block_out_channels=channels, layers_per_block=2,
        norm_num_groups=8, down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3,
    )  # fmt: skip
    return made.eval().requires_grad_(False)


def sides(module: Any, batch: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call of the network through its pipeline's cut, and one of the network itself, of the same states."""
    pipe = diffusers.DDIMPipeline(module, diffusers.DDIMScheduler(clip_sample=False))
    model = Model.from_pipeline(pipe, {"batch_size": batch})
    x, time = unit_noise(0, range(batch), model.shape), torch.tensor(500.0)

    def cut() -> object:
        with torch.inference_mode():
            return model(x, 500.0, None)

    def direct() -> object:
        with torch.inference_mode():
            return module(x, time, return_dict=False)[0]

    return cut, direct


if __name__ == "__main__":
    main()
