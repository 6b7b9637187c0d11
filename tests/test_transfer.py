"""A plan on another model: what is played there, whom it is held against, and what is said of it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import a_plan, reuse, small_dit, small_unet, with_blocks
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))  # the benchmarks are no installed package

import fewer
from benchmarks.transfer import table
from fewer.blocks.find import at_granularity
from fewer.blocks.policies.t_stitch import SmallNetwork
from fewer.cli.main import run
from fewer.engine import sample, times
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.equal_cost import EqualCost
from fewer.evaluate.leaderboard import compare
from fewer.models.model import Model
from fewer.models.schedules import Flow, Schedule, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan, Shortcut
from fewer.samplers import standard_plans
from fewer.transfer import transferred

VP = discrete(betas("scaled_linear"), name="scaled_linear")
WIDE = discrete(betas("linear"), name="linear")
MIXTURE = fewer.GaussianMixture.random((1, 4, 4), components=3, seed=0)


@pytest.fixture(autouse=True)
def few_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three solvers on three grids stand for all, and 64 calls for the reference solution, so that the tests are quick."""
    kept = {f"{solver} {grid}" for solver in ("ddim", "dpmpp-2m", "unipc") for grid in ("logsnr", "karras", "uniform")}

    def plans(model: Model, nfe: int, guidance: float | None = None) -> list[Plan]:
        found = standard_plans(model, nfe, guidance)
        return [plan for plan in found if plan.name in kept] or found[:3]

    monkeypatch.setattr("fewer.evaluate.leaderboard.standard_plans", plans)
    monkeypatch.setattr("fewer.evaluate.reference.MOST", 64)


