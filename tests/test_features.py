"""Features: pixels, principal components, networks, files."""

import hashlib
import json
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch_files import Bomb, Perceptual, save_script

from fewer.errors import ForeignError, InputError
from fewer.evaluate.distances.frechet import frechet
from fewer.evaluate.features import PCA, Features, Network, Pixels, random_convolutions, read_features
from fewer.evaluate.features.network import in_colour
from fewer.models.bundled import digits_classifier


@pytest.fixture
def images():
    return torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Classifier(nn.Module):
    """Features are channel means; calling it gives logits; dropout would show a wrong mode."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(3, 10)

    def features(self, x):
        return self.drop(x).mean((2, 3))

    def forward(self, x):
        return self.linear(self.features(x))


def test_pixels_are_the_values(images):
    features = Pixels()(images)
    assert features.dtype == torch.float64
    assert torch.equal(features, images.double().reshape(40, 48))


def test_all_components_keep_all_distances(images):
    features = PCA.fit(images, 39)(images)  # 40 images span 39 dimensions about their mean
    assert torch.allclose(torch.cdist(features, features), torch.cdist(*[images.double().flatten(1)] * 2), atol=1e-6)


def test_components_hold_the_most_variance_first_and_are_not_whitened(images):
    features = PCA.fit(images, 5)(images)
    assert torch.allclose(features.mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-12)
    variances = features.T.cov().diagonal()
    spectrum = torch.linalg.eigvalsh(images.double().flatten(1).T.cov()).flip(0)
    assert torch.allclose(variances, spectrum[:5])
    assert torch.allclose(features.T.cov(), variances.diag(), atol=1e-12)


def test_the_hash_follows_what_was_fitted(images):
    assert PCA.fit(images, 5).hash == PCA.fit(images.clone(), 5).hash
    assert len({PCA.fit(images, 5).hash, PCA.fit(images, 6).hash, PCA.fit(images[1:], 5).hash, Pixels().hash}) == 4
    module = Classifier()
    hashes = {Network(module, "c", "aa").hash, Network(module, "c", "bb").hash, Network(module, "c", "aa", (8, 8)).hash}
    assert len(hashes) == 3


def test_one_image_has_no_axes():
    """Whatever is asked for, `pca-N` or the default, the line says what is missing."""
    with pytest.raises(InputError, match=r"at least 2 images, got 1$"):
        PCA.fit(torch.zeros(1, 3, 4, 4), 1)


@pytest.mark.parametrize("dim", [0, 40])
def test_too_many_components_are_refused(images, dim):
    with pytest.raises(InputError, match="1 to 39"):
        PCA.fit(images, dim)


def test_a_network_gives_its_features_in_any_batch(images):
    whole, parts = Network(Classifier(), "c", "aa"), Network(Classifier(), "c", "aa", batch=7)
    assert torch.allclose(whole(images), images.double().mean((2, 3)), atol=1e-6)
    assert torch.allclose(whole(images), parts(images), atol=1e-6)
    assert whole(images).dtype == torch.float64
    assert not whole(images).requires_grad


def test_a_network_without_features_is_called(images):
    module = nn.Conv2d(3, 2, 4)
    assert torch.allclose(Network(module, "conv", "aa")(images), module(images).flatten(1).double())


def test_images_are_resampled_first(images):
    flat = images.new_ones(2, 3, 4, 4)
    assert Network(nn.Identity(), "same", "aa", resize=(6, 5))(flat).shape == (2, 90)
    assert torch.allclose(Network(nn.Identity(), "same", "aa", resize=(6, 5))(flat), torch.ones(2, 90).double())


def test_a_half_precision_network_is_fed_its_own_dtype(images):
    features = Network(Classifier().to(torch.bfloat16), "c", "aa")(images)
    assert torch.allclose(features, images.double().mean((2, 3)), atol=0.02)


def test_wrong_images_are_named(images):
    fitted: Features = PCA.fit(images, 5)
    for x in (images[0], images[:0], images.byte(), images[:, :, :2]):
        with pytest.raises(InputError, match="images"):
            fitted(x)


def test_every_kind_says_what_it_is_in_plain_words(images):
    module = Classifier()
    for features in (
        Pixels(), PCA.fit(images, 5), random_convolutions((3, 4, 4), 8),
        Network(module, "c", "aa", (8, 8), 64, (0.0, 1.0)),
    ):  # fmt: skip
        told = json.loads(json.dumps(features.describe()))
        assert told["name"] == features.name
        assert told["hash"] == features.hash
        assert {"input", "resize", "value_range"} <= told.keys()
    assert told["input"] == [8, 8]
    assert told["resize"] == "bilinear, antialiased"
    assert told["value_range"] == [0, 1]
    assert told["weights"] == "aa"


def test_images_are_mapped_to_the_range_that_a_network_takes(images):
    same = Network(nn.Identity(), "same", "aa", value_range=(0.0, 255.0), images_range=(-1.0, 1.0))
    assert torch.allclose(same(images), ((images + 1) * 127.5).double().flatten(1), atol=1e-3)
    assert same.hash != Network(nn.Identity(), "same", "aa").hash
    with pytest.raises(InputError, match="low < high"):
        Network(nn.Identity(), "same", "aa", value_range=(1.0, 1.0))


def test_random_features_come_from_the_seed_alone(images):
    one, again, other = (random_convolutions((3, 4, 4), 8, seed) for seed in (1, 1, 2))
    assert one(images).shape == (40, 8)
    assert torch.equal(one(images), again(images))
    assert one.hash == again.hash != other.hash
    assert not torch.allclose(one(images), other(images))


def test_random_features_tell_distributions_apart_and_equal_ones_not(images):
    features = random_convolutions((3, 4, 4), 4)
    generator = torch.Generator().manual_seed(3)
    x, y = torch.rand(2, 300, 3, 4, 4, generator=generator) * 2 - 1
    assert frechet(features(x), features(y)).low <= 0
    assert frechet(features(x), features(y**3)).low > 0  # of other moments


def test_large_images_are_resampled_for_random_features():
    features = random_convolutions((1, 64, 48), 8)
    assert features.resize == (32, 32)
    assert features(torch.zeros(2, 1, 64, 48)).shape == (2, 8)


def test_names_stand_for_features(images):
    assert read_features("pixels", images).name == "pixels"
    assert read_features("pca", images).name == "pca-16"
    assert read_features("pca-3", images).hash == PCA.fit(images, 3).hash
    assert read_features("random-5", images).hash == random_convolutions((3, 4, 4), 5).hash
    digits = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = read_features("digits", digits, (0.0, 1.0))  # the classifier takes [-1, 1]
    assert torch.allclose(found(digits), digits_classifier().features(2 * digits - 1).double(), atol=1e-4)


MODULES = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    made.value_range, made.size = (0, 1), (6, 6)
    return made

def number(): return 3
def breaks(): raise KeyError("weights")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_modules.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_modules", raising=False)
    return tmp_path


def test_a_module_of_the_user_s_with_weights_from_a_file(here, images):
    plain = read_features("own_modules:small", images)
    module = plain.module
    weights = {name: value + 1 for name, value in module.state_dict().items()}
    save_file(weights, here / "w.safetensors")
    moved = read_features("own_modules:small@w.safetensors", images)
    assert torch.equal(moved.module[0].weight, weights["0.weight"])
    assert moved.hash != plain.hash
    assert plain.hash == read_features("own_modules:small", images).hash
    assert plain.describe()["input"] == [6, 6]
    assert plain.describe()["value_range"] == [0, 1]
    assert plain(images).shape == (40, 64)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_file(here, images):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    torch.jit.trace(module, images[:2]).save("net.pt")
    found = read_features("net.pt", images)
    assert torch.allclose(found(images), module(images).double(), atol=1e-6)
    assert found.hash == read_features("net.pt", images).hash


def test_files_that_are_no_weights_are_refused_unopened(here, images):
    torch.save({"weights": Bomb()}, "zip.pt")
    torch.save({"weights": Bomb()}, "legacy.bin", _use_new_zipfile_serialization=False)
    (here / "page.pt").write_text("<!DOCTYPE html><html></html>")
    save_file({"0.weight": torch.zeros(4, 3, 3, 3), "0.bias": torch.zeros(4)}, here / "good.safetensors")
    (here / "cut.safetensors").write_bytes((here / "good.safetensors").read_bytes()[:-9])
    save_file({"weight": torch.zeros(4)}, here / "other.safetensors")
    (here / "zip.safetensors").write_bytes((here / "zip.pt").read_bytes())
    files = ("zip.pt", "legacy.bin", "page.pt", "cut.safetensors", "zip.safetensors")
    for name in (
        *files, *(f"own_modules:small@{file}" for file in (*files, "other.safetensors", "none.safetensors")),
        *(f"{kind}@{file}" for kind in ("inception", "dino") for file in (*files, "none.pt", ".")),
        "none.pt", "own_modules:number", "own_modules:none", "no_modules:small", "pca-0", "digits",
        "pca-x", "",
    ):  # fmt: skip
        with pytest.raises(InputError) as told:
            read_features(name, images)
        assert "\n" not in str(told.value)
    with pytest.raises(ForeignError, match="features 'own_modules:breaks' raised"):
        read_features("own_modules:breaks", images)
    assert not (here / "exploded").exists()


def test_what_a_network_returns_is_checked(images):
    class Bad(nn.Module):
        def __init__(self, f):
            super().__init__()
            self.f = f

        def forward(self, x):
            return self.f(x)

    wide = iter(range(3, 9))
    with pytest.raises(InputError, match="features bad returned rows of unequal width: 3, 4"):
        Network(Bad(lambda x: x.flatten(1)[:, : next(wide)]), "bad", "aa", batch=20)(images)
    for f in (lambda x: x[:1], lambda x: x * float("nan"), lambda x: "x", lambda x: x @ x.new_zeros(7)):
        with pytest.raises(InputError, match="features bad"):
            Network(Bad(f), "bad", "aa")(images)


class Pictures(nn.Module):
    """Called as the public Inception network is: pictures (n, 3, H, W) of whole numbers, or logits without the flag."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, pictures: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        if pictures.dtype != torch.uint8 or pictures.shape[1] != 3:
            raise RuntimeError("not pictures")
        channels = pictures.to(torch.float32).mean([2, 3])
        return channels * self.weight if return_features else channels[:, :1]


