"""What a pipeline puts into its networks for its loop, a cut call has in them for the length of a turn alone."""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.fleet.calls import call
from benchmarks.fleet.checks import Run
from benchmarks.fleet.parts import pipeline
from fewer.models.model import Model

KINDS = ("StableDiffusionSAGPipeline", "StableDiffusionPAGPipeline", "HunyuanDiTPAGPipeline")


opened = cache(pipeline)  # whose networks are the same after each test as before


def networks(pipe: Any) -> list[nn.Module]:
    return [module for part in pipe.components.values() if isinstance(part, nn.Module) for module in part.modules()]


def held(pipe: Any) -> list[dict[str, int]]:
    """The identities of all that the networks' modules have, their hooks too."""
    return [
        {**{name: id(value) for name, value in vars(module).items()}, "hooks": len(module._forward_hooks)}
        for module in networks(pipe)
    ]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("end", ["closed", "dropped", "raised", "finished"])
def test_networks_are_the_owners_between_turns_and_whatever_ends_a_call(name: str, end: str) -> None:
    pipe = opened(name)
    given = call(type(pipe), guided=True) | {"generator": torch.Generator().manual_seed(0)}
    given |= {"pag_scale": 3.0} if "PAG" in name else {"sag_scale": 0.5}
    before = held(pipe)
    model = Model.from_pipeline(pipe, given)
    assert held(pipe) == before
    x, labels = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(1)), model.labels(1)
    first = model(x, 500.0, labels)
    assert held(pipe) == before
    if end == "raised":
        with pytest.raises(Exception, match=r"\w"):
            model.network.cut(x[:, :1, :1], 500.0)
    elif end == "finished":
        model.network.cut.finished(model.network.cut.noise)
    elif end == "closed":
        model.network.cut.close()
    assert held(pipe) == before
    if end != "dropped":  # and the next call is as the first one
        torch.testing.assert_close(model(x, 500.0, labels), first, rtol=1e-4, atol=1e-5)
    del model
    gc.collect()
    assert held(pipe) == before


@pytest.mark.parametrize("name", KINDS[:2])
def test_other_pipelines_of_the_networks_give_their_own_images_meanwhile(name: str) -> None:
    """While a model is at hand whose call has changed them."""
    run = Run.of(name, True, 2)
    before = run.images()
    model = run.cut()
    model(torch.zeros(1, *model.shape), 300.0, model.labels(1))
    after = run.images()
    assert all(map(torch.equal, after, before))