@pytest.fixture
def coarse(few_baselines: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference solution of 8 calls, for networks whose errors are not looked at."""
    monkeypatch.setattr("fewer.evaluate.reference.FEWEST", 4)
    monkeypatch.setattr("fewer.evaluate.reference.MOST", 8)


def exact(schedule: Schedule = VP, name: str = "first", moved: float = 0.0) -> Model:
    """The mixture, with its means moved: a fine-tune of itself."""
    tuned = replace(MIXTURE, means=MIXTURE.means + moved * torch.linspace(-1, 1, MIXTURE.means.shape[1]))
    return Model.from_mixture(tuned, schedule, name=name, hash=name, dtype=torch.float64)


def made_for(plan: Plan, model: Model) -> Plan:
    return replace(plan, model=model.signature)


def held(model: Model, *plans: Plan, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = compare(model, [3], plans, n=16, **options)["plans"]
    return found


def backwards(plan: Plan) -> Plan:
    """The plan with every weight of an output turned round."""
    return replace(plan, name="backwards", rows=tuple(replace(r, b={j: -w for j, w in r.b.items()}) for r in plan.rows))


def test_the_best_standard_plan_found_elsewhere_holds_and_a_broken_one_does_not() -> None:
    """Whatever it was made for: the rival itself is not worse than itself, and steps away from the data are."""
    first, other = exact(), exact(name="fine-tune", moved=0.3)
    board = compare(other, [3], n=16)
    best = next(row["name"] for row in board["rows"] if row["kind"] == "standard")
    solver, grid = best.split()
    plan = made_for(fewer.standard(solver, other, 3, grid), first).named("found elsewhere")
    good, bad = held(other, plan, made_for(backwards(plan), first))
    assert (good["holds"], good["made_for"], good["verdict"]["decision"]) == (True, "first", "not worse")
    assert good["verdict"]["ratio"]["value"] == pytest.approx(1)
    assert good["says"].startswith("found elsewhere holds on fine-tune: its error is 1.00 [1.00, 1.00] of that of ")
    assert f"{best}, the best standard sampler of 3 evaluations" in good["says"]
    assert (bad["holds"], bad["verdict"]["decision"]) == (False, "worse")
    assert bad["says"].startswith("backwards does not hold on fine-tune: ")


def test_what_is_said_where_it_cannot_be_told() -> None:
    """Of a plan whose error is above, and with few noises may be within, what was asked for."""
    model = exact()
    plan = fewer.standard("ddim", model, 3, "logsnr")
    found = held(model, plan, margin=0.0)[0]
    ratio = found["verdict"]["ratio"]["value"]
    (found,) = held(model, plan, margin=ratio - 1)
    assert found["verdict"]["decision"] == "cannot tell"
    assert found["holds"] is None
    assert found["says"].startswith("ddim logsnr: cannot tell whether it holds on first, its error is ")


def test_samples_that_are_not_finite_do_not_hold() -> None:
    model = exact()
    plan = fewer.standard("ddim", model, 3, "logsnr")
    far = replace(plan, rows=tuple(replace(row, b={n: 1e38}) for n, row in enumerate(plan.rows)))
    (found,) = held(model, far)
    assert (found["holds"], found["verdict"]["ratio"]) == (False, None)
    assert found["says"] == "ddim logsnr does not hold on first: its samples are not finite"


@given(
    st.sampled_from([VP, WIDE, Flow(), VarianceExploding(0.002, 300.0)]), st.sampled_from([VP, WIDE]), st.integers(1, 6)
)
@settings(max_examples=12, deadline=None)
def test_the_same_denoiser_under_another_schedule_gives_the_same_samples(
    there: Schedule, here: Schedule, n: int
) -> None:
    """A plan's levels mean the same on both: only what the network is told is another number."""
    first, other = exact(here), exact(there, "other")
    start = min(here.tau_max, there.tau_max)
    plan = made_for(fewer.standard("dpmpp-2m", first, n, "logsnr", start=start), first)
    moved, said = transferred(other, plan)
    assert [row.tau for row in moved.rows] == [row.tau for row in plan.rows]
    torch.testing.assert_close(sample(other, moved, 3), sample(first, plan, 3), rtol=1e-4, atol=1e-4)
    assert said[0].endswith("was made for first, not for other")
    assert (len(said) == 2) == (there.describe() != here.describe())


def test_a_second_network_of_another_schedule_is_told_its_own_times() -> None:
    """It may be another one than the plan was made with."""
    first, small = exact(), exact(WIDE, "small")
    plan = made_for(
        SmallNetwork(2).apply(fewer.standard("ddim", first, 4, "logsnr"), replace(first, others=(small,))), first
    )
    there = replace(first, others=(exact(Flow(), "other small"),))
    moved, said = transferred(there, plan)
    torch.testing.assert_close(
        sample(there, moved, 3), sample(replace(first, others=(small,)), plan, 3), rtol=1e-4, atol=1e-4
    )
    assert said[0] == "plan 'ddim logsnr' was made for small, not for other small"
    assert "at its levels other small is given times of its own" in said[1]


def test_times_of_the_same_schedule_are_the_plans_own() -> None:
    """Also where they are not those of the levels: a plan may mean it."""
    first = exact()
    plan = fewer.standard("ddim", first, 3, "logsnr")
    told = zip(plan.rows, times(first, plan), strict=True)
    plan = replace(plan, rows=tuple(replace(row, t=0.9 * float(t)) for row, t in told))
    moved, said = transferred(exact(name="fine-tune", moved=0.1), plan)
    assert moved == plan
    assert len(said) == 1


def test_a_plan_says_the_schedule_that_it_was_made_under(tmp_path: Path) -> None:
    model = exact()
    found = fewer.tune(model, 2, noises=8, fresh=8, trials=1).plan
    assert found.model == {"name": "first", "hash": "first", "schedule": VP.describe()}
    assert Plan.load(found.save(tmp_path / "plan.json")).model == found.model


@pytest.mark.slow
def test_another_size_of_sample(coarse: None) -> None:
    """Levels, weights and blocks by name go along; the answer has the same words."""
    small = small_unet()
    large = replace(small, shape=(1, 12, 12), name="unet at 12", hash="unet at 12")
    plan = fewer.standard("dpmpp-2m", small, 4, "logsnr")
    (name, *_) = [each.name for each in at_granularity(small, "unit")]
    cached = made_for(with_blocks(plan, {2: {name: reuse(1)}}), small)
    moved, _ = transferred(large, cached)
    assert sample(large, moved, 2).shape == (2, 1, 12, 12)
    (found,) = held(large, made_for(plan, small))
    assert found["holds"] in (True, False, None)
    assert " on unet at 12" in found["says"]


def refused() -> dict[str, tuple[Model, Plan, str]]:
    unet, dit = small_unet(), small_dit()
    wide = replace(unet, shape=(1, 12, 12), name="wide", hash="wide")
    (name, *_) = [each.name for each in at_granularity(unet, "unit")]
    shaped = with_blocks(a_plan(), {1: {name: Shortcut({0: 1.0}, torch.zeros(8, 8, 8))}})
    offset = replace(a_plan(), rows=tuple(replace(row, offset=torch.ones(1, 8, 8)) for row in a_plan().rows))
    flow = exact(Flow(), "flow")
    return {
        "blocks that are not there": (unet, with_blocks(a_plan(), {1: {"block.2.ff": reuse(0)}}), "has no block"),
        "a branch of another size": (wide, shaped, "has blocks with tensors that do not fit wide at"),
        "tensors of another size": (wide, offset, r"row 0 offset has shape \(1, 8, 8\); samples are \(1, 12, 12\)"),
        "levels that are too noisy": (
            exact(),
            fewer.standard("ddim", flow, 2),
            "row 0 at level 1; first knows levels up to",
        ),
        "guidance without labels": (unet, a_plan(2, 3.0), "is guided, which needs a model with labels"),
        "a network that is not there": (
            dit,
            SmallNetwork(1).apply(a_plan(), replace(dit, others=(dit,))),
            "--with OTHER",
        ),
    }


@pytest.mark.parametrize("case", list(refused()))
def test_what_cannot_be_played_is_refused_at_once(case: str) -> None:
    model, plan, says = refused()[case]
    plan = replace(plan, model={"name": "elsewhere", "hash": "elsewhere"})
    called: list[int] = []

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        called.append(len(x))
        return model.network(x, t, labels)

    network.module = getattr(model.network, "module", None)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=says) as caught:
        compare(replace(model, network=network), [2], [plan])
    assert "\n" not in str(caught.value)
    assert set(called) <= {1}  # a look at the blocks, or a try of one sample


