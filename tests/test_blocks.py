"""The blocks column: what a row's shortcut gives, and that the network is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipelines import dit
from small_networks import GROUP, MODELS, a_plan, of, reuse, small_dit, small_unet, with_blocks
from torch import Tensor, nn

from fewer.blocks.actions import bound
from fewer.blocks.find import at_granularity, block, blocks
from fewer.blocks.playing import playing
from fewer.engine import History, begin, bind, play, sample
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs, plan_macs, seconds, shares
from fewer.guidance.cfg import ClassifierFree
from fewer.models.model import Model
from fewer.models.pipelines.folder import DiffusersNetwork
from fewer.noise import unit_noise
from fewer.plan import Plan, Row, Shortcut, Start
from fewer.search.objective import Objective, first_change

# what a row gives


@pytest.mark.parametrize("name", MODELS)
def test_rows_that_run_everything_are_the_networks_own_bits(name: str) -> None:
    """A row's output up to the first shortcut is bit for bit that of the plan without the column."""
    model, plan = MODELS[name](), a_plan()
    noise = unit_noise(0, range(4), model.shape)
    plain, cached = History(), History()
    for history, table in ((plain, plan), (cached, with_blocks(plan, {3: {GROUP[name]: reuse(1)}}))):
        play(model, table, begin(table, noise, lambda: noise), model.labels(4), history=history)
    assert all(torch.equal(plain.outputs[n], cached.outputs[n]) for n in range(3))
    assert not torch.allclose(plain.outputs[3], cached.outputs[3])


def test_skipping_all_blocks_is_the_network_without_them() -> None:
    model, plan = small_dit(), a_plan()
    bare = dit(classes=3, num_layers=3).eval()
    bare.load_state_dict(model.network.module.state_dict())  # type: ignore[attr-defined]
    first = bare.transformer_blocks[0].norm1
    for each in bare.transformer_blocks:
        each.forward = lambda x, *args, **kwargs: x
        each.norm1 = first
    skipped = {n: {f"block.{k}": Shortcut() for k in range(3)} for n in range(4)}
    noise = unit_noise(0, range(4), model.shape)
    want = sample(replace(model, network=DiffusersNetwork(bare, True)), plan, noise=noise)
    assert torch.equal(sample(model, with_blocks(plan, skipped), noise=noise), want)


def test_skipping_attention_and_feed_forward_is_skipping_the_block() -> None:
    model, plan = small_dit(), a_plan()
    whole = with_blocks(plan, {n: {"block.1": Shortcut()} for n in range(4)})
    parts = with_blocks(plan, {n: {"block.1.attn1": Shortcut(), "block.1.ff": Shortcut()} for n in range(4)})
    torch.testing.assert_close(sample(model, whole, 4), sample(model, parts, 4))


class Along(nn.Module):
    """Residual blocks whose branches are constant, and linear in the time."""

    def __init__(self) -> None:
        super().__init__()
        self.constant, self.linear = Branch(0.0), Branch(1.0)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.linear(self.constant(x, t), t)


