"""Training of small denoisers, and the promises of the bundled digit models."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel, FlowMatchEulerDiscreteScheduler, UNet2DModel
from PIL import Image
from torch import Tensor, nn

import fewer
from fewer.errors import InputError
from fewer.models import bundled
from fewer.train import Training, denoising_loss, train_denoiser
from fewer.train.denoiser import noised

ROOT = Path(__file__).parent.parent
HELD_OUT_ACCURACY = 0.98
SAMPLE_ACCURACY = 0.95
MEGABYTES = 3


def tiny_unet(classes: int | None = 10) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
        num_class_embeds=None if classes is None else classes + 1,
    )  # fmt: skip


def tiny_dit() -> DiTTransformer2DModel:
    torch.manual_seed(0)
    return DiTTransformer2DModel(
        sample_size=8, in_channels=1, out_channels=1, patch_size=2, num_attention_heads=2, attention_head_dim=8,
        num_layers=2, num_embeds_ada_norm=10,
    )  # fmt: skip


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "unet": (tiny_unet, DDIMScheduler),
    "transformer": (tiny_dit, FlowMatchEulerDiscreteScheduler),
}


@pytest.fixture(scope="module")
def recipes() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from scripts import train_bundled

        yield train_bundled


def archive(folder: Path) -> Path:
    """A zip as CIFAR-10's: 100 images, two classes of one colour each, with some noise."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "images.zip", "w") as out:
        for i in range(100):
            pixels = np.full((32, 32, 3), 60 if i % 2 else 200) + rng.normal(0, 20, (32, 32, 3))
            image = BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(image, "PNG")
            out.writestr(f"{'dark' if i % 2 else 'light'}/{i:03}.png", image.getvalue())
    return folder / "images.zip"


class BestConstant:
    """The network that ignores its input: the mean target, which is minus the mean image for flow, zero for noise."""

    def __init__(self, scheduler: Any, images: Tensor) -> None:
        flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
        self.output = -images.mean(0, keepdim=True) if flow else torch.zeros_like(images[:1])

    def __call__(self, x: Tensor, t: Tensor, **_: Any) -> tuple[Tensor]:
        return (self.output.expand_as(x),)