@pytest.mark.slow
def test_a_plan_of_cheaper_rows_is_held_against_as_many_whole_calls_as_it_pays_for(coarse: None) -> None:
    """The largest whole number of evaluations that costs no more, for blocks left out and for a second network."""
    model = replace(small_dit(), others=(small_dit(layers=1),))
    names = [each.name for each in at_granularity(model, "unit")]
    cached = with_blocks(a_plan(), {n: {name: reuse(0) for name in names} for n in (1, 2, 3)})
    mixed = SmallNetwork(3).apply(a_plan(), model)
    call = call_macs(model)
    for plan, found in zip((cached, mixed), held(model, cached.named("a"), mixed.named("b")), strict=True):
        macs = plan_macs(model, plan)
        assert found["against_nfe"] == macs // call
        assert found["against_nfe"] * call <= macs < (found["against_nfe"] + 1) * call
        assert found["cost"] == {"macs": macs, "calls": macs / call}
        assert f"of the whole network, the most that its {macs:.4g} multiply-adds pay for" in found["says"]
    assert held(model, a_plan())[0]["cost"] == {"macs": None, "calls": None}
    assert str(EqualCost(1, 30, 0.4)) == "1 evaluation of the whole network, which costs more than its 30 multiply-adds"


def test_where_torch_counts_nothing_calls_are_compared(coarse: None) -> None:
    model = replace(small_dit(), network=lambda x, t, labels: x, others=(small_dit(),))
    plan = SmallNetwork(1).apply(a_plan(), model)
    board = compare(model, [4], [plan], n=16)
    assert board["plans"][0]["against_nfe"] == 4
    assert "torch counts no multiply-adds in dit" in " ".join(board["notes"])


MODELS = """
import fewer, torch
from fewer.models.schedules import Flow, betas, discrete

def model(schedule, name):
    mixture = fewer.GaussianMixture.random((1, 4, 4), components=3, seed=0)
    return fewer.Model.from_mixture(mixture, schedule, name=name, hash=name)

def flow():
    return model(Flow(), "flow")

def tuned():
    return model(discrete(betas("scaled_linear"), name="scaled_linear"), "tuned")
"""


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Status 0 where it holds, 1 where it does not, 2 and one line where it cannot be played."""
    (tmp_path / "their_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_models", raising=False)
    tuned = fewer.load("their_models:tuned")
    best = compare(tuned, [2], n=32)["rows"][0]["name"].split()
    flow = fewer.load("their_models:flow")
    good = made_for(fewer.standard(best[0], tuned, 2, best[1]), flow).named("mine")
    good = replace(good, rows=tuple(replace(row, t=1000 * float(row.tau)) for row in good.rows))
    good.save(tmp_path / "good.json")
    made_for(backwards(good), tuned).save(tmp_path / "bad.json")
    made_for(fewer.standard("ddim", flow, 2), flow).save(tmp_path / "noisy.json")
    line = "compare their_models:tuned --nfe 2 -n 32 --plan "
    assert run([*line.split(), "good.json"]) == 0
    out = capfd.readouterr().out
    assert "mine holds on tuned: its error is 1.00" in out.replace("\n", " ")
    assert "note: plan 'mine' was made for flow, not for tuned" in out
    assert "note: plan 'mine' was made under another noise schedule" in out
    assert run([*line.split(), "bad.json"]) == 1
    assert "backwards does not hold on tuned" in capfd.readouterr().out
    assert run([*line.split(), "noisy.json", "--json", "board.json"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "knows levels up to" in err
    assert not (tmp_path / "board.json").exists()
    assert run([*line.split(), "good.json", "--json", "board.json"]) == 0
    (found,) = json.loads((tmp_path / "board.json").read_text())["plans"]
    assert (found["holds"], found["made_for"]) == (True, "flow")
    assert run(["sample", "their_models:tuned", "--plan", "good.json", "-n", "2", "--out", "pictures"]) == 0
    assert "made under another noise schedule" in capfd.readouterr().err
    noise = unit_noise(0, range(2), (1, 4, 4))
    with pytest.warns(UserWarning, match="at its levels tuned is given times of its own"):
        found = sample(tuned, good, noise=noise)
    assert torch.equal(found, sample(tuned, transferred(tuned, good)[0], noise=noise))


def test_the_pages_table_is_the_record() -> None:
    root = Path(__file__).parents[1]
    content = json.loads((root / "benchmarks" / "results" / "transfer.json").read_text())
    assert table(content) in (root / "docs" / "transfer.md").read_text()
