"""A small classifier of 8x8 digits: its features for Frechet distances, its logits for class accuracy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class DigitsClassifier(nn.Module):
    """Three convolutions and one hidden layer; images (n, 1, 8, 8) in [-1, 1], FEATURES features, ten classes."""

    FEATURES = 48

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 4 * 4, self.FEATURES)
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear(self.FEATURES, 10)

    def features(self, x: Tensor) -> Tensor:
        """Hidden layer after its GELU, (n, 48)."""
        h = F.gelu(self.conv1(x))
        h = F.max_pool2d(F.gelu(self.conv2(h)), 2)
        h = F.gelu(self.conv3(h))
        return F.gelu(self.hidden(h.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Class logits, (n, 10)."""
        logits: Tensor = self.out(self.dropout(self.features(x)))
        return logits
