"""A small classifier of 16x16 images in colour: its features for Frechet distances, its logits for class accuracy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CifarClassifier(nn.Module):
    """Three normalised convolutions and one hidden layer; images (n, 3, 16, 16) in [-1, 1], FEATURES features, ten classes.

    `data_mean` (FEATURES,) and `data_covariance` (FEATURES, FEATURES) are those of the features of the images that it was trained
    on: all that a Frechet distance to them needs.
    """

    FEATURES = 64
    data_mean: Tensor
    data_covariance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.conv2, self.norm2 = nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv3, self.norm3 = nn.Conv2d(64, 96, 3, padding=1, bias=False), nn.BatchNorm2d(96)
        self.hidden = nn.Linear(96 * 4 * 4, self.FEATURES)
        self.dropout = nn.Dropout(0.2)
        self.out = nn.Linear(self.FEATURES, 10)
        self.register_buffer("data_mean", torch.zeros(self.FEATURES))
        self.register_buffer("data_covariance", torch.eye(self.FEATURES))

    def features(self, x: Tensor) -> Tensor:
        """Hidden layer after its GELU, (n, 64)."""
        h = F.gelu(self.norm1(self.conv1(x)))
        h = F.max_pool2d(F.gelu(self.norm2(self.conv2(h))), 2)
        h = F.max_pool2d(F.gelu(self.norm3(self.conv3(h))), 2)
        return F.gelu(self.hidden(h.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Class logits, (n, 10)."""
        logits: Tensor = self.out(self.dropout(self.features(x)))
        return logits
