"""A judgement in words."""

from __future__ import annotations

from collections.abc import Sequence

from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import Decision
from fewer.judging.criteria import Criterion
from fewer.report.words import figure, percent

TITLES = {
    "other": "other or broken images",
    "broken": "broken images",
    "distribution": "shift of the whole set",
    "diversity": "diversity",
    "detail": "detail",
    "data": "distance to the data",
    "metric": "the metric",
}
MEANING = {
    "other": "share of images that are another image than the reference's, or have a fault",
    "broken": "share of images with a fault",
    "distribution": "distance between the two sets, as a common shift of all images in standard deviations of the reference",
    "diversity": "mean distance between two images of the candidate, over that of the reference",
    "detail": "local contrast of the candidate's images over the reference's",
    "data": "how much farther the candidate is from the data than the reference, in standard deviations of the data",
    "metric": "how much worse the candidate's metric is than the reference's, as a share of it",
}
FIGURES = {
    "rmse": "root mean squared difference of pixels (of 1)",
    "psnr": "its PSNR, in dB",
    "ssim": "structural similarity (SSIM)",
    "distance": "distance to the own reference (1: of two images of the reference)",
    "another_image": "share of images that are another image than the reference's",
    "faulty": "share of images with a fault",
    "fd": "Frechet distance to the reference",
    "energy_to_data": "energy distance of the candidate to the data",
    "energy_of_reference_to_data": "energy distance of the reference to the data",
    "fd_to_data": "Frechet distance of the candidate to the data",
    "fd_of_reference_to_data": "Frechet distance of the reference to the data",
    "distinct": "share of the candidate's images that are distinct",
    "distinct_of_reference": "share of the reference's images that are distinct",
    "metric": "metric of the candidate",
    "metric_of_reference": "metric of the reference",
}
SHARES = {"other", "broken", "metric"}  # shown in percent


def shown(name: str, value: float | None) -> str:
    """A criterion's number: a share in percent, a factor or a distance to three digits."""
    return percent(value) if name in SHARES and value is not None else figure(value)


def span(name: str, interval: Interval) -> str:
    """`0 % to 0.8 %`."""
    return f"{shown(name, interval.low)} to {shown(name, interval.high)}"


def limit(criterion: Criterion) -> str:
    """The range in which the candidate is not worse."""
    low, high = (shown(criterion.name, end) for end in (criterion.lowest, criterion.highest))
    if criterion.lowest is None:
        return f"at most {high}"
    return f"at least {low}" if criterion.highest is None else f"{low} to {high}"


def sentence(
    decision: Decision, candidate: str, reference: str, criteria: Sequence[Criterion], n: int, images: int | None
) -> str:
    """The judgement, and what it rests on, in one sentence."""
    named = f"{candidate} is {decision} than {reference}"
    if decision == "better":
        why = [TITLES[c.name] for c in criteria if c.decision == "better"]
        return f"{named}, by {_listed(why)}, on {n:,} images."
    if decision == "not worse":
        return f"{named}: on {n:,} images, all of what decides is shown to lie within the margin."
    if decision == "worse":
        why = [
            f"{TITLES[c.name]} {shown(c.name, c.figure.value)}, {limit(c)} allowed"
            for c in criteria if c.decision == "worse"
        ]  # fmt: skip
        return f"{named}: {'; '.join(why)}."
    why = [TITLES[c.name] for c in criteria if c.decision == "cannot tell"]
    wanted = f"about {images:,} images would" if images else "they may differ by just the margin"
    return f"{n:,} images do not tell whether {candidate} is worse than {reference} (open: {_listed(why)}); {wanted}."


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
