"""Samples as pictures, and a user's images as data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fewer
from fewer.images import grid, pixels, read_images
from fewer.judging.notes import Notes
from fewer.judging.sources import open_source
from fewer.models.schedules import Flow


@pytest.fixture
def model() -> fewer.Model:
    return fewer.Model.from_denoiser(lambda x, t, y: x, Flow(), (3, 4, 6), data_range=(-1.0, 1.0))


def test_pictures_written_and_read_again_are_the_samples(model: fewer.Model, tmp_path: Path) -> None:
    """Within half a grey level, from PNG files in class folders as from an .npz."""
    x = torch.rand(9, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    array = pixels(model, x)
    for i, image in enumerate(array):
        (tmp_path / "data" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "data" / str(i % 2) / f"{i}.png")
    np.savez(tmp_path / "data.npz", x=array)
    torch.testing.assert_close(read_images(tmp_path / "data.npz", model), x, atol=1 / 255, rtol=0)
    back = read_images(tmp_path / "data", model)
    torch.testing.assert_close(back, x[[0, 2, 4, 6, 8, 1, 3, 5, 7]], atol=1 / 255, rtol=0)


def test_values_outside_the_range_are_clamped(model: fewer.Model) -> None:
    assert pixels(model, torch.full((1, 3, 4, 6), 7.0)).min() == 255
    assert pixels(model, torch.full((1, 3, 4, 6), -7.0)).max() == 0


def test_a_grid_holds_every_image_enlarged() -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 1), dtype=np.uint8)
    sheet = grid(images, columns=3, least=16)
    assert sheet.size == (3 * 10 * 2, 2 * 10 * 2)


def test_data_that_cannot_be_used_is_refused(model: fewer.Model, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "pickled.npz", x=np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "small.npz", x=np.zeros((2, 4, 4, 3), np.uint8))
    np.savez(tmp_path / "float.npz", x=np.zeros((2, 4, 6, 3)))
    np.savez(tmp_path / "other.npz", y=np.zeros(3))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "small.npz").read_bytes()[:60])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    for name in ("empty", "pickled.npz", "small.npz", "float.npz", "other.npz", "torn.npz", "bad", "missing"):
        with pytest.raises(fewer.InputError) as caught:
            read_images(tmp_path / name, model)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff"])
def test_grey_images_have_three_equal_colours(model: fewer.Model, tmp_path: Path, suffix: str) -> None:
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    for i in range(4):
        Image.fromarray(grey).save(tmp_path / f"a{i}.{suffix}")
        Image.fromarray(np.repeat(grey[..., None], 3, 2)).save(tmp_path / f"b{i}.{suffix}")
    data = read_images(tmp_path, model)
    assert torch.equal(data[:4], data[4:])


@pytest.mark.parametrize("turn", range(1, 9))
def test_images_are_turned_as_their_camera_was(model: fewer.Model, tmp_path: Path, turn: int) -> None:
    picture = Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3)
    undone = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the file's pixels, which a viewer turns into the picture
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = picture if turn == 1 else picture.transpose(Image.Transpose(undone[turn]))
    for i in range(8):
        stored.save(tmp_path / f"{i}.png", exif=exif)
    expected = torch.tensor(np.array(picture)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(read_images(tmp_path, model), expected.expand(8, -1, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name", ["._3.png", ".hidden.png", ".folder/3.png", "__MACOSX/._3.png", "3.txt", "folder.png/3.txt"]
)
def test_files_that_are_no_images_of_the_users_are_left_out(model: fewer.Model, tmp_path: Path, name: str) -> None:
    for i in range(8):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\0\5\26\7")
    assert len(read_images(tmp_path, model)) == 8


@pytest.mark.parametrize("name", ["grid.png", "uncertainty.png", "posterior.png", "class/grid.png"])
def test_sheets_beside_samples_are_no_samples(model: fewer.Model, tmp_path: Path, name: str) -> None:
    """Whatever their size, at the top and in folders of classes, for all who read a folder of samples."""
    images = pixels(model, torch.rand(8, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    grid(images).save(tmp_path / name)
    assert len(read_images(tmp_path, model)) == len(open_source(tmp_path, "images", Notes()).names) == 8


def test_samples_that_are_no_pictures_are_refused() -> None:
    model = fewer.Model.from_denoiser(lambda x, t, y: x, Flow(), (7,))
    with pytest.raises(fewer.InputError, match="no images"):
        pixels(model, torch.zeros(2, 7))
