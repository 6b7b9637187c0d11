"""Tests use no network: the hub's client is told so before anything reads it. And what tests of searches share."""

import os

import pytest
from few_standards import keep_few

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture
def few_standards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches rank few standard plans."""
    keep_few(monkeypatch.setattr)
