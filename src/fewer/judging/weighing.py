"""From measures to criteria, figures and faults."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.evaluate.statistics.interval import Interval
from fewer.judging import criteria as decide
from fewer.judging import intervals
from fewer.judging.criteria import Criterion, Sets
from fewer.judging.faults import Fault, faults_alone, faults_of_pairs
from fewer.judging.figures import figures_of_metric, figures_of_pairs, figures_of_sets
from fewer.judging.gather import Compared
from fewer.judging.pairing import Pairing, pairing
from fewer.judging.reading import Given, Read, Request
from fewer.judging.record import Difference
from fewer.judging.space import Within, space

LEVEL = 0.95  # at which all criteria hold together
SHOWN = 12  # pairs that differ most


@dataclass(frozen=True)
class Weighed:
    """What follows from the measures; `faults` and `most` by the number of a pair, or of an image of the candidate."""

    criteria: list[Criterion]
    level: float
    figures: dict[str, Interval]
    faults: dict[int, list[Fault]]
    most: dict[int, Difference]
    sets: Sets


def weigh(read: Read, given: Given, request: Request) -> Weighed:
    """The criteria, whose intervals all hold together (Bonferroni), and the other figures."""
    gathered = [read.a, read.b] + ([] if read.data is None else [read.data])
    a, b, *rest = space(gathered, request.features, read.data is not None, request.seed)
    data = rest[0] if rest else None
    pairs = None if read.compared is None else pairing(a, b, _groups(given, read.prompts))
    sets = Sets(a, b, Within.of(a), Within.of(b), pairs)
    level = 1 - (1 - LEVEL) / ((4 if data is None else 3) + (read.metric is not None))
    faults, of_share = _faults(read, given, sets, request.margin, level)
    criteria = [of_share, decide.of_diversity(sets, request.margin, level)]
    if data is None:
        criteria.append(decide.of_distribution(sets, request.margin, level))
        criteria.append(decide.of_detail(read.b.detail, read.a.detail, pairs is not None, request.margin, level))
    else:
        criteria.append(decide.of_data(sets, data, request.margin, level))
    figures = figures_of_sets(sets, data)
    most: dict[int, Difference] = {}
    if read.compared is not None and pairs is not None:
        figures = figures_of_pairs(read.compared, pairs, len(faults)) | figures
        most = _most_different(read.compared, pairs, faults, given)
    if read.metric is not None:
        of_a, of_b = read.metric.values()
        criteria.append(decide.of_metric(of_a, of_b, read.metric.higher, request.margin, level))
        figures |= figures_of_metric(of_a, of_b)
    return Weighed(criteria, level, figures, faults, most, sets)


def _faults(
    read: Read, given: Given, sets: Sets, margin: float, level: float
) -> tuple[dict[int, list[Fault]], Criterion]:
    """Faults of single images, and the share of images that have one or, where no data decides, are another image."""
    n = len(sets.b)
    if sets.pairs is None or read.compared is None:
        faults, of_a = faults_alone(read.a, read.b, sets.within_a, sets.within_b, given.place)
        share = intervals.excess(len(faults), n, of_a, len(sets.a), level)
        return faults, decide.of_share("broken", share, None, margin, level)
    faults = faults_of_pairs(read.a, read.b, read.compared, sets.pairs, given.place, read.prompts)
    wrong = torch.zeros(n, dtype=torch.bool)
    wrong[list(faults)] = True
    if read.data is None:
        wrong |= sets.pairs.other
    count = int(wrong.sum())
    name: decide.Name = "other" if read.data is None else "broken"
    return faults, decide.of_share(name, intervals.share(count, n, level), count, margin, level)


def _most_different(compared: Compared, pairs: Pairing, faults: Container[int], given: Given) -> dict[int, Difference]:
    """The pairs that differ most, of which those with faults come first."""
    differing = [i for i, squared in enumerate(compared.squared) if squared > 0]
    differing.sort(key=lambda i: (i not in faults, -float(pairs.own[i]), -compared.squared[i]))
    return {
        i: Difference(
            name=given.place(i), rmse=math.sqrt(compared.squared[i]), ssim=compared.ssim[i],
            distance=float(pairs.own[i]),
        )
        for i in differing[:SHOWN]
    }  # fmt: skip


def _groups(given: Given, prompts: Sequence[str] | None) -> Tensor:
    """Numbers (n,) of the pairs' prompts, or else of the sub-folders that their names are in."""
    names = [] if given.pairs is None else given.pairs.names
    keys = list(prompts) if prompts is not None else [name.rpartition("/")[0] for name in names]
    numbers = {key: k for k, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys])
