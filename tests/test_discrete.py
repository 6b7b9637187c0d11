"""Discrete models: exact conditionals, samples that keep their law, calls that are saved, and how many."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import chi2
from torch import Tensor

from fewer.dynamic.absorbing import (
    any_order_nll,
    concrete_score,
    expected_evaluations,
    masked_nll,
    sample_masked,
    uniform_levels,
)
from fewer.dynamic.multi_draft import acceptance, chosen_law, fitted_weights
from fewer.dynamic.speculative import speculative
from fewer.errors import ForeignError, InputError
from fewer.models.masked import MarkovChain, MaskedDenoiser
from fewer.noise import drawn

CHAIN = MarkovChain.random(3, 4, seed=1, sharpness=1.0)
SHARP = MarkovChain.random(2, 6, seed=2, sharpness=3.0)


def independent(chain: MarkovChain) -> MaskedDenoiser:
    """The places' own laws, whatever is known: a cheap draft, and a wrong one."""
    laws = chain.conditionals(chain.denoiser().masked(1))[0]
    return MaskedDenoiser(lambda tokens: laws.expand(len(tokens), -1, -1), chain.length, chain.vocabulary)


def laws(*weights: list[float]) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(w, dtype=torch.float64) / sum(w) for w in weights)


def fits(tokens: Tensor, chain: MarkovChain) -> float:
    """The p-value of Pearson's chi-square of sequences against the chain's law."""
    expected = len(tokens) * chain.log_prob(chain.sequences()).exp()
    counts = torch.bincount(chain.numbers(tokens), minlength=len(expected))
    assert float(expected.min()) > 2
    return float(chi2.sf(float(((counts - expected) ** 2 / expected).sum()), len(expected) - 1))


def test_conditionals_are_those_of_the_enumerated_law() -> None:
    everything, mass = CHAIN.sequences(), CHAIN.log_prob(CHAIN.sequences()).exp()
    assert float(mass.sum()) == pytest.approx(1)
    for known in itertools.product((1, CHAIN.vocabulary), repeat=CHAIN.length):
        tokens = torch.tensor([known])
        fitting = ((tokens == everything) | (tokens == CHAIN.vocabulary)).all(1)
        one_hot = torch.nn.functional.one_hot(everything[fitting], CHAIN.vocabulary).double()
        expected = (mass[fitting, None, None] * one_hot).sum(0) / mass[fitting].sum()
        torch.testing.assert_close(CHAIN.conditionals(tokens)[0], expected)


def test_the_concrete_score_is_the_ratio_of_the_marginals() -> None:
    """p_t by summing over all clean sequences, at three shares of masked places."""
    everything, mass = CHAIN.sequences(), CHAIN.log_prob(CHAIN.sequences()).exp()

    def marginal(tokens: Tensor, level: float) -> float:
        masked = tokens == CHAIN.vocabulary
        clean = float(mass[((tokens == everything) | masked).all(1)].sum())
        return clean * level ** int(masked.sum()) * (1 - level) ** int((~masked).sum())

    model = CHAIN.denoiser()
    for level in (0.1, 0.5, 0.9):
        tokens = torch.tensor([1, CHAIN.vocabulary, CHAIN.vocabulary, 0])
        score = concrete_score(model, tokens[None], level)[0]
        assert bool((score[[0, 3]] == 0).all())
        for place, v in itertools.product((1, 2), range(3)):
            other = tokens.clone()
            other[place] = v
            assert float(score[place, v]) == pytest.approx(marginal(other, level) / marginal(tokens, level))


def test_the_diffusion_bound_is_the_mean_over_orders_also_of_a_wrong_model() -> None:
    """A set of m masked places has weight int lambda^(m-1) (1 - lambda)^(L-m) = (m-1)! (L-m)! / L! in the bound."""
    length = CHAIN.length
    tokens = CHAIN.sequences()[[0, 17, 44]]
    blurred = MaskedDenoiser(lambda x: 0.7 * CHAIN.conditionals(x) + 0.3 / 3, length, 3)
    for model, exact in ((CHAIN.denoiser(), True), (blurred, False)):
        bound = torch.zeros(len(tokens), dtype=torch.float64)
        for masks in itertools.product((False, True), repeat=length):
            m = sum(masks)
            if m:
                weight = math.factorial(m - 1) * math.factorial(length - m) / math.factorial(length)
                bound += weight * masked_nll(model, tokens, torch.tensor(masks).expand(len(tokens), -1))
        orders = [any_order_nll(model, tokens, torch.tensor(o)) for o in itertools.permutations(range(length))]
        torch.testing.assert_close(bound, torch.stack(orders).mean(0))
        true = -CHAIN.log_prob(tokens)
        assert torch.allclose(bound, true) == exact
        if exact:
            torch.testing.assert_close(torch.stack(orders), true.expand(24, -1))


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_reuse_gives_the_same_samples_for_the_calls_that_are_foretold(steps: int) -> None:
    levels, n = uniform_levels(steps), 1000
    whole, fewer = (sample_masked(SHARP.denoiser(), n, levels=levels, seed=3, reuse=r) for r in (False, True))
    assert torch.equal(whole.tokens, fewer.tokens)
    assert whole.evaluations.tolist() == [steps] * n
    assert int(fewer.evaluations.max()) <= min(steps, SHARP.length)
    mean, error = fewer.evaluations.double().mean(), fewer.evaluations.double().std() / n**0.5
    assert float(mean) == pytest.approx(expected_evaluations(SHARP.length, levels), abs=5 * float(error) + 1e-12)


