"""The frame of a model's end above the data: levels, grids and solvers in it are those of the model's own frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewer.errors import InputError
from fewer.grids import Range, levels
from fewer.models.ending import Ended, named
from fewer.models.schedules import Flow, Schedule, betas, discrete
from fewer.plan import Plan
from fewer.registry import find, parts
from fewer.solvers import compile_as_given, compile_plan
from fewer.solvers.trace import Level

END, ROWS = 0.4, 4
OWN: dict[str, Schedule] = {"discrete": discrete(betas("scaled_linear")), "flow": Flow()}
SOLVERS = ("ddim", "dpmpp-2m", "unipc", "deis", "ipndm", "dpmpp-2m-sde", "euler-ancestral")


@pytest.fixture(params=OWN)
def ended(request: pytest.FixtureRequest) -> Ended:
    own = OWN[request.param]
    return Ended(own, END, own.tau_max)


def test_levels_and_times_go_there_and_back(ended: Ended) -> None:
    tau = torch.linspace(END, ended.start, 9, dtype=torch.float64)
    inside = ended.counted(tau)
    assert float(inside[0]) == 0
    assert float(inside[-1]) == pytest.approx(ended.tau_max)
    torch.testing.assert_close(ended.named(inside), tau)
    torch.testing.assert_close(ended.time(inside), ended.own.time(tau))
    torch.testing.assert_close(ended.tau(ended.own.time(tau)), inside, atol=1e-9, rtol=1e-9)


def test_a_straight_path_is_straight_in_it(ended: Ended) -> None:
    """x = (1 - tau) D + tau eps is (1 - tau') y + tau' eps with y the state at the end."""
    data, noise = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = (1 - END) * data + END * noise
    for tau in (0.5, 0.7, 0.95):
        inside = ended.counted(tau)
        torch.testing.assert_close((1 - inside) * y + inside * noise, (1 - tau) * data + tau * noise)


@pytest.mark.parametrize("grid", [grid.name for grid in parts("grids") if grid.ranked])
def test_grids_make_no_call_at_the_end(grid: str, ended: Ended) -> None:
    """From the start down, as they are spaced in the network's own frame over the levels above the end."""
    found = levels(grid, Range(ended, ended.tau_max), ROWS)
    assert len(found) == ROWS
    assert 0 < found[-1] < found[0] <= ended.tau_max + 1e-9
    if grid == "uniform":
        own = np.linspace(float(ended.own.time(ended.start)), float(ended.own.time(END)), ROWS + 1)[:-1]
        np.testing.assert_allclose([float(ended.time(tau)) for tau in found], own, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_are_what_they_are_called(solver: str, ended: Ended) -> None:
    made = find("solvers", solver).make()
    taus = [ended.start, 0.8, 0.6, 0.5]
    own = compile_as_given(made, [Level(tau, ended.own) for tau in taus], ROWS, end=END)
    plan = named(ended, compile_plan(made, [Level(float(ended.counted(tau)), ended) for tau in taus], ROWS))
    assert float(plan.end) == pytest.approx(END)
    assert table(plan) == pytest.approx(table(own), abs=1e-12)
    assert (plan.start.tau, plan.start.scale) == pytest.approx((ended.start, ended.start))


def table(plan: Plan) -> list[float]:
    rows = [[row.tau, row.noise, *row.b.values(), *(row.a or {}).values()] for row in plan.rows]
    return [float(number) for row in rows for number in row]


def test_a_last_step_of_one_call_that_goes_to_the_data_alone_is_refused(ended: Ended) -> None:
    with pytest.raises(InputError, match="solver heun makes its last step by one call to the data alone"):
        compile_plan(find("solvers", "heun").make(), [Level(0.9, ended), Level(0.5, ended)], 3)
