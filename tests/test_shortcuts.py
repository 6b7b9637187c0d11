"""The parts that write a blocks column: what the papers' formulas say of their patterns and weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import a_plan, of, small_dit, small_unet, with_blocks
from test_blocks import guided

import fewer
from fewer.audit.inspection import inspect
from fewer.blocks.find import at_granularity, block
from fewer.blocks.policies.deepcache import DeepFeatures
from fewer.blocks.policies.fora import Reuse
from fewer.blocks.policies.taylorseer import LinearForecast, Taylor, taylor
from fewer.calibrate.a_sdm import Inherit
from fewer.calibrate.block_cache import BlockCache, repaired
from fewer.calibrate.block_trajectories import branches, change
from fewer.calibrate.first_block_cache import FirstBlock
from fewer.calibrate.fitted_forecast import FittedForecast, grams, weights
from fewer.errors import InputError
from fewer.evaluate.cost.latency import LatencyTable, fit, latency_table, sides
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.statistics.interval import Interval
from fewer.guidance.cfg import ClassifierFree
from fewer.models.model import Model
from fewer.plan import Plan, Shortcut
from fewer.registry import find, parts
from fewer.solvers.integrals import lagrange

NAMES = [part.name for part in parts("blocks") if part.role == "block policy" and part.name != "small-network"]
UNETS_ONLY, TRANSFORMERS_ONLY = {"deep-features"}, {"first-block"}


def models_for(name: str) -> list[Model]:
    every = {"dit": small_dit(), "unet": small_unet()}
    return [m for kind, m in every.items() if name not in (UNETS_ONLY if kind == "dit" else TRANSFORMERS_ONLY)]


def left_out(plan: Plan) -> list[set[str]]:
    return [set(row.blocks) for row in plan.rows]


@pytest.mark.parametrize("name", NAMES)
def test_every_part(name: str) -> None:
    """Its plans cost less, keep the rest of the table, and run the first row in full: what it promises besides, the suite tests."""
    for model in models_for(name):
        generous = {"first-block": {"threshold": 9.0}, "block-cache": {"delta": 9.0}}.get(name, {})
        plan = a_plan(5)
        made = find("blocks", name).make(**generous).apply(plan, model).check(tuple(model.shape))
        assert not made.rows[0].blocks
        assert [replace(row, blocks={}) for row in made.rows] == list(plan.rows)
        assert plan_macs(model, made) < plan_macs(model, plan)


def test_settings_that_run_everything() -> None:
    """With nothing allowed to be left out, the plan is the one that was given."""
    for part, model in (
        (Reuse(every=1), small_dit()), (DeepFeatures(every=1), small_unet()), (FirstBlock(threshold=0.0), small_dit()),
        (LinearForecast(every=1), small_dit()), (Taylor(every=1), small_dit()), (BlockCache(delta=0.0), small_unet()),
        (Inherit(every=1), small_unet()), (FittedForecast(every=1), small_unet()),
    ):  # fmt: skip
        assert part.apply(a_plan(), model).rows == a_plan().rows


# weights


@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique_by=lambda x: round(x, 2)), st.floats(0.01, 0.99),
    st.lists(st.floats(-3, 3), min_size=4, max_size=4),
)  # fmt: skip
def test_lagrange_is_exact_on_polynomials(places: list[float], at: float, c: list[float]) -> None:
    value = lambda x: sum(a * x**i for i, a in enumerate(c[: len(places)]))  # noqa: E731
    weights = lagrange(places, at)
    scale = sum(map(abs, weights))
    assert sum(w * value(x) for w, x in zip(weights, places, strict=True)) == pytest.approx(
        value(at), abs=1e-12 * scale + 1e-9
    )


@given(st.integers(0, 4), st.floats(0, 2), st.floats(-2, 2))
def test_taylor_weights(order: int, x: float, slope: float) -> None:
    """They sum to one, are exact on lines, and are sum_i x^i / i! times backward differences (of 2^-m: 2^i of them)."""
    weights = list(taylor(list(range(order + 1)), x).values())  # the newest first
    assert sum(weights) == pytest.approx(1)
    if order:
        assert sum(w * (1 - slope * m) for m, w in enumerate(weights)) == pytest.approx(1 + slope * x)
    of_doubling = sum(x**i / math.factorial(i) * 0.5**i for i in range(order + 1))  # Delta^i of 2^n at 0 is 2^-i
    assert sum(w * 0.5**m for m, w in enumerate(weights)) == pytest.approx(of_doubling)


def test_forecasts_of_first_order_agree_on_regular_levels() -> None:
    """With levels regular in tau (or in log s) the line through two rows is the Taylor forecast of order 1; order 0 is reuse."""
    plan = a_plan(8)
    top = float(plan.rows[0].tau)
    plan = replace(plan, rows=tuple(replace(row, tau=top * (1 - n / 9)) for n, row in enumerate(plan.rows)))
    line, first = (p.apply(plan, small_dit()) for p in (LinearForecast(every=3), Taylor(every=3, order=1)))
    for row, other in zip(line.rows, first.rows, strict=True):
        assert row.blocks.keys() == other.blocks.keys()
        for name, cell in row.blocks.items():
            assert dict(cell.weights) == pytest.approx(dict(other.blocks[name].weights))
    even = replace(plan, rows=tuple(replace(r, tau=1 / (1 + math.exp(n - 3.0))) for n, r in enumerate(plan.rows)))
    for row, other in zip(LinearForecast(3, along="log-s").apply(even, small_dit()).rows, first.rows, strict=True):
        for name, cell in row.blocks.items():
            assert dict(cell.weights) == pytest.approx(dict(other.blocks[name].weights))
    noise = replace(plan, rows=(replace(plan.rows[0], tau=1.0), *plan.rows[1:]))
    assert LinearForecast(2, along="log-s").apply(noise, small_dit()).rows[3].blocks["block.0.ff"] == Shortcut({2: 1.0})
    zero, plain = Taylor(every=3, order=0).apply(plan, small_dit()), Reuse(every=3).apply(plan, small_dit())
    assert zero.rows == plain.rows


@given(st.integers(1, 4), st.integers(0, 999))
def test_fitted_weights_are_least_squares(terms: int, seed: int) -> None:
    """Those of numpy.linalg.lstsq, with its residual, over both passes; a combination of the branches is met."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(2, 6, 20))  # passes, rows, numbers
    rows = sorted(rng.choice(5, size=terms, replace=False).tolist())
    gram = {condition: y[p] @ y[p].T for p, condition in enumerate(("label", "empty"))}
    both = np.concatenate(y, 1)
    w, missed, *_ = np.linalg.lstsq(both[rows].T, both[5])
    found, left = weights(gram, 5, rows, ("label", "empty"))
    assert list(found.values()) == pytest.approx(w, rel=1e-5, abs=1e-6)
    assert left == pytest.approx(float(missed[0]), rel=1e-5)
    y[0, 5] = 2 * y[0, rows[0]]
    found, left = weights({"label": y[0] @ y[0].T}, 5, rows, ("label",))
    assert found[rows[0]] == pytest.approx(2, rel=1e-5)
    assert left < 1e-6


