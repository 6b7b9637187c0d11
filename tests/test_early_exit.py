"""Early exits: each sample runs the blocks that it is told to, and no others."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import a_plan, reuse, small_dit, small_unet, with_blocks
from torch import Tensor

from fewer.dynamic.early_exit import EarlyExit, _by_token, _ridge, threshold
from fewer.dynamic.early_exit_oracle import early_exit_oracle, least, played
from fewer.dynamic.exits import chain, exit_macs, play_exits
from fewer.engine import sample
from fewer.errors import InputError
from fewer.evaluate.cost.clock import macs
from fewer.evaluate.cost.price import call_macs
from fewer.noise import unit_noise
from fewer.plan import Shortcut

MODEL = small_dit()
N = 5
NOISE = unit_noise(0, range(N), MODEL.shape)
LABELS = MODEL.labels(N)


def as_they_are(row: int, depth: int, tokens: Tensor) -> Tensor:
    return tokens


def test_nobody_leaves() -> None:
    x, depths = played(MODEL, a_plan(), NOISE, LABELS, torch.full((4, N), 3), as_they_are)
    assert torch.equal(x, sample(MODEL, a_plan(), noise=NOISE, labels=LABELS))
    assert torch.equal(depths, torch.full((4, N), 3))


@given(st.lists(st.lists(st.integers(1, 3), min_size=N, max_size=N), min_size=4, max_size=4))
@settings(deadline=None, max_examples=5)
def test_each_sample_is_what_it_is_alone_with_its_blocks_skipped(depths: list[list[int]]) -> None:
    """Row by row, the plan of one sample that skips the blocks after its exit, by the blocks column."""
    told = torch.tensor(depths)
    x, ran = played(MODEL, a_plan(), NOISE, LABELS, told, as_they_are)
    assert torch.equal(ran, told)
    assert LABELS is not None
    for i in range(N):
        cells = {n: {f"after.{int(k)}": Shortcut()} for n, k in enumerate(told[:, i]) if k < 3}
        want = sample(MODEL, with_blocks(a_plan(), cells), noise=NOISE[i : i + 1], labels=LABELS[i : i + 1])
        torch.testing.assert_close(x[i : i + 1], want, rtol=1e-4, atol=1e-4)


def test_later_blocks_are_paid_for_by_those_that_run_them() -> None:
    told = torch.tensor([[1, 2, 3, 3, 1]])
    plan = a_plan(1)
    work = macs(lambda: played(MODEL, plan, NOISE, LABELS, told, as_they_are))
    assert work == sum(exit_macs(MODEL)[k - 1] for k in told[0])
    assert exit_macs(MODEL)[-1] == call_macs(MODEL)
    assert chain(MODEL) == [f"transformer_blocks.{k}" for k in range(3)]


def test_decisions_see_the_samples_that_are_left() -> None:
    """Tokens are those of `who`; who has left is not asked again; the network is as it was."""
    asked: list[tuple[int, int, list[int]]] = []

    def decide(row: int, depth: int, who: Tensor, tokens: Tensor) -> Tensor:
        asked.append((row, depth, who.tolist()))
        assert len(tokens) == len(who)
        return who % 2 == 0

    play_exits(MODEL, a_plan(2), NOISE, LABELS, decide, as_they_are)
    odd = [1, 3]
    assert asked == [(0, 1, list(range(N))), (0, 2, odd), (1, 1, list(range(N))), (1, 2, odd)]
    assert not any("forward" in m.__dict__ for m in MODEL.network.module.modules())  # type: ignore[attr-defined]


# the oracle


def test_the_table_is_what_single_exits_do() -> None:
    found = early_exit_oracle(MODEL, a_plan(3), NOISE, LABELS, 0.8)
    whole = sample(MODEL, a_plan(3), noise=NOISE, labels=LABELS)
    one = sample(MODEL, with_blocks(a_plan(3), {1: {"after.2": Shortcut()}}), noise=NOISE, labels=LABELS)
    want = (one - whole).double().square().flatten(1).mean(1)
    torch.testing.assert_close(found.table[1, 1], want, rtol=1e-3, atol=1e-8)
    assert not found.table[:, -1].any()
    assert found.macs <= 0.8 * 3 * call_macs(MODEL)
    got, _ = played(MODEL, a_plan(3), NOISE, LABELS, found.depths, as_they_are)
    assert torch.equal(found.x, got)


def test_the_whole_budget_needs_no_exit() -> None:
    found = early_exit_oracle(MODEL, a_plan(2), NOISE, LABELS, 1.0)
    torch.testing.assert_close(found.x, sample(MODEL, a_plan(2), noise=NOISE, labels=LABELS))


@given(st.integers(0, 99), st.floats(0.35, 1.0))
@settings(deadline=None, max_examples=25)
def test_no_choice_of_as_little_work_has_a_smaller_sum(seed: int, share: float) -> None:
    """Against all choices, of tables small enough to try them: a Lagrangian solution is optimal for its own cost."""
    generator = torch.Generator().manual_seed(seed)
    table, costs = torch.rand(2, 3, 2, generator=generator).double(), torch.tensor([1.0, 2.0, 3.0]).double()
    table[:, -1] = 0
    chosen = least(table, costs, share * 6)
    work, loss = float(costs[chosen].sum()), float(table.gather(1, chosen[:, None]).sum())
    assert work / 2 <= share * 6 + 1e-9
    every = torch.cartesian_prod(*[torch.arange(3)] * 4).view(-1, 2, 2)
    works, losses = costs[every].sum((1, 2)), table.expand(81, 2, 3, 2).gather(2, every[:, :, None]).sum((1, 2, 3))
    assert loss <= float(losses[works <= work].min()) + 1e-9


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"share is 0\.01; expected"):
        early_exit_oracle(MODEL, a_plan(2), NOISE, LABELS, 0.01)
    with pytest.raises(InputError, match="has no one list of transformer blocks"):
        chain(small_unet())
    for plan in (a_plan(4, 2.0), with_blocks(a_plan(), {1: {"block.1": reuse(0)}})):
        with pytest.raises(InputError, match="rows of one whole pass"):
            played(MODEL, plan, NOISE, LABELS, torch.full((4, N), 3), as_they_are)


# learned heads


@cache
def fitted(share: float = 0.7, weighted: bool = True) -> EarlyExit:
    return EarlyExit.fitted(MODEL, a_plan(3), share, weighted=weighted, noises=24)


def test_thresholds_spend_the_share_on_their_own_noises() -> None:
    """On trajectories without exits; with exits the later rows see other states, so the cost is close to it."""
    made = fitted(0.7, False)
    whole = 3 * made.costs[-1]
    assert made.sample(MODEL, 24).macs == pytest.approx(0.7 * whole, rel=0.15)
    assert fitted(1.0).sample(MODEL, 24).macs == pytest.approx(whole)


def test_a_threshold_of_zero_is_the_whole_network_and_a_large_one_the_first_block() -> None:
    none, all_ = (replace(fitted(), thresholds=(value,) * 3) for value in (0.0, 1.1))
    x = none.sample(MODEL, noise=NOISE, labels=LABELS)
    assert torch.equal(x.x, sample(MODEL, a_plan(3), noise=NOISE, labels=LABELS))
    first = all_.sample(MODEL, noise=NOISE, labels=LABELS, batch=2)
    assert (first.depths == 1).all()
    assert first.macs == pytest.approx(3 * all_.costs[0])


def test_a_sample_does_not_depend_on_the_others() -> None:
    made, alone = fitted().sample(MODEL, 7, seed=3), fitted().sample(MODEL, 7, seed=3, batch=1)
    assert torch.equal(made.depths, alone.depths)
    torch.testing.assert_close(made.x, alone.x, rtol=1e-4, atol=1e-4)
    assert len(made.depths.unique()) > 1


def test_heads_find_affine_maps() -> None:
    """Exact, up to the ridge, where what is wanted is an affine map of the tokens."""
    torch.manual_seed(0)
    tokens, weight, shift = torch.randn(40, 6, 5), torch.randn(5, 3), torch.randn(3)
    found, moved = _ridge(tokens, tokens @ weight + shift)
    torch.testing.assert_close(found, weight, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(moved, shift, rtol=1e-2, atol=1e-2)


def test_errors_are_averaged_over_a_tokens_pixels() -> None:
    error = torch.zeros(1, 2, 4, 4)
    error[0, 1, 2, 3] = 8.0
    assert torch.equal(_by_token(error, 4), torch.tensor([[0.0, 0.0, 0.0, 1.0]]))


@given(st.integers(0, 99), st.floats(0.4, 0.99))
@settings(deadline=None, max_examples=20)
def test_the_threshold_is_the_least(seed: int, share: float) -> None:
    doubt, costs = torch.rand(3, 2, 7, generator=torch.Generator().manual_seed(seed)), torch.tensor([1.0, 2.0, 3.0])

    def spent(at: float) -> float:
        first = torch.where(doubt[:, 0] <= at, 1.0, torch.where(doubt[:, 1] <= at, 2.0, 3.0))
        return float(first.mean()) / 3

    found = threshold(doubt, costs, share)
    assert spent(found) <= share + 1e-6
    below = doubt[doubt < found]
    assert not len(below) or spent(float(below.max())) > share - 1e-6


def test_bad_settings() -> None:
    with pytest.raises(InputError, match=r"share is 0\.1; expected"):
        EarlyExit.fitted(MODEL, a_plan(2), 0.1, noises=2)
    with pytest.raises(InputError, match="noises is 0"):
        EarlyExit.fitted(MODEL, a_plan(2), 0.7, noises=0)
    with pytest.raises(InputError, match="rows of one whole pass"):
        EarlyExit.fitted(MODEL, a_plan(4, 2.0), 0.7, noises=2)
    with pytest.raises(InputError, match="has no one list"):
        EarlyExit.fitted(small_unet(), a_plan(2), 0.7, noises=2)
