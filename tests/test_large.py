"""Larger samples: windows that cover and add up, calls that are counted, models of any kind, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tiny_pipelines as tiny
import torch
from cut_calls import call_of
from small_networks import small_dit, small_unet
from torch import Tensor

import fewer
from fewer import InputError, Model
from fewer.cli.main import run
from fewer.engine import check_fit
from fewer.guidance import guide
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.tasks.large.rolled import LargeNetwork
from fewer.tasks.large.windows import Windows, axis
from fewer.testing.models import counted

SCHEDULE = discrete(betas("linear"))
LAYOUTS: list[dict[str, Any]] = [
    {}, {"overlap": 3}, {"roll": False, "blend": "mean", "overlap": 4}, {"tileable": False},
    {"tileable": (False, True), "overlap": 5},
]  # fmt: skip


def shrunk(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    """The exact data prediction of independent values of unit variance about a mean that is the label's."""
    tau = SCHEDULE.tau(t.double()).view(-1, 1, 1, 1)
    mean = 0.0 if labels is None else 0.5 * labels.double().view(-1, 1, 1, 1)
    state = x.double() / SCHEDULE.scale(tau)
    gain = (1 - tau) / ((1 - tau) ** 2 + tau**2)
    return (mean + gain * (state - (1 - tau) * mean)).to(x.dtype)


def points(shape: tuple[int, ...] = (1, 6, 7), labels: int | None = None) -> Model:
    return Model.from_denoiser(shrunk, SCHEDULE, shape, labels=labels, hash="points")


def layout(model: Model) -> LargeNetwork:
    assert isinstance(model.network, LargeNetwork)
    return model.network


@pytest.mark.parametrize(("size", "overlap"), [(8, 0), (8, 7), (13, 0), (13, 3), (21, 5)])
def test_windows_cover_an_axis_and_add_up(size: int, overlap: int) -> None:
    x = torch.randn(3, 2, size, size + 2, dtype=torch.float64)
    for wraps, offset, tent in product([True, False], [None, *range(0, 40, 3)], [True, False]):
        windows = Windows(tuple(axis(n, 8, overlap, wraps=wraps, offset=offset, tent=tent) for n in (size, size + 2)))
        cut = windows.cut(x)
        assert cut.shape == (3 * windows.number, 2, 8, 8)
        torch.testing.assert_close(windows.joined(cut), x)
        for one in windows.axes:
            assert len(one.places.unique()) == one.size
            gaps = [b - a for a, b in zip(sorted(one.starts), sorted(one.starts)[1:], strict=False)]
            assert all(gap <= 8 - overlap for gap in gaps)
            assert wraps or max(one.starts) + 8 <= one.size


def test_an_axis_that_is_a_whole_number_of_windows_is_cut_edge_to_edge() -> None:
    for offset in (None, 0, 5, 23):
        assert len(axis(24, 8, 0, wraps=True, offset=offset).starts) == 3
    assert axis(24, 8, 0, wraps=False).starts == (0, 8, 16)


def test_windows_move_along_with_the_offset() -> None:
    for tent in (True, False):
        still, moved = (axis(12, 5, 2, wraps=True, offset=o, tent=tent) for o in (0, 4))
        assert torch.equal(moved.places, (still.places + 4) % 12)
        assert torch.equal(moved.weights, still.weights)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_independent_values_are_as_if_the_network_were_larger(layout: dict[str, Any]) -> None:
    larger = fewer.large(points(labels=3), (9, 12), **layout)
    plan = fewer.standard("dpmpp-2m", larger, 4)
    mine = fewer.sample(larger, plan, 5, seed=2, batch=2)
    its = fewer.sample(points((1, 9, 12), labels=3), plan, 5, seed=2)
    torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("plan", ["guided", "ancestral", "heun"])
def test_at_its_own_size_a_model_is_what_it_was(plan: str) -> None:
    model = small_dit()
    rows = guide(fewer.standard("ddim", model, 3), 2.5) if plan == "guided" else fewer.standard(plan, model, 4)
    same = fewer.large(model, (8, 8), roll=False, tileable=False)
    mine, its = (fewer.sample(each, rows, 3, seed=1, labels=[0, 2, 1]) for each in (same, model))
    torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-5)


