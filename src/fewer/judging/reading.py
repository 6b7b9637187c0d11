"""Opening what was given, and reading all of it once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fewer.errors import InputError
from fewer.images import FEWEST, Pixels
from fewer.judging.gather import Compared, Gathered, Report, gather, gather_pairs, network_of
from fewer.judging.metric import Metric
from fewer.judging.notes import Notes
from fewer.judging.sources import Pairs, Source, open_source, pair

MOST = 10_000  # images of a set


@dataclass(frozen=True)
class Request:
    """What a judgement is to be by: the arguments of `fewer.judge` of the same names."""

    margin: float
    features: str | None
    metric: str | Callable[..., Any] | None
    prompts: Sequence[str] | None
    seed: int


@dataclass(frozen=True)
class Given:
    """The sets of images, and which of them belong together; None where the two are not from the same seeds."""

    a: Source
    b: Source
    data: Source | None
    pairs: Pairs | None

    @classmethod
    def of(cls, a: Any, b: Any, data: Any, unpaired: bool, notes: Notes) -> Given:
        """Opened and paired. Raises InputError for fewer than 8 images of a set."""
        one, two = open_source(a, "reference", notes), open_source(b, "candidate", notes)
        real = None if data is None else open_source(data, "data", notes)
        for source in (one, two, real):
            if source is not None and len(source.names) < FEWEST:
                raise InputError(f"{source.label} has {len(source.names)} images; expected at least {FEWEST}")
            if source is not None and len(source.names) > MOST:
                notes.add(
                    f"only the first {MOST:,} images of the {source.label} are judged, in the order of their names"
                )
        pairs = None if unpaired else pair(one, two, notes)
        return cls(one, two, real, None if pairs is None else Pairs(pairs.names[:MOST], pairs.a[:MOST], pairs.b[:MOST]))

    @property
    def channels(self) -> int:
        """1 where all images are grey, else 3."""
        return 1 if all(source.grey for source in (self.a, self.b, self.data) if source is not None) else 3

    def place(self, i: int) -> str:
        """File of the candidate's image of pair i, or of its image i."""
        return self.b.place(i if self.pairs is None else self.pairs.b[i])

    def images(self, i: int) -> tuple[Pixels, Pixels]:
        """The images of pair i."""
        j, k = (i, i) if self.pairs is None else (self.pairs.a[i], self.pairs.b[i])
        return self.a.read(j), self.b.read(k)

    def prompts(self, texts: Sequence[str] | None) -> list[str] | None:
        """The prompt of each pair. Raises InputError where there are more prompts than images."""
        if texts is None or self.pairs is None:
            return None
        if len(texts) > len(self.a.names):
            raise InputError(f"prompts holds {len(texts)} texts for {len(self.a.names)} images")
        return [texts[i % len(texts)] for i in self.pairs.a]


@dataclass(frozen=True)
class Read:
    """The measures of all images; `compared` where they are paired, `prompts` one a pair."""

    a: Gathered
    b: Gathered
    data: Gathered | None
    compared: Compared | None
    metric: Metric | None
    prompts: Sequence[str] | None


def read(given: Given, request: Request, report: Report) -> Read:
    """All images, once, one after another."""
    channels, prompts = given.channels, given.prompts(request.prompts)
    features = network_of(request.features, given.a, channels, request.seed)
    metric = None if request.metric is None else Metric.load(request.metric, prompts)
    compared = None
    if given.pairs is not None:
        a, b, compared = gather_pairs(given.a, given.b, given.pairs, features, channels, metric, report)
    else:
        a, b = (gather(each, _first(each), features, channels, report) for each in (given.a, given.b))
    data = None if given.data is None else gather(given.data, _first(given.data), features, channels, report)
    return Read(a, b, data, compared, metric, prompts)


def _first(source: Source) -> list[int]:
    return list(range(min(len(source.names), MOST)))