class Branch(nn.Module):
    """x + (1 + slope t) v."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope, self.v = slope, nn.Parameter(torch.linspace(-1, 1, 32).view(2, 4, 4), requires_grad=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + (1 + self.slope * t.view(-1, 1, 1, 1) / 1000) * self.v


@given(st.lists(st.floats(1, 999), min_size=3, max_size=6, unique=True).map(lambda ts: sorted(ts, reverse=True)))
@settings(deadline=None, max_examples=25)
def test_shortcuts_are_exact_where_branches_are_what_they_assume(times: list[float]) -> None:
    """Reuse of a branch that depends on nothing; the line through two rows of one that is linear in the time."""
    model = of(Along())
    rows = tuple(Row(0.9 - 0.1 * n, {n: -0.1}, t=t) for n, t in enumerate(times))
    plan = Plan(Start(0.9, 0.9), rows, 0.9 - 0.1 * len(rows))
    cells: dict[int, dict[str, Shortcut]] = {n: {"constant": reuse(0)} for n in range(1, len(rows))}
    for n in range(2, len(rows)):
        w = (times[n] - times[1]) / (times[0] - times[1])
        if abs(w) < 100:
            cells[n]["linear"] = Shortcut({0: w, 1: 1 - w})
    noise = unit_noise(0, range(2), model.shape)
    want = sample(model, plan, noise=noise)
    torch.testing.assert_close(sample(model, with_blocks(plan, cells), noise=noise), want, rtol=1e-4, atol=1e-4)


def test_a_shortcut_may_stand_on_another() -> None:
    model, plan = small_dit(), a_plan()
    over = with_blocks(
        plan, {1: {"block.1": reuse(0)}, 2: {"block.1": reuse(1)}, 3: {"block.1": Shortcut({2: 0.5, 0: 0.5})}}
    )
    at_once = with_blocks(plan, {n: {"block.1": reuse(0)} for n in (1, 2, 3)})
    torch.testing.assert_close(sample(model, over, 4), sample(model, at_once, 4))


def test_offset_and_weights_per_channel() -> None:
    """A weight for each channel and an offset of its own size: halves that add up to the reuse."""
    model, plan = small_unet(), a_plan()
    half = torch.full((8, 1, 1), 0.5)
    kept = History(watch=("down.0.resnet.0",))
    noise = unit_noise(0, range(1), model.shape)
    play(model, plan, begin(plan, noise, lambda: noise), history=kept)
    (y,) = kept.branches[0]["down.0.resnet.0"].values()
    assert y[0] is not None
    repaired = with_blocks(plan, {1: {"down.0.resnet.0": Shortcut({0: half}, y[0][0] / 2)}})
    whole = with_blocks(plan, {1: {"down.0.resnet.0": reuse(0)}})
    torch.testing.assert_close(sample(model, repaired, noise=noise), sample(model, whole, noise=noise))


def test_derivatives_along_weights() -> None:
    """Samples of a network without nonlinearities are linear in a weight: forward-mode gives their difference."""
    model = of(Along())
    plan = Plan(Start(0.9, 0.9), tuple(Row(0.9 - 0.1 * n, {n: -0.1}, t=100.0 * n) for n in range(4)), 0.5)
    noise = unit_noise(0, range(2), model.shape)

    def run(w: Tensor) -> Tensor:
        table = with_blocks(plan, {2: {"linear": Shortcut({1: 1 + w, 0: -w})}})
        return play(model, bind(model, table), begin(table, noise, lambda: noise))

    value, slope = torch.func.jvp(run, (torch.tensor(0.3),), (torch.ones(()),))
    torch.testing.assert_close(run(torch.tensor(1.3)) - value, slope)
    assert slope.abs().max() > 1e-3


# passes, batches


class TwoCalls:
    """Classifier-free guidance as two calls, the empty one first."""

    rule, passes, conditions, remembers, draws = "two", 2, ("empty", "label"), False, False

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def parameters(self) -> dict[str, float]:
        return {"scale": self.scale}

    def output(self, passes: Any) -> Tensor:
        (without,), (with_label,) = passes.outputs("empty"), passes.outputs("label")
        return without + self.scale * (with_label - without)


def guided(plan: Plan, rules: list[Any]) -> Plan:
    return replace(plan, rows=tuple(replace(row, guidance=g) for row, g in zip(plan.rows, rules, strict=True)))


def test_each_pass_has_branches_of_its_own() -> None:
    """Guidance as one call of twice the batch, as two calls, and both in one plan, reuse the same."""
    model = small_dit()
    cells = {1: {"block.1": reuse(0)}, 3: {"after.1": Shortcut({2: 2.0, 0: -1.0})}}
    plan = with_blocks(a_plan(), cells)
    both, apart = ClassifierFree(3.0), TwoCalls(3.0)
    want = sample(model, guided(plan, [both] * 4), 5)
    for rules in ([apart] * 4, [both, apart, both, apart], [apart, both, apart, both]):
        torch.testing.assert_close(sample(model, guided(plan, rules), 5), want, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(sample(model, guided(a_plan(), [both] * 4), 5), want, atol=1e-3)


@pytest.mark.parametrize(("scale", "label"), [(1.0, None), (0.0, 3)])
def test_rows_of_one_pass_take_their_half(scale: float, label: int | None) -> None:
    """A row of one pass that reuses a guided row's branch gets that of its own condition."""
    model = small_dit()
    again = Plan(Start(0.9, 0.9), (Row(0.9, {}, t=500.0), Row(0.9, {1: -0.4}, t=500.0)), 0.5)
    plan = guided(again, [ClassifierFree(3.0), ClassifierFree(scale)])
    noise = unit_noise(0, range(4), model.shape)
    want = sample(model, again, noise=noise, labels=label)
    got = sample(model, with_blocks(plan, {1: {"after.1": reuse(0)}}), noise=noise)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@given(batch=st.integers(1, 9))
