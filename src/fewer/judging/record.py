"""What a judgement is, as Python has it and as JSON holds it."""

from __future__ import annotations

from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import Decision
from fewer.files import Record
from fewer.judging.criteria import Criterion
from fewer.judging.faults import Fault


class Difference(Record):
    """A pair by how much it differs: `rmse` in 0 .. 1, SSIM, and `distance`, of which 1 is that of two images of the reference."""

    name: str
    rmse: float
    ssim: float
    distance: float


class Judgement(Record):
    """What `fewer.judge` found.

    decision   "better", "not worse", "worse" or "cannot tell"
    sentence   the same in one sentence
    reference, candidate, data  what was compared
    pairs      number of pairs; None where the sets are not from the same seeds
    margin     share by which "not worse" may be worse
    level      at which each criterion's interval holds, so that all hold together in 95 of 100 judgements
    criteria   what decides
    figures    what was measured besides, each with a 95 % interval
    faults     single images of the candidate with something wrong
    most       the pairs that differ most, the greatest difference first
    images     how many images would decide it, where these do not
    notes      what was done to images, or left out
    seconds    of the whole
    """

    decision: Decision
    sentence: str
    reference: str
    candidate: str
    data: str | None
    features: str | None
    metric: str | None
    pairs: int | None
    margin: float
    level: float
    criteria: list[Criterion]
    figures: dict[str, Interval]
    faults: list[Fault]
    most: list[Difference]
    images: int | None
    notes: list[str]
    seed: int
    versions: dict[str, str]
    seconds: float

    def __str__(self) -> str:
        """The judgement in one sentence."""
        return self.sentence

    def criterion(self, name: str) -> Criterion:
        """The criterion of this name. Raises KeyError where it has no part in the judgement."""
        return {criterion.name: criterion for criterion in self.criteria}[name]  # type: ignore[index]
