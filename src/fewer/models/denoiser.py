"""Denoiser: a network with its noise schedule and prediction type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from fewer.batch import per_sample, quantile
from fewer.errors import InputError
from fewer.levels import Number, s_of_tau, tau_of_s
from fewer.models.edge import called
from fewer.models.predictions import Affine, affine, check_prediction
from fewer.models.reach import modules_of
from fewer.models.schedules import Schedule

# Above the first figure the start is moved down to the second: at s = sigma / alpha a noise-predicting network's
# error is multiplied by s, and starting from the noise alone at s costs v / (2 s^2) in a direction of variance v.
UNSAFE_START = 200.0
SAFE_START = 64.0
LONGEST_NAME = 200

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
        c = quantile(flat, self.quantile, 1).clamp(1, self.bound)
        c = per_sample(c, data)
        return data.clamp(-c, c) / c


@dataclass(frozen=True)
class Denoiser:
    """A network that gives u = eps - D at states (1 - tau) D + tau eps of any level tau.

    network     (x, t, labels) -> output: x (n, *shape) in `dtype`, t (n,) float32 as the schedule has times,
                labels (n,) int64 or None; output (n, *shape), or with more channels, of which the first are used
    schedule    which level belongs to which network time
    predicts    noise | data | velocity | flow | score | edm | consistency
    shape       of one sample, (C, H, W)
    clip        bounds on the data prediction, None for none
    sigma_data  the data's standard deviation, which `edm` and `consistency` networks are scaled by
    """

    network: Network
    schedule: Schedule
    predicts: str
    shape: tuple[int, ...]
    _: KW_ONLY
    clip: Clip | None = None
    sigma_data: float = 0.5
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    name: str = "model"

    def __post_init__(self) -> None:
        check_prediction(self.predicts, self.schedule)
        if not self.shape or any(size < 1 for size in self.shape):
            raise InputError(f"shape is {self.shape}; expected positive sizes (C, H, W)")
        if not isinstance(self.name, str) or not self.name.isprintable() or len(self.name) > LONGEST_NAME:
            raise InputError(
                f"name of a model is {self.name!r:.80}; expected a text that prints, of at most {LONGEST_NAME} characters"
            )

    def affine(self, tau: Number) -> Affine:
        """Input scale c_in and output map u = p x + q F at a level (float64)."""
        return affine(self.predicts, self.schedule, tau, self.sigma_data)

    def __call__(self, x: Tensor, t: Number, labels: Tensor | None) -> Tensor:
        """One network call on x (n, *shape) at time t; output of the same shape, extra channels dropped.

        The output is float32, and float64 for x of float64; a float64 network is then given its times in float64 too.
        """
        out = self.output(x, t, labels)
        if out.shape != x.shape:
            channels = out.shape[1] if out.ndim > 1 else 0
            if channels < x.shape[1] or out.shape != (len(x), channels, *x.shape[2:]):
                raise InputError(
                    f"the network of {self.name} returned shape {tuple(out.shape)} for an input of {tuple(x.shape)}"
                )
            out = out[:, : x.shape[1]]
        return out.to(torch.promote_types(x.dtype, torch.float32))

    def output(self, x: Tensor, t: Number, labels: Tensor | None) -> Tensor:
        """The network's whole output on x (n, *shape) at time t, as it is.

        The network gets copies, in which it may write. It is called in eval mode, each module being in its own afterwards,
        and without autocast around; what it switches on itself counts. Raises ForeignError for what it raises, and
        InputError where it returns no tensor of floats (or tuple of one, or object whose `sample` is one) on x's device.
        """
        double = x.dtype == self.dtype == torch.float64
        times = torch.as_tensor(t, dtype=torch.float64, device=x.device).expand(len(x))
        return called(
            self.network, self.name, self._modules, x.to(self.dtype, copy=True),
            times.to(torch.float64 if double else torch.float32, copy=True), None if labels is None else labels.clone(),
        )  # fmt: skip

    @cached_property
    def _modules(self) -> list[nn.Module]:
        return modules_of(self.network)

    def velocity(self, x: Tensor, tau: Number, labels: Tensor | None = None) -> Tensor:
        """u = eps - D (n, *shape) at states x of level tau in the flow frame, by one network call.

        Of the clipped data prediction, where the model clips. In x's dtype, float32 or float64.
        """
        c_in, p, q = (number.to(x) if isinstance(tau, Tensor) else number.item() for number in self.affine(tau))
        f = self(c_in * x, self.schedule.time(tau), labels)
        u = p * x + q * f if isinstance(q, Tensor) else torch.add(p * x, f, alpha=q)
        return self.clipped(x, tau, u)

    def clipped(self, x: Tensor, tau: Number, u: Tensor) -> Tensor:
        """u of the clipped data prediction at states x of level tau; u itself where the model does not clip."""
        if self.clip is None:
            return u
        data = x - tau.to(x) * u if isinstance(tau, Tensor) else torch.add(x, u, alpha=-tau)
        clipped = self.clip(data)
        # dividing by tau where it is large, correcting u where it is small: no cancellation at either end
        return (x - clipped) / tau if tau > 0.5 else u + (data - clipped) / tau

    @property
    def start(self) -> float:
        """The level to start from: the noisiest trained one, or the safe one where noise prediction would blow up.

        At alpha near zero a noise-predicting network's error is divided by alpha. Above s = 200 the start is the
        noise alone at s = 64.
        """
        top = self.schedule.tau_max
        unsafe = self.predicts in ("noise", "score") and s_of_tau(top) > UNSAFE_START
        return tau_of_s(SAFE_START) if unsafe else top

    @property
    def parameters(self) -> int | None:
        """Number of weights, where the network is an nn.Module."""
        module = getattr(self.network, "module", self.network)
        return sum(p.numel() for p in module.parameters()) if isinstance(module, nn.Module) else None