@settings(deadline=None, max_examples=9)
def test_any_batch_size(batch: int) -> None:
    model = small_dit()
    plan = with_blocks(a_plan(guidance=2.0), {1: {"after.1": reuse(0)}, 3: {"block.0.attn1": reuse(2)}})
    torch.testing.assert_close(sample(model, plan, 7, batch=batch), sample(model, plan, 7), rtol=1e-4, atol=1e-4)


# the network afterwards


def state(model: Model) -> dict[str, Any]:
    network = model.network.module  # type: ignore[attr-defined]
    return {name: dict(module.__dict__) for name, module in network.named_modules()}


@pytest.mark.parametrize("name", MODELS)
def test_the_network_is_as_it_was(name: str) -> None:
    model = MODELS[name]()
    blocks(model)
    before, weights = state(model), model.network.module.state_dict()  # type: ignore[attr-defined]
    weights = {key: value.clone() for key, value in weights.items()}
    plan = with_blocks(a_plan(), {1: {GROUP[name]: reuse(0)}})

    def fail(*_: Any) -> None:
        raise RuntimeError("stop")

    sample(model, plan, 2)
    assert state(model) == before
    with pytest.raises(RuntimeError, match="stop"):
        sample(model, plan, 2, callback=fail)
    with pytest.raises(InputError):
        sample(model, with_blocks(plan, {1: {GROUP[name]: reuse(0), "gone": reuse(0)}}), 2)
    assert state(model) == before
    after = model.network.module.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(weights[key], after[key]) for key in weights)


def test_a_forward_of_the_users_own_is_given_back() -> None:
    network = dit(classes=3, num_layers=2).eval()
    model = replace(small_dit(), network=DiffusersNetwork(network, True))
    own = network.transformer_blocks[1].forward
    mine: Callable[..., Any] = lambda *args, **kwargs: own(*args, **kwargs)  # noqa: E731
    network.transformer_blocks[1].forward = mine
    sample(model, with_blocks(a_plan(), {1: {"block.1": reuse(0)}}), 2)
    assert network.transformer_blocks[1].forward is mine


def test_a_callback_may_use_the_network() -> None:
    model = small_dit()
    x, plan = torch.zeros(3, 1, 8, 8), with_blocks(a_plan(), {1: {"after.1": reuse(0)}})
    labels = model.labels(3)
    want, seen = model(x, 500.0, labels), []
    sample(model, plan, 2, callback=lambda *_: seen.append(model(x, 500.0, labels)))
    assert all(torch.equal(each, want) for each in seen)


def test_branches_are_dropped_after_their_last_use() -> None:
    model = small_dit()
    plan = with_blocks(a_plan(5), {1: {"block.1": reuse(0)}, 2: {"block.1": reuse(0)}, 4: {"block.1": reuse(3)}})
    held: list[list[int]] = []
    with torch.inference_mode(), playing(model, plan.rows, bound(model, plan.rows)) as played:
        assert played is not None
        for n in range(5):
            played.at(n, 2)(torch.zeros(2, 1, 8, 8), 500.0, model.labels(2))
            held.append([row for row, kept in played.branches.items() if kept])
    assert held == [[0], [0], [], [3], []]


