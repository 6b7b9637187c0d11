"""Trains a small diffusers network (UNet2DModel, DiTTransformer2DModel) on an image tensor, with label dropout and EMA.

With x0 an image, eps unit noise, and a = alphas_cumprod[t] of a scheduler with betas (Ho et al. 2020; velocity:
Salimans & Ho 2022), or t in [0, 1) for flow matching (Lipman et al. 2022), the network sees x_t and regresses

    epsilon         x_t = sqrt(a) x0 + sqrt(1 - a) eps       eps                               time t
    sample                                                   x0
    v_prediction                                             sqrt(a) eps - sqrt(1 - a) x0
    flow            x_t = (1 - t) x0 + t eps                 eps - x0                          time 1000 t

Labels are dropped once a sample for classifier-free guidance (Ho & Salimans 2022). diffusers' DiT would drop them in
train mode by itself, but anew in every block, so that the other blocks betray the label: the trainer turns that off.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.models.pipelines.scheduler_config import class_named

FOLDERS = {"UNet2DModel": "unet", "DiTTransformer2DModel": "transformer"}
REPORT_EVERY = 100


@dataclass(frozen=True)
class Training:
    """How to train: at most `steps` steps and at most `seconds` seconds, whichever ends first.

    lr             AdamW's peak rate: linear warm-up over `warmup` steps, then cosine decay to zero over the run
    ema            decay of the weights' moving average, min(ema, (1 + step) / (10 + step)) while it is young
    label_dropout  share of labels replaced by the empty one
    flips          mirror half of the images left to right
    clip_norm      largest norm of the gradient
    """

    steps: int
    batch: int = 64
    seconds: float = math.inf
    lr: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.999
    label_dropout: float = 0.1
    flips: bool = False
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not self.seconds > 0:
            raise InputError(f"steps, batch, seconds are {self.steps}, {self.batch}, {self.seconds}; expected positive")
        if not (0 <= self.label_dropout < 1 and 0 <= self.ema < 1):
            raise InputError(f"label_dropout, ema are {self.label_dropout}, {self.ema}; expected 0 <= value < 1")


@dataclass(frozen=True)
class Trained:
    """The averaged network in eval mode, its scheduler and the run's figures.

    `loss` is the last 100 steps' mean; `seconds` are the clock's, `cpu_seconds` those of all threads together.
    """

    network: nn.Module
    scheduler: Any
    steps: int
    seconds: float
    cpu_seconds: float
    loss: float
    seed: int

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.network.parameters())

    def save(self, folder: Path, half: bool = False) -> None:
        """Write a diffusers folder: unet/ or transformer/, scheduler/, and fewer.json; `half`: weights in float16."""
        network = copy.deepcopy(self.network).cpu()
        network = network.half() if half else network
        network.save_pretrained(folder / FOLDERS[type(network).__name__])  # type: ignore[operator]
        self.scheduler.save_pretrained(folder / "scheduler")
        empty = empty_label(network)
        run = {
            "steps": self.steps, "seconds": round(self.seconds, 1), "cpu_seconds": round(self.cpu_seconds, 1),
            "loss": round(self.loss, 5), "seed": self.seed, "parameters": self.parameters,
        }  # fmt: skip
        facts = {"classes": empty, "empty_label": empty, "data_range": [-1, 1], "trained": run}
        (folder / "fewer.json").write_text(json.dumps(facts, indent=2) + "\n")


def empty_label(network: nn.Module) -> int | None:
    """The label that stands for 'no class', which is also the number of classes; None for an unconditional network.

    The last of a UNet2DModel's class embeddings; the one past num_embeds_ada_norm in a DiTTransformer2DModel.
    """
    name = type(network).__name__
    if name not in FOLDERS or type(network) is not class_named(name):
        raise InputError(f"network is {name}; expected UNet2DModel or DiTTransformer2DModel")
    config: Any = network.config
    if name == "UNet2DModel":
        return None if config.num_class_embeds is None else config.num_class_embeds - 1
    return config.num_embeds_ada_norm


def noised(scheduler: Any, images: Tensor, noise: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """State (n, C, H, W), network time (n,), and target (n, C, H, W), at quantiles u (n,) of the times.

    `u` in [0, 1); every trained time is equally likely. Raises InputError for a scheduler with neither betas nor flow.
    """
    config = scheduler.config
    if isinstance(scheduler, class_named("FlowMatchEulerDiscreteScheduler")):
        t = u.view(-1, 1, 1, 1)
        return (1 - t) * images + t * noise, u * config.num_train_timesteps, noise - images
    if not hasattr(scheduler, "alphas_cumprod"):
        raise InputError(f"scheduler is {type(scheduler).__name__}; expected one with betas, or flow matching")
    t = (u * len(scheduler.alphas_cumprod)).long()
    a = scheduler.alphas_cumprod.to(images.device)[t].view(-1, 1, 1, 1)
    alpha, sigma = a.sqrt(), (1 - a).sqrt()
    targets = {"epsilon": noise, "sample": images, "v_prediction": alpha * noise - sigma * images}
    if config.prediction_type not in targets:
        raise InputError(f"prediction_type is {config.prediction_type!r}; expected one of {', '.join(targets)}")
    return alpha * images + sigma * noise, t, targets[config.prediction_type]


def predict(network: Callable[..., Any], x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    """The network's output (n, C, H, W) in float32 for states x at network times t (n,)."""
    return network(x, t, class_labels=labels, return_dict=False)[0].float()


