"""Fits the bundled `mixture16`: one low-rank Gaussian for each class of CIFAR-10, averaged to 16x16.

    python -m scripts.fit_mixture16 DATA

DATA is a folder with cifar10-train.zip and cifar10-test.zip (see benchmarks/cifar.py). Writes the mixture in float16
with a short fewer.json beside it, and prints the likelihood of the test images under it and under the full-rank fit.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cifar import images16
from fewer.models.mixture import GaussianMixture

OUT = Path(__file__).parent.parent / "src/fewer/models/pretrained/mixture16"
# The largest rank whose file stays below 600 kB: 10 classes x 768 values x 2 bytes = 15.4 kB a direction.
RANK = 37


def bits_per_dim(mixture: GaussianMixture, x: Tensor) -> float:
    """-log2 of the probability of an 8-bit bin, 2 / 255 wide, per value: the mean over x (n, *shape)."""
    nats = torch.cat([mixture.log_prob(part.double()) for part in x.split(500)]).mean().item()
    return -nats / (mixture.dim * math.log(2)) - math.log2(2 / 255)


def main() -> None:
    """Fits, writes, reads back, and measures."""
    parser = argparse.ArgumentParser(description="fits the bundled mixture16 to CIFAR-10")
    parser.add_argument("data", type=Path, help="folder with cifar10-train.zip and cifar10-test.zip")
    data = parser.parse_args().data
    x, y = images16(data / "cifar10-train.zip")
    full = GaussianMixture.fit(x, y)
    OUT.mkdir(parents=True, exist_ok=True)
    GaussianMixture.fit(x, y, rank=RANK).save(OUT / "mixture.safetensors", torch.float16)
    small = GaussianMixture.load(OUT / "mixture.safetensors")

    test, _ = images16(data / "cifar10-test.zip")
    bits = {"mixture16": round(bits_per_dim(small, test), 3), "full rank": round(bits_per_dim(full, test), 3)}
    about = {
        "kind": "mixture",
        "beta_schedule": "scaled_linear",
        "data": "CIFAR-10 (Krizhevsky 2009), training images, means of 2x2 boxes, values in [-1, 1]",
        "rank": RANK,
        "test_bits_per_dim": bits,
    }
    (OUT / "fewer.json").write_text(json.dumps(about, indent=2) + "\n")
    size = sum(file.stat().st_size for file in OUT.iterdir())
    print(f"{OUT.name}: {size / 1000:.1f} kB, test bits/dim {bits}")


if __name__ == "__main__":
    main()
