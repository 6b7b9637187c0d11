"""Models from functions: a denoiser on every kind of schedule, and what `package.module:function` may give."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fewer
from fewer.errors import ForeignError, InputError
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete


def test_from_denoiser_on_every_kind_of_schedule() -> None:
    """The exact denoiser of N(0, 1) data: D = alpha x / (alpha^2 + sigma^2) leaves each sample's flow a scaling."""
    vp = discrete(betas("linear"), name="linear")

    def at(schedule: Any) -> Any:
        def denoise(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            tau = schedule.tau(t.double())[0]
            c = float(schedule.scale(tau))
            alpha, sigma = c * (1 - float(tau)), c * float(tau)
            return alpha * x / (alpha**2 + sigma**2)

        return denoise

    for schedule in (VarianceExploding(0.002, 80.0), VarianceExploding(0.002, 80.0, "quarter-log"), Flow(), vp):
        model = fewer.Model.from_denoiser(at(schedule), schedule, (1, 2, 2))
        noise = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        # of the state (1 - tau) D + tau eps the deviation is sqrt((1 - tau)^2 + tau^2), and it starts from tau_0 z
        tau = model.start
        expected = noise * tau / math.hypot(tau, 1 - tau)
        found = fewer.sample(model, fewer.standard("dpmpp-3m", model, 200, "logsnr"), noise=noise)
        torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


MODULE = """
import fewer, torch
from fewer.models.schedules import Flow

def good():
    return fewer.Model.from_denoiser(lambda x, t, y: 0.5 * x, Flow(), (1, 4, 4), name="good")

def number():
    return 3

def broken():
    raise ZeroDivisionError("of the user")
"""


def test_a_function_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    assert fewer.load("models_of_mine:good").name == "good"
    for name, says in (
        ("models_of_mine:number", "returned int; expected a fewer.Model"),
        ("models_of_mine:missing", "raised AttributeError"),
        ("no_such_module:good", "raised ModuleNotFoundError"),
    ):
        with pytest.raises(InputError, match=says):
            fewer.load(name)
    with pytest.raises(ForeignError, match="'models_of_mine:broken' raised ZeroDivisionError: of the user"):
        fewer.load("models_of_mine:broken")
    with pytest.raises(InputError, match="empty label was given for good, which has no classes"):
        fewer.load("models_of_mine:good", empty_label=3)
    sys.modules.pop("models_of_mine")