def test_samples_do_not_depend_on_the_batch() -> None:
    model, plan = small_dit(), guide(fewer.standard("dpmpp-2m", small_dit(), 3), 2.0)
    whole, parts = (
        fewer.sample(fewer.large(model, (12, 16), overlap=2, batch=k), plan, 3, batch=j, labels=[2, 0, 1])
        for k, j in ((64, 3), (5, 1))
    )
    torch.testing.assert_close(whole, parts, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("layout_", LAYOUTS, ids=str)
def test_calls_are_those_promised(layout_: dict[str, Any]) -> None:
    model = small_dit()
    larger = fewer.large(model, (11, 16), batch=7, **layout_)
    plan = guide(fewer.standard("ddim", model, 2), 2.0)
    with counted(model) as calls:
        fewer.sample(larger, plan, 2)
    exact = larger.network.layout.rolled is False or all(larger.network.layout.wraps)  # type: ignore[attr-defined]
    most = 2 * plan.nfe * layout(larger).windows
    assert sum(calls) == most if exact else 0 < sum(calls) <= most
    assert max(calls) <= 7


def test_rolling_keeps_the_edges_apart_from_no_others() -> None:
    """On a ring the network's output moves along with a state that is moved by whole windows, and so fits at its ends."""
    larger = fewer.large(small_unet(), (16, 24), seed=3)
    x = unit_noise(0, range(2), (1, 16, 24))
    t = torch.tensor(300.0)
    moved = larger(x.roll((8, 16), (2, 3)), t, None)
    torch.testing.assert_close(moved, larger(x, t, None).roll((8, 16), (2, 3)), atol=1e-5, rtol=1e-4)


def test_every_time_has_windows_of_its_own_and_keeps_them() -> None:
    network = layout(fewer.large(small_unet(), (16, 24), seed=3)).layout
    starts = {tuple(axis.starts[0] for axis in network.at(float(t)).axes) for t in range(200)}
    assert {a for a, _ in starts} == set(range(16))
    assert {b for _, b in starts} == set(range(24))
    assert network.at(7.0) == network.at(7.0)
    assert [network.at(float(t)) for t in range(8)] != [replace(network, seed=4).at(float(t)) for t in range(8)]


def test_states_at_different_times_in_one_call() -> None:
    larger = fewer.large(small_dit(), (12, 16))
    x, t = unit_noise(0, range(3), (1, 12, 16)), torch.tensor([900.0, 20.0, 900.0])
    labels = torch.tensor([1, 0, 2])
    together = larger.network(x, t, labels)
    for k in range(3):
        alone = larger.network(x[k : k + 1], t[k : k + 1], labels[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4, 5)])
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    model = Model.from_denoiser(lambda x, t, y: 0.5 * x, SCHEDULE, shape)
    size = tuple(2 * n + 1 for n in shape[1:])
    larger = fewer.large(model, size, overlap=1)
    assert fewer.sample(larger, fewer.standard("ddim", larger, 2), 2).shape == (2, shape[0], *size)


@pytest.mark.parametrize("tileable", [True, False])
def test_latents_are_decoded_by_windows(tileable: bool) -> None:
    def decode(latents: Tensor) -> Tensor:
        return latents[:, :3].repeat_interleave(4, 2).repeat_interleave(4, 3)

    model = replace(Model.from_denoiser(lambda x, t, y: 0.5 * x, SCHEDULE, (4, 6, 6)), decode=decode)
    larger = fewer.large(model, (9, 15), tileable=tileable)
    latents = torch.randn(5, 4, 9, 15)
    assert larger.decode is not None
    torch.testing.assert_close(larger.decode(latents), decode(latents))
    broken = fewer.large(replace(model, decode=lambda z: z[:, :3, :5]), (9, 15))
    assert broken.decode is not None
    with pytest.raises(InputError, match="whole number of pixels"):
        broken.decode(latents)


def test_a_pipelines_loop_is_a_network_too() -> None:
    """Where one window alone shows a place, the output is the loop's own of that window."""
    case = tiny.stable_diffusion()
    model = Model.from_pipeline(case.pipe, call_of(case))
    larger = fewer.large(model, (12, 8), roll=False)
    x = unit_noise(0, range(1), (4, 12, 8))
    told = larger.network(x, torch.tensor([500.0]), None if larger.classes is None else torch.tensor([0]))
    top = model(x[:, :, :8], torch.tensor(500.0), None if model.classes is None else torch.tensor([0]))
    torch.testing.assert_close(told[:, :, 2:6], top[:, :, 2:6], atol=1e-4, rtol=1e-4)