@torch.no_grad()
def denoising_loss(
    network: Callable[..., Any], scheduler: Any, images: Tensor, labels: Tensor | None, draws: int = 8, seed: int = 0
) -> float:
    """Mean squared error of the network's output, as in training, over `draws` passes through the images.

    Times are stratified over all draws; `network` is called as diffusers networks are.
    """
    generator = torch.Generator().manual_seed(seed)
    n = len(images)
    u = ((torch.randperm(draws * n, generator=generator) + 0.5) / (draws * n)).view(draws, n)
    losses = []
    for quantiles in u:
        noise = torch.randn(images.shape, dtype=torch.float32, generator=generator).to(images.device)
        x, t, target = noised(scheduler, images, noise, quantiles.to(images.device))
        losses.append((predict(network, x, t, labels) - target).square().mean())
    return float(torch.stack(losses).mean())


def train_denoiser(
    network: nn.Module,
    scheduler: Any,
    images: Tensor,
    labels: Tensor | None,
    training: Training,
    device: torch.device | str = "cpu",
    progress: Callable[[int, float, float], None] | None = None,
) -> Trained:
    """Trains `network` in place and returns its moving average.

    images     (n, C, H, W) float32 in [-1, 1]
    labels     (n,) int64 in 0 .. classes - 1; None for an unconditional network
    scheduler  says what the network predicts: prediction_type, or flow for FlowMatchEulerDiscreteScheduler
    progress   called every 100 steps with (steps done, their mean loss, seconds)

    bfloat16 autocast on CUDA. On a CPU the result depends on the arguments alone, unless `seconds` cuts the run.
    Raises InputError where labels do not fit the network, FloatingPointError when the loss is no longer finite.
    """
    from diffusers.models.embeddings import LabelEmbedding

    device = torch.device(device)
    empty = empty_label(network)
    check_labels(labels, len(images), empty)
    images = images.to(device)
    labels = None if labels is None else labels.to(device)
    network.to(device).train()
    for module in network.modules():
        if isinstance(module, LabelEmbedding):
            module.dropout_prob = 0.0
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.lr, weight_decay=training.weight_decay, fused=True)
    generator = torch.Generator(device=device).manual_seed(training.seed)
    autocast = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
    recent: deque[Tensor] = deque(maxlen=REPORT_EVERY)

    start, cpu_start, step, seconds = time.monotonic(), time.process_time(), 0, 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(training.seed)  # for a network with dropout inside
        while step < training.steps and seconds < training.seconds:
            done = max(step / training.steps, seconds / training.seconds)
            optimizer.param_groups[0]["lr"] = learning_rate(step, done, training)
            x0, y = batch(images, labels, empty, training, generator)
            noise = torch.randn(x0.shape, dtype=torch.float32, generator=generator, device=device)
            u = torch.rand(len(x0), dtype=torch.float32, generator=generator, device=device)
            x, t, target = noised(scheduler, x0, noise, u)
            with autocast:
                output = predict(network, x, t, y)
            loss = (output - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
            optimizer.step()
            blend(average, network, 1 - min(training.ema, (1 + step) / (10 + step)))
            recent.append(loss.detach())
            step, seconds = step + 1, time.monotonic() - start
            if progress is not None and step % REPORT_EVERY == 0:
                progress(step, finite_mean(recent), seconds)
    cpu_seconds = time.process_time() - cpu_start
    return Trained(average, scheduler, step, seconds, cpu_seconds, finite_mean(recent), training.seed)


def batch(
    images: Tensor, labels: Tensor | None, empty: int | None, training: Training, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Images drawn with replacement, mirrored where asked, and their labels, some of them replaced by `empty`."""
    device = images.device
    pick = torch.randint(len(images), (training.batch,), generator=generator, device=device)
    x0 = images[pick]
    if training.flips:
        mirrored = torch.rand(len(x0), 1, 1, 1, dtype=torch.float32, generator=generator, device=device) < 0.5
        x0 = torch.where(mirrored, x0.flip(-1), x0)
    if labels is None or empty is None:
        return x0, None
    dropped = torch.rand(len(x0), dtype=torch.float32, generator=generator, device=device) < training.label_dropout
    return x0, torch.where(dropped, empty, labels[pick])


def finite_mean(losses: Iterable[Tensor]) -> float:
    """Mean of losses; FloatingPointError where it is not finite."""
    mean = float(torch.stack(list(losses)).mean())
    if not math.isfinite(mean):
        raise FloatingPointError(f"the training loss is {mean}")
    return mean


def check_labels(labels: Tensor | None, n: int, classes: int | None) -> None:
    """InputError unless labels are (n,) with values 0 .. classes - 1, or neither is there."""
    if labels is None or classes is None:
        if labels is not None or classes is not None:
            raise InputError(f"labels are {'missing' if labels is None else 'given'}; the network's classes: {classes}")
    elif labels.shape != (n,) or bool((labels < 0).any() or (labels >= classes).any()):
        raise InputError(f"labels are {tuple(labels.shape)}; expected ({n},) with values 0 .. {classes - 1}")


def learning_rate(step: int, done: float, training: Training) -> float:
    """The rate at a step when a share `done` of the run lies behind: linear warm-up times half a cosine."""
    return training.lr * min(1.0, (step + 1) / max(1, training.warmup)) * (1 + math.cos(math.pi * min(1.0, done))) / 2


def blend(average: nn.Module, network: nn.Module, weight: float) -> None:
    """average += weight (network - average), weight by weight."""
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)