def test_fitted_forecasts_miss_least() -> None:
    """On the noises that they are fitted on, less than reuse and than the line through the last two rows."""
    model, plan = small_dit(), a_plan(6)
    fitted, reuse, line = (
        p.apply(plan, model) for p in (FittedForecast(every=3, noises=4), Reuse(every=3), LinearForecast(every=3))
    )
    found = grams(model, plan, ["block.0.ff"], 4, 0)["block.0.ff"]["label"]

    def missed(made: Plan, n: int) -> float:
        w = np.zeros(6)
        for j, weight in made.rows[n].blocks["block.0.ff"].weights.items():
            w[j] = float(weight)
        return float(found[n, n] - 2 * w @ found[n] + w @ found @ w)

    assert list(fitted.rows[5].blocks["block.0.ff"].weights) == [0, 3]
    for n in (1, 2, 4, 5):
        assert missed(fitted, n) <= min(missed(reuse, n), missed(line, n)) * (1 + 1e-4)


@given(st.integers(1, 5), st.floats(-3, 3), st.floats(-3, 3))
@settings(deadline=None)
def test_repair_finds_scale_and_shift(channels: int, scale: float, shift: float) -> None:
    """Exact where one row's branch is a scaled and shifted other one, for maps and for tokens."""
    torch.manual_seed(0)
    for shape, broad in (((6, channels, 3, 3), (channels, 1, 1)), ((6, 9, channels), (1, channels))):
        y = torch.randn(shape)
        factor = scale * torch.linspace(1, 2, channels).view(broad)
        cell = repaired(4, y, factor * y + shift)
        torch.testing.assert_close(torch.as_tensor(cell.weights[4]), factor, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.as_tensor(cell.offset), torch.full(broad, shift), atol=1e-4, rtol=1e-4)


