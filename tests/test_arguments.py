"""What the public functions take: what plainly stands for an argument is taken, everything else is told in one line."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fewer
from fewer.errors import ForeignError, InputError
from fewer.grids import Levels, Range

MODEL = fewer.load("mixture16")
DIGITS = fewer.load("digits")
PLAN = fewer.standard("ddim", MODEL, 2)
NOISE = torch.zeros(2, *MODEL.shape)
NO_COUNT = ("4", 4.5, 0, -1, True, math.nan, math.inf, [4], {})
NO_NUMBER = ("x", math.nan, math.inf, True, [3], {})


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    return PLAN.save(tmp_path / "plan.json")


@pytest.mark.usefixtures("few_standards")
def test_names_files_and_numbers_stand_for_what_they_name(plan_file: Path) -> None:
    expected = fewer.sample(MODEL, PLAN, n=2)
    for made in (
        fewer.sample("mixture16", PLAN, n=2), fewer.sample(MODEL, plan_file, n=2), fewer.sample(MODEL, str(plan_file), n=2.0),
        fewer.sample(MODEL, PLAN, n=np.int64(2), seed=0.0, batch=np.int32(64)), fewer.sample(MODEL, PLAN, n=torch.tensor(2)),
    ):  # fmt: skip
        assert torch.equal(made, expected)
    assert torch.equal(fewer.sample(MODEL, PLAN, noise=NOISE.numpy()), fewer.sample(MODEL, PLAN, noise=NOISE))
    assert fewer.standard("ddim", "mixture16", 2.0) == PLAN
    assert fewer.Model.from_denoiser(lambda x, t, y: x, MODEL.schedule, [3, 4.0, 4], labels=2.0).shape == (3, 4, 4)
    result = fewer.tune("mixture16", nfe=1.0, keep="guidance,blocks", trials=1, noises=8, fresh=8, evaluations=2500)
    assert result.plan.nfe == 1
    assert fewer.compare("mixture16", 1, plan_file, n=8)["plans"]


def test_a_bare_function_is_a_metric_under_its_own_name() -> None:
    def brightness(samples: torch.Tensor, reference: torch.Tensor) -> float:
        return float(samples.mean())

    score = fewer.measure(MODEL, PLAN, n=16, metric=brightness)
    assert score["brightness"].n == 16


CASES: list[tuple[str, Callable[[Any], Any], tuple[Any, ...]]] = [
    ("n", lambda v: fewer.sample(MODEL, PLAN, n=v), NO_COUNT),
    ("seed", lambda v: fewer.sample(MODEL, PLAN, n=1, seed=v), ("0", 0.5, -1, True, math.nan, None)),
    ("batch", lambda v: fewer.sample(MODEL, PLAN, n=1, batch=v), NO_COUNT),
    ("noise", lambda v: fewer.sample(MODEL, PLAN, noise=v), ("x", 5, {}, [[1, 2]], torch.zeros(2, 3), NOISE.int())),
    ("strength", lambda v: fewer.sample(MODEL, PLAN, init=NOISE, strength=v), (*NO_NUMBER, 0, 1.5, None)),
    ("callback", lambda v: fewer.sample(MODEL, PLAN, n=1, callback=v), (5, "f")),
    ("label", lambda v: fewer.sample(DIGITS, fewer.standard("ddim", DIGITS, 1), 2, labels=v),
     ("x", 1.5, [0, 1, 2], [0.5, 1], {}, -1, 99, True)),
    ("model", lambda v: fewer.sample(v, PLAN, n=1), (5, None, PLAN, torch.nn.Linear(1, 1), ["mixture16"])),
    ("plan", lambda v: fewer.sample(MODEL, v, n=1), (5, None, MODEL, [PLAN], "absent.json", "", ".")),
    ("plan", fewer.Plan.load, (5, None, "absent.json", "a\nb", "\0", ".")),
    ("nfe", lambda v: fewer.standard("ddim", MODEL, v), NO_COUNT),
    ("guidance", lambda v: fewer.standard("ddim", DIGITS, 4, guidance=v), NO_NUMBER),
    ("steps", lambda v: fewer.standard("ddim", MODEL, 2, v), (None, 5, ["a", "b"], (0.5, 0.9), (0.9,))),
    ("schedule", lambda v: fewer.Model.from_denoiser(lambda x, t, y: x, v, (1, 4, 4)),
     ((0.002, 80.0), [0.1, 0.2], "linear", 5, None, type(MODEL.schedule))),
    ("shape", lambda v: fewer.Model.from_denoiser(lambda x, t, y: x, MODEL.schedule, v),
     (8, None, "1,4,4", (), (0, 4), (-1,), (1.5,), ("a",))),
    ("labels", lambda v: fewer.Model.from_denoiser(lambda x, t, y: x, MODEL.schedule, (1, 4, 4), labels=v), NO_COUNT),
    ("fn", lambda v: fewer.Model.from_denoiser(v, MODEL.schedule, (1, 4, 4)), (None, 5, "f")),
    ("name", lambda v: fewer.Model.from_denoiser(lambda x, t, y: x, MODEL.schedule, (1, 4, 4), name=v), (5, "a\nb", "n" * 999)),
    ("device", lambda v: fewer.load("digits", device=v), (None, 5.5, "x", "cuda:99")),
    ("nfe", lambda v: fewer.tune(MODEL, nfe=v), (*(each for each in NO_COUNT if each != [4]), [], [2, "x"], 10**9)),
    ("margin", lambda v: fewer.tune(MODEL, nfe=1, margin=v), (*NO_NUMBER, -1, 10)),
    ("trials", lambda v: fewer.tune(MODEL, nfe=1, trials=v), ("4", 4.5, -1, True)),
    ("time", lambda v: fewer.tune(MODEL, nfe=1, time=v), (*NO_NUMBER, 0, -1)),
    ("keep", lambda v: fewer.tune(MODEL, nfe=1, keep=v), (5, "all", ["all"])),
    ("start_from", lambda v: fewer.tune(MODEL, nfe=1, start_from=v), (5, [5])),
    ("out", lambda v: fewer.tune(MODEL, nfe=1, out=v), (5, "", " ")),
    ("metric", lambda v: fewer.tune(MODEL, nfe=1, metric=v), (5, "x", [len])),
    ("data", lambda v: fewer.measure(MODEL, PLAN, n=8, data=v), (5, "absent", torch.zeros(9, 3), NOISE.int(), {})),
    ("features", lambda v: fewer.measure(MODEL, PLAN, n=8, features=v), (5, "pixels")),
    ("n", lambda v: fewer.measure(MODEL, PLAN, n=v), (*NO_COUNT, 7)),
    ("plans", lambda v: fewer.compare(MODEL, 1, v), (5, [5])),
    ("guidance", lambda v: fewer.compare(MODEL, 1, guidance=v), (*NO_NUMBER, 3)),
    ("plan", lambda v: fewer.apply(v, None), (5, None, object())),
    ("pipe", lambda v: fewer.apply(PLAN, v), (5, None, MODEL)),
    ("pipe", fewer.unapply, (5, None)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "call", "given"),
    [
        pytest.param(name, call, value, id=f"{name}-{type(value).__name__}-{n}")
        for name, call, values in CASES
        for n, value in enumerate(values)
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(name: str, call: Callable[[Any], Any], given: Any) -> None:
    with pytest.raises(InputError, match=name) as told:
        call(given)
    assert str(told.value).isprintable()


@pytest.mark.parametrize("nfe", [1, 5])
def test_a_budget_that_is_a_pass_short_of_guiding_every_row_is_told_of(nfe: int) -> None:
    with pytest.warns(UserWarning, match="without guidance") as told:
        plan = fewer.standard("ddim", DIGITS, nfe, guidance=7.5)
    assert len(told) == 1
    assert plan.rows[-1].passes == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        even = fewer.standard("ddim", DIGITS, nfe + 1, guidance=7.5)
        fewer.standard("ddim", DIGITS, nfe, guidance=1.0)  # which costs one pass
    assert all(row.passes == 2 for row in even.rows)


class Broken:
    """A solver of somebody else's."""

    order = 1

    def steps(self, calls: int) -> int:
        return calls

    def run(self, trace: Any, levels: Any, calls: int) -> Any:
        raise KeyError("gone")


def broken_grid(span: Range, n: int) -> Levels:
    """A grid of somebody else's."""
    raise SystemExit(0)


def test_what_another_packages_part_raises_names_the_part() -> None:
    with pytest.raises(ForeignError, match=r"Broken of \S+ raised KeyError: 'gone'"):
        fewer.standard(Broken(), MODEL, 2, "logsnr")
    with pytest.raises(ForeignError, match=r"broken_grid of \S+ raised SystemExit"):
        fewer.standard("ddim", MODEL, 2, broken_grid)
