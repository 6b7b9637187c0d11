"""Trains the fine-tunes of `digits` that `benchmarks.transfer` plays plans on, as folders in diffusers format.

    python -m benchmarks.fine_tunes FOLDER

    negated   all weights, on the digits with black and white exchanged
    thick     a rank-4 update of every convolution and linear layer, merged, on the digits 0 to 4 with strokes twice as thick

Half a minute each on one core.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from fewer.models.bundled import digits_images, folder
from fewer.models.pipelines.folder import scheduler_of
from fewer.train import Trained, Training, train_denoiser

OF, RANK = "digits", 4
TRAINING = Training(steps=400, batch=32, lr=5e-4, warmup=40, ema=0.98)
UPDATE = Training(steps=400, batch=32, lr=5e-3, warmup=40, ema=0.98, weight_decay=0.0)


class LowRank(nn.Module):
    """W + B A, with A (rank, in) and B (out, rank), B zero at first; a convolution's W is (out, in height width)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out, inner = weight.flatten(1).shape
        self.A = nn.Parameter(torch.randn(rank, inner) * inner**-0.5)
        self.B = nn.Parameter(torch.zeros(out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight."""
        return weight + (self.B @ self.A).view_as(weight)


def layers(network: nn.Module) -> list[nn.Module]:
    """Convolutions and linear layers."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def with_updates(network: nn.Module) -> nn.Module:
    """The network with a low-rank update on every layer, and nothing else to train."""
    network.requires_grad_(False)
    for layer in layers(network):
        assert isinstance(layer.weight, Tensor)
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, RANK))
    return network


def merged(network: nn.Module) -> nn.Module:
    """The network with its updates added to its weights."""
    for layer in layers(network):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return network


def thick(images: Tensor) -> Tensor:
    """Images (n, 1, 8, 8) with every stroke as wide as two pixels and more."""
    return F.max_pool2d(F.pad(images, (0, 1, 0, 1), value=-1.0), 2, stride=1)


def negated() -> Trained:
    """All weights trained on the negatives."""
    x, y = digits_images("train")
    return train_denoiser(base(), scheduler_of(folder(OF)), -x, y, TRAINING, progress=report)


def thickened() -> Trained:
    """A merged low-rank update trained on five thick digits."""
    x, y = digits_images("train")
    few = y < 5
    found = train_denoiser(
        with_updates(base()), scheduler_of(folder(OF)), thick(x[few]), y[few], UPDATE, progress=report
    )
    merged(found.network)
    return found


def base() -> UNet2DModel:
    """A fresh copy of the network of `digits`, in float32."""
    network: UNet2DModel = UNet2DModel.from_pretrained(
        folder(OF) / "unet", torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    return network


def report(step: int, loss: float, seconds: float) -> None:
    """One line of progress on stderr."""
    print(f"step {step}  loss {loss:.4f}  {seconds:.0f} s", file=sys.stderr, flush=True)


KINDS = {"negated": negated, "thick": thickened}


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(argv)
    for name, train in KINDS.items():
        torch.manual_seed(0)
        out = given.folder / f"digits-{name}"
        shutil.rmtree(out, ignore_errors=True)
        trained = train()
        trained.save(out)
        print(f"{out}: {trained.steps} steps, loss {trained.loss:.4f}, {trained.cpu_seconds:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