def test_repair_is_least_squares() -> None:
    """No scale and shift per channel come closer to the branch than those."""
    torch.manual_seed(0)
    before, now = torch.randn(2, 8, 3, 2, 2)
    cell = repaired(0, before, now)
    scale, shift = torch.as_tensor(cell.weights[0]), torch.as_tensor(cell.offset)
    error = lambda s, b: float((s * before + b - now).square().sum())  # noqa: E731
    for moved in (0.01, -0.01):
        assert error(scale + moved, shift) > error(scale, shift) < error(scale, shift + moved)


# patterns


def test_uniform_patterns() -> None:
    plan = DeepFeatures(every=3).apply(a_plan(7), small_unet())
    assert [bool(cells) for cells in left_out(plan)] == [False, True, True, False, True, True, False]
    assert [dict(row.blocks["deep.1"].weights) for row in plan.rows if row.blocks] == [{0: 1.0}] * 2 + [{3: 1.0}] * 2


@given(st.integers(2, 9), st.integers(2, 5), st.floats(0, 1), st.floats(1, 3))
def test_full_rows_lie_around_the_centre(full: int, period: int, at: float, power: float) -> None:
    """With power 1 they are regular; with more there are no more of them, on average as close to the centre or closer."""
    count = full * period
    assert DeepFeatures(every=period, centre=0.0, power=1.0).runs(count) == DeepFeatures(every=period).runs(count)
    centre = at * count
    regular, close = (
        [n for n, r in enumerate(DeepFeatures(1, period, centre, p).runs(count)) if r] for p in (1.0, power)
    )
    assert close[0] == 0
    assert len(close) <= full + 1
    away = [sum(abs(n - centre) for n in rows[1:]) / max(1, len(rows[1:])) for rows in (regular, close)]
    assert len(close) < len(regular) or away[1] <= away[0] + 1


def test_block_cache_sums_changes() -> None:
    """A block runs where the sum of its changes since it ran exceeds delta, and only there."""
    model, plan, delta = small_unet(), a_plan(8), 0.5
    made = BlockCache(delta=delta, repair=False).apply(plan, model)
    names = [b.name for b in at_granularity(model, "layer")]
    for name, y in branches(model, plan, names, 16, 0).items():
        total = 0.0
        for n in range(1, 8):
            total += change(y[n], y[n - 1])
            assert (name in made.rows[n].blocks) == (total <= delta)
            total = total if total <= delta else 0.0


def test_first_block_decides_by_the_change_since_the_last_full_row() -> None:
    model, plan = small_dit(), a_plan(8)
    r, last = branches(model, plan, ["block.0"], 16, 0)["block.0"], 0
    middle = sorted(change(r[n - 1], r[n]) for n in range(1, 8))[4]
    made = FirstBlock(threshold=middle).apply(plan, model)
    for n in range(1, 8):
        moved = change(r[last], r[n])
        assert bool(made.rows[n].blocks) == (moved < middle)
        last = last if moved < middle else n


def test_inheritance_takes_the_least_change_first() -> None:
    model, plan = small_unet(), a_plan(5)
    names = [b.name for b in at_granularity(model, "layer")]
    y = branches(model, plan, names, 16, 0)
    order = sorted(names, key=lambda name: sum(change(y[name][n], y[name][n - 1]) for n in range(1, 5)))
    chosen = [Inherit(share=share).chosen(plan, model) for share in (0.1, 0.5, 1.0)]
    assert all(found == order[: len(found)] for found in chosen)
    macs = {name: block(model, name).macs for name in names}
    for share, found in zip((0.1, 0.5, 1.0), chosen, strict=True):
        held = sum(macs[name] for name in found)
        assert held >= share * sum(macs.values()) > held - macs[found[-1]]


def test_changes() -> None:
    one = torch.ones(3)
    assert change(2 * one, one) == 0.5
    assert change(0 * one, 0 * one) == 0
    assert change(0 * one, one) == 1


