"""`tune` within multiply-adds or milliseconds: its files and words, what each column brought, which blocks matter, bad lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import a_plan, small_dit
from test_joint import problem, stack

import fewer
from fewer.blocks.find import at_granularity
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.search.attribution import STRATA, attribute, coefficients, drawn, shares


@pytest.mark.usefixtures("few_standards")
def test_tune_within_multiply_adds(tmp_path: Path) -> None:
    model = stack()
    macs = 3.5 * call_macs(model)
    result = fewer.tune(model, macs=macs, noises=8, fresh=8, trials=4, out=tmp_path, margin=9.0)
    found = json.loads((tmp_path / "results.json").read_text())
    assert plan_macs(model, result.plan) == found["cost"]["macs"] <= macs
    assert found["budget"]["macs"] == [macs]
    assert found["budget"]["nfe"] == [3]
    assert [each["name"] for each in found["contributions"]] == ["steps", "blocks", "steps and blocks"]
    assert all(each["macs"] <= macs for each in found["contributions"])
    assert found["contributions"][-1]["ratio"] is None
    assert (found["attribution"] is None) == (not any(row.blocks for row in result.plan.rows))
    page = (tmp_path / "report.html").read_text()
    assert "What each column brought" in page


@given(st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_shares_of_what_adds_up_are_found(seed: int) -> None:
    """Where the change is a weighted count, whatever the strata's scales."""
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=4) + 0.01
    counts = np.stack([(~drawn(4, 6, share, rng)).sum(1) for share in STRATA for _ in range(6)])
    scale = np.repeat(rng.uniform(0.5, 2, len(STRATA)), 6)
    found = shares(counts, counts @ weights, scale, rng)
    np.testing.assert_allclose([each.value for each in found], weights / weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(coefficients(counts, counts @ weights, scale), weights, rtol=1e-6)
    assert all(each.low <= each.value <= each.high for each in found)


def test_a_block_that_changes_nothing_has_no_share() -> None:
    model = small_dit()
    network = model.network.module  # type: ignore[attr-defined]
    kept = network.transformer_blocks[1].ff.net[2]
    weight, bias = kept.weight.detach().clone(), kept.bias.detach().clone()
    try:
        kept.weight.zero_()
        kept.bias.zero_()
        names = [b.name for b in at_granularity(model, "unit")]
        found = attribute(problem(model, 8), a_plan(4), names, 8, 0)
    finally:
        kept.weight.copy_(weight)
        kept.bias.copy_(bias)
    blocks = {share.name: share.value for share in found.blocks}
    assert sum(blocks.values()) == pytest.approx(1)
    assert blocks["block.1.ff"] == min(blocks.values())


@pytest.mark.usefixtures("few_standards")
def test_blocks_that_are_kept_stay() -> None:
    model = stack()
    result = fewer.tune(model, macs=3.5 * call_macs(model), keep=["blocks"], noises=8, fresh=8, trials=2)
    assert not any(row.blocks for row in result.plan.rows)
    assert result.results["contributions"] == []


def test_bad_budgets() -> None:
    model = stack()
    full = call_macs(model)
    with pytest.raises(InputError, match="nfe, macs at once"):
        fewer.tune(model, 5, macs=1e9)
    with pytest.raises(InputError, match="which pay for 3 calls both"):
        fewer.tune(model, macs=[3.2 * full, 3.6 * full])
    with pytest.raises(InputError, match="it is a strategy for macs or ms"):
        fewer.tune(model, 5, strategy="autodiffusion")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--macs 1e3", "less than the"),
        ("--macs lots", "--macs is 'lots'"),
        ("--ms -1", "--ms is '-1'"),
        ("--ms 3 --macs 1e9", "--macs is a budget of its own"),
        ("--nfe 5 --ms 3", "--ms is a budget of its own"),
        ("--nfe 5 --strategy joint", "strategy for macs or ms"),
        ("--nfe 5 --with dit-digits", "--with saves no evaluations"),
        ("--macs 1e9 --with mixture16", "shape of the second model"),
        ("--macs 1e9 --with nowhere", "nowhere"),
        ("--macs 1e9 --with digits", "no less than"),
    ],
)
def test_bad_lines(
    line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(f"tune digits {line}".split()) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert says in err
    assert not list(tmp_path.iterdir())
