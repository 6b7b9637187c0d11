"""The judgement as one HTML page that needs nothing else to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Template
from PIL import Image

from fewer.files import write_atomically
from fewer.images import Pixels, picture
from fewer.judging import words
from fewer.judging.gather import alike
from fewer.judging.record import Judgement
from fewer.report import words as numbers
from fewer.report.samples import png_uri
from fewer.report.templates import environment

SIDE = 192  # pixels of a picture on the page
LISTED = 200  # faults on the page; JSON has all


@dataclass(frozen=True)
class Pictures:
    """PNGs in data URIs: an image of the reference, the candidate's, and where they differ."""

    a: str
    b: str
    difference: str
    width: int
    height: int


def pictures(a: Pixels, b: Pixels) -> Pictures:
    """Of a pair (H, W, C) uint8. The map is the largest difference over channels: white none, dark red all of the range."""
    a, b = alike(a, b)
    small = [_small(picture(np.ascontiguousarray(x)).convert("RGB")) for x in (a, b)]
    apart = np.abs(np.asarray(small[0], np.int16) - np.asarray(small[1], np.int16)).max(2) / 255
    strength = np.sqrt(apart)[..., None]  # so that small differences are seen, too
    colours = (255 * (1 - strength) + np.array([140, 0, 20]) * strength).round().astype(np.uint8)
    uris = [png_uri(image) for image in (*small, Image.fromarray(colours))]
    return Pictures(uris[0], uris[1], uris[2], *small[0].size)


def _small(image: Image.Image) -> Image.Image:
    side = max(image.size)
    if side > SIDE:
        return image.resize([max(1, round(s * SIDE / side)) for s in image.size], Image.Resampling.BOX)
    factor = max(1, SIDE // side)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


@cache
def _template() -> Template:
    return environment("fewer.judging").get_template("judge.html", globals={"words": words, "numbers": numbers})


def write_page(path: Path, record: Judgement, shown: Sequence[Pictures]) -> None:
    """Write the page whole or not at all; `shown` are the pictures of `record.most`. All names in it are escaped."""
    page = _template().render(r=record, shown=list(zip(record.most, shown, strict=True)), listed=LISTED)
    write_atomically(path, page.encode("utf-8", "replace"))