def test_many_steps_have_the_exact_law_and_one_step_has_that_of_the_places_alone() -> None:
    tokens = sample_masked(CHAIN.denoiser(), 6000, levels=uniform_levels(400), seed=1).tokens
    assert fits(tokens, CHAIN) > 1e-4
    one = sample_masked(CHAIN.denoiser(), 6000, levels=uniform_levels(1), seed=1).tokens
    assert fits(one, CHAIN) < 1e-12
    own = CHAIN.conditionals(CHAIN.denoiser().masked(1))[0]
    for place in range(CHAIN.length):
        counts = torch.bincount(one[:, place], minlength=3) / len(one)
        torch.testing.assert_close(counts.double(), own[place], atol=0.02, rtol=0)


def test_a_sample_is_its_own_in_any_batch() -> None:
    levels = [1, 0.8, 0.35, 0.1, 0]
    together = sample_masked(CHAIN.denoiser(), 6, levels=levels, seed=4).tokens
    apart = [sample_masked(CHAIN.denoiser(), 2, levels=levels, seed=4, first_sample=k).tokens for k in (0, 2, 4)]
    assert torch.equal(together, torch.cat(apart))


def by_linear_program(q: Tensor, p: Tensor, drafts: int) -> float:
    """The largest probability of an accepted draft: mass sent from every tuple of drafts to one of its tokens, at most q each."""
    tuples = list(itertools.product(range(len(p)), repeat=drafts))
    edges = [(k, y) for k, t in enumerate(tuples) for y in set(t)]
    limits = np.zeros((len(tuples) + len(q), len(edges)))
    for number, (k, y) in enumerate(edges):
        limits[k, number] = limits[len(tuples) + y, number] = 1
    most = [math.prod(float(p[x]) for x in t) for t in tuples] + q.tolist()
    return -float(linprog(-np.ones(len(edges)), limits, most).fun)


LAWS = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).filter(lambda w: sum(w) > 0.1)


@settings(deadline=None, max_examples=25)
@given(LAWS, LAWS, st.integers(1, 3))
def test_the_closed_form_is_the_optimum_of_the_linear_program(q: list[float], p: list[float], drafts: int) -> None:
    target, draft = laws(q, p)
    assert acceptance(target, draft, drafts) == pytest.approx(by_linear_program(target, draft, drafts), abs=1e-7)


@settings(deadline=None, max_examples=25)
@given(LAWS, LAWS)
def test_two_drafts_are_always_accepted_where_no_set_is_likelier_to_hold_both(q: list[float], p: list[float]) -> None:
    """The paper's condition: q(S) >= p(S)^2 for every set S."""
    target, draft = laws(q, p)
    sets = [torch.tensor(s) for s in itertools.product((False, True), repeat=4)]
    slack = min(float(target[s].sum() - draft[s].sum() ** 2) for s in sets)
    assert acceptance(target, draft, 2) == pytest.approx(1 + min(slack, 0.0), abs=1e-12)


@settings(deadline=None, max_examples=10)
@given(LAWS, st.lists(st.floats(-6, 6), min_size=4, max_size=4), st.integers(1, 4))
def test_the_law_of_the_chosen_draft_is_that_of_the_enumeration(p: list[float], logs: list[float], drafts: int) -> None:
    (draft,), w = laws(p), torch.tensor(logs, dtype=torch.float64)
    expected = torch.zeros(4, dtype=torch.float64)
    for t in itertools.product(range(4), repeat=drafts):
        weights = w[list(t)].exp()
        expected.index_add_(0, torch.tensor(t), math.prod(float(draft[x]) for x in t) * weights / weights.sum())
    found = chosen_law(w[None], draft[None], torch.tensor([drafts], dtype=torch.float64))[0]
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("drafts", [2, 3])
def test_fitted_weights_reach_the_optimum(drafts: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.softmax(1.5 * torch.randn(40, 5, dtype=torch.float64, generator=generator), 1) for _ in range(2))
    count = torch.full((40,), float(drafts), dtype=torch.float64)
    law = chosen_law(fitted_weights(q, p, count), p, count)
    accepted = torch.minimum(q, law).sum(1)
    best = torch.tensor([acceptance(a, b, drafts) for a, b in zip(q, p, strict=True)], dtype=torch.float64)
    assert bool((accepted <= best + 1e-9).all())
    assert float((best - accepted).max()) < 0.01
    plain = torch.minimum(q, chosen_law(torch.zeros_like(q), p, count)).sum(1)  # a draft at random is a single draft
    torch.testing.assert_close(plain, torch.minimum(q, p).sum(1))


