"""`fewer sample`: pictures of what are images, arrays of everything else, and JSON that says what was written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import fewer
from fewer.cli import sample_files
from fewer.cli.main import run
from fewer.images import is_sheet

MODELS = """
import fewer
from fewer.models.schedules import Flow

def of(*shape, labels=None):
    return fewer.Model.from_denoiser(lambda x, t, y: 0.5 * x, Flow(), shape, predicts="flow", labels=labels)

def line(): return of(7)
def table(): return of(3, 5)
def channels(): return of(2, 4, 4)
def video(): return of(3, 2, 4, 4)
def classes(): return of(7, labels=3)
def image(): return of(1, 4, 4)
"""
SHAPES = {"line": (7,), "table": (3, 5), "channels": (2, 4, 4), "video": (3, 2, 4, 4), "classes": (7,)}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shapes.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shapes", raising=False)
    return tmp_path


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def shown(here: Path) -> list[str]:
    """The files that the command wrote, but for the hidden one that lists them."""
    return sorted(path.name for path in (here / "fewer-samples").iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_no_image_is_written_as_the_arrays_that_python_gives(
    name: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["sample", f"shapes:{name}", "-n", "5", "--nfe", "2", "--seed", "3"]) == 0
    assert "samples.npz" in capfd.readouterr().out
    assert shown(here) == ["samples.npz"]
    model = fewer.load(f"shapes:{name}")
    found = arrays(here / "fewer-samples" / "samples.npz")
    expected = fewer.sample(model, fewer.standard("dpmpp-2m", model, nfe=2, steps="logsnr"), n=5, seed=3)
    assert found["x"].shape == (5, *SHAPES[name])
    assert np.array_equal(found["x"], expected.numpy())
    assert found["seed"] == 3
    labels = model.labels(5)
    assert ("labels" in found) == (labels is not None)
    if labels is not None:
        assert np.array_equal(found["labels"], labels.numpy())


def test_every_picture_that_is_written_is_a_numbered_sample_or_a_sheet() -> None:
    """So that readers of a folder of samples find the samples alone."""
    pictures = [Path(name) for name in sample_files.names(3) if name.endswith(".png")]
    assert [path.name for path in pictures if not is_sheet(path)] == ["00000.png", "00001.png", "00002.png"]


@pytest.mark.parametrize("form", ["png", "npz", "npy"])
def test_images_are_written_as_asked(form: str, here: Path) -> None:
    assert run(["sample", "shapes:image", "-n", "2", "--nfe", "2", "--format", form]) == 0
    names = {"png": ["00000.png", "00001.png", "grid.png"], "npz": ["samples.npz"], "npy": ["samples.npy"]}
    assert shown(here) == names[form]
    if form == "npy":
        model = fewer.load("shapes:image")
        expected = fewer.sample(model, fewer.standard("dpmpp-2m", model, nfe=2, steps="logsnr"), n=2, seed=0)
        assert np.array_equal(np.load(here / "fewer-samples" / "samples.npy", allow_pickle=False), expected.numpy())


@pytest.mark.parametrize("name", SHAPES)
def test_pictures_of_what_is_no_image_are_refused_before_anything_is_written(
    name: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["sample", f"shapes:{name}", "-n", "2", "--nfe", "2", "--format", "png"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "no images" in line
    assert not (here / "fewer-samples").exists()


@pytest.mark.parametrize("name", ["image", "classes"])
def test_the_json_says_what_was_written_and_how(name: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", f"shapes:{name}", "-n", "4", "--nfe", "3", "--seed", "5", "--json", "-"]) == 0
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert not err
    assert {str(here / file) for file in told["files"]} == {str(here / "fewer-samples" / name) for name in shown(here)}
    assert (told["nfe"], told["n"], told["seed"], told["warnings"]) == (3, 4, 5, [])
    assert told["plan"]
    assert told["labels"] == (None if name == "image" else [0, 1, 2, 0])


def test_the_json_has_the_warnings(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "digits", "-n", "2", "--nfe", "1", "--guidance", "2", "--json", "told.json"]) == 0
    warnings = json.loads((here / "told.json").read_text())["warnings"]
    err = capfd.readouterr().err
    assert warnings
    assert all(warning in err for warning in warnings)


@pytest.mark.usefixtures("few_standards")
def test_tune_writes_the_content_of_results_json(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = ["tune", "shapes:line", "--nfe", "2", "--trials", "1", "--out", "made", "--json", "-"]
    assert run(line) == 0
    assert json.loads(capfd.readouterr().out) == json.loads((here / "made" / "results.json").read_text())
