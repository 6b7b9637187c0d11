"""Trains the pipeline folder that the tuner has never seen: an unconditional UNet of 4.4 million weights at 16x16.

    python -m benchmarks.train_pipeline16 cifar10-train.zip [--out build/pipeline16]

CIFAR-10 averaged over 2x2 boxes, linear betas, noise prediction, written as a DDPMPipeline folder. About 11 minutes on
2 idle cores; on busy ones `--seconds` ends it in time, with its learning rate decayed all the same.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from benchmarks.cifar import images16
from fewer.errors import InputError
from fewer.train import Training, denoising_loss, train_denoiser

HELD_OUT = 512


def unet() -> UNet2DModel:
    """Three levels, attention on the second, 4.44 million weights."""
    return UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        norm_num_groups=8,
    )


def report(step: int, loss: float, seconds: float) -> None:
    """One line of progress on stderr."""
    print(f"step {step}  loss {loss:.4f}  {seconds:.0f} s", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; status 2 and one line on stderr for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="zip of CIFAR-10's training images, one folder a class")
    parser.add_argument("--out", type=Path, default=Path("build/pipeline16"))
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    try:
        x, _ = images16(given.data)
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
        torch.manual_seed(given.seed)
        scheduler = DDPMScheduler(beta_schedule="linear", prediction_type="epsilon")
        training = Training(
            given.steps, batch=64, seconds=given.seconds, lr=1e-3, warmup=100, flips=True, seed=given.seed
        )
        trained = train_denoiser(unet(), scheduler, x[HELD_OUT:], None, training, progress=report)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    held_out = denoising_loss(trained.network, scheduler, x[:HELD_OUT], None, draws=2)
    DDPMPipeline(trained.network, scheduler).save_pretrained(given.out)
    run = f"{trained.parameters} weights, {trained.steps} steps in {trained.seconds:.0f} s"
    print(f"{run}, training loss {trained.loss:.4f}, held-out loss {held_out:.4f}, in {given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
