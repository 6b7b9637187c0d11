"""What the distances compare: images as vectors of pixels, of principal components, or of a network's features."""

from fewer.measures.features.convolutions import random_convolutions
from fewer.measures.features.feature import Features
from fewer.measures.features.linear import PCA, Pixels
from fewer.measures.features.named import read_features
from fewer.measures.features.network import Network

__all__ = ["PCA", "Features", "Network", "Pixels", "random_convolutions", "read_features"]
