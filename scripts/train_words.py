"""Trains the small text-to-image pipeline that ships with the package: digits from their names.

    python -m scripts.train_words                  # some 10 minutes on one core

A latent diffusion model (Rombach et al. 2022) in small: an autoencoder of 8x8 digits with 4x4 latents of 4 channels, then
a UNet with cross-attention to the words of a prompt, and the text encoder with it, both from scratch. Every step tells
each class by one phrase, drawn anew; a tenth of the samples are told the empty prompt, for classifier-free guidance.

Writes a StableDiffusionPipeline folder to src/fewer/models/pretrained/words-digits, or to --out. `--toy` shrinks the run
to seconds.
"""

from __future__ import annotations

import argparse
import copy
import json
import string
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from fewer.errors import InputError
from fewer.models.bundled import FOLDER, digits_classifier, digits_images
from fewer.train import Training
from fewer.train.denoiser import blend, finite_mean, learning_rate, noised

NAME = "words-digits"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PHRASES = (
    "{}", "a {}", "the {}", "digit {}", "the digit {}", "the number {}", "a picture of a {}", "a handwritten {}",
    "a picture of the digit {}",
)  # fmt: skip
TOKENS = 16
AUTOENCODER = Training(steps=2000, batch=128, lr=3e-3, warmup=100, ema=0.995)
DENOISER = Training(steps=5000, batch=64, lr=2e-3)
KL_WEIGHT = 1e-3  # per latent number, against a mean squared error per pixel


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with the byte pairs that build the words of the phrases; any other word is spelled."""
    known = [*WORDS, *dict.fromkeys(" ".join(PHRASES).replace("{}", "").split())]
    merges: dict[tuple[str, str], None] = {}
    for word in known:
        start, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for piece in rest:
            merges[start, piece] = None
            start += piece
    signs = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*signs, *(f"{sign}</w>" for sign in signs), *("".join(pair) for pair in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=TOKENS)


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers of 32 features."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, projection_dim=32, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=TOKENS, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def make_autoencoder() -> AutoencoderKL:
    """Images (n, 1, 8, 8), latents (n, 4, 4, 4)."""
    return AutoencoderKL(
        in_channels=1, out_channels=1, sample_size=8, latent_channels=4, block_out_channels=(16, 24), layers_per_block=1,
        norm_num_groups=8, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        mid_block_add_attention=False,
    )  # fmt: skip


def make_unet() -> UNet2DConditionModel:
    """Attends to the prompt at 4x4 and in the middle."""
    return UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=32, attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip


def make_scheduler() -> DDIMScheduler:
    """Noise prediction on the schedule of Stable Diffusion."""
    return DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


class Loop:
    """AdamW, the moving average of the weights, and progress on stderr."""

    def __init__(self, what: str, module: nn.Module, training: Training) -> None:
        self.what, self.module, self.training = what, module.train(), training
        self.average = copy.deepcopy(module).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=training.lr, weight_decay=training.weight_decay)
        self.recent: deque[Tensor] = deque(maxlen=200)
        self.step = 0

    def descend(self, loss: Tensor) -> None:
        """One step down the loss."""
        training = self.training
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.step, self.step / training.steps, training)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), training.clip_norm)
        self.optimizer.step()
        blend(self.average, self.module, 1 - min(training.ema, (1 + self.step) / (10 + self.step)))
        self.recent.append(loss.detach())
        self.step += 1
        if self.step % 500 == 0:
            print(f"{self.what} step {self.step}  loss {finite_mean(self.recent):.4f}", file=sys.stderr, flush=True)


def train_autoencoder(images: Tensor, training: Training) -> AutoencoderKL:
    """Squared error of the reconstruction and the posterior's divergence from a unit Gaussian (Kingma & Welling 2014).

    Its scaling_factor makes the latents of the images of unit variance.
    """
    loop = Loop("autoencoder", make_autoencoder(), training)
    generator = torch.Generator().manual_seed(training.seed)
    for _ in range(training.steps):
        x = images[torch.randint(len(images), (training.batch,), generator=generator)]
        posterior = loop.module.encode(x).latent_dist
        z = posterior.sample(generator=generator)
        error = (loop.module.decode(z).sample - x).square().mean()
        loop.descend(error + KL_WEIGHT * posterior.kl().mean() / z[0].numel())
    vae: Any = loop.average
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.sample(generator=generator)
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))
    return vae


def phrases_of(tokenizer: CLIPTokenizer) -> tuple[Tensor, Tensor]:
    """Token ids (phrases, 10, TOKENS) of every phrase of every class, by words and by numerals, and (1, TOKENS) of none."""

    def ids(texts: list[str]) -> Tensor:
        padded = tokenizer(texts, padding="max_length", max_length=TOKENS, return_tensors="pt")
        return padded.input_ids

    told = [ids([phrase.format(name) for name in names]) for phrase in PHRASES for names in (WORDS, string.digits)]
    return torch.stack(told), ids([""])


def train_denoiser(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, images: Tensor, labels: Tensor, training: Training
) -> tuple[UNet2DConditionModel, CLIPTextModel, float]:
    """The network and the text encoder, trained together on the noise in latents, and the last steps' loss."""
    scheduler = make_scheduler()
    loop = Loop("denoiser", nn.ModuleList([make_unet(), make_text_encoder(tokenizer)]), training)
    unet, text_encoder = loop.module
    phrases, nothing = phrases_of(tokenizer)
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
    generator = torch.Generator().manual_seed(training.seed)
    for _ in range(training.steps):
        pick = torch.randint(len(images), (training.batch,), generator=generator)
        eps = torch.randn(posterior.mean[pick].shape, generator=generator)
        z = vae.config.scaling_factor * (posterior.mean[pick] + posterior.std[pick] * eps)
        dropped = torch.rand(len(pick), generator=generator) < training.label_dropout
        drawn = torch.randint(len(phrases), (10,), generator=generator)
        told = text_encoder(torch.cat([phrases[drawn, torch.arange(10)], nothing]))[0]
        noise = torch.randn(z.shape, generator=generator)
        x, t, target = noised(scheduler, z, noise, torch.rand(len(z), generator=generator))
        given = told[torch.where(dropped, 10, labels[pick])]
        loop.descend((unet(x, t, encoder_hidden_states=given).sample - target).square().mean())
    unet, text_encoder = loop.average
    return unet, text_encoder, finite_mean(loop.recent)


