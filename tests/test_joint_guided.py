"""Blocks left out of guided rows, some of one pass: halves are kept apart, budgets hold, the search says what it freed."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fewer
from fewer.engine import times
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.reference import reference_plan
from fewer.guidance.linear_ag import LinearAG
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.noise import unit_noise
from fewer.plan import Plan, Shortcut
from fewer.search.columns import besides, listed
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.passes import passing, patterns, stretched
from fewer.search.space import Space
from fewer.search.strategies.autodiffusion import AutoDiffusion
from fewer.search.strategies.joint import Joint, best_pattern
from fewer.search.strategies.networks import Networks
from fewer.search.strategy import Candidate, Strategy

SCALE, LAYERS = 2.0, 3
NAMES = tuple(f"block.{k}" for k in range(LAYERS))
guided = st.integers(3, 9).flatmap(lambda passes: st.sampled_from(patterns(passes)))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def branch(self, h: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(self.inner(h) + t[:, None])

    def forward(self, h: Tensor, t: Tensor) -> Tensor:
        return h + self.branch(h, t)


class Labelled(nn.Module):
    """Residual layers behind an embedding of the label, of which 2 is the empty one."""

    def __init__(self) -> None:
        super().__init__()
        self.told = nn.Embedding(3, 6)
        self.blocks = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        h = x + self.told(labels)
        for layer in self.blocks:
            h = layer(h, t)
        return 0.5 * h


class Network:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = Labelled().requires_grad_(False)

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return self.module(x, t, labels)  # type: ignore[no-any-return]


@cache
def model() -> Model:
    return Model(Network(), Flow(), "flow", (6,), classes=2, empty_label=2, name="labelled", hash="labelled")


def guided_plan(pattern: str) -> Plan:
    return passing(fewer.standard("dpmpp-2m", model(), len(pattern), "logsnr"), pattern, SCALE)


def left_out(plan: Plan, seed: int) -> Plan:
    """About half of the cells forecast from one or two rows that ran the block and made the row's passes."""
    rng, rows = random.Random(seed), []
    ran: dict[str, list[int]] = {name: [] for name in NAMES}
    for n, row in enumerate(plan.rows):
        cells = {}
        for name in NAMES:
            known = [j for j in ran[name] if set(row.conditions) <= set(plan.rows[j].conditions)]
            if known and rng.random() < 0.5:
                some = rng.sample(known, min(len(known), rng.randint(1, 2)))
                cells[name] = Shortcut({j: rng.uniform(-1, 2) for j in some})
            else:
                ran[name].append(n)
        rows.append(replace(row, blocks=cells))
    return replace(plan, rows=tuple(rows))


def halves_apart(plan: Plan, noise: Tensor, labels: Tensor) -> Tensor:
    """The plan played one pass at a time, each with what its blocks gave in a place of its own."""
    module = model().network.module  # type: ignore[attr-defined]
    kept: dict[tuple[str, int, str], Tensor] = {}
    outputs: list[Tensor] = []
    seen: list[dict[str, Tensor]] = []
    x = float(plan.start.scale) * noise
    told_times = times(model(), plan)
    for n, row in enumerate(plan.rows):
        u = {}
        for condition in row.conditions:
            told = labels if condition == "label" else torch.full_like(labels, 2)
            h = x + module.told(told)
            for layer, name in zip(module.blocks, NAMES, strict=True):
                cell = row.blocks.get(name)
                if cell is None:
                    kept[condition, n, name] = layer.branch(h, torch.full((len(x),), float(told_times[n])))
                    h = h + kept[condition, n, name]
                else:
                    h = h + sum(float(w) * kept[condition, j, name] for j, w in cell.weights.items())
            u[condition] = 0.5 * h
        rule = row.guidance
        assert rule is not None
        if isinstance(rule, LinearAG):
            u["empty"] = u["label"] - seen[-1]["label"] + seen[-1]["empty"]
        scale = rule.parameters()["scale"]
        outputs.append(u["empty"] + scale * (u["label"] - u["empty"]) if "empty" in u else u["label"])
        seen.append(u)
        x = x + sum(float(b) * outputs[j] for j, b in row.b.items())
    return x


