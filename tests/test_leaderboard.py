"""The leaderboard on toy sizes, without k_diffusion."""

import json
import math
import sys
import xml.etree.ElementTree as ET

import pytest
import torch

import fewer
from benchmarks.leaderboard import board, command
from benchmarks.leaderboard.board import Board, Request, score
from benchmarks.leaderboard.chart import draw
from benchmarks.leaderboard.field import Endpoints, Standing, diffusers_field, plan_field, run
from benchmarks.leaderboard.k_diffusion_run import usable
from benchmarks.leaderboard.k_diffusion_side import Denoiser, _player, ends
from benchmarks.leaderboard.models import MODELS, build, ill_conditioned
from benchmarks.leaderboard.render import page
from fewer.evaluate.reference import Reference
from fewer.evaluate.statistics import paired

TOY = Request(noises=16, screen=8, keep=2)
NAME = "mixture-2d"


@pytest.fixture(scope="module")
def model():
    """The smallest model."""
    return build(NAME)


def measured(path, model, budgets=(2, 3), request=TOY):
    """The rows that a run writes."""
    found = list(score(Board(path), NAME, "toy", model, budgets, request, lambda line: None))
    return found, Board(path).models


@pytest.fixture(scope="module")
def models(tmp_path_factory, model):
    """A finished board."""
    return measured(tmp_path_factory.mktemp("board"), model)[1]


@pytest.mark.parametrize("name", ["mixture-2d", "ill-conditioned", "flow-mixture"])
def test_k_diffusion_is_given_the_exact_denoiser(name):
    model = build(name)
    x = torch.randn(5, *model.shape, generator=torch.Generator().manual_seed(0))
    for sigma in (0.05, 0.7, 9.0):
        denoiser = Denoiser(model, None)
        given = denoiser(x * (1 + sigma), torch.full((5,), sigma))
        exact = model.exact.denoise(x.double(), sigma / (1 + sigma))
        assert torch.allclose(given.double(), exact, atol=2e-4)
        assert denoiser.calls == 1


@pytest.mark.parametrize("name", MODELS)
def test_levels_given_to_k_diffusion_are_trained_ones(name):
    model = build(name)
    low, top = ends(model)
    assert 0 < low < top < math.inf
    assert low / (1 + low) == pytest.approx(model.schedule.tau_min)
    assert top / (1 + top) <= model.schedule.tau_max


def test_a_sampler_of_too_many_calls_is_found_out(model):
    def two_calls(denoiser, noise):
        return denoiser(denoiser(noise, torch.ones(len(noise))), torch.ones(len(noise)))

    noise = torch.randn(3, *model.shape)
    assert _player(model, 2, two_calls)(noise, None).shape == noise.shape
    with pytest.raises(AssertionError, match="took 2"):
        _player(model, 1, two_calls)(noise, None)


def test_schedulers_of_either_convention_start_from_the_same_state(model):
    """DDIM and Euler are one method in two coordinates, so from one state they end in one sample.

    In 5 steps: DDIM rounds the step of its times down, so that 1000 has to be divisible.
    """
    noise = torch.randn(32, *model.shape, generator=torch.Generator().manual_seed(0))
    field = diffusers_field(model, 5)
    ddim, euler = (field[f"{name} trailing"](noise, None) for name in ("DDIM", "Euler"))
    ours = plan_field(model, [fewer.standard("ddim", model, 5, "trailing")])["ddim trailing"](noise, None)
    assert torch.allclose(ddim, euler, atol=1e-3)
    assert torch.allclose(ddim, ours, atol=1e-3)


def test_the_condition_number_is_what_the_page_says():
    variances = ill_conditioned().variances
    assert torch.allclose(variances.amax(1) / variances.amin(1), torch.tensor(1e4, dtype=torch.float64))


def test_a_field_is_screened_and_what_cannot_run_is_left_out():
    target = torch.zeros(20, 1)
    played = []

    def player(name, error):
        def play(noise, labels):
            played.append((name, len(noise)))
            if error is None:
                raise ValueError("so few steps cannot be")
            return torch.full_like(noise, error)

        return play

    given = {"far": 3.0, "near": 1.0, "middle": 2.0, "never": None, "blown up": math.inf}
    field = {name: player(name, error) for name, error in given.items()}
    standing = run(field, target, None, target, screen=8, keep=2)
    assert standing.screened == pytest.approx({"far": 3.0, "near": 1.0, "middle": 2.0})
    assert list(standing.ranked) == ["near", "middle"]
    assert standing.best == "near"
    assert [name for name, n in played if n == 20] == ["near", "middle"]
    everything = run(field, target, None, target, screen=20, keep=2)
    assert list(everything.ranked) == ["near", "middle", "far"]