@pytest.mark.parametrize("compiled_first", [False, True])
@pytest.mark.slow
def test_compiled_networks(compiled_first: bool) -> None:
    """Equal samples under torch.compile, row by row, whether or not it was compiled before the plan was played."""
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    network = Along()
    model, fast = of(network), of(torch.compile(network, backend=backend))  # type: ignore[arg-type]
    plans = [
        a_plan(),
        with_blocks(a_plan(), {1: {"linear": reuse(0)}, 3: {"linear": reuse(2), "constant": Shortcut()}}),
    ]
    for plan in plans if compiled_first else plans[::-1]:
        torch.testing.assert_close(sample(fast, plan, 2), sample(model, plan, 2), rtol=1e-5, atol=1e-5)
    assert graphs
    before = len(graphs)
    for plan in plans:
        sample(fast, plan, 2)
    assert len(graphs) == before  # all is compiled once
    assert block(fast, "linear") == block(model, "linear")


# in the middle of a plan


def test_a_run_goes_on_from_a_row() -> None:
    """With the history of a run, later rows find the branches of earlier ones."""
    model = small_dit()
    plan = with_blocks(a_plan(), {2: {"after.1": reuse(0)}, 3: {"block.0": reuse(1)}})
    noise, history = unit_noise(0, range(2), model.shape), History()
    whole = play(model, plan, begin(plan, noise, lambda: noise), model.labels(2), history=history)
    rest = History(
        {n: x for n, x in history.states.items() if n <= 2}, {n: u for n, u in history.outputs.items() if n < 2},
        {n: y for n, y in history.branches.items() if n < 2},
    )  # fmt: skip
    assert torch.equal(play(model, plan, rest.states[2], model.labels(2), history=replace(rest, first=2)), whole)
    bare = History({2: rest.states[2]}, {n: u for n, u in history.outputs.items() if n < 2})
    with pytest.raises(InputError, match="branch of row 0, which was not kept"):
        play(model, plan, rest.states[2], model.labels(2), history=replace(bare, first=2))


def test_searches_see_blocks() -> None:
    """The normal equations of a plan with blocks are those of playing each neighbour in full."""
    model = small_dit()
    plan = with_blocks(a_plan(), {2: {"after.1": reuse(0)}})
    rows = list(plan.rows)
    rows[2] = replace(rows[2], b={**rows[2].b, 2: rows[2].b[2] + 1e-2})  # type: ignore[operator]
    moved = replace(plan, rows=tuple(rows))
    assert first_change(plan, moved) == (2, False)
    other = with_blocks(plan, {2: {"after.1": reuse(1)}})
    assert first_change(plan, other) == (2, True)
    problem = Objective(model, unit_noise(0, range(3), model.shape), model.labels(3), torch.zeros(3, 1, 8, 8))
    here = problem.rollout(plan)
    gram, _ = problem.jacobian(here, [(moved, 1e-2)]).equations(here.samples)
    part = slice(0, 3)
    column = (problem.run(moved, part) - problem.run(plan, part)).double() / 1e-2
    assert float(gram) == pytest.approx(float(column.square().mean()), rel=1e-6)


def test_from_level_runs_blocks_whose_history_is_gone() -> None:
    plan = with_blocks(a_plan(), {1: {"block.1": reuse(0)}, 3: {"block.1": reuse(2), "block.0": Shortcut()}})
    left = plan.from_level(float(plan.rows[1].tau))
    assert [dict(row.blocks) for row in left.rows] == [{}, {}, {"block.1": reuse(1), "block.0": Shortcut()}]
    model = small_dit()
    init = torch.zeros(2, 1, 8, 8)
    assert sample(model, plan, init=init, strength=float(plan.rows[1].tau)).isfinite().all()


# files


cells = st.builds(
    Shortcut,
    st.dictionaries(st.integers(0, 3), st.floats(-9, 9) | st.builds(torch.full, st.just((3, 1, 1)), st.floats(-9, 9))),
    st.floats(-9, 9) | st.builds(torch.full, st.just((3, 1, 1)), st.floats(-9, 9)),
)


