"""Several seeds of an edit begun, and the one finished whose early data prediction leaves the background as it was."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fewer.batch import per_sample
from fewer.engine import MICRO_BATCH, History, begin, bind, play
from fewer.engine.bind import Step
from fewer.engine.play import add
from fewer.errors import InputError, whole
from fewer.guidance.passes import Past
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import finite


@dataclass(frozen=True, eq=False)
class Edited:
    """Edits x (n, *shape), of each source the finished candidate's number (n,) and all candidates' scores (n, K).

    background   (n, *shape) 0 and 1, the values that scores look at
    evaluations  network evaluations for each source
    """

    x: Tensor
    chosen: Tensor
    scores: Tensor
    background: Tensor
    evaluations: int


@part(
    "early-candidates",
    title="ELECT: of several seeds of an edit, the one whose early prediction keeps the background",
    source="Kim et al. 2025, Early Timestep Zero-Shot Candidate Selection for Instruction-Guided Image Editing, arXiv:2504.13490",
    papers=(130,),
    role="procedure",
)
def edit_best(
    model: Model,
    plan: Plan,
    sources: Tensor,
    labels: Any,
    *,
    strength: float = 0.7,
    candidates: int = 8,
    early: int = 2,
    threshold: float = 0.5,
    seed: int = 0,
    batch: int = MICRO_BATCH,
) -> Edited:
    """Edits of sources to labels from a level on, with the seed k of least background inconsistency after `early` rows,

        score_k = mean over the background of (D_k - source)^2,

    D_k the guided data prediction of row early - 1. The background is where the relevance |eps(label) - eps(empty)| of that
    row, averaged over channels and candidates and divided by its largest value, is at most `threshold`. It is the same for
    all candidates of a source, and nothing but the model's own passes is asked.

    sources     (n, *shape) in the model's data range
    labels      integers (n,), or one for all: what the sources are edited to
    strength    level tau in (0, 1] that editing begins at; rows are those of the plan from there on
    candidates  K; number k of source i starts from the noise of sample i K + k of the seed. All take K early + (rows - early)
                rows, where finishing each takes K rows
    early       from 1 to all rows: the latter is best of K by the finished edit

    Where everything is relevant, candidates are scored alike and the first is finished. Raises InputError for plans that add
    noise, leave out blocks, or do not make the passes with the label and without in row early - 1, and for numbers out of range.
    """
    finite("strength", strength, 0, 1)
    finite("threshold", threshold, 0, 1)
    for name, value in (("candidates", candidates), ("early", early), ("batch", batch)):
        whole(name, value)
    if tuple(sources.shape[1:]) != tuple(model.shape) or not len(sources):
        expected = f"(n, {', '.join(map(str, model.shape))})"
        raise InputError(f"sources have shape {tuple(sources.shape)}; {model.name} needs {expected}")
    played = _checked(plan.from_level(strength), early).check(tuple(model.shape))
    y, steps, n = model.labels(len(sources), labels), bind(model, played), len(sources)
    noise = unit_noise(seed, Stream.SAMPLES.numbers(n * candidates), model.shape, device=model.device)
    found = []
    with torch.inference_mode():
        for at in range(0, n, max(1, batch // candidates)):
            some = slice(at, at + max(1, batch // candidates))
            mine = noise[at * candidates : (at + len(sources[some])) * candidates]
            asked = None if y is None else y[some]
            given = sources[some].to(mine)
            x = begin(played, mine, partial(torch.zeros_like, mine))
            x = add(x, 1 - float(played.start.tau), given.repeat_interleave(candidates, 0))
            found.append(_edited(model, steps, x, given, asked, early, threshold))
    x, scores, background = (torch.cat(column) for column in zip(*found, strict=True))
    passes = [1 if row.guidance is None else row.guidance.passes for row in played.rows]
    return Edited(x, scores.argmin(1), scores, background, candidates * sum(passes[:early]) + sum(passes[early:]))


def _edited(
    model: Model, steps: list[Step], x: Tensor, sources: Tensor, y: Tensor | None, early: int, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Edits, scores (n, K) and background of some sources; starting states of the candidates of each are neighbours in x."""
    k = len(x) // len(sources)
    each = sources.repeat_interleave(k, 0)
    begun = History(past={})
    x = play(model, steps[:early], x, None if y is None else y.repeat_interleave(k, 0), history=begun)
    last, tau = early - 1, float(steps[early - 1].row.tau)
    passes = (begun.past or {})[last].u
    relevance = (passes["label"] - passes["empty"]).abs().mean(1, keepdim=True).unflatten(0, (-1, k)).mean(1)
    relevance = relevance / per_sample(relevance.flatten(1).amax(1).clamp_min(1e-30), relevance)
    background = (relevance <= threshold).to(x).expand_as(sources)
    off = (begun.states[last] - tau * begun.outputs[last] - each).square() * background.repeat_interleave(k, 0)
    seen = background.flatten(1).sum(1).clamp_min(1)
    scores = off.flatten(1).sum(1).view(-1, k) / seen[:, None]
    best = torch.arange(len(sources)) * k + scores.argmin(1)
    if early < len(steps):
        kept = History(
            {j: state[best] for j, state in begun.states.items()}, {j: u[best] for j, u in begun.outputs.items()},
            past={j: Past(p.tau, {c: u[best] for c, u in p.u.items()}) for j, p in (begun.past or {}).items()}, first=early,
        )  # fmt: skip
        return play(model, steps, x[best], y, history=kept), scores, background
    return x[best], scores, background


def _checked(plan: Plan, early: int) -> Plan:
    """The plan, once it can be begun for several and finished for one."""
    if early > len(plan.rows):
        raise InputError(f"early is {early}; plan {plan.name!r} has {len(plan.rows)} rows from this strength on")
    if plan.stochastic or any(row.blocks for row in plan.rows):
        raise InputError(
            f"plan {plan.name!r} adds noise or leaves out blocks; candidates need a plan that does neither"
        )
    rule = plan.rows[early - 1].guidance
    if rule is None or not {"label", "empty"} <= set(rule.conditions):
        raise InputError(
            f"row {early - 1} of plan {plan.name!r} makes no pass with and without the label: guide all rows"
        )
    return plan
