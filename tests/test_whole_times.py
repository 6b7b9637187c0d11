"""What pipelines are told of times: lists of whole ones, tables of levels by time, and times of other turns."""

from __future__ import annotations

import copy

import diffusers
import pytest
import torch

import fewer
from fewer.errors import InputError
from fewer.integrations.calls import Arguments
from fewer.models.model import Model
from fewer.models.pipelines.cut.stand_in import NotAsked, Stepped
from fewer.models.pipelines.scheduler_config import schedule_of
from fewer.models.pipelines.whole_times import ByTime, WholeTimes

DDIM = diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)


def test_times_told_as_whole_ones_keep_their_fractions() -> None:
    times = WholeTimes.of(torch.tensor([900.25, 500.5, 3.75]))
    assert times.dtype == times[1:].dtype == copy.deepcopy(times).dtype == torch.int64
    assert [float(t) for t in times] == [900.25, 500.5, 3.75]
    assert all(t.dtype == torch.float32 for t in times)
    assert [float(t) for t in times[1:]] == [500.5, 3.75]


def test_a_table_is_read_at_any_time() -> None:
    schedule, _, _ = schedule_of(DDIM)
    table = ByTime.of(DDIM.alphas_cumprod, schedule)
    whole = torch.tensor([0, 17, 500, 999])
    assert torch.allclose(table[whole.float()], DDIM.alphas_cumprod[whole], rtol=1e-4)
    assert float(DDIM.alphas_cumprod[501]) < float(table[torch.tensor(500.5)]) < float(DDIM.alphas_cumprod[500])
    assert type(table[whole]) is type(table + 1) is torch.Tensor
    assert float(copy.deepcopy(table)[torch.tensor(500.5)]) == float(table[torch.tensor(500.5)])


@pytest.mark.parametrize(("kind", "dtype"), [("DDIMScheduler", torch.int64), ("EulerDiscreteScheduler", torch.float32)])
def test_a_plans_times_are_told_as_those_of_the_pipelines_own_scheduler(kind: str, dtype: torch.dtype) -> None:
    own = getattr(diffusers, kind)(beta_schedule="scaled_linear")
    own.set_timesteps(3)
    model = Model(lambda x, t, labels: x, *schedule_of(own)[:2], (1, 4, 4), 1, None)
    mine = fewer.FewerScheduler.from_plan(fewer.standard("euler", model, nfe=3), own)
    mine.set_timesteps(3)
    assert mine.timesteps.dtype == own.timesteps.dtype == dtype


def test_the_time_of_another_turn_is_none_that_is_known() -> None:
    other = torch.empty(()).as_subclass(NotAsked)
    assert torch.tensor(3.0) != other
    assert not torch.eq(torch.tensor(3.0), other)
    told = (other * 1000).expand(2).unsqueeze(-1)
    assert isinstance(told, NotAsked)
    for use in (lambda: told + torch.ones(2, 1), lambda: float(other), lambda: bool(other > 0)):
        with pytest.raises(InputError, match="time of another step"):
            use()


def test_a_steps_output_is_read_by_name_by_place_and_as_a_dictionary() -> None:
    x = torch.ones(1)
    stepped = Stepped(x, x + 1, x + 2)
    assert stepped["prev_sample"] is stepped[0] is stepped.prev_sample
    assert stepped[1:] == (stepped.pred_original_sample, stepped.denoised)


def test_a_run_begun_in_the_middle_begins_at_the_row_of_the_time_that_its_network_is_told() -> None:
    model = Model(lambda x, t, labels: x, *schedule_of(DDIM)[:2], (1, 4, 4), 1, None)
    mine = fewer.FewerScheduler.from_plan(fewer.standard("euler", model, nfe=4), DDIM)
    mine.set_timesteps(4)
    x, third = torch.zeros(1, 1, 4, 4), mine.timesteps[2]
    for given in (Arguments((x, third), {}), Arguments((), {"sample": x, "timestep": third})):
        assert mine.time_of(given.time) is given.time
    assert mine.time_of(Arguments((x,), {}).time) is None
    assert mine.time_of(torch.tensor(0.123)) is None