def test_inception_sees_eight_bit_pictures_of_three_channels(here, images):
    save_script(Pictures(), "inception.pt")
    pictures = torch.randint(256, (5, 3, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    expected = pictures.double().mean((2, 3)) * torch.tensor([1.0, 2.0, 3.0])
    found = read_features("inception@inception.pt", images, (-1.0, 1.0))
    assert torch.allclose(found(pictures / 127.5 - 1 + 1e-4), expected)  # what is not a whole number is rounded
    grey = pictures[:, :1] / 255
    of_grey = read_features("inception@inception.pt", images, (0.0, 1.0))(grey)
    assert torch.allclose(of_grey, 255 * in_colour(grey).double().mean((2, 3)) * torch.tensor([1.0, 2.0, 3.0]))
    told = found.describe()
    assert told["value_range"] == [0, 255]
    assert "network" in told["resize"]
    assert told["weights"] == hashlib.sha256((here / "inception.pt").read_bytes()).hexdigest()[:16]
    with pytest.raises(InputError, match="2 channels"):
        found(images[:, :2])


def test_a_torchscript_error_is_told_by_its_reason(here, images):
    save_script(Perceptual(), "vgg.pt")
    with pytest.raises(InputError, match=r"features vgg\.pt raised .*not called for distances") as told:
        read_features("vgg.pt", images)(images)
    assert "\n" not in str(told.value)


def test_dino_is_the_class_token_of_the_folder_s_network(here, images):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=28, patch_size=14
    )
    torch.manual_seed(0)
    network = transformers.Dinov2Model(config).eval()
    network.save_pretrained("net")
    found = read_features("dino@net", images)
    assert found(images[:3]).shape == (3, 8)
    assert found.describe()["input"] == [224, 224]
    whole = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    standard = (whole - whole.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / whole.new_tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        expected = network(standard).pooler_output.double()
    assert torch.allclose(found(2 * whole - 1), expected, atol=1e-4)
    assert found.hash == read_features("dino@net", images).hash
    save_file({"embeddings.cls_token": torch.zeros(1, 1, 8)}, here / "net" / "model.safetensors")
    with pytest.raises(InputError, match=r"lacks \d+ weights") as told:
        read_features("dino@net", images)
    assert "\n" not in str(told.value)
    (here / "net" / "model.safetensors").write_bytes(b"<html>")
    with pytest.raises(InputError, match="cannot be loaded as DINOv2") as told:
        read_features("dino@net", images)
    assert "\n" not in str(told.value)


def test_dino_without_transformers_names_the_extra(here, images, monkeypatch):
    (here / "net").mkdir()
    (here / "net" / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(InputError, match="no model"):
        read_features("dino@net", images)
    (here / "net" / "model.safetensors").touch()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"fewer\[features\]"):
        read_features("dino@net", images)
