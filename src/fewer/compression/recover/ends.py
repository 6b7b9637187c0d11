"""Errors of a network's output as far as they are still there at the end of sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.calibration import Calibration
from fewer.models.model import Model

FLOOR = 1e-6  # of a frequency's power, as a share of the mean: errors count there, too, though the samples have nothing
BATCH = 64  # samples whose coefficients are held at once
NOISIEST = 1 - 1e-6  # at tau = 1 some times have no derivative; what is off there moves no sample


@dataclass(frozen=True)
class Ends:
    """Mean square by which samples of a Gaussian law end elsewhere, where the output of its network is off by e at a level s.

    Let the data be Gaussian with power c^2 at a spatial frequency, x = D + s eps. The ideal D(x) = c^2 x / (c^2 + s^2), and the
    flow dx / d log s = x - D(x) takes a change of x at the level s to one of c / sqrt(c^2 + s^2) times it at s = 0. An error of D
    moves x by itself times -d log s. With u = eps - D = p x + q F the output's error e is one of -tau q e in D, so that the sample
    moves by

        integral of  c / sqrt(c^2 + s^2) tau q e  d log s

    For a network that predicts noise tau q = s: an error of its mean at high levels comes out c times as large, with the c of the
    mean, which is large in images, where that of fine detail is small. The plain mean square over pixels counts both alike. Of
    states at times t spread evenly, and errors that are not the same at all levels, the mean square counts

        w(tau) = tau^2 q^2 c^2 / (c^2 + s^2) |d log s / dt|

    for |e|^2 at each frequency. This derivation is our own; images are no Gaussians, and the weights are those of their spectrum.

    model  whose schedule and kind of prediction these are
    power  c^2 (channels, *frequencies), float64: variance of the orthonormal Fourier coefficients of the data
    """

    model: Model
    power: Tensor

    @classmethod
    def of(cls, calibration: Calibration) -> Ends:
        """By the spectrum of the calibration's clean samples, without bias of how many there are."""
        samples = calibration.samples
        mean = samples.mean(0, dtype=torch.float64)
        squares = (waves(some.double() - mean).abs().square().sum(0) for some in samples.split(BATCH))
        power = sum(squares, torch.zeros_like(mean)) / max(len(samples) - 1, 1)
        least = FLOOR * float(power.mean()) or 1.0  # of constant data: all frequencies alike
        return cls(calibration.model, power.clamp(min=least).to(calibration.model.device))

    def weights(self, tau: Tensor) -> Tensor:
        """What |e|^2 counts at levels tau (n,) of times spread evenly (n, channels, *frequencies), float64."""
        with torch.inference_mode(False), torch.enable_grad():
            level = tau.detach().double().clamp(max=NOISIEST).requires_grad_(True)
            (pace,) = torch.autograd.grad(self.model.schedule.time(level).sum(), level)
        level = level.detach()
        gain = level * self.model.affine(level).q.square() * (1 - level) / pace.abs()
        level, gain = (each.to(self.power).view(-1, *[1] * self.power.ndim) for each in (level, gain))
        return gain * self.power / (self.power * (1 - level).square() + level.square())

    def relative(self, output: Tensor, target: Tensor, t: Tensor) -> Tensor:
        """Sum w |output - target|^2 / sum w |target|^2 of outputs (n, channels, ..) of the network at its times t (n,)."""
        weights = self.at(t)
        error, whole = (waves(each).abs().square() for each in (output - target, target))
        return (weights * error).mean() / (weights * whole).mean().clamp(min=1e-12)

    def roots(self, x: Tensor, t: Tensor) -> Tensor:
        """W^(1/2) x of x (n, channels, ..) at the network's times t (n,), whose squared length is sum w |x_k|^2."""
        found = self.at(t).sqrt() * waves(x)
        return torch.fft.ifftn(found, dim=_places(x), norm="ortho").real if _places(x) else found

    def at(self, t: Tensor) -> Tensor:
        """The weights at the network's times t (n,), float32."""
        schedule = self.model.schedule
        return self.weights(schedule.tau(t.double()).clamp(schedule.tau_min, self.model.start)).float()


def waves(x: Tensor) -> Tensor:
    """Orthonormal Fourier coefficients of each channel of x (n, channels, ..); x itself where channels have no places."""
    return torch.fft.fftn(x, dim=_places(x), norm="ortho") if _places(x) else x


def _places(x: Tensor) -> tuple[int, ...]:
    """The dimensions of x along which its frequencies are."""
    return tuple(range(2, x.ndim))
