"""Methods that change what a network does inside: one line where the network takes no notice, never the plain result."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor
from small_networks import small_dit, small_unet, with_blocks
from torch import Tensor

import fewer
from fewer import InputError, Model
from fewer.dynamic.attention_uncertainty import choose_noise
from fewer.dynamic.negative_merging import NegativeMerging
from fewer.guidance import guide
from fewer.guidance.cads import ConditionAnnealed
from fewer.guidance.pag import PerturbedAttention, SkipLayer, Weakened
from fewer.guidance.seg import SmoothedEnergy
from fewer.plan import Shortcut
from fewer.tasks.editing.attention import redirected, self_attentions
from fewer.tasks.editing.methods.attentive_eraser import AttentiveEraser


class Deaf:
    """An attention processor that knows no mask."""

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        shape = hidden_states.shape
        x = hidden_states if len(shape) == 3 else hidden_states.flatten(2).transpose(1, 2)
        q, k, v = (self.of(layer, x).unflatten(2, (attn.heads, -1)).transpose(1, 2) for layer in self.projections(attn))
        out = attn.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out if len(shape) == 3 else out.transpose(1, 2).reshape(shape) + hidden_states

    def projections(self, attn: Any) -> Iterator[Any]:
        return iter((attn.to_q, attn.to_k, attn.to_v))

    def of(self, layer: Any, x: Tensor) -> Tensor:
        given: Tensor = layer(x)
        return given


class Direct(Deaf):
    """One that does not call the projections either, as a fused kernel does."""

    def of(self, layer: Any, x: Tensor) -> Tensor:
        return F.linear(x, layer.weight, layer.bias)


def with_processor(model: Model, processor: Any) -> Model:
    """A copy of the model whose self-attention layers have another processor."""
    twin = copy.deepcopy(model.network.module)  # type: ignore[attr-defined]
    for layer in self_attentions(twin):
        layer.set_processor(processor)  # type: ignore[operator]
    return replace(model, network=type(model.network)(twin, model.classes is not None))  # type: ignore[call-arg]


def blind(model: Model) -> Model:
    """A copy of the model whose network runs none of its layers."""
    twin = copy.deepcopy(model.network.module)  # type: ignore[attr-defined]
    twin.forward = lambda x, **_: (x.expand(-1, model.network.module.config.out_channels, -1, -1) / 2,)  # type: ignore[attr-defined]
    return replace(model, network=type(model.network)(twin, model.classes is not None))  # type: ignore[call-arg]


def erased(model: Model, **settings: Any) -> Tensor:
    mask = torch.zeros(8, 8)
    mask[:4] = 1
    image = torch.zeros(1, *model.shape)
    made: Tensor = fewer.edit(model, image, plan=3, mask=mask, method=AttentiveEraser(**settings)).images
    return made


def guided(rule: Callable[[float], Any]) -> Callable[[Model], Any]:
    return lambda model: fewer.sample(model, guide(fewer.standard("ddim", model, 2, "logsnr"), rule(2.0)), n=2)


def weakened(kind: type[Weakened]) -> Callable[[Model], Any]:
    return guided(lambda scale: kind(scale, (0,)))


METHODS: dict[str, Callable[[Model], Any]] = {
    "attentive-eraser": erased,
    "perturbed-attention": weakened(PerturbedAttention),
    "smoothed-energy": weakened(SmoothedEnergy),
    "skip-layer": weakened(SkipLayer),
    "cads": guided(ConditionAnnealed),
    "negative-merging": lambda model: NegativeMerging(fewer.standard("ddim", model, 2, "logsnr"), group=2).sample(
        model, 2
    ),
    "attention-uncertainty": lambda model: choose_noise(
        model, fewer.standard("ddim", model, 2, "logsnr"), 1, candidates=2
    ),
}
MASKS, QUERIES = ("attentive-eraser", "perturbed-attention"), ("smoothed-energy", "attention-uncertainty")


@pytest.mark.parametrize("network", [small_dit, small_unet], ids=["dit", "unet"])
@pytest.mark.parametrize("name", METHODS)
def test_what_a_network_does_not_run_is_not_changed_without_a_word(name: str, network: Callable[[], Model]) -> None:
    if name == "cads" and network is small_unet:
        pytest.skip("cads is of classes")
    with pytest.raises(InputError, match=f"^{name} cannot be used with"):
        METHODS[name](blind(network()))


@pytest.mark.parametrize("network", [small_dit, small_unet], ids=["dit", "unet"])
@pytest.mark.parametrize(
    ("name", "processor"), [*((name, Deaf()) for name in MASKS), *((name, Direct()) for name in QUERIES)]
)
def test_a_processor_that_takes_no_notice_is_found_out(name: str, processor: Any, network: Callable[[], Model]) -> None:
    with pytest.raises(InputError, match=f"^{name} cannot be used with"):
        METHODS[name](with_processor(network(), processor))


def test_a_layer_with_weights_of_zero_heeds_masks_though_they_change_nothing() -> None:
    """As the last projection of many networks is before they are trained."""
    model = with_processor(small_dit(), AttnProcessor2_0())  # type: ignore[no-untyped-call]
    for layer in self_attentions(model.network.module):  # type: ignore[attr-defined]
        layer.to_out[0].weight.zero_()  # type: ignore[index,union-attr]
    assert METHODS["perturbed-attention"](model).isfinite().all()


@pytest.mark.parametrize("kind", [PerturbedAttention, SkipLayer, SmoothedEnergy])
def test_a_layer_that_is_named_twice_is_weakened_once(kind: type[Weakened]) -> None:
    assert torch.equal(guided(lambda scale: kind(scale, (0, 0)))(small_dit()), weakened(kind)(small_dit()))


def test_a_block_that_rows_leave_out_is_not_missed() -> None:
    """All other layers are pushed apart; a plan that runs none of them is refused."""
    model = small_dit(2)
    plan = fewer.standard("ddim", model, 2, "logsnr")
    skipped = with_blocks(plan, {n: {"block.0": Shortcut({})} for n in range(2)})
    assert NegativeMerging(skipped, group=2).sample(model, 2).x.isfinite().all()
    with pytest.raises(InputError, match="does not run"):
        NegativeMerging(skipped, group=2, layers=(0,)).sample(model, 2)


def test_queries_are_scaled_only_where_the_layer_asks_for_them() -> None:
    """A processor that heeds masks and takes its queries elsewhere goes with similarity 1 alone."""

    class Masked(Direct):
        def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            mask = kwargs.get("attention_mask")
            given = super().__call__(attn, hidden_states)
            return given if mask is None else given + 0 * mask.clamp(-1).mean()

    model = with_processor(small_dit(), Masked())
    assert erased(model, similarity=1.0).isfinite().all()
    with pytest.raises(InputError, match="to_q"):
        erased(model)


@pytest.mark.parametrize("network", [small_dit, small_unet], ids=["dit", "unet"])
def test_processors_that_heed_masks_do_the_same(network: Callable[[], Model]) -> None:
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :4] = 1
    found = []
    for processor in (AttnProcessor(), AttnProcessor2_0(), SlicedAttnProcessor(1)):  # type: ignore[no-untyped-call]
        layers = self_attentions(with_processor(network(), processor).network.module)  # type: ignore[attr-defined]
        x = torch.randn(2, 16, layers[0].to_q.in_features, generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr,arg-type]
        with torch.no_grad(), redirected(layers[:1], mask, 0.3):
            found.append(layers[0](x))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[0], found[2], atol=1e-5, rtol=1e-4)
