"""Every command that reads images or samples reads what the others write, in each of the forms in which they write it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import fewer
from fewer.cli.main import run
from fewer.images import read_images
from fewer.judging.notes import Notes
from fewer.judging.sources import open_source

MODELS = """
from dataclasses import replace

import fewer
from fewer.models.schedules import Flow
from fewer.testing import models

def image():
    mixture = fewer.GaussianMixture.random((1, 4, 4), 4, seed=1, classes=2)
    model = fewer.Model.from_mixture(mixture, Flow(), conditional=True, name="image", hash="image")
    return replace(model, data_range=(-2.0, 3.0))

def windows():
    mixture = fewer.GaussianMixture.random((6, 2), 2, seed=0)
    return fewer.Model.from_mixture(mixture, Flow(), name="windows", hash="windows")

def latents():
    decode = lambda z: z[:, :3].repeat_interleave(2, 2).repeat_interleave(2, 3)
    model = fewer.Model.from_denoiser(lambda x, t, y: x / 2, Flow(), (4, 4, 4), name="latents", hash="latents")
    return replace(model, decode=decode)

def light(): return models.transformer()
"""
TASK = "--task super-resolution --measurement measured.npy --nfe 2 --method dps"
COMMANDS = {"sample": "sample MODEL -n 16 --nfe 2", "edit": "edit MODEL given --to 1 --nfe 2"}
PRODUCERS = {
    f"{name} as {form}": f"{command} --format {form}"
    for name, command in COMMANDS.items()
    for form in ("png", "npz", "npy")
} | {"sample of a posterior as npz": f"sample MODEL -n 16 {TASK} --format npz"}
CONSUMERS = {
    "edit": "edit MODEL FILES --to 1 --nfe 2",
    "judge": "judge FILES given --data FILES",
    "tune --data": "tune MODEL --nfe 3 --data FILES --dry-run",
    "tune --task --data": "tune MODEL --task super-resolution --nfe 3 --data FILES --method dps --against dps:4 --dry-run",
    "compare --data": "compare MODEL --nfe 2 --data FILES --dry-run",
}


def called(command: str, out: Path, **words: str) -> int:
    """The status of a command, whose results go into a folder of their own."""
    given = [words.get(word, word) for word in command.split()]
    writes = command.split()[0] in ("sample", "edit", "forecast")
    return run([*given, *(["--out", str(out)] if writes else [])])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("between")
    (made / "between.py").write_text(MODELS)
    np.save(made / "measured.npy", np.zeros((1, 2, 2), np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.syspath_prepend(str(made))
        patch.delitem(sys.modules, "between", raising=False)
        assert called(PRODUCERS["sample as png"], made / "given", MODEL="between:image") == 0
        for name, command in PRODUCERS.items():
            assert called(command, made / name, MODEL="between:image") == 0
        yield made


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_what_one_command_writes_another_reads(
    producer: str, consumer: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the folder, and by the file in it where there is one for all."""
    written = folder / producer
    for number, files in enumerate([written, *written.glob("samples.np*")]):
        status = called(CONSUMERS[consumer], tmp_path / str(number), MODEL="between:image", FILES=str(files))
        assert status in ((0, 1) if consumer == "judge" else (0,)), capsys.readouterr().err


def test_all_forms_of_one_sample_are_the_same_pictures(folder: Path) -> None:
    """Also where the model's range is not that of most: samples.npz says its range, and of samples.npy a note is made."""
    notes = Notes()
    png, npz, npy = (open_source(folder / f"sample as {form}", "set", notes) for form in ("png", "npz", "npy"))
    assert png.names == npz.names == npy.names
    for i in range(16):
        assert np.array_equal(png.read(i), npz.read(i))
    assert any("do not say their range" in line for line in map(str, notes.lines()))
    model = fewer.load("between:image")
    x, real, alone = (read_images(folder / f"sample as {form}", model) for form in ("png", "npz", "npy"))
    assert torch.equal(real, alone)
    torch.testing.assert_close(x, real.clamp(-2, 3), atol=5 / 255 / 2 + 1e-6, rtol=0)


def test_black_and_white_of_another_model_are_those_of_the_model_that_reads(folder: Path, tmp_path: Path) -> None:
    """As pictures of both are; where nothing tells the range, samples are taken as they are."""
    model = fewer.load("between:image")
    theirs = 2 * torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(0)) - 1
    np.savez(tmp_path / "x.npz", x=theirs.numpy(), range=np.array([-1.0, 1.0]))
    np.savez(tmp_path / "untold.npz", x=theirs.numpy())
    torch.testing.assert_close(read_images(tmp_path / "x.npz", model), (theirs + 1) / 2 * 5 - 2)
    assert torch.equal(read_images(tmp_path / "untold.npz", model), theirs)


