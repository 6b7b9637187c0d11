"""Multiply-accumulates, memory, the clock, and the latency table. Nothing here asserts a speed."""

import json
import math
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import nn

from fewer import engine
from fewer.engine import sample
from fewer.errors import InputError
from fewer.evaluate.cost import clock as cost
from fewer.evaluate.cost import latency
from fewer.evaluate.cost.clock import clock, clock_ratio, macs, median, peak_memory
from fewer.evaluate.cost.engine_overhead import NAMES, coefficients, overhead, plans
from fewer.evaluate.cost.latency import LatencyTable, fit, latency_table, sides
from fewer.evaluate.statistics.interval import Interval
from fewer.guidance.cfg import ClassifierFree
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.samplers import standard


@pytest.mark.parametrize("grad", [torch.inference_mode, torch.enable_grad])
def test_macs_of_known_layers(grad):
    linear, conv = nn.Linear(7, 5), nn.Conv2d(4, 6, 3, padding=1, groups=2)
    with grad():
        assert macs(lambda: linear(torch.zeros(3, 7))) == 3 * 7 * 5
        assert macs(lambda: conv(torch.zeros(2, 4, 10, 9))) == 2 * 6 * 10 * 9 * (4 // 2) * 9


def test_fused_attention_counts_as_its_two_products():
    q = torch.zeros(2, 4, 16, 8)
    assert macs(lambda: nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * (2 * 4 * 16 * 16 * 8)


def test_elementwise_work_is_free():
    assert macs(lambda: torch.ones(100).exp().sum()) == 0


class Clock:
    """A clock that stands still but when a side runs."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(cost, "perf_counter", lambda: self.now)

    def side(self, name, *durations):
        """A side that takes the given durations in turn, over and over."""

        def run():
            self.now += durations[sum(name == called for called in self.calls) % len(durations)]
            self.calls.append(name)

        return run


def test_every_round_calls_every_side_once_in_changing_order(monkeypatch):
    fake = Clock(monkeypatch)
    times = clock({name: fake.side(name, 1.0) for name in "abc"}, repeats=20, warmup=2)
    rounds = [tuple(fake.calls[i : i + 3]) for i in range(0, len(fake.calls), 3)]
    assert len(rounds) == 22
    assert all(set(called) == set("abc") for called in rounds)
    assert {called[0] for called in rounds} == set("abc")
    assert [times[name].n for name in "abc"] == [20, 20, 20]


def test_warm_up_rounds_do_not_count(monkeypatch):
    fake = Clock(monkeypatch)
    times = clock({"a": fake.side("a", 100.0, 100.0, *[1.0] * 10)}, repeats=10, warmup=2)
    assert (times["a"].low, times["a"].value, times["a"].high) == (1.0, 1.0, 1.0)


def test_the_median_lies_between_the_order_statistics_of_the_sign_test(monkeypatch):
    # P(Binomial(20, 1/2) <= 5) = 0.0207: the sixth of either end; of six values only the ends themselves
    fake = Clock(monkeypatch)
    twenty = clock({"a": fake.side("a", *map(float, range(1, 21)))}, repeats=20, warmup=0)["a"]
    assert (twenty.low, twenty.value, twenty.high) == pytest.approx((6.0, 10.5, 15.0))
    six = clock({"b": fake.side("b", *map(float, range(1, 7)))}, repeats=6, warmup=0)["b"]
    assert (six.low, six.value, six.high) == pytest.approx((1.0, 3.5, 6.0))


def test_a_slow_spell_cancels_in_the_paired_ratio(monkeypatch):
    fake = Clock(monkeypatch)
    slow = [1.0, 50.0, 1.0, 7.0, 3.0, 1.0, 2.0, 9.0]
    ratio = clock_ratio(fake.side("a", *[3 * s for s in slow]), fake.side("b", *slow), repeats=8, warmup=0)
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((3.0, 3.0, 3.0))


def test_threads_are_set_meanwhile_and_given_back():
    before, seen = torch.get_num_threads(), []
    clock({"a": lambda: seen.append(torch.get_num_threads())}, repeats=6, warmup=0, threads=before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_the_real_clock_runs_forward():
    times = clock({"a": lambda: sum(range(100))}, repeats=6, warmup=0)["a"]
    assert 0 < times.low <= times.value <= times.high < math.inf


@pytest.mark.parametrize(
    ("given", "word"), [({"sides": {}}, "sides"), ({"repeats": 5}, "repeats"), ({"warmup": -1}, "warmup")]
)
def test_bad_settings_are_named(given, word):
    with pytest.raises(InputError, match=word):
        clock(**{"sides": {"a": lambda: None}, **given})


def test_a_median_of_too_few_values_has_no_interval():
    with pytest.raises(InputError, match="at least 6"):
        median([1.0] * 5)


# memory

NUMBERS = 32  # bytes: torch makes tensors of the single numbers that are added or multiplied


def held_together():
    a, b = torch.ones(1000), torch.ones(500)
    return a, b


def one_after_another():
    for size in (1000, 500, 2000):
        torch.ones(size)


def freed_in_between():
    a, b = torch.ones(1000), torch.ones(500)
    del a
    return b, torch.ones(2000)


def in_place():
    return torch.ones(1000).add_(1).mul_(2)


def views():
    return torch.ones(1000).view(10, 100).expand(7, 10, 100)


def with_a_temporary():
    return (torch.ones(1000) + 1) + 1  # the first sum is still there while the second is made, the ones are not


@pytest.mark.parametrize(
    ("fn", "floats"),
    [
        (held_together, 1500), (one_after_another, 2000), (freed_in_between, 2500), (in_place, 1000), (views, 1000),
        (with_a_temporary, 2000), (lambda: None, 0),
    ],
)  # fmt: skip
def test_peak_memory_of_known_callables(fn, floats):
    assert 0 <= peak_memory(fn) - 4 * floats <= NUMBERS


def test_what_was_there_before_does_not_count():
    kept = [torch.ones(10_000)]

    def drop_one_and_make_another():
        kept.clear()
        return torch.ones(100)

    assert peak_memory(lambda: kept[0].add_(1)) <= NUMBERS
    assert peak_memory(drop_one_and_make_another) == 400


def test_scratch_memory_inside_of_an_operator_counts():
    x = torch.randn(1 << 12)
    assert peak_memory(lambda: x.double().float()) == (8 + 4) * len(x)
    assert peak_memory(lambda: torch.logsumexp(x, 0)) > 4 * len(x)  # exp(x - max) never leaves the operator


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(InputError, match="'meta'"):
        peak_memory(lambda: None, "meta")


def test_the_engine_holds_no_more_for_more_calls():
    """DDIM names only the last state and output: its peak does not grow with the calls."""
    few, many = (peak_memory(lambda n=n: play_free(standard("ddim", MODEL, n))) for n in (5, 40))
    numbers = 4 * 32 * math.prod(MODEL.shape)
    assert many - few < numbers / 4
    assert few < 7 * numbers


# the latency table

MIXTURE = GaussianMixture.random((3, 16, 16), components=2, seed=0, classes=2).to(dtype=torch.float32)
MODEL = Model.from_mixture(MIXTURE, discrete(betas("linear")), conditional=True, hash="ab")
PLAIN = Model.from_mixture(MIXTURE, MODEL.schedule, hash="ab")
FREE = replace(MODEL, network=lambda x, t, labels: x)
PLAN = standard("dpmpp-2m", MODEL, 6)
GUIDED = standard("dpmpp-2m", MODEL, 6, guidance=2.0)
COST = dict(zip(NAMES, [0.5, 0.03, 0.002, 0.01, 0.04, 1e-5, 3e-5, 2e-5, 4e-5, 6e-5], strict=True))
WHERE = {"processor": "a", "device": "cpu", "dtype": "float32", "threads": "1", "torch": "2"}
TABLE = LatencyTable("ab", WHERE, 4, {1: {2: 10.0, 8: 30.0}, 2: {2: 17.0, 8: 55.0}}, COST)


def play_free(plan):
    x = torch.ones(32, *MODEL.shape)
    with torch.inference_mode():
        return engine.play(FREE, plan, x, MODEL.labels(32))


def test_a_plan_costs_its_calls_and_the_engine_s_work():
    free = replace(TABLE, engine=dict.fromkeys(NAMES, 0.0))
    assert free.predict(PLAN, 8) == pytest.approx(6 * 30)
    assert free.predict(GUIDED, 2) == pytest.approx(3 * 17)
    half = replace(GUIDED, rows=(GUIDED.rows[0], *(replace(row, guidance=None) for row in GUIDED.rows[1:])))
    assert free.predict(half, 2) == pytest.approx(17 + 2 * 10)
    around = sum(COST[name] * count for name, count in overhead(PLAN, 8, 4).items())
    assert TABLE.predict(PLAN, 8) == pytest.approx(6 * 30 + around)


def test_a_pass_that_is_not_needed_is_not_charged():
    single = replace(GUIDED, rows=tuple(replace(row, guidance=ClassifierFree(1.0)) for row in GUIDED.rows))
    assert TABLE.predict(single, 2) == pytest.approx(
        TABLE.predict(replace(PLAN, rows=GUIDED.rows), 2)
        - 3 * 7
        - (3 * (COST["guided"] + COST["guided number"] * 2 * 4))
    )


def test_overhead_counts_what_the_engine_does(monkeypatch):
    """Draws and terms are those that the engine makes, seen from outside."""
    sampling, playing = import_module("fewer.engine.sample"), import_module("fewer.engine.play")
    for name in ("ancestral", "unipc", "ddim"):
        plan, seen = standard(name, MODEL, 5), {"draw": 0, "term": 0}
        noise, add = sampling.unit_noise, playing._sum
        monkeypatch.setattr(
            sampling, "unit_noise", lambda *a, s=seen, f=noise: (s.update(draw=s["draw"] + 1), f(*a))[1]
        )
        monkeypatch.setattr(playing, "_sum", lambda t, s=seen, f=add: (s.update(term=s["term"] + len(t)), f(t))[1])
        sample(MODEL, plan, 4)
        monkeypatch.undo()
        counted = overhead(plan, 4, 10)
        assert counted["draw"] == 4 * seen["draw"]
        noisy = seen["draw"] - 1
        assert counted["term"] + noisy + 2 * 5 == seen["term"]  # the output map u = p x + q F is two terms a row
        assert counted["row number"] == 5 * 4 * 10


def test_the_line_finds_costs_that_made_the_times():
    """Times made from known coefficients give predictions without error, whatever of them can be told apart."""
    numbers = math.prod(MODEL.shape)

    def true(plan, batch):
        return sum(COST[name] * count for name, count in overhead(plan, batch, numbers).items())

    times = {(name, batch): true(plan, batch) for name, plan in plans(MODEL).items() for batch in (1, 2, 8)}
    found = coefficients(MODEL, times)
    assert min(found.values()) >= 0
    for plan in (PLAN, GUIDED, standard("ancestral", MODEL, 9), standard("unipc-3", MODEL, 20)):
        for batch in (1, 8):
            got = sum(found[name] * count for name, count in overhead(plan, batch, numbers).items())
            assert got == pytest.approx(true(plan, batch), rel=0.02)


def test_the_table_is_made_of_its_sides():
    """`fit` reads each time where `sides` puts it: known times come back as calls, per call and in milliseconds."""
    seconds = {name: Interval(1.0, 1.0, 1.0, 6) for name in sides(MODEL, (4,))}
    seconds["call 1 4"] = Interval(0.3, 0.3, 0.3, 6)
    seconds["call 2 4"] = Interval(0.6, 0.6, 0.6, 6)
    table = fit(MODEL, (4,), seconds)
    assert table.calls == {1: {4: pytest.approx(100)}, 2: {4: pytest.approx(200)}}
    assert (table.model, table.numbers) == ("ab", 3 * 16 * 16)


def test_the_plans_without_a_network_stay_finite():
    for side in sides(MODEL, (2,)).values():
        side()


def test_an_unconditional_model_has_no_guided_calls():
    assert not any("call 2" in name or "guided" in name for name in sides(PLAIN, (2,)))
    table = latency_table(PLAIN, (2,), repeats=6, threads=1)
    assert set(table.calls) == {1}
    assert table.predict(PLAN, 2) > 6 * table.calls[1][2] > 0
    with pytest.raises(InputError, match="2 passes; measured: 1"):
        table.predict(GUIDED, 2)


def test_batch_sizes_that_were_not_measured_are_refused():
    with pytest.raises(InputError, match="batch is 3; the table was measured for 2, 8"):
        TABLE.predict(PLAN, 3)
    for wrong in ((), (0,), (2, True), (1.5,)):
        with pytest.raises(InputError, match="batches is"):
            latency_table(MODEL, wrong)


def test_a_table_comes_back_from_its_file(tmp_path):
    assert LatencyTable.load(TABLE.save(tmp_path / "table.json")) == TABLE


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema": 2}, "schema"), ({"calls": {"1": {"2": -1.0}}}, "calls.1.2"), ({"calls": None}, "calls"),
        ({"engine": {"run": 1.0}}, "engine must name run"), ({"numbers": 0}, "numbers"), ({"more": 1}, "more"),
        ({"engine": {**COST, "run": -1.0}}, "engine.run"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_named(tmp_path, change, word):
    path = TABLE.save(tmp_path / "table.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=word) as caught:
        LatencyTable.load(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables_are_named(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        LatencyTable.load(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"schema": 1')
    with pytest.raises(InputError, match=r"cut\.json"):
        LatencyTable.load(tmp_path / "cut.json")


def test_the_cache_is_used_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = latency_table(PLAIN, (2,), repeats=6)
    assert not list(tmp_path.iterdir())
    kept = latency_table(PLAIN, (2,), repeats=6, cache=True)
    assert kept != first
    monkeypatch.setattr(latency, "clock", None)  # would fail where anything were measured
    assert latency_table(PLAIN, (2,), cache=True) == kept
    assert len(list(tmp_path.rglob("*.json"))) == 1
    for other in (replace(PLAIN, hash="cd"), replace(PLAIN, dtype=torch.bfloat16)):
        assert not latency.cached(other, [2], latency.machine(other)).exists()
    assert not latency.cached(PLAIN, [2], latency.machine(PLAIN, threads=99)).exists()
    with pytest.raises(InputError, match="cache needs"):
        latency_table(replace(PLAIN, hash=""), (2,), cache=True)


# the engine's sums


def test_sums_write_over_nothing_that_others_hold():
    """States, outputs and noise that rows name again are what they were, with and without derivatives kept."""
    plan, noise = (
        standard("unipc-3", MODEL, 6),
        torch.randn(4, *MODEL.shape, generator=torch.Generator().manual_seed(0)),
    )
    before = noise.clone()
    history = engine.History()
    with torch.inference_mode():
        fast = engine.play(MODEL, plan, noise, MODEL.labels(4), history=history)
    assert torch.equal(noise, before)
    slow = engine.History()
    assert torch.equal(engine.play(MODEL, plan, noise, MODEL.labels(4), history=slow), fast)
    assert all(torch.equal(slow.states[n], x) for n, x in history.states.items())
    assert all(torch.equal(slow.outputs[n], u) for n, u in history.outputs.items())
