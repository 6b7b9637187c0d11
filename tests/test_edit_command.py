"""`fewer edit`: what it writes is what `fewer.edit` makes, and what it refuses is one line with nothing written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fewer
from fewer.cli.main import run
from fewer.images import read_images
from fewer.tasks.inverse.words import read_mask


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two digits, one of them alone, and a mask."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(2):
        Image.fromarray(np.full((8, 8), 60 + 90 * k, np.uint8)).save(folder / f"{k}.png")
    Image.fromarray(np.full((8, 8), 60, np.uint8)).save("one.png")
    where = np.zeros((8, 8), np.uint8)
    where[:, 4:] = 255
    Image.fromarray(where).save("mask.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("small.png")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save("deep.png")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save("large.png")
    return tmp_path


def test_it_writes_what_the_function_makes(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = [
        "edit",
        "digits",
        "photos",
        "--to",
        "8",
        "--from",
        "3",
        "--method",
        "sdedit",
        "--strength",
        "0.6",
        "--nfe",
        "3",
    ]
    assert run([*line, "--format", "npz", "--json", "facts.json"]) == 0
    facts = json.loads(Path("facts.json").read_text())
    made = np.load("fewer-edits/samples.npz")["x"]
    model = fewer.load("digits")
    images = read_images("photos", model, 1)
    found = fewer.edit(model, images, 8, source=3, method="sdedit", strength=0.6, plan=3)
    np.testing.assert_allclose(made, found.images.numpy(), atol=1e-5)
    assert (facts["nfe"], facts["method"], facts["n"]) == (found.nfe, "sdedit", 2)


def test_a_dry_run_counts_and_writes_nothing(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["edit", "digits", "photos", "--to", "8", "--nfe", "3", "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert "about 12 network evaluations" in out
    assert "would write" in out
    assert not Path("fewer-edits").exists()


def test_one_image_under_a_mask(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["edit", "digits", "one.png", "--to", "8", "--mask", "mask.png", "--nfe", "2", "--out", "made"]) == 0
    assert "1 image by rf-inversion, 4 network evaluations each" in capfd.readouterr().out
    made = np.asarray(Image.open("made/00000.png"))
    assert np.abs(made[:, :4].astype(int) - 60).max() <= 1
    assert np.abs(made[:, 4:].astype(int) - 60).max() > 1


def test_what_a_command_wrote_is_edited_without_its_sheet(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder of `fewer sample`, and one of `fewer edit`."""
    assert run(["sample", "digits", "-n", "2", "--nfe", "1", "--out", "made"]) == 0
    assert run(["edit", "digits", "made", "--to", "8", "--nfe", "1", "--out", "again"]) == 0
    assert run(["edit", "digits", "again", "--to", "3", "--nfe", "1", "--out", "third"]) == 0
    assert len(read_images("again", fewer.load("digits"), 1)) == len(read_images("third", fewer.load("digits"), 1)) == 2


@pytest.mark.parametrize("kind", ["1", "L", "P", "RGBA", "turned", "npy"])
def test_masks_of_files_of_any_kind(here: Path, kind: str) -> None:
    """One reader for all masks, of what is edited as of what is known."""
    where = np.zeros((8, 8), np.uint8)
    where[:, 4:] = 255
    path = Path(f"{kind}.npy" if kind == "npy" else f"{kind}.png")
    exif = Image.Exif()
    if kind == "npy":
        np.save(path, where)
    elif kind == "turned":
        exif[0x0112] = 6
        Image.fromarray(np.rot90(where)).save(path, exif=exif)
    else:
        Image.fromarray(where).convert(kind).save(path)
    assert torch.equal(read_mask(path, (3, 8, 8)), torch.from_numpy(where > 0).expand(3, 8, 8))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("digits one.png --to 11", "labels: label 11"), ("digits one.png --to 8 --from 12", "source: label 12"),
        ("digits nowhere.png --to 8", "nowhere.png"), ("digits mask.png --to 8 --mask photos", "photos"),
        ("digits large.png --to 8", "the model makes"), ("digits one.png --to 8 --method mmps", "methods of editing"),
        ("digits one.png --to 8 --method attentive-eraser", "a mask"), ("digits one.png --to 8 --strength 2", "strength is 2"),
        ("digits one.png --to 8 --plan no.json --nfe 3", "--nfe goes with"), ("digits one.png --to 8 --plan no.json", "no.json"),
        ("digits one.png --to 8 --with dit-digits", "--with"), ("digits one.png --to 8 --nfe 0", "--nfe"), ("digits", "IMAGES"),
        ("digits one.png --to 8 --json photos", "photos"), ("digits one.png --to eight", "--to"),
        ("digits one.png --to 8 --mask small.png", "mask small.png is 4 x 4"), ("digits one.png --to 8 --mask deep.png", "I;16"),
    ],
)  # fmt: skip
def test_what_is_refused(here: Path, capfd: pytest.CaptureFixture[str], line: str, says: str) -> None:
    before = sorted(here.rglob("*"))
    assert run(["edit", *line.split(), "--out", "no"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert says in err
    assert sorted(here.rglob("*")) == before


def test_a_latent_pipeline_has_no_pixels_to_edit(here: Path) -> None:
    """Images of files are not taken for latents."""
    model = replace(fewer.load("digits"), decode=lambda x: x)
    with pytest.raises(fewer.InputError, match="works on latents"):
        read_images("one.png", model, 1)
    assert torch.equal(read_images("one.png", fewer.load("digits"), 1), torch.full((1, 1, 8, 8), 60 / 255 * 2 - 1))
