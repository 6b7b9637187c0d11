"""Model: a network, its noise schedule, and what its output means. The engine calls nothing else."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.models.predictions import PREDICTIONS, Affine, affine
from fewer.models.schedules import Number, Schedule

# Above the first figure the start is moved down to the second: at s = sigma / alpha a noise-predicting network's
# error is multiplied by s, and starting from the noise alone at s costs v / (2 s^2) in a direction of variance v.
UNSAFE_START = 200.0
SAFE_START = 64.0

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Clip:
    """Bounds on the data prediction: a fixed range, or dynamic thresholding (Saharia et al. 2022, section 2.3).

    `bound` is the range's end (or, with `quantile`, the largest threshold): D is clamped to [-bound, bound], or to
    [-c, c] / c with c the sample's `quantile` of |D|, between 1 and bound.
    """

    bound: float = 1.0
    quantile: float | None = None

    def __call__(self, data: Tensor) -> Tensor:
        """The clipped data prediction, of the same shape (n, ...)."""
        if self.quantile is None:
            return data.clamp(-self.bound, self.bound)
        flat = data.abs().flatten(1).to(torch.float32)
        c = torch.quantile(flat, self.quantile, dim=1).clamp(1, self.bound).view(-1, *[1] * (data.ndim - 1))
        return data.clamp(-c, c) / c


@dataclass(frozen=True)
class Model:
    """A pretrained denoiser as the engine sees it.

    network        (x, t, labels) -> output: x (n, *shape) in `dtype`, t (n,) float32 as the schedule tells times,
                   labels (n,) int64 or None; output (n, *shape), or with more channels, of which the first are used
    schedule       which level belongs to which network time
    predicts       noise | data | velocity | flow | score | edm
    shape          of one sample, (C, H, W)
    classes        number of classes K (labels 0 .. K - 1), None for an unconditional network
    empty_label    the label that stands for 'no class', for classifier-free guidance; None where there is none
    clip           bounds on the data prediction, None for none
    data_range     the values that images take
    decode         from samples to images in `data_range`, None where samples are images
    hash           of the network's content; a plan names it
    pipeline       the diffusers scheduler (class name and configuration) that the folder came with
    weaker         a worse model of the same data and labels, for autoguidance; None for none
    classifier     (x, tau) -> logits (n, classes) of states x (n, *shape) in the flow frame, for classifier guidance
    others         further models of the same data and labels, which rows of a plan may call in this one's place
    prompts        of a text-to-image model: what its labels stand for, one text each
    negative_prompt    what its empty label stands for, None for what its pipeline takes when it is not told
    encoders_hash      of the content of its text encoders, which `hash` leaves out: a plan plays any prompt
    embedded_guidance  the guidance scale that the network is told as an input; None for a network that takes none
    """

    network: Network
    schedule: Schedule
    predicts: str
    shape: tuple[int, ...]
    classes: int | None = None
    empty_label: int | None = None
    clip: Clip | None = None
    sigma_data: float = 0.5
    data_range: tuple[float, float] = (-1.0, 1.0)
    decode: Callable[[Tensor], Tensor] | None = None
    name: str = "model"
    hash: str = ""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    pipeline: dict[str, Any] | None = None
    exact: GaussianMixture | None = None
    weaker: Model | None = None
    classifier: Callable[[Tensor, float], Tensor] | None = None
    others: tuple[Model, ...] = ()
    prompts: tuple[str, ...] = ()
    negative_prompt: str | None = None
    encoders_hash: str = ""
    embedded_guidance: float | None = None

    def __post_init__(self) -> None:
        if self.predicts not in PREDICTIONS:
            raise InputError(f"predicts is {self.predicts!r}; expected one of {', '.join(PREDICTIONS)}")
        if not self.shape or any(size < 1 for size in self.shape):
            raise InputError(f"shape is {self.shape}; expected positive sizes (C, H, W)")
        for other in self.others:
            for what in ("shape", "classes", "prompts", "negative_prompt", "data_range", "device"):
                its, own = getattr(other, what), getattr(self, what)
                if its != own:
                    raise InputError(f"{what} of the second model {other.name} is {its}; {self.name} has {own}")

    @classmethod
    def from_denoiser(
        cls,
        fn: Network,
        schedule: Schedule,
        shape: Sequence[int],
        predicts: str = "data",
        labels: int | None = None,
        *,
        empty_label: int | None = None,
        name: str = "denoiser",
        **fields: Any,
    ) -> Model:
        """A model from any function fn(x, sigma_or_t, labels) and a noise schedule.

        `x` is alpha D + sigma eps as the schedule's process has it, the second argument what the schedule tells at
        that level (sigma for `VarianceExploding`), `labels` the number of classes or None.
        """
        what = f"{name} {predicts} {schedule!r} {tuple(shape)}"
        given = {"hash": hashlib.sha256(what.encode()).hexdigest(), **fields}
        return cls(fn, schedule, predicts, tuple(shape), labels, empty_label, name=name, **given)

    @classmethod
    def from_mixture(
        cls, mixture: GaussianMixture, schedule: Schedule, *, conditional: bool = False, name: str = "mixture",
        hash: str = "", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
    ) -> Model:  # fmt: skip
        """The exact denoiser of a Gaussian mixture, as a network that predicts the data.

        `conditional` makes the mixture's classes the model's, with the whole mixture as the empty class.
        """
        mixture = mixture.to(device=torch.device(device), dtype=dtype)
        classes = mixture.classes if conditional else None

        def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            tau = schedule.tau(t.double() if t.ndim == 0 else t[0].double())
            return mixture.denoise(x / schedule.scale(tau).to(x.dtype), tau, labels)

        return cls(
            network, schedule, "data", tuple(mixture.shape), classes, classes,
            name=name, hash=hash, device=torch.device(device), dtype=dtype, exact=mixture,
        )  # fmt: skip

    def called(self, network: int) -> Model:
        """The model of rows of this network: itself for 0, else one of the others. Raises InputError where it is none."""
        if network > len(self.others):
            raise InputError(
                f"the plan calls network {network}, and {self.name} comes with {len(self.others)} others: give the "
                "second model by --with OTHER, or others=[..]"
            )
        return self if network == 0 else self.others[network - 1]

    def affine(self, tau: Number) -> Affine:
        """Input scale and output map at a level (float64)."""
        return affine(self.predicts, self.schedule, tau, self.sigma_data)

    def __call__(self, x: Tensor, t: Number, labels: Tensor | None) -> Tensor:
        """One network call on x (n, *shape) at time t; float32 output of the same shape, extra channels dropped."""
        times = torch.as_tensor(t, dtype=torch.float64, device=x.device).to(torch.float32).expand(len(x))
        out = self.network(x.to(self.dtype), times, labels)
        if out.shape != x.shape:
            if (
                out.ndim != x.ndim
                or out.shape[0] != len(x)
                or out.shape[2:] != x.shape[2:]
                or out.shape[1] < x.shape[1]
            ):
                raise InputError(
                    f"the network of {self.name} returned shape {tuple(out.shape)} for an input of {tuple(x.shape)}"
                )
            out = out[:, : x.shape[1]]
        return out.to(torch.float32)

    def labels(self, n: int, labels: Any = None) -> Tensor | None:
        """Checked labels (n,) on the model's device; None draws them evenly: 0, 1, .., K - 1, 0, 1, .."""
        if self.classes is None:
            if labels is not None:
                raise InputError(f"{self.name} has no classes, but labels were given")
            return None
        if labels is None:
            labels = torch.arange(n) % self.classes
        given = torch.as_tensor(labels)
        if given.is_floating_point() or given.dtype == torch.bool:
            raise InputError(f"labels must be integers 0 .. {self.classes - 1}, got {given.dtype}")
        if given.ndim == 0:
            given = given.expand(n)
        if given.shape != (n,):
            raise InputError(f"labels have shape {tuple(given.shape)}; expected ({n},)")
        top = self.classes if self.empty_label is None else max(self.classes, self.empty_label + 1)
        wrong = given[(given < 0) | (given >= top)]
        if len(wrong):
            raise InputError(f"label {int(wrong[0])} is out of range; {self.name} has labels 0 .. {self.classes - 1}")
        return given.to(device=self.device, dtype=torch.int64)

    @property
    def start(self) -> float:
        """The level to start from: the noisiest trained one, or the safe one where noise prediction would blow up.

        At alpha near zero a noise-predicting network's error is divided by alpha. Above s = 200 the start is the
        noise alone at s = 64.
        """
        top = self.schedule.tau_max
        s = top / (1 - top) if top < 1 else math.inf
        if self.predicts in ("noise", "score") and s > UNSAFE_START:
            return SAFE_START / (1 + SAFE_START)
        return top

    @property
    def parameters(self) -> int | None:
        """Number of weights, where the network is an nn.Module."""
        module = getattr(self.network, "module", self.network)
        return sum(p.numel() for p in module.parameters()) if isinstance(module, nn.Module) else None

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Model:
        """The same model on another device or in another dtype; an nn.Module is moved in place."""
        device = torch.device(device) if device is not None else self.device
        dtype = dtype or self.dtype
        module = getattr(self.network, "module", self.network)
        if isinstance(module, nn.Module):
            module.to(device=device, dtype=dtype)
        weaker, others = self.weaker and self.weaker.to(device, dtype), tuple(o.to(device, dtype) for o in self.others)
        return replace(self, device=device, dtype=dtype, weaker=weaker, others=others)

    def with_guidance(self, scale: float) -> Model:
        """The model whose network, which takes a guidance scale as an input, is told this one; likewise its `others`.

        Raises InputError for a network that takes none, and where the scale is no finite number.
        """
        if self.embedded_guidance is None:
            raise InputError(f"the network of {self.name} takes no guidance scale as an input")
        if not -1e6 < scale < 1e6:
            raise InputError(f"guidance is {scale}; expected a finite scale such as 3.5")
        told: Any = self.network
        others = tuple(o if o.embedded_guidance is None else o.with_guidance(scale) for o in self.others)
        return replace(self, network=told.with_guidance(scale), embedded_guidance=float(scale), others=others)

    @property
    def signature(self) -> dict[str, str]:
        """What a plan says of the model that it was made for."""
        return {"name": self.name, "hash": self.hash, "schedule": self.schedule.describe()}

    def describe(self) -> dict[str, Any]:
        """What results and reports say about the model."""
        return {
            "name": self.name, "hash": self.hash, "shape": list(self.shape), "predicts": self.predicts,
            "schedule": self.schedule.describe(), "parameters": self.parameters, "classes": self.classes,
            **self.conditions,
        }  # fmt: skip

    @property
    def conditions(self) -> dict[str, Any]:
        """What the samples of a text-to-image model depend on besides its hash; {} for other models."""
        if not self.prompts:
            return {}
        told = {"negative_prompt": self.negative_prompt, "embedded_guidance": self.embedded_guidance}
        given = {name: value for name, value in told.items() if value is not None}
        return {"prompts": list(self.prompts), "text_encoders": self.encoders_hash, **given}
