"""Faults of single images, each of which is named whatever the verdict is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fewer.files import Record
from fewer.judging.gather import Compared, Gathered
from fewer.judging.pairing import REPEATED, Pairing
from fewer.judging.space import Within

FLAT, VARIED = 2 / 255, 4 / 255  # contrast of an image of one colour, and of one that is not
BLACK = 8 / 255  # mean value
FACTOR = math.log(2)  # of detail
FULL = 0.25  # share of values that are black or white where the reference is far from it

Names = Callable[[int], str]


class Fault(Record):
    """What is wrong with one of the candidate's images: `image` is its file, `says` a phrase that follows its name.

    kind  constant, size, noise, blur, clipped, swapped, repeated or shifted
    """

    image: str
    kind: str
    says: str


def faults_of_pairs(
    a: Gathered, b: Gathered, compared: Compared, pairs: Pairing, place: Names, prompts: Sequence[str] | None
) -> dict[int, list[Fault]]:
    """Number of a pair -> what is wrong with the candidate's image of it, beside the reference's."""
    found = {}
    for i in range(len(b)):
        if _flat(a, b, i):
            said = [("constant", f"is {_colour(b, i)}; its reference is not")]
        else:
            said = [*_alone(a, b, i), *_beside(compared, i), *_instead(pairs, i, place, prompts)]
        if said:
            found[i] = [Fault(image=place(i), kind=kind, says=says) for kind, says in said]
    return found


def _flat(a: Gathered, b: Gathered, i: int) -> bool:
    """Whether the candidate's image is of one colour, and its reference is not."""
    return b.contrast[i] <= FLAT and a.contrast[i] > VARIED


def _alone(a: Gathered, b: Gathered, i: int) -> Iterator[tuple[str, str]]:
    """By the measures of both images."""
    if b.sizes[i] != a.sizes[i]:
        yield "size", f"has {_size(b.sizes[i])} pixels; its reference has {_size(a.sizes[i])}"
    more = b.detail[i] - a.detail[i]
    if more >= FACTOR:
        yield "noise", f"has {math.exp(more):.1f} times the detail of its reference, as noise and garbage have"
    if more <= -FACTOR:
        yield "blur", f"has {math.exp(more):.2f} times the detail of its reference"


def _beside(compared: Compared, i: int) -> Iterator[tuple[str, str]]:
    """By the comparison of both, pixel by pixel."""
    if compared.clipped[i] >= FULL:
        yield "clipped", f"is black or white in {compared.clipped[i]:.0%} where its reference is far from it"
    moved = compared.shifts[i]
    if moved is not None:
        right, down = moved
        words = [f"{abs(by)} pixels {word}" for by, word in (
            (right, "right" if right > 0 else "left"), (down, "down" if down > 0 else "up")) if by]  # fmt: skip
        yield "shifted", f"is its reference moved {' and '.join(words)}"


def _instead(pairs: Pairing, i: int, place: Names, prompts: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """By the other images."""
    j = int(pairs.instead[i])
    if j >= 0:
        both = "; they are swapped" if int(pairs.instead[j]) == i else ""
        of_prompt = f", of the prompt {prompts[j][:80]!r}" if prompts and prompts[j] != prompts[i] else ""
        yield "swapped", f"shows the image of {place(j)}{of_prompt}{both}"
    elif int(pairs.repeats[i]) >= 0:
        yield "repeated", f"repeats {place(int(pairs.repeats[i]))}, though their references differ"


def faults_alone(
    a: Gathered, b: Gathered, within_a: Within, within_b: Within, place: Names
) -> tuple[dict[int, list[Fault]], int]:
    """Likewise of images that are not paired; and how many of the reference have the faults that it can have itself."""
    sizes, noisiest = set(a.sizes), max(a.detail) + FACTOR
    closest = closest_of(within_a)
    found: dict[int, list[Fault]] = {}
    for i in range(len(b)):
        said = []
        if b.sizes[i] not in sizes:
            said.append(("size", f"has {_size(b.sizes[i])} pixels, as no image of the reference has"))
        if b.contrast[i] <= FLAT:
            said.append(("constant", f"is {_colour(b, i)}"))
        if b.detail[i] >= noisiest:
            said.append(("noise", "has twice the detail of any image of the reference, as noise and garbage have"))
        if float(within_b.nearest[i]) <= closest:
            said.append(("repeated", "repeats another image"))
        if said:
            found[i] = [Fault(image=place(i), kind=kind, says=says) for kind, says in said]
    flat = np.asarray(a.contrast) <= FLAT
    return found, int((flat | (within_a.nearest <= closest).numpy()).sum())


def closest_of(within: Within) -> float:
    """Distance at which two images count as one: a tenth of the median distance from one to the nearest other."""
    return max(REPEATED * float(within.nearest.median()), 1e-6)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _colour(b: Gathered, i: int) -> str:
    mean = float(b.small[i].mean()) * math.sqrt(len(b.small[i]))
    return "black" if mean <= BLACK else "white" if mean >= 1 - BLACK else "of one colour"