def test_the_best_is_typically_nearest_and_not_by_one_sample_that_ends_elsewhere():
    """Of two samplers one is nearer in all samples but one, which the other's mean of squares is far below."""
    near, far = torch.full((64,), 0.01), torch.full((64,), 0.04)
    near[5] = 100.0
    apart = torch.arange(64) == 5
    nowhere = torch.zeros(64, dtype=torch.bool)
    standing = Standing({}, {"far": Endpoints(far, nowhere), "near": Endpoints(near, apart)})
    assert standing.best == "near"
    found = standing.ends["near"].against(standing.ends["far"])
    assert found["error"]["value"] == pytest.approx(0.5)
    assert found["error"]["n"] == 63
    assert found["elsewhere"]["value"] == pytest.approx(1 / 64)
    assert found["rmse"]["value"] > 1
    assert found["decision"] == "cannot tell"  # one of 64 may be more than 5 %, or not
    assert near.median() < far.median()


@pytest.mark.parametrize("known", [True, False])
def test_a_standing_survives_its_file(tmp_path, known):
    """With and without known modes, and with names of several words."""
    ends = Endpoints(torch.rand(9).double(), torch.rand(9) > 0.5 if known else None)
    standing = Standing({"apart errors a": 0.5, "b": 1.0}, {"apart errors a": ends})
    standing.save(tmp_path / "standing.safetensors")
    again = Standing.load(tmp_path / "standing.safetensors")
    assert again.screened == standing.screened
    assert again.to_dict() == standing.to_dict()


