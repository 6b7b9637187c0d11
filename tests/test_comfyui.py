"""ComfyUI's node of a plan, on ComfyUI where it is there, else on a stand-in of the four things that the node uses."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import fewer
from fewer.files import read_json
from fewer.guidance.cfg import ClassifierFree
from fewer.models.schedules import Flow, VarianceExploding

PACK = Path(__file__).parents[1] / "integrations" / "comfyui"
SIGMAS = {"diffusion": (12.0, 4.0, 1.0, 0.2, 0.0), "flow": (1.0, 0.9, 0.6, 0.2, 0.0)}


@dataclass
class Sampler:
    """What a node gives as SAMPLER: the function and its own keywords."""

    sampler_function: Callable[..., Tensor]
    extra_options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Patched:
    """A model as nodes pass it on: its process, and a function of guidance where one was set."""

    process: Any
    guidance: Callable[[dict[str, Any]], Tensor] | None = None

    def clone(self) -> Patched:
        return replace(self)

    def get_model_object(self, name: str) -> Any:
        assert name == "model_sampling"
        return self.process

    def set_model_sampler_cfg_function(self, function: Any, disable_cfg1_optimization: bool) -> None:
        assert disable_cfg1_optimization
        self.guidance = function


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The node pack, imported as ComfyUI imports it."""
    if importlib.util.find_spec("comfy") is None:
        comfy, sampling, samplers = (ModuleType(f"comfy{part}") for part in ("", ".model_sampling", ".samplers"))
        sampling.CONST, samplers.KSAMPLER = type("CONST", (), {}), Sampler  # type: ignore[attr-defined]
        comfy.model_sampling, comfy.samplers = sampling, samplers  # type: ignore[attr-defined]
        for module in (comfy, sampling, samplers):
            monkeypatch.setitem(sys.modules, module.__name__, module)
    else:
        importlib.import_module("comfy.cli_args").args.cpu = True
    monkeypatch.delitem(sys.modules, "a_pack.plan_node", raising=False)
    spec = importlib.util.spec_from_file_location(
        "a_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "a_pack", made)
    spec.loader.exec_module(made)
    return made


def _model(kind: str, top: float) -> Patched:
    const = importlib.import_module("comfy.model_sampling").CONST
    return Patched(type("P", (const,) if kind == "flow" else (), {"sigma_max": top})())


def _plan(kind: str) -> fewer.Plan:
    schedule = Flow() if kind == "flow" else VarianceExploding(0.02, 14.6)
    model = fewer.Model.from_denoiser(lambda x, s, y: x, schedule, (1, 2, 2))
    return fewer.from_sigmas(SIGMAS[kind], model)


@pytest.mark.parametrize("kind", ["diffusion", "flow"])
def test_the_node_gives_the_sigmas_and_a_sampler_that_plays_them(kind: str, pack: Any, tmp_path: Path) -> None:
    path = _plan(kind).save(tmp_path / "plan.json")
    node = pack.NODE_CLASS_MAPPINGS["FewerPlan"]
    model = _model(kind, 14.6 if kind == "diffusion" else 1.0)
    sigmas, sampler, same = getattr(node(), node.FUNCTION)(model, plan=str(path))
    assert same is model
    torch.testing.assert_close(sigmas, torch.tensor(SIGMAS[kind]))
    x = torch.randn(2, 1, 2, 2) * sigmas[0]

    def network(x: Tensor, sigma: Tensor, denoise_mask: Any, model_options: Any, seed: int) -> Tensor:
        return torch.tanh(x + sigma.view(-1, 1, 1, 1))

    extra = {"denoise_mask": None, "model_options": {}, "seed": 0}
    here = sampler.sampler_function(
        network, x, sigmas, extra_args=extra, callback=None, disable=True, **sampler.extra_options
    )
    for a, b in pairwise(sigmas):  # Euler's method
        x = x + (x - network(x, a.expand(2), **extra)) / a * (b - a)
    torch.testing.assert_close(here, x, rtol=1e-5, atol=1e-5)


def test_the_models_guidance_is_that_of_the_row(pack: Any, tmp_path: Path) -> None:
    plan = _plan("diffusion")
    rules = (ClassifierFree(3.0), ClassifierFree(5.0), ClassifierFree(1.0), None)
    plan = replace(plan, rows=tuple(replace(row, guidance=rule) for row, rule in zip(plan.rows, rules, strict=True)))
    model = _model("diffusion", 14.6)
    sigmas, _, guided = pack.NODE_CLASS_MAPPINGS["FewerPlan"]().load(model, str(plan.save(tmp_path / "plan.json")))
    assert model.guidance is None
    x, label, empty = torch.randn(3, 2, 1, 2, 2)
    for sigma, scale in zip(sigmas[:-1], (3.0, 5.0, 1.0, 1.0), strict=True):
        args = {"sigma": sigma.expand(2), "input": x, "cond_denoised": label, "uncond_denoised": empty}
        torch.testing.assert_close(x - guided.guidance(args), empty + scale * (label - empty))


def test_a_plan_for_a_noisier_model_is_refused(pack: Any, tmp_path: Path) -> None:
    path = _plan("diffusion").save(tmp_path / "plan.json")
    with pytest.raises(fewer.InputError, match="begins at sigma 12, above the 10"):
        pack.NODE_CLASS_MAPPINGS["FewerPlan"]().load(_model("diffusion", 10.0), str(path))


@pytest.mark.parametrize("name", ["diffusion", "flow"])
def test_workflows_take_what_nodes_give(name: str, pack: Any) -> None:
    workflow = read_json(PACK / "workflows" / f"{name}.json")
    number, plan = next((n, each) for n, each in workflow.items() if each["class_type"] == "FewerPlan")
    node = pack.NODE_CLASS_MAPPINGS["FewerPlan"]
    assert plan["inputs"].keys() == node.INPUT_TYPES()["required"].keys()
    taken = {node.RETURN_TYPES[at]: key for each in workflow.values() for key, value in each["inputs"].items()
             if isinstance(value, list) for of, at in [value] if of == number}  # fmt: skip
    assert taken == {"SIGMAS": "sigmas", "SAMPLER": "sampler", "MODEL": "model"}
    links = [value[0] for each in workflow.values() for value in each["inputs"].values() if isinstance(value, list)]
    assert set(links) <= workflow.keys()


def test_on_comfyui_itself(pack: Any, tmp_path: Path) -> None:
    samplers = pytest.importorskip("comfy.k_diffusion.sampling", reason="ComfyUI is not installed here")
    path = _plan("diffusion").save(tmp_path / "plan.json")
    sigmas, sampler, _ = pack.NODE_CLASS_MAPPINGS["FewerPlan"]().load(_model("diffusion", 14.6), str(path))
    x = torch.randn(2, 1, 2, 2) * sigmas[0]
    there = samplers.sample_euler(lambda x, sigma: torch.tanh(x), x, sigmas, disable=True)
    here = sampler.sampler_function(lambda x, sigma: torch.tanh(x), x, sigmas, disable=True, **sampler.extra_options)
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)
