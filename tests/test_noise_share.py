"""A share of fresh noise in the rows of deterministic plans: exact at 0, the right law on a point mass, at any share."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fewer
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.levels import s_of_tau
from fewer.models.schedules import Flow
from fewer.plan import Plan
from fewer.registry import parts
from fewer.solvers.noise_share import noisy_rows, with_noise
from tests.refused_commands import check_refused

CALLS = 6
MIXTURE = fewer.GaussianMixture.random((1, 2, 2), components=4, seed=0)
MODEL = fewer.Model.from_mixture(MIXTURE, Flow())


def each_plan() -> list[Plan]:
    """The deterministic solvers that call each of falling levels once."""
    plans = []
    for kind in parts("solvers"):
        try:
            plan = fewer.standard(kind.name, MODEL, CALLS, "logsnr")
        except InputError:
            continue
        levels = [float(level) for level in plan.levels]
        if not plan.stochastic and all(a > b for a, b in pairwise(levels)):
            plans.append(plan)
    return plans


PLANS = each_plan()
SHARES = st.lists(st.one_of(st.sampled_from([0.0, 1.0, 1e-9]), st.floats(0, 1)), min_size=CALLS - 1, max_size=CALLS - 1)


def states_of_a_point(plan: Plan) -> list[np.ndarray]:
    """Each state's weights on the point y, the starting noise and the noise of each row, where the network predicts y."""
    n = len(plan.rows)
    y, noises = np.eye(n + 2)[0], np.eye(n + 2)[2:]
    states, outputs = [float(plan.start.scale) * np.eye(n + 2)[1] + (1 - float(plan.start.scale)) * y], []
    for k, row in enumerate(plan.rows):
        tau = float(row.tau)
        outputs.append((states[k] - (1 - tau) * y) / tau - y)
        moved = sum(float(w) * states[j] for j, w in (row.a or {k: 1.0}).items())
        moved = moved + sum(float(w) * outputs[j] for j, w in row.b.items())
        states.append(moved + float(row.noise) * noises[k])
    return states


@given(st.sampled_from(PLANS), SHARES)
@settings(max_examples=60, deadline=None)
def test_a_point_mass_keeps_its_law_at_every_level(plan: Plan, shares: list[float]) -> None:
    """Mean (1 - tau) y, and noise of deviation tau, a share of it drawn by the row."""
    noisy = with_noise(plan, shares)
    for k, (state, tau) in enumerate(zip(states_of_a_point(noisy)[1:], noisy.levels[1:], strict=True)):
        level = float(tau)
        assert state[0] == pytest.approx(1 - level, abs=1e-9)
        assert np.linalg.norm(state[1:]) == pytest.approx(level, abs=1e-9)
        if k < len(shares):
            assert state[2 + k] ** 2 == pytest.approx(shares[k] * level**2, abs=1e-12)


@given(st.sampled_from(PLANS), st.integers(0, CALLS - 2), st.floats(1e-6, 1))
@settings(max_examples=30, deadline=None)
def test_a_share_of_0_is_the_deterministic_row_to_the_bit(plan: Plan, first: int, share: float) -> None:
    assert with_noise(plan, 0.0) is plan
    shares = [0.0] * first + [share] + [0.0] * (CALLS - 2 - first)
    assert with_noise(plan, shares).rows[:first] == plan.rows[:first]


def test_first_order_rows_are_ancestral_at_the_posteriors_share() -> None:
    """DDIM whose noise is kept as s' / s is DDPM's posterior (Song et al. 2021, eta = 1)."""
    plan, ancestral = (fewer.standard(name, MODEL, CALLS, "logsnr") for name in ("ddim", "ancestral"))
    s = [s_of_tau(float(row.tau)) for row in plan.rows]
    noisy = with_noise(plan, [1 - (b / a) ** 2 for a, b in pairwise(s)])
    for row, own in zip(noisy.rows, ancestral.rows, strict=True):
        assert row.tau == own.tau
        assert (row.a or {}) == pytest.approx(own.a or {}, abs=1e-12)
        assert row.b == pytest.approx(own.b, abs=1e-12)
        assert row.noise == pytest.approx(own.noise, abs=1e-12)


