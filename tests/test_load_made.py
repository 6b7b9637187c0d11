"""A model that a module holds, and not a function that makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewer


def test_a_model_may_be_named_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import fewer\n"
        "from fewer.models.schedules import Flow\n"
        "weather = fewer.Model.from_denoiser(lambda x, s, y: 0 * x, Flow(), (3,), hash='still')\n"
    )
    (tmp_path / "holds_a_model.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    model = fewer.load("holds_a_model:weather")
    assert model.shape == (3,)
    assert fewer.sample(model, fewer.standard("ddim", model, 2, "uniform"), n=4).shape == (4, 3)
