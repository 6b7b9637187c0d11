"""Trains the bundled classifier of CIFAR-10 averaged to 16x16, by whose features the bundled 16x16 networks are judged.

    python -m scripts.train_cifar16_classifier --data cifar10-train.zip                  # five minutes on a core

Writes weights and the mean and covariance of the training images' features, in float32, to where the package looks, or to --out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.cifar import images16
from fewer.errors import InputError
from fewer.models.bundled import CIFAR_CLASSIFIER, FOLDER
from fewer.models.cifar_classifier import CifarClassifier

EPOCHS, BATCH, RATE, MOVED = 4, 128, 4e-3, 2  # MOVED: pixels that images are moved by at most
HELD_OUT_EVERY = 50


def jitter(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, 3, 16, 16), half of them mirrored, all moved by up to `MOVED` pixels together, edges repeated."""
    mirrored = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    x = F.pad(torch.where(mirrored, x.flip(-1), x), [MOVED] * 4, mode="replicate")
    down, right = torch.randint(2 * MOVED + 1, (2,), generator=generator).tolist()
    return x[..., down : down + 16, right : right + 16]


def train(x: Tensor, y: Tensor, steps: int, seed: int) -> CifarClassifier:
    """By cross-entropy, under one cycle of the learning rate."""
    torch.manual_seed(seed)
    classifier = CifarClassifier().train()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(0)
    for step in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(x), generator=generator)
        pick, order = order[:BATCH], order[BATCH:]
        loss = F.cross_entropy(classifier(jitter(x[pick], generator)), y[pick], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}  loss {loss.item():.3f}", file=sys.stderr, flush=True)
    return classifier.eval().requires_grad_(False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; status 2 and one line on stderr for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="zip of CIFAR-10's training images, a folder a class")
    parser.add_argument("--out", type=Path, default=FOLDER / CIFAR_CLASSIFIER)
    parser.add_argument("--steps", type=int, help=f"by default {EPOCHS} epochs of batches of {BATCH}")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    try:
        x, y = images16(given.data)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    held_out = torch.arange(len(x)) % HELD_OUT_EVERY == 0
    steps = given.steps or EPOCHS * int((~held_out).sum()) // BATCH
    start = time.process_time()
    classifier = train(x[~held_out], y[~held_out], steps, given.seed)
    seconds = time.process_time() - start
    features = torch.cat([classifier.features(part) for part in x[~held_out].split(1000)]).double()
    classifier.data_mean.copy_(features.mean(0))
    classifier.data_covariance.copy_(features.T.cov())
    accuracy = float((classifier(x[held_out]).argmax(1) == y[held_out]).double().mean())
    given.out.mkdir(parents=True, exist_ok=True)
    save_file(classifier.state_dict(), given.out / "model.safetensors")
    run = {
        "steps": steps,
        "cpu_seconds": round(seconds, 1),
        "seed": given.seed,
        "held_out_accuracy": round(accuracy, 4),
    }
    facts = {"classes": 10, "features": CifarClassifier.FEATURES, "data_range": [-1, 1], "trained": run}
    (given.out / "fewer.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{CIFAR_CLASSIFIER}: held-out accuracy {accuracy:.4f}, {seconds:.0f} core-seconds, in {given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
