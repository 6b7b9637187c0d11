"""The classifier of 16x16 colour images: what it is trained by, and that it knows the bundled networks' images."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import fewer
from fewer.evaluate.distances.frechet import against_moments
from fewer.evaluate.statistics.twosample import covariance
from fewer.models import bundled
from fewer.models.cifar_classifier import CifarClassifier

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from scripts import train_cifar16_classifier

        yield train_cifar16_classifier


def archive(folder: Path) -> Path:
    """A zip as CIFAR-10's: 200 images of two classes, of one colour each with some noise."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "images.zip", "w") as out:
        for i in range(200):
            pixels = np.full((32, 32, 3), 60 if i % 2 else 200) + rng.normal(0, 20, (32, 32, 3))
            image = BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(image, "PNG")
            out.writestr(f"{'dark' if i % 2 else 'light'}/{i:03}.png", image.getvalue())
    return folder / "images.zip"


def test_it_learns_and_writes_the_moments_of_its_features(script: Any, tmp_path: Path) -> None:
    data = archive(tmp_path)
    assert script.main(["--data", str(data), "--out", str(tmp_path / "out"), "--steps", "10"]) == 0
    facts = json.loads((tmp_path / "out" / "fewer.json").read_text())
    assert facts["trained"]["held_out_accuracy"] == 1.0
    classifier = CifarClassifier()
    classifier.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    x, _ = script.images16(data)
    seen = classifier.eval().features(x[torch.arange(len(x)) % script.HELD_OUT_EVERY != 0]).double()
    torch.testing.assert_close(classifier.data_mean.double(), seen.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(classifier.data_covariance.double(), covariance(seen), rtol=1e-3, atol=1e-5)


def test_no_zip_is_one_line(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_it_is_no_generative_model() -> None:
    assert {bundled.CLASSIFIER, bundled.CIFAR_CLASSIFIER}.isdisjoint(bundled.names())


@pytest.mark.slow
def test_it_finds_the_classes_of_guided_images() -> None:
    """Of ten classes, in three images of five at least, where chance finds one in ten."""
    model, n = fewer.load("cifar16-unet"), 40
    plan = fewer.standard("unipc", model, nfe=16, steps="logsnr", guidance=3.0)
    x = fewer.sample(model, plan, n=n, labels=torch.arange(n) % 10, batch=n)
    classifier = bundled.cifar_classifier()
    torch.testing.assert_close(classifier.out(classifier.features(x)), classifier(x))
    assert float((classifier(x).argmax(1) == torch.arange(n) % 10).double().mean()) >= 0.6


def test_the_distance_to_moments_is_that_of_the_two_gaussians() -> None:
    """Of Gaussians that differ by a shift and by a scale c of all axes it is |shift|^2 + (1 - c)^2 tr S."""
    unit = torch.randn(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = unit * torch.arange(1.0, 6.0).double()
    mean, cov, shift = x.mean(0), covariance(x), torch.arange(5.0).double()
    assert float(against_moments(x, mean, cov)) == pytest.approx(0, abs=1e-9)
    found = against_moments(x, mean + shift, 4 * cov)
    assert float(found) == pytest.approx(float(shift @ shift + cov.trace()), rel=1e-9)
