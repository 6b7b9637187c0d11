"""A model's hash: of the weights that its function reaches, however it holds them; "" where it reaches none."""

from __future__ import annotations

import functools
import re
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from torch import Tensor, nn

import fewer
from fewer.errors import InputError
from fewer.models.schedules import Flow

BUNDLED = {
    "digits": "27b5e55d42aeaa007c80f426b1aa4bf6aba0c08c6df376084b7facf6e852adae",
    "dit-digits": "8f9805128f128483e4e9b00423f5a7f1b7d84f8c90e799d56e80d296f9e1ebc6",
    "mixture16": "64767f9f1aca86c58999e9d45943288238357bf8eb7d854df01aaf9424dd0bab",
    "words-digits": "1037a4f39b6dfe423400afbebaf6fc049850d7b171b1f3e1038453511f300e26",
}
SHAPE = (1, 4, 4)


class Net(nn.Module):
    """A convolution of one weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.layer.weight, weight)

    def forward(self, x: Tensor, t: Any = None, labels: Any = None) -> Tensor:
        return self.layer(x)


class Wrapper:
    """An object that is called, and has its network as an attribute."""

    def __init__(self, net: Any, scale: float = 1.0) -> None:
        self._net, self.scale = net, scale

    def __call__(self, x: Tensor, t: Any, labels: Any) -> Tensor:
        return self.scale * self._net(x)

    def predict(self, x: Tensor, t: Any, labels: Any) -> Tensor:
        return self(x, t, labels)


class Slotted:
    """The same without a __dict__."""

    __slots__ = ("net",)

    def __init__(self, net: Any) -> None:
        self.net = net

    def __call__(self, x: Tensor, t: Any, labels: Any) -> Tensor:
        return self.net(x)


class Unregistered(nn.Module):
    """A module whose networks are in a list, which torch does not look into."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.nets = [net]

    def forward(self, x: Tensor, t: Any, labels: Any) -> Tensor:
        return self.nets[0](x)


def closure(net: Any) -> Callable[..., Tensor]:
    return lambda x, t, labels: net(x)


def in_default(net: Any) -> Callable[..., Tensor]:
    def network(x: Tensor, t: Any, labels: Any, own: Any = net) -> Tensor:
        return own(x)

    return network


def in_a_ring(net: Any) -> Callable[..., Tensor]:
    held: dict[str, Any] = {"net": net}
    held["itself"] = held
    return lambda x, t, labels: held["net"](x)


def decorated(net: Any) -> Callable[..., Tensor]:
    return torch.no_grad()(closure(net))


def among_globals(net: Any, code: str = "def network(x, t, labels): return NET(x)") -> Callable[..., Tensor]:
    space: dict[str, Any] = {"NET": net, "__name__": "of_mine"}
    exec(code, space)
    return space["network"]


def in_a_module(net: Any) -> Callable[..., Tensor]:
    module = types.ModuleType("nets_of_mine")
    module.NET = net  # type: ignore[attr-defined]
    space: dict[str, Any] = {"nets": module, "__name__": "of_mine"}
    exec("def network(x, t, labels): return nets.NET(x)", space)
    return space["network"]


def of_a_pipeline(net: Any) -> Callable[..., Tensor]:
    pipe = types.SimpleNamespace(unet=net, calls=7)
    return lambda x, t, labels: pipe.unet(x)


def partially(net: Any) -> Callable[..., Tensor]:
    return functools.partial(lambda net, x, t, labels: net(x), net)


WAYS: dict[str, Callable[[Any], Any]] = {
    "module": lambda net: net, "closure": closure, "default": in_default, "partial": partially, "ring": in_a_ring,
    "self": lambda net: Wrapper(net).predict, "object": Wrapper, "slots": Slotted, "decorated": decorated,
    "globals": among_globals, "module's global": in_a_module, "pipeline": of_a_pipeline, "list": Unregistered,
    "compiled": lambda net: closure(torch.compile(net, backend="eager")),
}  # fmt: skip


def model(network: Any, **given: Any) -> fewer.Model:
    return fewer.Model.from_denoiser(network, Flow(), SHAPE, predicts="flow", **given)


@pytest.mark.parametrize("way", WAYS)
def test_it_is_that_of_the_weights_however_they_are_held(way: str) -> None:
    make = WAYS[way]
    assert model(make(Net(0.5))).hash == model(make(Net(0.5))).hash != ""
    assert model(make(Net(0.5))).hash != model(make(Net(0.25))).hash
    assert model(make(Net(0.5))).hash != model(make(Net(0.5)), name="another").hash


@pytest.mark.parametrize("way", ["closure", "object", "globals", "partial"])
def test_tensors_and_arrays_count_like_weights(way: str) -> None:
    make = WAYS[way]
    for of in (
        lambda value: torch.tensor([value]).mul,
        lambda value: functools.partial(np.multiply, np.array([value])),
    ):
        assert model(make(of(1.0))).hash == model(make(of(1.0))).hash != ""
        assert model(make(of(1.0))).hash != model(make(of(2.0))).hash