@pytest.mark.slow
def test_rows_are_compared_with_the_best_setting(models):
    for row in models[NAME]["rows"].values():
        found = row["standard"]["against diffusers"]
        assert found["rmse"]["value"] == pytest.approx(
            row["standard"]["rmse"]["value"] / row["diffusers"]["rmse"]["value"]
        )
        shares = [row[library]["elsewhere"]["value"] for library in ("standard", "diffusers")]
        assert found["elsewhere"]["value"] == pytest.approx(shares[0] - shares[1])
        assert found["decision"] in ("better", "not worse", "worse", "cannot tell")
        for library in ("diffusers", "standard"):
            on_all = row[library]["on all noises"]
            assert row[library]["typical error"]["value"] == pytest.approx(min(on_all.values()))
            assert next(iter(on_all)) == row[library]["best"]
            assert len(on_all) == TOY.keep
        assert row["reference"]["error"] < 0.1 * row["standard"]["rmse"]["value"]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_gives_the_same_rows(tmp_path, model, models, monkeypatch):
    path, whole = tmp_path, board._row

    def interrupted(model, nfe, *rest):
        if nfe == 3:
            raise KeyboardInterrupt
        return whole(model, nfe, *rest)

    monkeypatch.setattr(board, "_row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(path, model)
    assert set(Board(path).models[NAME]["rows"]) == {"2"}

    seen = []
    monkeypatch.setattr(board, "_row", lambda model, nfe, *rest: seen.append(nfe) or whole(model, nfe, *rest))
    assert measured(path, model) == ([2, 3], models)
    assert seen == [3]
    assert measured(path, model) == ([2, 3], models)
    assert seen == [3]


def test_rows_measured_otherwise_are_measured_again(model, models, tmp_path, monkeypatch):
    path = tmp_path
    (path / f"{NAME}.json").write_text(json.dumps(models[NAME]))
    seen = []
    monkeypatch.setattr(board, "_row", lambda model, nfe, *rest: seen.append(nfe) or {"asked": {}})
    monkeypatch.setattr(board, "reference", lambda model, noise, *rest: Reference(noise, 1, 1, 0.1, 1, 1))
    measured(path, model, (2,), Request(noises=20, screen=8, keep=2))
    measured(path, model, (3,), Request(noises=16, screen=8, keep=2, tuned=(3,)))
    assert seen == [2, 3]


@pytest.mark.slow
def test_a_tuned_plan_is_scored_on_the_same_noises(tmp_path, model):
    row = measured(tmp_path, model, (4,), Request(16, 8, 2, tuned=(4,), evaluations=5000))[1][NAME]["rows"]["4"]
    tuned = row["tuned"]
    value = tuned["rmse"]["value"] / row["diffusers"]["rmse"]["value"]
    assert tuned["against diffusers"]["rmse"]["value"] == pytest.approx(value)
    assert tuned["rmse"]["n"] == 16


def test_the_page_has_a_full_table_and_says_what_is_missing(models):
    text = page(models, "plot.svg")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 2
    assert f"k-diffusion is missing from: {NAME}." in text
    assert str(paired.Interval.from_dict(models[NAME]["rows"]["2"]["diffusers"]["typical error"])) in text


def test_better_is_bold_and_what_is_not_better_is_told(models):
    changed = json.loads(json.dumps(models))
    for nfe, decision in (("2", "better"), ("3", "cannot tell")):
        changed[NAME]["rows"][nfe]["standard"]["against diffusers"]["decision"] = decision
    assert "No plan was searched." in page(models, "plot.svg")
    text = page(changed, "plot.svg")
    assert text.count("**better**") == 1
    told = [line for line in text.splitlines() if line.startswith(f"- {NAME}")]
    assert len(told) == 1
    assert told[0].startswith(f"- {NAME}, 3 calls: the best standard plan is not told from")


@pytest.mark.parametrize(("error", "elsewhere", "worse"), [(1.1, 0.1, True), (1.1, -0.1, False), (0.9, 0.1, False)])
def test_the_page_names_what_is_worse_by_both_figures(models, error, elsewhere, worse):
    changed = json.loads(json.dumps(models))
    row = changed[NAME]["rows"]["3"]
    row["tuned"] = {**row["standard"], "recommended": "tuned"}
    for figure, value in (("error", error), ("elsewhere", elsewhere)):
        row["tuned"]["against diffusers"][figure] = {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 16}
    assert (f"by both: {NAME} at 3 calls." in page(changed, "plot.svg")) == worse


def by_rmse(row):
    """A row as it was before settings were judged by two figures."""
    request = {key: value for key, value in row["asked"].items() if key != "by"}
    old = {"asked": request, "reference": row["reference"]}
    for library in ("diffusers", "standard"):
        kept = {key: row[library][key] for key in ("best", "rmse", "on all noises", "on the few")}
        old[library] = kept if library == "diffusers" else kept | {"ratio to diffusers": row[library]["rmse"]}
    return old


def test_rows_by_rmse_alone_stay_until_they_are_measured_again_and_are_marked(models, model, tmp_path, monkeypatch):
    entry = {**models[NAME], "rows": {nfe: by_rmse(row) for nfe, row in models[NAME]["rows"].items()}}
    (tmp_path / f"{NAME}.json").write_text(json.dumps(entry))
    monkeypatch.setattr(board, "_row", lambda model, nfe, *rest: dict(models[NAME]["rows"][str(nfe)]))
    monkeypatch.setattr(board, "reference", lambda model, noise, *rest: Reference(noise, 1, 1, 0.1, 1, 1))
    mixed = measured(tmp_path, model, (2,))[1]
    text = page(mixed, "plot.svg")
    marked = [line for line in text.splitlines() if "by RMSE alone:" in line]
    assert [line.split(" | ")[0] for line in marked if line.startswith("|")] == ["| 3"]
    told = [line for line in text.splitlines() if line.startswith(f"- {NAME}, 3 calls")]
    assert len(told) == (mixed[NAME]["rows"]["3"]["standard"]["ratio to diffusers"]["high"] >= 1)
    assert draw(mixed).count('class="whisker"') == 2
    again = measured(tmp_path, model, (2, 3))[1]
    assert "by RMSE alone:" not in page(again, "plot.svg")


@pytest.mark.slow
def test_the_command_writes_results_page_and_plot(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "QUICK", Request(noises=8, screen=8, keep=2))
    results, out = tmp_path / "results", tmp_path / "page.md"
    told = ["--quick", "--models", NAME, "--nfe", "2", "--tune", "", "--results", str(results), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["leaderboard", *told])
    command.main()
    assert "without k_diffusion: no environment given" in capsys.readouterr().err
    assert set(json.loads((results / f"{NAME}.json").read_text())["rows"]) == {"2"}
    assert out.read_text().startswith("# Leaderboard")
    svg = out.with_suffix(".svg").read_text()
    root = ET.fromstring(svg)
    assert "prefers-color-scheme:dark" in svg
    whiskers = root.findall(".//{*}line[@class='whisker']")
    assert len(whiskers) == 2  # diffusers and the standard plans
    assert all(0 <= float(line.get(end)) < 300 for line in whiskers for end in ("y1", "y2"))


def test_an_unknown_model_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["leaderboard", "--models", "digitz"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "digitz" in capsys.readouterr().err


def test_an_environment_that_is_none_is_said_to_be_none(tmp_path):
    assert "python -m benchmarks.leaderboard.environment" in usable(None)
    assert "no virtual environment" in usable(tmp_path)
