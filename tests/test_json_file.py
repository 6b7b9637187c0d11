"""`--json FILE` of every command: named beforehand like its other files, and never in the place of one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_networks import folder as saved

import fewer
from fewer.cli import commands
from fewer.cli.json_output import apart
from fewer.cli.main import app, run
from fewer.errors import InputError
from fewer.testing.models import transformer

MODELS = """
import fewer
from fewer.models.schedules import Flow

def image():
    mixture = fewer.GaussianMixture.random((1, 4, 4), 2, seed=0, classes=2)
    return fewer.Model.from_mixture(mixture, Flow(), conditional=True, name="image", hash="image")

def windows():
    mixture = fewer.GaussianMixture.random((6, 2), 2, seed=0)
    return fewer.Model.from_mixture(mixture, Flow(), name="windows", hash="windows")
"""
GROUP: Any = typer.main.get_command(app)
DRY = {  # where a command has several ways to its files, each of them
    "tune": ["tune json_models:image --nfe 3", "tune json_models:image --nfe 3 --task denoise --method dps --against dps:4"],
    "sample": [
        "sample json_models:image --nfe 2", "sample light --nfe 2 --uncertainty",
        "sample json_models:image --nfe 2 --measurement y.npy --task denoise --method dps",
        "sample json_models:image --gate gate", "sample json_models:image --gate gate --improve --force",
    ],
    "edit": ["edit json_models:image one.png --to 1 --nfe 2"],
    "forecast": ["forecast json_models:windows --past past.npy"],
    "gate": ["gate json_models:image --cheap 2 --dear 6 --error 0.2"],
    "compress": ["compress light --macs 0.8 --noises 64", "compress light --bits 8 --noises 64"],
    "compare": ["compare json_models:image --nfe 2"],
    "inspect": ["inspect json_models:image"],
    "claims": ["claims ddim"],
}  # fmt: skip
PLACES = {  # files that are written besides, below --out or by --html
    **{line: "*.png" for name in ("sample", "edit") for line in DRY[name]},
    DRY["tune"][0]: "plan.json", DRY["tune"][1]: "baseline.json", DRY["forecast"][0]: "forecast.npz", DRY["gate"][0]: "cheap.json",
    **dict.fromkeys(DRY["compress"], "fewer.json"), "judge one.png one.png": "report.html",
}  # fmt: skip


def options(name: str) -> set[str]:
    """The long options of a command."""
    return {option for parameter in GROUP.commands[name].params for option in parameter.opts}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("json")
    (made / "json_models.py").write_text(MODELS)
    np.save(made / "y.npy", np.zeros((1, 4, 4), np.float32))
    np.save(made / "past.npy", np.zeros((3, 2), np.float32))
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(made / "one.png")
    saved(made / "light", transformer(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.syspath_prepend(str(made))
        patch.delitem(sys.modules, "json_models", raising=False)
        model = fewer.load("json_models:image")
        plans = [fewer.standard("ddim", model, calls) for calls in (2, 6)]
        fewer.gate(model, *plans, error=1.0, share=0.5, confidence=0.5, noises=16).save(made / "gate")
        yield made


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in str(path)}


def test_every_command_with_a_dry_run_and_a_json_file_is_among_these() -> None:
    assert set(DRY) == {name for name in commands.COMMANDS if {"--json", "--dry-run"} <= options(name)}
    besides = {name for name in commands.COMMANDS if "--json" in options(name) and {"--out", "--html"} & options(name)}
    assert {line.split()[0] for line in PLACES} | {"diff"} == besides


@pytest.mark.parametrize("line", [line for lines in DRY.values() for line in lines])
def test_a_dry_run_names_the_json_file_among_what_it_would_write(
    folder: Path, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    before = files(folder)
    out = ["--out", "light-out"] if line.startswith("compress") else []
    last = []
    for target in ([], ["--json", "-"], ["--json", "told.json"]):
        assert run([*line.split(), *out, *target, "--dry-run"]) == 0
        last.append(capfd.readouterr().out.splitlines()[-1])
    without, stdout, named = (each.removeprefix("would write ").split(", ") for each in last)
    assert without == stdout
    assert named == [*(without if without != ["nothing"] else []), "told.json"]
    assert files(folder) == before


@pytest.mark.parametrize("line", PLACES)
def test_json_never_takes_the_place_of_what_else_is_written(
    folder: Path, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    """Neither that of a file, nor that of the folder of one, nor a place below one."""
    before, other = files(folder), PLACES[line].replace("*", "00000")
    for wrong in ("made/out", "made", f"made/../made/out/{other}", f"made/out/{other}/told.json"):
        assert run([*line.split(), "--out", "made/out", "--json", wrong]) == 2
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert "is in the place of" in said
        assert files(folder) == before


def test_json_never_takes_the_place_of_a_page(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan = str(folder / "gate" / "cheap.json")
    before = files(folder)
    for line in (["diff", plan, plan], ["judge", "one.png", "one.png"]):
        for html in ("page", "page/below.html"):
            assert run([*line, "--html", html, "--json", "page"]) == 2
            assert "is in the place of" in capfd.readouterr().err
    assert files(folder) == before


@pytest.mark.parametrize(
    ("line", "name"),
    [
        *((DRY["tune"][k], name) for k in (0, 1) for name in ("results.json", "told.json")),
        *((line, name) for line in DRY["compress"] for name in ("evidence.json", "told.json")),
    ],
)
def test_json_may_lie_in_the_folder_of_a_command(
    folder: Path, capfd: pytest.CaptureFixture[str], line: str, name: str
) -> None:
    """The file that has the same content anyway may be named, too."""
    assert run([*line.split(), "--out", "made/out", "--json", f"made/out/{name}", "--dry-run"]) == 0
    assert f"made/out/{name}" in capfd.readouterr().out


@pytest.mark.parametrize("file", ["front/3.json", "front"])
def test_json_never_takes_the_place_of_a_plan_of_the_front(
    folder: Path, capfd: pytest.CaptureFixture[str], file: str
) -> None:
    assert run([*DRY["tune"][0].split(), "--out", "made/out", "--json", f"made/out/{file}"]) == 2
    assert "is in the place of made/out/front" in capfd.readouterr().err


@given(st.text("ab[]?!", min_size=1, max_size=6), st.text("ab[]?!", min_size=1, max_size=6))
def test_any_name_is_in_its_own_place(name: str, other: str) -> None:
    """And in no other, though it holds what a pattern would."""
    with pytest.raises(InputError, match="in the place of"):
        apart(Path(name), Path(name))
    if name != other:
        apart(Path(name), Path(other))