def test_loops_over_tokens_are_refused() -> None:
    case = tiny.flux()
    with pytest.raises(InputError, match="tokens"):
        fewer.large(Model.from_pipeline(case.pipe, call_of(case)), (64,))


def test_posteriors_of_larger_samples() -> None:
    """Of independent values of unit variance, half of them measured exactly."""
    larger, y = fewer.large(points((1, 4, 4)), (6, 10)), torch.linspace(-1, 1, 30)
    seen = torch.eye(60)[::2]
    found = fewer.solve(larger, seen, y, plan=12, noise=0.02, n=8, method="mmps")
    torch.testing.assert_close(found.mean.flatten()[::2], y, atol=0.1, rtol=0)


def test_a_plan_of_the_model_is_one_of_the_larger() -> None:
    model = small_dit()
    plan = fewer.standard("ddim", model, 3)
    larger = fewer.large(model, (16, 16))
    assert check_fit(larger, replace(plan, model=model.signature)) is None
    assert larger.hash not in (model.hash, fewer.large(model, (16, 16), overlap=2).hash)
    assert (
        check_fit(
            fewer.large(replace(model, name="other", hash="other", known_as=tuple), (16, 16)),
            replace(plan, model=model.signature),
        )
        is not None
    )


def test_other_networks_and_dtypes_go_along() -> None:
    model = replace(small_dit(), weaker=small_dit(2), others=(small_dit(1),))
    larger = fewer.large(model, (16, 8))
    assert larger.weaker is not None
    assert larger.weaker.shape == larger.others[0].shape == (1, 16, 8)
    double = fewer.large(points(), (9, 12)).to(dtype=torch.float64)
    x = torch.randn(2, 1, 9, 12, dtype=torch.float64)
    assert double(x, torch.tensor(500.0), None).dtype == torch.float64


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (((8,), {}), "expected 2 whole numbers"),
        (("16x16", {}), "expected 2 whole numbers"),
        (((4, 16), {}), "no smaller ones"),
        (((16, 1.5), {}), "a number of size"),
        (((16, 16), {"overlap": 8}), "less than the 8"),
        (((16, 16), {"overlap": -1}), "overlap"),
        (((16, 16), {"blend": "max"}), "tent or mean"),
        (((16, 16), {"roll": 3}), "roll"),
        (((16, 16), {"tileable": (True,)}), "each of 2 axes"),
        (((16, 16), {"tileable": "yes"}), "each of 2 axes"),
        (((16, 16), {"seed": 2**63}), "at most"),
        (((16, 16), {"batch": 0}), "batch"),
    ],
    ids=lambda given: str(given)[:40],
)  # fmt: skip
def test_refused_in_a_line(given: tuple[Any, dict[str, Any]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fewer.large(small_unet(), given[0], **given[1])


def test_samples_without_axes_and_plans_with_blocks_are_refused() -> None:
    with pytest.raises(InputError, match="axes after the channels"):
        fewer.large(Model.from_denoiser(lambda x, t, y: x, SCHEDULE, (4,)), ())
    plan = fewer.standard("ddim", small_dit(), 2)
    skip = replace(plan, rows=(plan.rows[0], replace(plan.rows[1], blocks={"block.0": fewer.Shortcut({0: 1.0})})))
    with pytest.raises(InputError, match="blocks"):
        fewer.sample(fewer.large(small_dit(), (16, 16)), skip, 1)


def test_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = f"sample digits --size 12x20 --nfe 2 -n 2 --out {tmp_path / 'out'} --format npy --json -"
    assert run(asked.split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["windows"] == 6
    assert told["model"]["shape"] == [1, 12, 20]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--size 8", "2 whole numbers"), ("--size 4x4", "no smaller ones"), ("--size x", "such as 64x96"),
        ("--size 16x16 --overlap 8", "less than"), ("--overlap 2", "give --size too"),
        ("--not-tileable", "give --size too"), ("--size 16x16 --uncertainty", "leave out --size"),
        ("--size 16x16 --measurement y.npy", "--size does not go with"), ("--size 16x16 --gate g", "--size goes with a plan"),
    ],
)  # fmt: skip
def test_the_command_refuses(options: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "digits", "-n", "1", "--out", str(tmp_path / "out"), *options.split()]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