@pytest.mark.parametrize("name", ["digits", "dit-digits", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_toy_recipe_learns_and_loads_in_diffusers(name: str, recipes: Any, tmp_path: Path) -> None:
    out = tmp_path / name
    data = archive(tmp_path) if name == "cifar10" else None
    assert recipes.main([name, "--toy", "--out", str(out), *(["--data", str(data)] if data else [])]) == 0
    kind = DiTTransformer2DModel if name == "dit-digits" else UNet2DModel
    network = kind.from_pretrained(out / ("transformer" if name == "dit-digits" else "unet"), low_cpu_mem_usage=False)
    scheduler = recipes.RECIPES[name].scheduler().from_pretrained(out / "scheduler")
    (x, _), (held_x, held_y) = recipes.RECIPES[name].images(data)
    untrained = denoising_loss(BestConstant(scheduler, x), scheduler, held_x, held_y, draws=2)
    assert denoising_loss(network.eval(), scheduler, held_x, held_y, draws=2) < 0.8 * untrained
    facts = json.loads((out / "fewer.json").read_text())
    assert (facts["classes"], facts["empty_label"], facts["data_range"]) == (10, 10, [-1, 1])
    assert facts["trained"]["parameters"] == sum(p.numel() for p in network.parameters())


def test_toy_classifier(recipes: Any, tmp_path: Path) -> None:
    assert recipes.main(["digits-classifier", "--toy", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "fewer.json").read_text())["trained"]["held_out_accuracy"] > 0.8


def test_cifar10_without_its_zip_is_bad_input(recipes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes.main(["cifar10", "--toy", "--out", str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("half", [False, True])
def test_a_saved_folder_gives_the_same_outputs(name: str, half: bool, tmp_path: Path) -> None:
    network, scheduler = CASES[name][0](), CASES[name][1]()
    x, y = bundled.digits_images("train")
    trained = train_denoiser(network, scheduler, x, y, Training(3, batch=8))
    trained.save(tmp_path, half=half)
    loaded = type(network).from_pretrained(tmp_path / name, low_cpu_mem_usage=False).eval()
    for weight in trained.network.parameters():
        weight.copy_(weight.half() if half else weight)
    t = torch.arange(10) * 100
    with torch.no_grad():
        same = [net(x[:10], t, class_labels=y[:10]).sample for net in (loaded, trained.network)]
    assert loaded.dtype == torch.float32
    assert torch.equal(*same)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_only_label_dropout_trains_the_empty_label(name: str, dropout: float) -> None:
    network, scheduler = CASES[name][0](), CASES[name][1]()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x, y = bundled.digits_images("train")
    train_denoiser(network, scheduler, x, y, Training(3, batch=8, weight_decay=0, label_dropout=dropout))
    tables = [module for module in network.named_modules() if isinstance(module[1], nn.Embedding)]
    assert tables
    for key, table in tables:
        assert table.num_embeddings == 11
        moved = (table.weight != before[f"{key}.weight"]).any(1)
        assert bool(moved[10]) == (dropout > 0), key
        assert moved[:10].any()


def test_unconditional_training(tmp_path: Path) -> None:
    x, y = bundled.digits_images("train")
    trained = train_denoiser(tiny_unet(classes=None), DDIMScheduler(), x, None, Training(2, batch=8))
    trained.save(tmp_path)
    assert json.loads((tmp_path / "fewer.json").read_text())["empty_label"] is None
    with pytest.raises(InputError, match="labels are given"):
        train_denoiser(tiny_unet(classes=None), DDIMScheduler(), x, y, Training(2))


def weights(seed: int, **training: Any) -> Tensor:
    x, y = bundled.digits_images("train")
    trained = train_denoiser(tiny_unet(), DDIMScheduler(), x, y, Training(4, batch=8, seed=seed, **training))
    return nn.utils.parameters_to_vector(trained.network.parameters())


def test_a_seed_fixes_the_weights() -> None:
    first = weights(seed=1)
    assert torch.equal(first, weights(seed=1))
    assert not torch.equal(first, weights(seed=2))
    assert not torch.equal(first, weights(seed=1, flips=True))


def test_training_leaves_the_global_generator_alone() -> None:
    network, (x, y) = tiny_unet(), bundled.digits_images("train")
    state = torch.get_rng_state()
    train_denoiser(network, DDIMScheduler(), x, y, Training(1, batch=8))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_time_limit_ends_the_run() -> None:
    x, y = bundled.digits_images("train")
    assert train_denoiser(tiny_unet(), DDIMScheduler(), x, y, Training(10**9, batch=8, seconds=1e-9)).steps == 1


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_states_and_targets_are_those_of_diffusers(prediction: str) -> None:
    scheduler = DDIMScheduler(prediction_type=prediction)
    images, noise = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x, t, target = noised(scheduler, images, noise, torch.tensor([0.0, 0.1, 0.3, 0.5, 0.9, 0.9999]))
    assert t.tolist() == [0, 100, 300, 500, 900, 999]
    expected = {"epsilon": noise, "sample": images, "v_prediction": scheduler.get_velocity(images, noise, t)}
    torch.testing.assert_close(x, scheduler.add_noise(images, noise, t))
    torch.testing.assert_close(target, expected[prediction])


def test_flow_target_leads_from_the_state_to_both_ends() -> None:
    images, noise = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    u = torch.tensor([0.0, 0.25, 0.5, 0.99])
    x, t, target = noised(FlowMatchEulerDiscreteScheduler(), images, noise, u)
    tau = u.view(-1, 1, 1, 1)
    torch.testing.assert_close(t, 1000 * u)
    torch.testing.assert_close(x - tau * target, images)
    torch.testing.assert_close(x + (1 - tau) * target, noise)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "missing"), (torch.full((20,), 10), "values 0 .. 9"), (torch.zeros(3, dtype=torch.int64), r"\(20,\)")],
)
def test_labels_that_do_not_fit_are_refused(labels: Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_denoiser(tiny_unet(), DDIMScheduler(), torch.zeros(20, 1, 8, 8), labels, Training(1))


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    images, labels = torch.full((20, 1, 8, 8), torch.nan), torch.zeros(20, dtype=torch.int64)
    with pytest.raises(FloatingPointError):
        train_denoiser(tiny_unet(), DDIMScheduler(prediction_type="sample"), images, labels, Training(1))


def test_the_split_is_stratified_disjoint_and_complete() -> None:
    (x, y), (held_x, held_y) = bundled.digits_images("train"), bundled.digits_images("test")
    counts, held_counts = y.bincount(minlength=10), held_y.bincount(minlength=10)
    assert torch.equal(held_counts, (counts + held_counts) // 5)
    datasets = pytest.importorskip("sklearn.datasets")
    every = np.concatenate([x, held_x]).reshape(-1, 64)
    original = datasets.load_digits().data / 8 - 1
    assert np.array_equal(every[np.lexsort(every.T)], original[np.lexsort(original.T)])
    with pytest.raises(InputError, match="'train' or 'test'"):
        bundled.digits_images("validation")


def test_the_classifier_keeps_its_promise_on_held_out_digits() -> None:
    x, y = bundled.digits_images("test")
    classifier = bundled.digits_classifier()
    assert float((classifier(x).argmax(1) == y).float().mean()) >= HELD_OUT_ACCURACY
    features = classifier.features(x)
    assert features.shape == (len(x), classifier.FEATURES)
    torch.testing.assert_close(classifier.out(features), classifier(x))


@pytest.mark.parametrize("name", ["digits", "dit-digits"])
@torch.no_grad()
def test_conditional_samples_are_the_digits_asked_for(name: str) -> None:
    folder = bundled.folder(name)
    if name == "digits":
        network: Any = UNet2DModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
        scheduler: Any = DDIMScheduler.from_pretrained(folder / "scheduler")
    else:
        network = DiTTransformer2DModel.from_pretrained(folder / "transformer", low_cpu_mem_usage=False)
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    labels = torch.arange(100) % 10
    x = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    scheduler.set_timesteps(20)
    for t in scheduler.timesteps:
        x = scheduler.step(network.eval()(x, t.expand(100), class_labels=labels).sample, t, x).prev_sample
    correct = bundled.digits_classifier()(x).argmax(1) == labels
    assert float(correct.float().mean()) >= SAMPLE_ACCURACY


@pytest.mark.parametrize("name", ["digits", "dit-digits", bundled.CLASSIFIER])
def test_bundled_models_are_small(name: str) -> None:
    assert sum(file.stat().st_size for file in (bundled.FOLDER / name).rglob("*")) <= MEGABYTES * 1e6


@pytest.mark.parametrize("name", ["cifar16-unet", "cifar16-dit"])
def test_the_middle_sized_networks_sample_images_of_their_classes(name: str) -> None:
    """At most 12 MB of float16; samples under guidance have the spread of images in [-1, 1]."""
    assert sum(file.stat().st_size for file in (bundled.FOLDER / name).rglob("*")) <= 12e6
    model = fewer.load(name)
    assert (model.shape, model.classes, model.empty_label) == ((3, 16, 16), 10, 10)
    x = fewer.sample(model, fewer.standard("unipc", model, nfe=12, steps="logsnr", guidance=2.0), n=4)
    assert x.isfinite().all()
    assert 0.2 < float(x.std()) < 1.0


def test_an_unknown_name_lists_the_bundled_ones() -> None:
    assert {"digits", "dit-digits"} <= set(bundled.names())
    with pytest.raises(InputError, match=r"'nothing'; .*digits, "):
        bundled.folder("nothing")
