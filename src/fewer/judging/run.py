"""`judge`: whether one set of images is as good as another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fewer.errors import InputError, whole
from fewer.evaluate.statistics.paired import Decision
from fewer.judging import words
from fewer.judging.criteria import Criterion
from fewer.judging.faults import FLAT
from fewer.judging.gather import Report
from fewer.judging.notes import Notes
from fewer.judging.reading import MOST, Given, Read, Request, read
from fewer.judging.record import Judgement
from fewer.judging.report import pictures, write_page
from fewer.judging.weighing import Weighed, weigh
from fewer.models.pipelines.prompts import check_prompts, read_prompts
from fewer.versions import versions


def judge(
    a: Any,
    b: Any,
    *,
    data: Any = None,
    prompts: str | Path | Sequence[str] | None = None,
    features: str | None = None,
    metric: str | Callable[..., Any] | None = None,
    margin: float = 0.05,
    unpaired: bool = False,
    html: str | Path | None = None,
    seed: int = 0,
    progress: Report | None = None,
) -> Judgement:
    """Whether the candidate's images b are as good as the reference's a, made from the same seeds: see `fewer.judging`.

    a, b      folders of images, which names pair; .npz files with x (N, H, W, C) uint8; or such arrays, paired by number
    data      real images in one of these forms: then b may be better, and what decides is the distance to them
    prompts   texts, or a file of them, one a line: image i of a, in the order of names, is of prompt i modulo their number
    features  what images are compared on besides small pictures and detail, as of `fewer compare --features`
    metric    function(samples, reference) with an attribute higher_is_better, or its name: see `fewer.judging.metric`
    margin    share by which "not worse" may be worse, above 0 and below 1
    unpaired  the sets are not from the same seeds: images are not compared one by one
    html      file in which the report is written
    seed      of random features
    progress  progress(stage, done, total) is called as images are read

    Raises InputError, in one line, for what cannot be read, fewer than 8 images or pairs, and arguments that do not fit.
    """
    began = time.monotonic()
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < 1:
        raise InputError(f"margin is {margin!r}; expected a share above 0 and below 1, such as 0.05")
    whole("seed", seed, 0)
    if unpaired and (metric is not None or prompts is not None):
        raise InputError("a metric and prompts are of pairs of the same seeds, and unpaired says that these are not")
    request = Request(float(margin), features, metric, _texts(prompts), seed)
    notes = Notes()
    given = Given.of(a, b, data, unpaired, notes)
    found = read(given, request, progress or _silent)
    weighed = weigh(found, given, request)
    _note_reference(found, given, weighed, notes)
    record = _record(_names(a, b, data), given, request, weighed, notes, time.monotonic() - began)
    if html is not None:
        write_page(Path(html), record, [pictures(*given.images(i)) for i in weighed.most])
    return record


def _silent(stage: str, done: int, total: int | None) -> None:
    """No progress is shown."""


def _texts(prompts: str | Path | Sequence[str] | None) -> Sequence[str] | None:
    if prompts is None:
        return None
    return read_prompts(prompts, MOST) if isinstance(prompts, str | Path) else check_prompts(prompts, most=MOST)


def _names(*given: Any) -> list[str | None]:
    """What the report calls the sets: paths as they were given."""
    called = ("the reference", "the candidate", "the data")
    return [
        None if each is None else str(each) if isinstance(each, str | Path) else name
        for each, name in zip(given, called, strict=True)
    ]


def _note_reference(found: Read, given: Given, weighed: Weighed, notes: Notes) -> None:
    """What a reader must know of the reference itself, and of sets that are not what they were taken for."""
    numbers = range(len(found.a)) if given.pairs is None else given.pairs.a
    for i, contrast in zip(numbers, found.a.contrast, strict=True):
        if contrast <= FLAT:
            notes.add("images of the reference are of one colour themselves", given.a.place(i))
    if given.a.grey != given.b.grey:
        notes.add("one of the two sets is grey and the other in colours: grey images are compared as colours")
    pairs = weighed.sets.pairs
    if pairs is not None and float(pairs.other.double().mean()) > 0.5:
        notes.add(
            "most pairs are two different images: if the sets are not from the same seeds, judge them as --unpaired"
        )


def decision_of(criteria: Sequence[Criterion]) -> Decision:
    """Worse by any; else cannot tell by any; else better by any; else not worse."""
    found = {criterion.decision for criterion in criteria}
    order: tuple[Decision, ...] = ("worse", "cannot tell", "better", "not worse")
    return next(decision for decision in order if decision in found)


def _record(
    names: list[str | None], given: Given, request: Request, weighed: Weighed, notes: Notes, seconds: float,
) -> Judgement:  # fmt: skip
    decision = decision_of(weighed.criteria)
    open_ones = [c for c in weighed.criteria if c.decision == "cannot tell"] if decision == "cannot tell" else []
    known = [c.images for c in open_ones if c.images is not None]
    images = max(known) if known and len(known) == len(open_ones) else None
    reference, candidate, data = names
    n = len(weighed.sets.b)
    metric = request.metric if isinstance(request.metric, str | None) else getattr(request.metric, "__name__", "metric")
    return Judgement(
        decision=decision,
        sentence=words.sentence(decision, candidate or "", reference or "", weighed.criteria, n, images),
        reference=reference or "", candidate=candidate or "", data=data, features=request.features, metric=metric,
        pairs=None if given.pairs is None else n, margin=request.margin, level=weighed.level, criteria=weighed.criteria,
        figures=weighed.figures, faults=[fault for i in sorted(weighed.faults) for fault in weighed.faults[i]],
        most=list(weighed.most.values()), images=images, notes=notes.lines(), seed=request.seed, versions=versions(),
        seconds=seconds,
    )  # fmt: skip
