"""Candidates of an edit: scores by the definition, the finished one is what it is alone, costs, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_networks import small_dit

import fewer
from fewer.dynamic.early_candidates import edit_best
from fewer.errors import InputError
from fewer.guidance import guide
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.testing.models import counted

SOURCES = 0.5 * unit_noise(8, range(3), (1, 8, 8))
TO = torch.tensor([1, 2, 0])


def plan(solver: str = "dpmpp-2m") -> Plan:
    return guide(fewer.standard(solver, small_dit(), 6, "logsnr"), 2.0)


@pytest.mark.parametrize("early", [1, 2, 4])
def test_the_finished_candidate_is_the_best_and_what_it_is_alone(early: int) -> None:
    model, seen = small_dit(), []
    strength = float(plan().rows[2].tau)
    found = edit_best(model, plan(), SOURCES, TO, strength=strength, candidates=3, early=early, seed=2)
    alone = fewer.sample(
        model, plan(), 9, seed=2, labels=TO.repeat_interleave(3), init=SOURCES.repeat_interleave(3, 0), strength=strength,
        callback=lambda row, x, data: seen.append(data),
    )  # fmt: skip
    assert len(seen) == 4
    background = found.background.repeat_interleave(3, 0)
    off = ((seen[early - 1] - SOURCES.repeat_interleave(3, 0)).square() * background).flatten(1).sum(1)
    scores = (off / background.flatten(1).sum(1).clamp_min(1)).view(3, 3)
    torch.testing.assert_close(found.scores, scores, atol=1e-4, rtol=1e-4)
    assert torch.equal(found.chosen, scores.argmin(1))
    torch.testing.assert_close(found.x, alone[torch.arange(3) * 3 + found.chosen], atol=1e-4, rtol=1e-4)


def test_the_background_is_where_the_label_says_little() -> None:
    one = edit_best(small_dit(), plan(), SOURCES, TO, threshold=0.2)
    two = edit_best(small_dit(), plan(), SOURCES, TO, threshold=0.6)
    every = edit_best(small_dit(), plan(), SOURCES, TO, threshold=1.0)
    assert bool((one.background <= two.background).all())
    assert float(one.background.mean()) < float(two.background.mean()) < 1
    assert bool((every.background == 1).all())


def test_a_source_is_its_own_in_any_batch() -> None:
    together, apart = (edit_best(small_dit(), plan(), SOURCES, TO, candidates=2, batch=b) for b in (64, 2))
    torch.testing.assert_close(together.x, apart.x, atol=1e-4, rtol=1e-4)
    assert torch.equal(together.chosen, apart.chosen)


def test_evaluations_are_those_made() -> None:
    model = small_dit()
    with counted(model) as calls:
        found = edit_best(model, plan(), SOURCES, TO, strength=1.0, candidates=4, early=2)
    assert sum(calls) == len(SOURCES) * found.evaluations
    assert found.evaluations == 2 * (4 * 2 + 4)


def test_bad_input_is_one_line() -> None:
    model = small_dit()
    wrong: list[Any] = [
        lambda: edit_best(model, plan(), SOURCES, TO, strength=0.0),
        lambda: edit_best(model, plan(), SOURCES, TO, early=7, strength=1.0),
        lambda: edit_best(model, plan(), SOURCES, TO, candidates=0),
        lambda: edit_best(model, plan(), SOURCES, TO, threshold=-1.0),
        lambda: edit_best(model, plan(), SOURCES[:, :, :2], TO),
        lambda: edit_best(model, plan(), SOURCES, 7),
        lambda: edit_best(model, plan("ancestral"), SOURCES, TO),
        lambda: edit_best(model, fewer.standard("ddim", model, 4), SOURCES, TO),
    ]
    for call in wrong:
        with pytest.raises(InputError) as raised:
            call()
        assert len(str(raised.value).splitlines()) == 1
