"""Trains the two middle-sized networks, on CIFAR-10 averaged to 16x16 in colour, over as many sittings as it takes.

    python -m scripts.train_cifar16 unet --data cifar10-train.zip --out build/cifar16-unet
    python -m scripts.train_cifar16 dit --data cifar10-train.zip --out build/cifar16-dit --hours 10

`--hours` counts core-hours, of all sittings together; the learning rate decays over them. The same command goes on from
the checkpoint in the folder, to the bit as if it had never stopped; SIGINT and SIGTERM write one and leave. OUT/model is
at any time the averaged network so far, in float16, for `fewer.load`; where nothing else was kept, `--from` goes on from
such a folder with Adam's moments anew.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel, FlowMatchEulerDiscreteScheduler, UNet2DModel
from diffusers.models.embeddings import LabelEmbedding
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.cifar import images16
from fewer.errors import InputError, first_line
from fewer.train import Trained, Training
from fewer.train.denoiser import FOLDERS, batch, blend, check_labels, empty_label, learning_rate, noised, predict

CHECKPOINT = "checkpoint.safetensors"
MODEL = "model"
MOMENTS = ("exp_avg", "exp_avg_sq")
REPORT_EVERY = 100  # steps a mean of the loss goes over


def unet() -> UNet2DModel:
    """Three levels of two layers each, attention on the second, 4.89 million weights.

    Narrow at 16x16, where a weight costs most, so that the second layer is paid for.
    """
    return UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(48, 96, 128),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        norm_num_groups=8,
        num_class_embeds=11,
    )


def dit() -> DiTTransformer2DModel:
    """DiT (Peebles & Xie 2023) of 14 blocks on 8x8 patches, with its adaLN-Zero start: blocks begin as the identity."""
    network = DiTTransformer2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        patch_size=2,
        num_attention_heads=4,
        attention_head_dim=32,
        num_layers=14,
        num_embeds_ada_norm=10,
    )
    outputs = [block.norm1.linear for block in network.transformer_blocks]
    for linear in [*outputs, network.proj_out_1, network.proj_out_2]:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return network


def linear_betas() -> DDIMScheduler:
    """Noise prediction on the linear schedule of Ho et al. 2020.

    The cosine schedule spends its times better at 16x16, but ends where an image is 1 / 20000 of the noise, and a
    network that predicts noise says nothing there. `early_times` moves the times of training instead.
    """
    return DDIMScheduler(beta_schedule="linear", prediction_type="epsilon", clip_sample=False)


def early_times(u: Tensor) -> Tensor:
    """Quantiles of the times for linear betas: a third of the uniform draws would see noise and nothing else."""
    return u**1.5


def middle_times(u: Tensor) -> Tensor:
    """Quantiles of the times for flow matching: the mode sampling of Esser et al. 2024 with s = 0.8."""
    return 1 - u - 0.8 * ((math.pi / 2 * u).cos() ** 2 - 1 + u)


@dataclass(frozen=True)
class Recipe:
    """A network, its scheduler, how it is trained, and the times it is trained at, as a function of quantiles."""

    network: Callable[[], nn.Module]
    scheduler: Callable[[], Any]
    times: Callable[[Tensor], Tensor]
    training: Training


# The budget ends the run, not the steps; the average spans a tenth of the 20,000 steps of 8 core-hours.
TRAINING = Training(steps=10**9, batch=64, lr=1e-3, warmup=400, ema=0.9995, flips=True)
RECIPES = {
    "unet": Recipe(unet, linear_betas, early_times, TRAINING),
    "dit": Recipe(dit, FlowMatchEulerDiscreteScheduler, middle_times, TRAINING),
}


@dataclass
class State:
    """Everything a run goes on from.

    step       steps done by these weights; `fresh` is the one at which Adam's moments were zero
    seconds    of the clock, `cpu_seconds` of all threads together
    recent     the last losses; `curve` has a row (step, mean of the losses so far) for every 100 steps
    """

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.AdamW
    generator: torch.Generator
    step: int = 0
    fresh: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=REPORT_EVERY))
    curve: list[tuple[int, float]] = field(default_factory=list)

    @classmethod
    def start(cls, network: nn.Module, training: Training) -> State:
        """Step 0 of a network, which is trained in place."""
        network.train()
        for module in network.modules():
            if isinstance(module, LabelEmbedding):
                module.dropout_prob = 0.0  # `batch` drops the labels; see fewer.train.denoiser
        average = copy.deepcopy(network).eval().requires_grad_(False)
        weights = network.parameters()
        optimizer = torch.optim.AdamW(weights, lr=training.lr, weight_decay=training.weight_decay, fused=True)
        return cls(network, average, optimizer, torch.Generator().manual_seed(training.seed))

    @property
    def loss(self) -> float:
        """Mean of the last losses."""
        return sum(self.recent) / max(1, len(self.recent))


def advance(
    state: State, recipe: Recipe, scheduler: Any, images: Tensor, labels: Tensor, empty: int | None, done: float
) -> None:
    """One step, when a share `done` of the budget is spent. FloatingPointError when the loss is no longer finite."""
    training = recipe.training
    state.optimizer.param_groups[0]["lr"] = learning_rate(state.step - state.fresh, done, training)
    x0, y = batch(images, labels, empty, training, state.generator)
    noise = torch.randn(x0.shape, generator=state.generator)
    n = len(x0)  # one time from each n-th of the quantiles: a loss of less variance than by free draws
    u = (torch.arange(n) + torch.rand(n, generator=state.generator)) / n
    x, t, target = noised(scheduler, x0, noise, recipe.times(u).clamp(0, 1 - 1e-6))
    loss = (predict(state.network, x, t, y) - target).square().mean()
    state.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), training.clip_norm)
    state.optimizer.step()
    blend(state.average, state.network, 1 - min(training.ema, (1 + state.step) / (10 + state.step)))
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"the training loss is {loss.item()} at step {state.step}")
    state.recent.append(loss.item())
    state.step += 1
    if state.step % REPORT_EVERY == 0:
        state.curve.append((state.step, round(state.loss, 5)))


def train(
    state: State,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    budget: float,
    after: Callable[[State], bool],
    spent: Callable[[], float] = time.process_time,
) -> None:
    """Steps until `budget` core-seconds are spent, by the count of `spent`, or `after`, called after each, says stop.

    Raises InputError where labels do not fit the network, FloatingPointError when the loss is no longer finite.
    """
    scheduler, empty = recipe.scheduler(), empty_label(state.network)
    check_labels(labels, len(images), empty)
    clock, cpu = time.monotonic(), spent()
    while state.cpu_seconds < budget and state.step < recipe.training.steps:
        advance(state, recipe, scheduler, images, labels, empty, state.cpu_seconds / budget)
        clock_now, cpu_now = time.monotonic(), spent()
        state.seconds += clock_now - clock
        state.cpu_seconds += cpu_now - cpu
        clock, cpu = clock_now, cpu_now
        if after(state):
            return


def save_checkpoint(state: State, file: Path, name: str, seed: int) -> None:
    """Writes the state in one safetensors file, put in place at once; all but the tensors is JSON in its header."""
    tensors = {"generator": state.generator.get_state()}
    for key, weight in state.network.named_parameters():
        tensors[f"network.{key}"] = weight.detach()
        for moment in MOMENTS:
            tensors[f"{moment}.{key}"] = state.optimizer.state[weight][moment]
        tensors["adam_step"] = state.optimizer.state[weight]["step"]  # the same for every weight
    tensors |= {f"average.{key}": weight for key, weight in state.average.named_parameters()}
    counts = {key: getattr(state, key) for key in ("step", "fresh", "seconds", "cpu_seconds", "curve")}
    facts = {"name": name, "seed": seed, **counts, "recent": list(state.recent)}
    partial = file.with_suffix(".partial")
    save_file(tensors, partial, {"state": json.dumps(facts)})
    os.replace(partial, file)


def read_checkpoint(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON and the tensors of a checkpoint. InputError where it is none."""
    try:
        with safe_open(file, "pt") as stored:
            facts = json.loads((stored.metadata() or {})["state"])
            return facts, {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}; expected a checkpoint of this script") from error