@torch.no_grad()
def checked(pipe: StableDiffusionPipeline, held_out: tuple[Tensor, Tensor]) -> dict[str, float]:
    """What the autoencoder loses of held-out digits, and how many digits drawn from their words a classifier agrees with."""
    images, labels = held_out
    classifier = digits_classifier()
    again = pipe.vae.decode(pipe.vae.encode(images).latent_dist.mode()).sample
    pipe.set_progress_bar_config(disable=True)

    def agrees(guidance: float) -> float:
        prompts, generator = [f"the digit {word}" for word in WORDS] * 20, torch.Generator().manual_seed(1)
        drawn = pipe(prompts, num_inference_steps=30, guidance_scale=guidance, generator=generator, output_type="pt")
        right = classifier(drawn.images * 2 - 1).argmax(1) == torch.arange(10).repeat(20)
        return round(float(right.float().mean()), 4)

    return {
        "reconstruction_rmse": round(float((again - images).square().mean().sqrt()), 4),
        "reconstruction_accuracy": round(float((classifier(again).argmax(1) == labels).float().mean()), 4),
        "prompt_accuracy": agrees(1.0),
        "prompt_accuracy_at_guidance_3": agrees(3.0),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; status 2 and one line on stderr for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER / NAME, help="folder to write (default: the package's)")
    parser.add_argument("--toy", action="store_true", help="a run of seconds")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    steps = {"steps": 40, "warmup": 10} if given.toy else {}
    try:
        (images, labels), held_out = digits_images("train"), digits_images("test")
        torch.manual_seed(given.seed)
        start, cpu = time.monotonic(), time.process_time()
        tokenizer = make_tokenizer()
        vae = train_autoencoder(images, replace(AUTOENCODER, seed=given.seed, **steps))
        unet, text_encoder, loss = train_denoiser(
            vae, tokenizer, images, labels, replace(DENOISER, seed=given.seed, **steps)
        )
        run = {
            "seconds": round(time.monotonic() - start, 1), "cpu_seconds": round(time.process_time() - cpu, 1),
            "seed": given.seed, "loss": round(loss, 5), "parameters": sum(p.numel() for p in unet.parameters()),
        }  # fmt: skip
        pipe = StableDiffusionPipeline(
            vae, text_encoder, tokenizer, unet, make_scheduler(), None, None, requires_safety_checker=False
        )
        run |= checked(pipe, held_out)
        vae.half()
        unet.half()  # the text encoder stays float32: pipelines give the network its outputs as they are
        pipe.save_pretrained(given.out)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    facts = {"prompts": list(WORDS), "data_range": [-1, 1], "trained": run}
    (given.out / "fewer.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{NAME}: {run}, in {given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
