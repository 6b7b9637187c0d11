"""Features: pixels, principal components, networks."""

import pytest
import torch
from torch import nn

from fewer.errors import InputError
from fewer.measures.features import PCA, Features, Network, Pixels


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