@pytest.mark.parametrize("limits", [[1.0, -1.0], [0.0, np.nan], [], ["a", "b"]], ids=["falls", "nan", "none", "words"])
@pytest.mark.parametrize("consumer", ["edit", "judge"])
def test_a_range_that_is_none_is_one_line(
    limits: list[float], consumer: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((9, 1, 4, 4)), range=np.array(limits))
    command = CONSUMERS[consumer]
    assert called(command, tmp_path / "out", MODEL="between:image", FILES=str(tmp_path / "x.npz")) == 2
    assert "\n" not in capsys.readouterr().err.strip()


@pytest.mark.parametrize("form", ["npz", "npy"])
def test_what_is_no_picture_is_read_as_the_model_makes_it(form: str, folder: Path, tmp_path: Path) -> None:
    """Windows of a series and latents: as data, as pasts to forecast from, and to be edited."""
    for name in ("windows", "latents", "light"):
        out = tmp_path / name
        assert called(f"sample MODEL -n 16 --nfe 2 --format {form}", out, MODEL=f"between:{name}") == 0
        model = fewer.load(f"between:{name}")
        assert read_images(out, model).shape == (16, *model.shape)
    assert (
        called("edit MODEL FILES --nfe 2", tmp_path / "e", MODEL="between:latents", FILES=str(tmp_path / "latents"))
        == 0
    )


def test_samples_are_pasts_and_forecasts_are_gone_on_from(folder: Path, tmp_path: Path) -> None:
    past = np.zeros((3, 2), np.float32)
    np.savez(tmp_path / "samples.npz", x=np.stack([past, past]))
    forecast = "forecast between:windows --past FILES --steps 2 --members 3 --nfe 2"
    assert called(forecast, tmp_path / "one", FILES=str(tmp_path / "samples.npz")) == 0
    np.save(tmp_path / "past.npy", past)
    assert called(forecast, tmp_path / "two", FILES=str(tmp_path / "past.npy")) == 0
    assert called(forecast, tmp_path / "three", FILES=str(tmp_path / "two" / "forecast.npz")) == 0
    with np.load(tmp_path / "three" / "forecast.npz") as found:
        assert found["samples"].shape == (3, 3, 2, 2)  # of each of three draws


@pytest.mark.parametrize("form", ["npz", "npy", "png"])
def test_a_single_sample_is_a_measurement(form: str, folder: Path, tmp_path: Path) -> None:
    """An image that is to be denoised, as sample -n 1 writes it."""
    assert called(f"sample between:image -n 1 --nfe 2 --format {form}", tmp_path / "one") == 0
    file = next(file for file in sorted((tmp_path / "one").iterdir()) if file.suffix == f".{form}")
    denoise = "sample between:image -n 2 --nfe 2 --task denoise --measurement FILES"
    assert called(denoise, tmp_path / "two", FILES=str(file)) == 0


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.full((9, 1, 4, 4), np.nan), "not finite"),
        (np.full((9, 1, 4, 4), 1e300), "not finite"),
        (np.zeros((9, 4, 4, 1)), "shape"),
        (np.zeros((9, 1, 4, 4), np.int64), "int64"),
        (np.zeros((0, 1, 4, 4)), "0"),
        (np.array(["a"]), "no array of numbers"),
    ],
    ids=["nan", "huge", "channels last", "whole numbers", "none", "words"],
)
@pytest.mark.parametrize("suffix", ["npz", "npy"])
@pytest.mark.parametrize("consumer", ["edit", "judge"])
def test_arrays_that_are_no_samples_are_one_line(
    x: np.ndarray,
    says: str,
    suffix: str,
    consumer: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / f"x.{suffix}"
    np.savez(file, x=x) if suffix == "npz" else np.save(file, x)
    assert called(CONSUMERS[consumer], tmp_path / "out", MODEL="between:image", FILES=str(file)) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    if consumer != "judge":
        assert says in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["._x.png", ".thumbnails/0.png", "grid.png"])
def test_hidden_pictures_and_sheets_beside_samples_leave_these_what_a_folder_holds(name: str, tmp_path: Path) -> None:
    """To both readers of folders."""
    np.savez(tmp_path / "samples.npz", x=np.zeros((16, 8, 8, 3), np.uint8))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"no picture")
    model = fewer.Model.from_denoiser(lambda x, t, y: x / 2, fewer.load("mixture16").schedule, (3, 8, 8), name="any")
    assert len(read_images(tmp_path, model)) == 16
    assert len(open_source(tmp_path, "candidate", Notes()).names) == 16
