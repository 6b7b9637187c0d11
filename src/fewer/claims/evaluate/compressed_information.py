"""The claim of the mutual information from compressed codes: right on images of a known one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.evaluate.statistics.compressed_information import compressed_information
from fewer.evaluate.statistics.interval import Interval

PIXELS, LATENT, NOISE, RHO = 256, 2, 0.3, 0.8
REPETITIONS, FEW = 12, 3
TRUE = -LATENT / 2 * math.log(1 - RHO**2 / (1 + NOISE**2))


def images(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Conditions (n, 2) and noisy images (n, 256) of an information of `TRUE`.

    x = W z + 0.3 e with orthonormal W (256, 2) and z of correlation 0.8 with the condition: W' x = z + 0.3 e is all that it
    says of z, so that I = - log(1 - 0.8^2 / (1 + 0.3^2)) over two pairs.
    """
    c, e = torch.randn(2, n, LATENT, generator=generator, dtype=torch.float64)
    z = RHO * c + math.sqrt(1 - RHO**2) * e
    patterns = torch.linalg.qr(torch.randn(PIXELS, LATENT, generator=generator, dtype=torch.float64)).Q
    return c, z @ patterns.T + NOISE * torch.randn(n, PIXELS, generator=generator, dtype=torch.float64)


def relative(n: int, components: int, repetitions: int, generator: torch.Generator) -> Interval:
    """The estimate over the true information."""
    pairs = (images(n, generator) for _ in range(repetitions))
    return mean([compressed_information(c, x, components).value / TRUE for c, x in pairs])


@claim(
    "compressed-mutual-information/gaussian-images",
    statement="Of noisy images of 256 pixels made from two Gaussian numbers it estimates the known information on a condition of "
    "two numbers, 0.88 nats: estimated / true, from 1,000 pairs by 2 components. Beside: by other numbers of pairs and "
    "components",
    baseline="the information in closed form; 256 components, which is the neighbours' estimator without compression",
    above=0.9,
    below=1.1,
)
def gaussian_images(seed: int, sabotage: bool) -> Measured:
    """Sabotage: without compression."""
    generator = torch.Generator().manual_seed(seed)
    found = relative(1000, PIXELS if sabotage else LATENT, FEW if sabotage else REPETITIONS, generator)
    beside = {} if sabotage else {
        f"{n} pairs, {components} components": relative(n, components, FEW, generator)
        for n, components in ((250, 2), (4000, 2), (1000, 4), (1000, 8), (1000, PIXELS))
    }  # fmt: skip
    return Measured(found, beside)