BAD = (
    (Reuse(every=0), "every is 0"), (Reuse(level="atom"), "level is 'atom'"), (Taylor(order=-1), "order is -1"),
    (LinearForecast(along="t"), "along is 't'"),
    (FittedForecast(terms=0), "terms is 0; expected a whole number"),
    (FittedForecast(noises=0), "noises is 0; expected a whole number"),
    (FirstBlock(threshold=-1.0), "threshold is -1.0"), (FirstBlock(threshold=math.nan), "threshold is nan"),
    (BlockCache(delta=-0.1), r"delta is -0\.1"), (BlockCache(noises=0), "noises is 0"),
    (Inherit(share=0.0), r"share is 0\.0"), (DeepFeatures(), r"has no block 'deep\.1'"),
)  # fmt: skip


@pytest.mark.parametrize(("part", "says"), BAD)
def test_bad_settings(part: object, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        part.apply(a_plan(), small_dit())  # type: ignore[attr-defined]
    assert "\n" not in str(caught.value)


def test_networks_without_such_blocks() -> None:
    with pytest.raises(InputError, match=r"no block 'after\.1'"):
        FirstBlock().apply(a_plan(), small_unet())
    with pytest.raises(InputError, match="centre is 9"):
        DeepFeatures(centre=9.0).apply(a_plan(4), small_unet())
    with pytest.raises(InputError, match="no blocks of level 'unit'"):
        Reuse().apply(a_plan(), of(torch.nn.Conv2d(2, 2, 1), call=lambda m, x, t: m(x)))
    apart = guided(a_plan(2), [ClassifierFree(1.0), ClassifierFree(0.0)])
    with pytest.raises(InputError, match="no pass in common"):
        BlockCache().apply(apart, small_dit())


# milliseconds


def test_predicted_savings_come_back() -> None:
    """A clock that ticks by the MACs alone: the table predicts a plan's ticks exactly, of one pass and of two."""
    model, batch = small_dit(), 3
    ticks: dict[str, float] = {}
    for name in sides(model, [batch]):
        kind, *words = name.split()
        ticks[name] = int(words[0]) * int(words[1]) * 3 * call_macs(model) if kind == "call" else 1e-9
    shares = {name: block(model, name).macs / call_macs(model) for name in ("after.1", "block.1.ff")}
    seconds = {n: Interval(t, t, t, 9) for n, t in ticks.items()}
    table = fit(model, [batch], seconds, {}, dict.fromkeys((batch, 2 * batch), shares))
    reuse = Shortcut({0: 1.0})
    for scale in (None, 2.0):
        plan = with_blocks(a_plan(4, scale), {1: {"after.1": reuse}, 3: {"block.1.ff": reuse}})
        assert table.predict(plan, batch) == pytest.approx(1e3 * batch * plan_macs(model, plan), rel=1e-6)
    with pytest.raises(
        InputError, match=r"block is 'block\.0'; measured for calls of 3 samples: after\.1, block\.1\.ff"
    ):
        table.predict(with_blocks(a_plan(), {1: {"block.0": reuse}}), batch)


def test_tables_keep_their_blocks(tmp_path) -> None:  # type: ignore[no-untyped-def]
    engine = dict.fromkeys(LatencyTable.load.__globals__["NAMES"], 0.0)
    table = LatencyTable("hash", {}, 64, {1: {2: 1.0}}, engine, {"deep.1": {2: 0.5, 4: -0.1}})
    assert LatencyTable.load(table.save(tmp_path / "table.json")) == table


def test_measured_tables_hold_the_named_blocks() -> None:
    """Savings of calls of one and of two passes, each less than its call; a block that is not there is refused."""
    model = small_dit()
    table = latency_table(model, (2,), blocks=("after.1", "block.1.ff"), repeats=6)
    for name in ("after.1", "block.1.ff"):
        assert 0 < table.blocks[name][2] < table.calls[1][2]
        assert 0 < table.blocks[name][4] < table.calls[2][2]
    with pytest.raises(InputError, match=r"no block 'deep\.1'"):
        latency_table(model, (2,), blocks=("deep.1",), repeats=6)


def test_inspect_lists_blocks() -> None:
    facts = inspect(fewer.load("dit-digits"), batch=2)
    assert [entry["name"] for entry in facts["blocks"]][:3] == ["block.0", "block.0.attn1", "block.0.ff"]
    assert sum(e["macs_share"] for e in facts["blocks"] if e["name"].count(".") == 1 and "block" in e["name"]) < 1
    assert inspect(fewer.load("mixture16"), batch=2)["blocks"] == []