@given(guided, st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_rows_of_one_pass_and_two_keep_their_halves_apart(pattern: str, seed: int) -> None:
    plan = left_out(guided_plan(pattern), seed)
    noise, labels = unit_noise(seed, range(5), (6,)), torch.tensor([0, 1, 1, 0, 1])
    made = fewer.sample(model(), plan, noise=noise, labels=labels)
    torch.testing.assert_close(made, halves_apart(plan, noise, labels), rtol=1e-4, atol=1e-4)


@given(guided, st.integers(0, 12))
def test_stretched_patterns_keep_their_letters_in_order(pattern: str, more: int) -> None:
    rows = len(pattern) + more
    longer = stretched(pattern, rows)
    assert len(longer) == rows
    assert stretched(pattern, len(pattern)) == pattern
    assert [b for a, b in zip(" " + longer, longer, strict=False) if a != b] == [
        b for a, b in zip(" " + pattern, pattern, strict=False) if a != b
    ]


def problem(n: int = 8) -> Objective:
    noise, labels = unit_noise(0, range(n), (6,)), model().labels(n)
    fine = fewer.sample(model(), reference_plan(model(), 32, SCALE), noise=noise, labels=labels)
    return Objective(model(), noise, labels, fine)


def space() -> Space:
    return Space(model(), (fewer.standard("dpmpp-2m", model(), 6, "logsnr", guidance=SCALE),))


@pytest.mark.slow
def test_blocks_are_left_out_of_rows_of_one_pass_within_the_budget() -> None:
    limit = Limit(model(), "macs", 6 * call_macs(model()))
    strategy = Joint(limit, few=4, drift=3, candidates=9, passes="1221", worth=math.inf)
    found = list(strategy.search(problem(), space(), [], 0))
    assert [len(c.plan.rows) for c in found[:3]] == [5, 6, 8]
    assert {c.strategy for c in found} == {"joint 1221"}
    for candidate in found:
        rows = candidate.plan.rows
        assert plan_macs(model(), candidate.plan) <= limit.most
        assert [row.passes for row in rows] == [int(letter) for letter in stretched("1221", len(rows))]
        assert any(row.blocks for row in rows)
        for row in rows:  # no half is taken from a row that has not made it
            sources = {j for cell in row.blocks.values() for j in cell.weights}
            assert all(set(row.conditions) <= set(rows[j].conditions) for j in sources)
    assert strategy.choose(found).error <= best_pattern(found).error
    again = [*found[:5], *strategy.search(problem(), space(), found[:5], 0)]
    assert [c.error for c in again] == pytest.approx([c.error for c in found], rel=1e-4)


def test_passes_need_guidance() -> None:
    limit = Limit(model(), "macs", 6 * call_macs(model()))
    bare = Space(model(), (fewer.standard("dpmpp-2m", model(), 6, "logsnr"),))
    with pytest.raises(InputError, match="needs classifier-free guidance"):
        next(Joint(limit, passes="1221").search(problem(), bare, [], 0))


def test_columns_that_are_free_besides_steps() -> None:
    limit = Limit(model(), "macs", 6 * call_macs(model()))

    def freed(strategy: Strategy, pattern: str | None) -> list[tuple[str, ...]]:
        steps = None if pattern is None else Candidate(guided_plan(pattern), 0.1, "x")
        found = strategy.within(limit, steps)
        assert all(one.limit is limit for one in found)  # type: ignore[attr-defined]
        return [besides(one) for one in found]

    assert freed(Joint(), "1221") == [("blocks",), ("passes", "blocks")]
    assert freed(Joint(), "222") == freed(Joint(), None) == freed(AutoDiffusion(), "1221") == [("blocks",)]
    assert freed(Networks(), "1221") == [("networks",)]
    assert [listed(*"ab"[:n]) for n in (1, 2)] == ["a", "a and b"]
    assert listed("steps", "passes", "blocks") == "steps, passes and blocks"


@pytest.mark.usefixtures("few_standards")
def test_tune_says_what_passes_and_blocks_bring(tmp_path: Path) -> None:
    most = 6 * call_macs(model())
    given = {"macs": most, "guidance": SCALE, "noises": 8, "fresh": 8, "trials": 2, "margin": 9.0}
    result = fewer.tune(model(), **given, out=tmp_path)  # type: ignore[arg-type]
    (outcome,) = result.front
    named = {entry.name: entry for entry in outcome.contributions}
    assert list(named) == [
        "steps and passes", "blocks", "steps and blocks", "passes and blocks", "steps, passes and blocks",
    ]  # fmt: skip
    assert all(entry.macs <= most for entry in named.values())
    assert named["steps, passes and blocks"].ratio is None
    assert all(entry.ratio is not None for name, entry in named.items() if name != "steps, passes and blocks")
    again = fewer.tune(model(), **given, out=tmp_path, resume=True)  # type: ignore[arg-type]
    assert again.plan.rows == result.plan.rows