@pytest.mark.parametrize("rule", ["importance", "recursive"])
@pytest.mark.parametrize(("drafts", "ahead"), [(1, 2), (3, 3)])
def test_the_output_has_the_law_of_the_target_whatever_the_draft(rule: str, drafts: int, ahead: int) -> None:
    chain = MarkovChain.random(3, 3, seed=1)
    found = speculative(chain.denoiser(), independent(chain), 1200, drafts=drafts, ahead=ahead, seed=2, rule=rule)  # type: ignore[arg-type]
    assert fits(found.tokens, chain) > 1e-4
    assert int(found.rounds.min()) >= math.ceil(chain.length / (ahead + 1))
    assert int(found.rounds.max()) <= chain.length


def test_a_perfect_draft_is_always_accepted() -> None:
    found = speculative(CHAIN.denoiser(), CHAIN.denoiser(), 200, drafts=2, ahead=3)
    assert found.rounds.tolist() == [1] * 200
    assert found.block_efficiency == CHAIN.length


def test_a_draft_that_never_says_a_token_of_the_target() -> None:
    """q and p on other tokens: every token is drawn again, and has the target's law all the same."""
    q, p = torch.tensor([0.6, 0.4, 0, 0]).double(), torch.tensor([0, 0, 0.5, 0.5]).double()
    target, draft = (MaskedDenoiser(lambda x, law=law: law.expand(len(x), 2, 4), 2, 4) for law in (q, p))
    for rule in ("importance", "recursive"):
        tokens = speculative(target, draft, 600, drafts=2, rule=rule).tokens  # type: ignore[arg-type]
        torch.testing.assert_close((tokens == 0).double().mean(), q[0], atol=0.08, rtol=0)
        assert int(tokens.max()) == 1


def test_tokens_of_probability_0_are_never_drawn() -> None:
    law = torch.tensor([0.0, 0.5, 0.5, 0.0], dtype=torch.float64)
    ends = torch.tensor([0.0, 1 - 1e-16, 1.0], dtype=torch.float64)
    assert set(drawn(law.expand(3, 4), ends).tolist()) <= {1, 2}


def test_bad_input_is_one_line() -> None:
    model = CHAIN.denoiser()
    calls = [
        lambda: sample_masked(model, 2, levels=[1, 0.5]),
        lambda: sample_masked(model, 2, levels=[1, 0.5, 0.5, 0]),
        lambda: sample_masked(model, 2, levels=[1, math.nan, 0]),
        lambda: uniform_levels(0),
        lambda: concrete_score(model, model.masked(1), 0.0),
        lambda: any_order_nll(model, CHAIN.sequences(), torch.tensor([0, 0, 1, 2])),
        lambda: acceptance(torch.tensor([0.5, 0.6]), torch.tensor([0.5, 0.5]), 2),
        lambda: acceptance(torch.tensor([0.5, 0.5]), torch.tensor([1.0]), 2),
        lambda: speculative(model, SHARP.denoiser(), 2),
        lambda: speculative(model, model, 2, drafts=0),
        lambda: speculative(model, model, 2, rule="first"),  # type: ignore[arg-type]
        lambda: MaskedDenoiser(CHAIN.conditionals, 0, 3),
        lambda: MarkovChain(torch.tensor([0.5, 0.6]), torch.eye(2), 3),
        lambda: MarkovChain(torch.tensor([1.0, 0.0]), torch.eye(2), 2).conditionals(torch.tensor([[0, 1]])),
    ]
    for call in calls:
        with pytest.raises(InputError) as raised:
            call()
        assert len(str(raised.value).splitlines()) == 1
    for wrong in (lambda x: torch.ones(len(x), 4, 3), lambda x: torch.full((len(x), 4, 2), 0.5)):
        with pytest.raises(ForeignError):
            MaskedDenoiser(wrong, 4, 3)(model.masked(1))