def test_numbers_beside_the_weights_count() -> None:
    assert model(Wrapper(Net(0.5), 1.0)).hash != model(Wrapper(Net(0.5), 2.0)).hash


def test_what_does_not_change_samples_does_not_change_it() -> None:
    net = Net(0.5)
    before = model(closure(net)).hash
    compiled = model(closure(torch.compile(net, backend="eager")))
    fewer.sample(model(net), fewer.standard("ddim", model(net), nfe=2), n=2)
    assert model(closure(net.eval())).hash == before == compiled.hash


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_and_sparse_weights_are_read() -> None:
    for weight in (torch.eye(4).to_sparse(), torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8)):
        assert model(closure(functools.partial(torch.add, weight))).hash


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_models_keep_theirs(name: str) -> None:
    """Plans and studies in users' hands name them."""
    given = {"prompts": ["one"]} if name == "words-digits" else {}
    assert fewer.load(name, **given).hash == BUNDLED[name]


def formula(x: Tensor, t: Tensor, labels: Any) -> Tensor:
    return 0.5 * x


@pytest.mark.usefixtures("few_standards")
def test_where_no_weights_are_reached_nothing_is_claimed(tmp_path: Path) -> None:
    """No search is resumed, and a plan says that it cannot tell its network."""
    unknown, told = model(formula), model(formula, hash="of mine")
    assert [unknown.hash, told.hash] == ["", "of mine"]
    options: dict[str, Any] = {"nfe": 2, "trials": 1, "noises": 8, "fresh": 8}
    plan = fewer.tune(unknown, out=tmp_path / "unknown", **options).plan
    with pytest.raises(InputError, match=r"cannot resume .* give hash= to Model.from_denoiser"):
        fewer.tune(unknown, out=tmp_path / "unknown", resume=True, **options)
    assert re.search("cannot be told", fewer.engine.check_fit(model(lambda x, t, labels: 0.25 * x), plan) or "")
    first = fewer.tune(told, out=tmp_path / "told", **options)
    again = fewer.tune(told, out=tmp_path / "told", resume=True, **options)
    assert again.plan == first.plan
    assert fewer.engine.check_fit(told, first.plan) is None


@pytest.mark.usefixtures("few_standards")
def test_a_search_is_not_resumed_with_other_weights(tmp_path: Path) -> None:
    options: dict[str, Any] = {"nfe": 2, "trials": 1, "noises": 8, "fresh": 8, "out": tmp_path / "out"}
    fewer.tune(model(closure(Net(0.5))), **options)
    with pytest.raises(InputError, match="searched with another model"):
        fewer.tune(model(closure(Net(0.25))), resume=True, **options)


def test_load_takes_it_for_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "formulas.py").write_text(
        "import fewer\nfrom fewer.models.schedules import Flow\n"
        "def made(): return fewer.Model.from_denoiser(lambda x, t, labels: x, Flow(), (1, 4, 4), 'flow')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert fewer.load("formulas:made").hash == ""
    assert fewer.load("formulas:made", hash="v2").hash == "v2"
    with pytest.raises(InputError, match="known by its files"):
        fewer.load("mixture16", hash="v2")


def test_a_file_called_like_a_module_of_python_is_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tabnanny.py").write_text(
        "import fewer, torch\nfrom fewer.models.schedules import Flow\nlayer = torch.nn.Conv2d(1, 1, 1)\n"
        "def net(x, t, labels): return layer(x)\n"
        "def made(): return fewer.Model.from_denoiser(net, Flow(), (1, 4, 4), 'flow')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    hashes = set()
    for weight in (0.0, 1.0):
        fewer.load("tabnanny:made")
        nn.init.constant_(sys.modules["tabnanny"].layer.weight, weight)
        nn.init.constant_(sys.modules["tabnanny"].layer.bias, 0.0)
        hashes.add(fewer.load("tabnanny:made").hash)
    assert len(hashes) == 2
    assert "" not in hashes


def test_the_folder_of_a_pipeline_without_unet_and_transformer_has_no_hash(tmp_path: Path) -> None:
    """As of pipelines whose network is a prior or a decoder: a plan of another model is warned of, and applied."""
    case = tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler(**tiny.plain.LINEAR))
    (tmp_path / "model_index.json").write_text("{}")
    case.pipe.register_to_config(_name_or_path=str(tmp_path))
    plan = replace(fewer.standard("ddim", case.model, nfe=2), model={"name": "other", "hash": "other"})
    with pytest.warns(UserWarning, match="was made for other"):
        fewer.apply(plan, case.pipe)
    fewer.unapply(case.pipe)