@given(st.dictionaries(st.text(min_size=1, max_size=9), cells, max_size=3))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.slow
def test_files(tmp_path: Path, column: dict[str, Shortcut]) -> None:
    """A blocks column comes back as it was written."""
    plan = replace(a_plan(5), model=None)
    plan = with_blocks(plan, {4: column})
    back = Plan.load(plan.save(tmp_path / "plan.json"))
    assert back.rows[4].blocks.keys() == column.keys()
    for name, cell in column.items():
        found = back.rows[4].blocks[name]
        assert found.weights.keys() == cell.weights.keys()
        for back_value, value in [
            (found.offset, cell.offset),
            *((found.weights[j], w) for j, w in cell.weights.items()),
        ]:
            assert torch.equal(torch.as_tensor(back_value), torch.as_tensor(value))
    assert [row.blocks for row in back.rows[:4]] == [{}] * 4


# bad input


WRONG: dict[str, tuple[dict[int, dict[str, Shortcut]], str]] = {
    "later row": ({1: {"block.1": reuse(1)}}, r"row 1 block 'block.1' names row 1; expected rows 0 \.\. 0"),
    "negative row": ({1: {"block.1": reuse(-1)}}, "names row -1"),
    "nan": ({1: {"block.1": Shortcut({0: float("nan")})}}, "not finite"),
    "infinite tensor": ({1: {"block.1": Shortcut({0: torch.tensor([torch.inf])})}}, "not finite"),
    "infinite offset": ({1: {"block.1": Shortcut({}, float("inf"))}}, "not finite"),
    "no name": ({1: {"": reuse(0)}}, "name is empty"),
    "not there": ({1: {"block.9": reuse(0)}}, "dit has no block 'block.9'; there are: block.0"),
    "nested": ({1: {"block.1": reuse(0), "after.1": reuse(0)}}, "row 1 names blocks that share modules"),
    "inside of what was left out": (
        {1: {"after.1": reuse(0)}, 2: {"block.1": reuse(1)}},
        "row 2 names block 'block.1' in row 1, which leaves out a block around it",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_columns(case: str) -> None:
    column, says = WRONG[case]
    with pytest.raises(InputError, match=says) as caught:
        sample(small_dit(), with_blocks(a_plan(), column), 2)
    assert "\n" not in str(caught.value)


def test_a_pass_that_was_not_made() -> None:
    plan = guided(with_blocks(a_plan(), {1: {"block.1": reuse(0)}}), [ClassifierFree(1.0), *[ClassifierFree(2.0)] * 3])
    with pytest.raises(InputError, match="names row 0, which makes no pass with the empty label"):
        plan.check()


def test_what_replaces_the_stream_cannot_be_skipped() -> None:
    with pytest.raises(InputError, match=r"row 1 skips block 'deep\.1', which is not residual"):
        sample(small_unet(), with_blocks(a_plan(), {1: {"deep.1": Shortcut()}}), 2)


# cost


@pytest.mark.parametrize("name", MODELS)
def test_macs_of_a_plan_are_those_that_it_makes(name: str) -> None:
    """Counted beforehand, and by torch while the plan is played."""
    from fewer.evaluate.cost.clock import macs

    model = MODELS[name]()
    plan = with_blocks(a_plan(), {1: {GROUP[name]: reuse(0)}, 3: {GROUP[name]: Shortcut({2: 2.0, 0: -1.0})}})
    noise = unit_noise(0, range(1), model.shape)
    assert plan_macs(model, plan) == macs(lambda: sample(model, plan, noise=noise))
    assert plan_macs(model, a_plan()) == 4 * call_macs(model)


def test_guided_rows_count_twice() -> None:
    plan = with_blocks(a_plan(guidance=2.0), {1: {"after.1": reuse(0)}})
    model = small_dit()
    assert plan_macs(model, plan) == 8 * call_macs(model) - 2 * block(model, "after.1").macs


def test_shares() -> None:
    """Blocks that share nothing hold no more than the whole call, of MACs and of the clock's time."""
    model = small_dit()
    before = state(model)
    listed = {entry["name"]: entry for entry in shares(model, 2, repeats=6)}
    assert list(listed) == list(blocks(model))
    units = [listed[b.name] for b in at_granularity(model, "layer")]
    assert 0 < sum(unit["macs_share"] for unit in units) < 1
    assert all(0 < unit["ms_share"] < 1 for unit in units)
    assert set(seconds(model, 2, repeats=6)) == {"", *listed}
    assert state(model) == before