def test_noise_of_free_steps_and_offsets_is_the_rows_own_at_0() -> None:
    """Steps whose states are weighed, and shifted, go on as they did after rows without noise."""
    plan = fewer.standard("dpmpp-3m", MODEL, CALLS, "logsnr")
    rows = tuple(replace(row, a={n: 1.02}, offset=0.01 * n) for n, row in enumerate(plan.rows))
    free = replace(plan, rows=rows)
    noisy = with_noise(free, [0, 0, 0.2, 0, 0])
    assert noisy.rows[:2] == free.rows[:2]
    assert noisy.rows[2].noise > 0
    tiny = with_noise(free, [0, 0, 1e-14, 0, 0])
    x, z = (fewer.sample(MODEL, each, n=16, seed=3) for each in (free, tiny))
    assert torch.allclose(x, z, atol=1e-4)


def test_a_noisy_plan_is_a_plan(tmp_path: Path) -> None:
    """It goes through its file, and sample i of a seed is the same in any batch."""
    plan = with_noise(fewer.standard("unipc", MODEL, CALLS, "logsnr"), 0.3)
    plan.check(MODEL.shape)
    assert plan.stochastic
    assert Plan.load(plan.save(tmp_path / "plan.json")).rows == plan.rows
    together = fewer.sample(MODEL, plan, n=9, seed=5, batch=9)
    apart = fewer.sample(MODEL, plan, n=9, seed=5, batch=2)
    assert torch.allclose(together, apart, atol=1e-5)
    assert not torch.allclose(together, fewer.sample(MODEL, plan, n=9, seed=6), atol=0.1)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (1.5, r"row 0 is 1.5; expected a number in \[0, 1\]"),
        ([0, -0.1, 0, 0, 0], "row 1 is -0.1"),
        (float("nan"), "row 0 is nan"),
        ([0.1, 0.2], "has 2 numbers; plan .* takes 5"),
        ([0, 0, 0, 0, 0, 0.5], "row 5 is 0.5; it ends at level 0"),
        ("much", "expected numbers"),
    ],
)
def test_shares_that_make_no_sense_are_refused(share: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_noise(fewer.standard("ddim", MODEL, CALLS, "logsnr"), share)  # type: ignore[arg-type]


def test_plans_without_room_for_noise_are_refused() -> None:
    with pytest.raises(InputError, match="adds noise already"):
        with_noise(fewer.standard("ancestral", MODEL, CALLS, "logsnr"), 0.1)
    with pytest.raises(InputError, match="its level does not fall"):
        with_noise(fewer.standard("heun", MODEL, CALLS, "logsnr"), 0.1)
    assert noisy_rows(fewer.standard("ddim", MODEL, CALLS, "logsnr")) == CALLS - 1


@pytest.mark.parametrize(
    ("share", "says"),
    [
        ("1.5", "--noise-share is '1.5'; expected shares from 0 to 1"),
        ("0.1,-1,0", "expected shares from 0 to 1"),
        ("nan", "expected shares from 0 to 1"),
        ("0.1,0.1", "noise share has 2 numbers"),
    ],
)
def test_a_command_refuses_shares_in_one_line(
    share: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refused(f"sample mixture16 --nfe 4 -n 1 --noise-share={share} --out {{out}}", says, tmp_path, capsys)


def test_a_command_draws_with_noise(tmp_path: Path) -> None:
    """Without a share the samples are the plan's own; with one they are those of the plan with noise."""
    made = {}
    for name, options in {"none": [], "zero": ["--noise-share", "0"], "noisy": ["--noise-share", "0.5"]}.items():
        command = ["sample", "mixture16", "--nfe", "3", "-n", "2", "--format", "npz", "--out", str(tmp_path / name)]
        assert run([*command, *options]) == 0
        made[name] = np.load(tmp_path / name / "samples.npz")["x"]
    assert (made["none"] == made["zero"]).all()
    model = fewer.load("mixture16")
    plan = with_noise(fewer.standard("dpmpp-2m", model, 3, "logsnr"), 0.5)
    assert np.allclose(made["noisy"], fewer.sample(model, plan, n=2).numpy(), atol=1e-5)
