"""Tests use no network: the hub's client is told so before anything reads it."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
