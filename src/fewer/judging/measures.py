"""What is measured of one image, and of a pair: contrast, detail, small pictures, SSIM, shifts.

Values are in 0 .. 1. SSIM and detail are taken on the luminance, reduced so that its shorter side has about 256 pixels, as the
authors of SSIM advise, with their Gaussian window of deviation 1.5 and 11 pixels.
Source: Wang, Bovik, Sheikh & Simoncelli 2004, Image quality assessment: from error visibility to structural similarity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import correlate1d

from fewer.images import Pixels, picture

Floats = NDArray[np.floating]
SIDE = 32  # of small pictures
DEVIATION, RADIUS = 1.5, 5  # of the Gaussian window
BELL = np.exp(-0.5 / DEVIATION**2 * np.arange(-RADIUS, RADIUS + 1) ** 2)
WEIGHTS = BELL / BELL.sum()
C1, C2 = 0.01**2, 0.03**2
SEEN = 8 / 255  # deviation of noise, below which it counts as little detail
DARK, BRIGHT = 2, 253  # of 0 .. 255: a value at or beyond is black or white
FAR = 48  # of 0 .. 255
ALIGNED = 0.5  # of the error that is left when a shift is undone
LEAST_ERROR = 0.01  # a shift that changes less is not looked for
OVERLAP = 64  # pixels, and a quarter of all, on which a shift is verified


@dataclass(frozen=True)
class Single:
    """Measures of one image.

    size      (width, height)
    small     (3 * 32 * 32,) values of the small picture in colour, divided by sqrt(3 * 32 * 32): distances are RMSEs
    grey      luminance of at most about 256 pixels a side, `mean` and `variance` of it in the Gaussian window
    detail    log sqrt(v + SEEN^2), v the mean of `variance`
    contrast  largest standard deviation of a channel
    """

    size: tuple[int, int]
    small: Floats
    grey: Floats
    mean: Floats
    variance: Floats
    detail: float
    contrast: float


def single(pixels: Pixels) -> Single:
    """The measures of an image (H, W, C) uint8."""
    image = picture(pixels)
    small = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255
    grey = reduced(image)
    mean = _window(grey)
    variance = np.maximum(_window(grey * grey) - mean * mean, 0)
    v = float(inner(variance).mean())
    return Single(
        image.size, (small / math.sqrt(small.size)).ravel(), grey, mean, variance, math.log(v + SEEN**2) / 2,
        _largest_deviation(image),
    )  # fmt: skip


def _largest_deviation(image: Image.Image) -> float:
    """Largest standard deviation of a channel, in 0 .. 1."""
    shares = np.asarray(image.histogram(), np.float64).reshape(-1, 256) / (image.width * image.height)
    values = np.arange(256) / 255
    means = shares @ values
    variances = [float(share @ (values - mean) ** 2) for share, mean in zip(shares, means, strict=True)]
    return math.sqrt(max(variances))


def reduced(image: Image.Image) -> Floats:
    """The luminance (h, w), its shorter side about 256 pixels where it has more."""
    grey = image.convert("L")
    factor = max(1, round(min(grey.size) / 256))
    return np.asarray(grey.reduce(factor) if factor > 1 else grey, np.float32) / 255


def _window(x: Floats) -> Floats:
    """Means of x in the window, x mirrored at its edges; float32."""
    found: Floats = correlate1d(correlate1d(x, WEIGHTS, 0), WEIGHTS, 1)
    return found


def inner(x: Floats) -> Floats:
    """Where the window lies within the image; all of an image that is no larger than the window."""
    return x[RADIUS:-RADIUS, RADIUS:-RADIUS] if min(x.shape) > 2 * RADIUS else x


def ssim(a: Single, b: Single) -> float:
    """Mean structural similarity, 1 for equal images, of two images of one size.

    (2 mu_a mu_b + C1) (2 s_ab + C2) / ((mu_a^2 + mu_b^2 + C1) (s_a^2 + s_b^2 + C2))
    """
    covariance = _window(a.grey * b.grey) - a.mean * b.mean
    above = (2 * a.mean * b.mean + C1) * (2 * covariance + C2)
    below = (a.mean**2 + b.mean**2 + C1) * (a.variance + b.variance + C2)
    return min(1.0, float(inner(above / below).mean()))


def squared_error(a: Pixels, b: Pixels) -> float:
    """Mean squared difference of two images (H, W, C) of one size, 0 .. 1."""
    difference = a.astype(np.float32)
    difference -= b
    return float(np.square(difference, out=difference).mean(dtype=np.float64)) / 255**2


def clipped(a: Pixels, b: Pixels) -> float:
    """Share of b's values that are black or white where a's, in an image of the same size, are far from it."""
    at_end = (b <= DARK) | (b >= BRIGHT)
    return float((at_end & (np.abs(a.astype(np.int16) - b) >= FAR)).mean())


def shift(a: Pixels, b: Pixels) -> tuple[int, int] | None:
    """By how many pixels (right, down) b is a's image moved, around the edge or past it; None where it is not.

    Phase correlation proposes the shift, on the images and on their middles (a Hann window); it counts where undoing it
    leaves at most half of the error.
    Source: Kuglin & Hines 1975, The phase correlation image alignment method.
    """
    x, y = (np.asarray(picture(image).convert("L"), np.float32) / 255 for image in (a, b))
    error = _rmse(x, y)
    if error < LEAST_ERROR:
        return None
    window = np.outer(np.hanning(x.shape[0]), np.hanning(x.shape[1])).astype(np.float32)
    for weights in (1.0, window):
        down, right = _peak((x - x.mean()) * weights, (y - y.mean()) * weights)
        if (down or right) and _undone(x, y, down, right) <= ALIGNED * error:
            return right, down
    return None


def _peak(x: Floats, y: Floats) -> tuple[int, int]:
    cross = scipy.fft.rfft2(y) * np.conj(scipy.fft.rfft2(x))
    size = np.abs(cross)
    correlation = scipy.fft.irfft2(cross / np.maximum(size, 1e-6 * size.max() + 1e-30), x.shape)
    place = np.unravel_index(int(correlation.argmax()), x.shape)
    down, right = (int(p) if p <= n // 2 else int(p) - n for p, n in zip(place, x.shape, strict=True))
    return down, right


def _undone(x: Floats, y: Floats, down: int, right: int) -> float:
    """The error that is left when y is moved back, around the edge or where the two overlap."""
    around = _rmse(x, np.roll(y, (-down, -right), (0, 1)))
    height, width = x.shape
    of_x, of_y = x, y
    of_x = of_x[max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)]
    of_y = of_y[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    return min(around, _rmse(of_x, of_y)) if of_x.size >= max(OVERLAP, x.size // 4) else around


def _rmse(x: Floats, y: Floats) -> float:
    return math.sqrt(float(np.square(x - y).mean(dtype=np.float64)))
