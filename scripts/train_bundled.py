"""Trains one of the small models that ship with the package.

    python -m scripts.train_bundled digits                          # at most 10 minutes on 2 cores
    python -m scripts.train_bundled dit-digits
    python -m scripts.train_bundled digits-classifier               # a minute
    python -m scripts.train_bundled cifar10 --data cifar10-train.zip --device cuda

Writes to src/fewer/models/pretrained/NAME, or to --out. `--toy` shrinks the network and the run to seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DiTTransformer2DModel, FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.cifar import images32
from fewer.errors import InputError
from fewer.models.bundled import FOLDER, digits_images
from fewer.models.digits_classifier import DigitsClassifier
from fewer.train import Training, denoising_loss, train_denoiser

Images = tuple[Tensor, Tensor]


def unet(size: int, channels: int, widths: tuple[int, ...], layers: int) -> UNet2DModel:
    """Class-conditional UNet for ten classes and the empty one, with attention on its second level."""
    attends = [level == 1 for level in range(len(widths))]
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=layers,
        block_out_channels=widths,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        attention_head_dim=16,
        norm_num_groups=8,
        num_class_embeds=11,
    )


def dit(size: int, channels: int, heads: int, layers: int) -> DiTTransformer2DModel:
    """DiT (Peebles & Xie 2023) with its adaLN-Zero start: every block begins as the identity, the output as zero."""
    network = DiTTransformer2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        patch_size=2,
        num_attention_heads=heads,
        attention_head_dim=16,
        num_layers=layers,
        num_embeds_ada_norm=10,
    )
    outputs = [block.norm1.linear for block in network.transformer_blocks]
    for linear in [*outputs, network.proj_out_1, network.proj_out_2]:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return network


@dataclass(frozen=True)
class Recipe:
    """A bundled denoiser: its network in full and in toy size, its scheduler, its images and its training."""

    network: Callable[[], nn.Module]
    toy: Callable[[], nn.Module]
    scheduler: Callable[[], Any]
    images: Callable[[Path | None], tuple[Images, Images]]
    training: Training


def digits(archive: Path | None = None) -> tuple[Images, Images]:
    """Train and held-out digits, which come with scikit-learn."""
    if archive is not None:
        raise InputError(f"--data is {archive}; only cifar10 reads images")
    return digits_images("train"), digits_images("test")


def cifar10(archive: Path | None) -> tuple[Images, Images]:
    """The images of CIFAR-10's training zip, every fiftieth held out."""
    if archive is None:
        raise InputError("cifar10 needs --data: a zip of 32x32 images with one folder a class")
    x, y = images32(archive)
    held_out = torch.arange(len(x)) % 50 == 0
    return (x[~held_out], y[~held_out]), (x[held_out], y[held_out])


def linear_betas() -> DDIMScheduler:
    """Noise prediction on the linear schedule of Ho et al. 2020."""
    return DDIMScheduler(beta_schedule="linear", prediction_type="epsilon", clip_sample=False)


RECIPES = {
    "digits": Recipe(
        network=lambda: unet(8, 1, (32, 64), 1),
        toy=lambda: unet(8, 1, (16, 16), 1),
        scheduler=linear_betas,
        images=digits,
        training=Training(steps=5000, lr=2e-3),
    ),
    "dit-digits": Recipe(
        network=lambda: dit(8, 1, heads=4, layers=6),
        toy=lambda: dit(8, 1, heads=2, layers=2),
        scheduler=FlowMatchEulerDiscreteScheduler,
        images=digits,
        training=Training(steps=8000, lr=2e-3),
    ),
    "cifar10": Recipe(
        network=lambda: unet(32, 3, (48, 96, 96), 2),
        toy=lambda: unet(32, 3, (16, 16, 16), 1),
        scheduler=linear_betas,
        images=cifar10,
        training=Training(steps=400_000, seconds=1800, batch=256, lr=1e-3, warmup=1000, ema=0.9995, flips=True),
    ),
}
TOY = Training(steps=60, batch=16, lr=4e-3, warmup=10, ema=0.9)


def train(name: str, out: Path, toy: bool, data: Path | None, device: str, seed: int) -> None:
    """Trains a denoiser and writes its folder, weights in float16."""
    recipe = RECIPES[name]
    (x, y), (held_x, held_y) = recipe.images(data)
    torch.manual_seed(seed)
    network, scheduler = (recipe.toy if toy else recipe.network)(), recipe.scheduler()
    training = replace(TOY if toy else recipe.training, flips=recipe.training.flips, seed=seed)
    trained = train_denoiser(network, scheduler, x, y, training, device, progress=report)
    held_out = denoising_loss(trained.network, scheduler, held_x.to(device), held_y.to(device))
    trained.save(out, half=True)
    print(f"{name}: {trained.parameters} weights, held-out loss {held_out:.4f}, {trained.seconds:.0f} s, in {out}")


def report(step: int, loss: float, seconds: float) -> None:
    """One line of progress on stderr."""
    print(f"step {step}  loss {loss:.4f}  {seconds:.0f} s", file=sys.stderr, flush=True)


def jitter(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, 1, 8, 8) turned by up to 10 degrees, scaled and moved by up to a tenth, edges repeated."""
    angle, scale, move_x, move_y = torch.rand(4, len(x), generator=generator) * 2 - 1
    angle, scale = angle * 0.17, 1 + 0.1 * scale
    cos, sin = scale * angle.cos(), scale * angle.sin()
    maps = torch.stack([torch.stack([cos, -sin, 0.1 * move_x], 1), torch.stack([sin, cos, 0.1 * move_y], 1)], 1)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def train_classifier(out: Path, toy: bool, data: Path | None, device: str, seed: int) -> None:
    """Trains the digits' classifier by cross-entropy on jittered images and writes its folder, weights in float32."""
    (x, y), (held_x, held_y) = digits(data)
    torch.manual_seed(seed)
    classifier = DigitsClassifier().to(device).train()
    steps, batch = (60, 64) if toy else (3000, 64)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    start = time.monotonic()
    for _ in range(steps):
        pick = torch.randint(len(x), (batch,), generator=generator)
        logits = classifier(jitter(x[pick], generator).to(device))
        loss = F.cross_entropy(logits, y[pick].to(device), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.monotonic() - start
    with torch.no_grad():
        accuracy = float((classifier.cpu().eval()(held_x).argmax(1) == held_y).float().mean())
    out.mkdir(parents=True, exist_ok=True)
    save_file(classifier.state_dict(), out / "model.safetensors")
    facts = {"classes": 10, "features": DigitsClassifier.FEATURES, "data_range": [-1, 1]}
    run = {"steps": steps, "seconds": round(seconds, 1), "seed": seed, "held_out_accuracy": round(accuracy, 4)}
    (out / "fewer.json").write_text(json.dumps({**facts, "trained": run}, indent=2) + "\n")
    print(f"digits-classifier: held-out accuracy {accuracy:.4f}, {seconds:.0f} s, in {out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; status 2 and one line on stderr for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*RECIPES, "digits-classifier"])
    parser.add_argument("--out", type=Path, help="folder to write (default: where the package looks)")
    parser.add_argument("--toy", action="store_true", help="a tiny network and a run of seconds")
    parser.add_argument("--data", type=Path, help="zip of training images, for cifar10")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    out = given.out or FOLDER / given.name
    try:
        if given.name == "digits-classifier":
            train_classifier(out, given.toy, given.data, given.device, given.seed)
        else:
            train(given.name, out, given.toy, given.data, given.device, given.seed)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
