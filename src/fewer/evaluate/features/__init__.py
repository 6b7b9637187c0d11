"""What the distances compare: images as vectors of pixels, of principal components, or of a network's features."""

from fewer.evaluate.features.feature import Features
from fewer.evaluate.features.linear import PCA, Pixels
from fewer.evaluate.features.named import read_features
from fewer.evaluate.features.network import Network, random_convolutions

__all__ = ["PCA", "Features", "Network", "Pixels", "random_convolutions", "read_features"]