def load_checkpoint(state: State, file: Path, name: str, seed: int) -> None:
    """Puts a checkpoint into the state of its network at step 0. InputError where it is of another run or network."""
    facts, tensors = read_checkpoint(file)
    if (facts["name"], facts["seed"]) != (name, seed):
        raise InputError(
            f"{file} is of {facts['name']} with seed {facts['seed']}; asked for {name} with seed {seed}: "
            f"name another folder with --out"
        )
    weights = dict(state.network.named_parameters())
    stored = {key: tensor.shape for key, tensor in tensors.items() if key.startswith("network.")}
    if stored != {f"network.{key}": weight.shape for key, weight in weights.items()}:
        raise InputError(f"{file} is of another {name} than this script's; expected the same weights")
    with torch.no_grad():
        for key, weight in weights.items():
            weight.copy_(tensors[f"network.{key}"])
            moments = {moment: tensors[f"{moment}.{key}"] for moment in MOMENTS}
            state.optimizer.state[weight] = {"step": tensors["adam_step"].clone(), **moments}
        for key, weight in state.average.named_parameters():
            weight.copy_(tensors[f"average.{key}"])
    state.generator.set_state(tensors["generator"])
    state.step, state.fresh = facts["step"], facts["fresh"]
    state.seconds, state.cpu_seconds = facts["seconds"], facts["cpu_seconds"]
    state.recent.extend(facts["recent"])
    state.curve = [(step, loss) for step, loss in facts["curve"]]


def export(state: State, scheduler: Any, folder: Path, seed: int) -> None:
    """Writes the averaged network as a diffusers folder in float16, each file put in place at once."""
    trained = Trained(state.average, scheduler, state.step, state.seconds, state.cpu_seconds, state.loss, seed)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    partial.mkdir(parents=True)
    trained.save(partial, half=True)
    facts = json.loads((partial / "fewer.json").read_text())
    facts["trained"]["loss_curve"] = state.curve
    (partial / "fewer.json").write_text(json.dumps(facts) + "\n")
    for file in sorted(path for path in partial.rglob("*") if path.is_file()):
        place = folder / file.relative_to(partial)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)
    shutil.rmtree(partial)


def load_exported(state: State, folder: Path, training: Training) -> None:
    """Starts the state at step 0 from an exported model instead: its weights, its figures, Adam's moments at zero."""
    place = folder / FOLDERS[type(state.network).__name__]
    try:
        weights = type(state.network).from_pretrained(place, low_cpu_mem_usage=False).float().state_dict()
        trained = json.loads((folder / "fewer.json").read_text())["trained"]
        state.step = state.fresh = trained["steps"]
        state.seconds, state.cpu_seconds = trained["seconds"], trained["cpu_seconds"]
        state.curve = [(step, loss) for step, loss in trained["loss_curve"]]
        state.network.load_state_dict(weights)
        state.average.load_state_dict(weights)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"--from is {folder}: {first_line(error)}; expected a model folder of this script") from error
    state.generator.manual_seed(training.seed + state.step)  # not the images of the first sitting again


class Keeper:
    """What happens between steps: progress and exports every 100, checkpoints every `every` seconds, a signal's end."""

    def __init__(self, out: Path, name: str, recipe: Recipe, every: float = 180.0) -> None:
        self.out, self.name, self.recipe, self.every = out, name, recipe, every
        self.saved, self.stopped = time.monotonic(), False

    def stop(self, *_: Any) -> None:
        """Asks for an end after the step under way; a signal handler."""
        self.stopped = True

    def __call__(self, state: State) -> bool:
        """Called after each step; True asks for an end."""
        if state.step % REPORT_EVERY == 0:
            report(state)
            self.export(state)
        if not self.stopped and time.monotonic() - self.saved >= self.every:
            self.save(state)
        return self.stopped

    def save(self, state: State) -> None:
        """A checkpoint now."""
        save_checkpoint(state, self.out / CHECKPOINT, self.name, self.recipe.training.seed)
        self.saved = time.monotonic()

    def export(self, state: State) -> None:
        """The averaged network now."""
        export(state, self.recipe.scheduler(), self.out / MODEL, self.recipe.training.seed)


def report(state: State) -> None:
    """One line of progress on stderr."""
    times = f"{state.seconds:.0f} s  {state.cpu_seconds / 3600:.3f} core-hours"
    print(f"step {state.step}  loss {state.loss:.4f}  {times}", file=sys.stderr, flush=True)


def run(
    name: str, recipe: Recipe, images: Tensor, labels: Tensor, out: Path, hours: float, source: Path | None = None
) -> State:
    """Begins or goes on with the run in the folder `out`, until `hours` core-hours are spent or a signal comes."""
    torch.manual_seed(recipe.training.seed)
    state = State.start(recipe.network(), recipe.training)
    if (out / CHECKPOINT).exists():
        load_checkpoint(state, out / CHECKPOINT, name, recipe.training.seed)
        print(f"goes on from step {state.step} of {out / CHECKPOINT}", file=sys.stderr, flush=True)
    elif source is not None:
        load_exported(state, source, recipe.training)
    out.mkdir(parents=True, exist_ok=True)
    keeper = Keeper(out, name, recipe)
    before = {number: signal.signal(number, keeper.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        begun = state.step
        train(state, recipe, images, labels, 3600 * hours, keeper)
        if state.step > begun:
            keeper.save(state)
            keeper.export(state)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return state


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; status 2 and one line on stderr for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True, help="zip of CIFAR-10's training images, a folder a class")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and of model/")
    parser.add_argument("--hours", type=float, default=8.0, help="core-hours of all sittings together")
    parser.add_argument("--from", type=Path, dest="source", help="exported model to begin from, without a checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    recipe = RECIPES[given.name]
    recipe = replace(recipe, training=replace(recipe.training, seed=given.seed))
    try:
        if not 0 < given.hours < math.inf:
            raise InputError(f"--hours is {given.hours}; expected a positive number of core-hours")
        images, labels = images16(given.data)
        state = run(given.name, recipe, images, labels, given.out, given.hours, given.source)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    report(state)
    print(f"{given.name}: step {state.step}, loss {state.loss:.4f}, in {given.out / MODEL}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
