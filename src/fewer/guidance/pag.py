"""Away from the network itself with some of its layers weakened: autoguidance without a second network."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from fewer.blocks.attention import masked, named
from fewer.blocks.forwards import Ran, watched
from fewer.blocks.playing import Played
from fewer.errors import InputError
from fewer.guidance.passes import Passes
from fewer.guidance.rule import Rule
from fewer.registry import part

TRANSFORMER, UNET = "DiTTransformer2DModel", "UNet2DModel"


@dataclass(frozen=True)
class Weakened(Rule):
    """u = u(label) + (scale - 1) (u(label) - u(weak)) + (cfg - 1) (u(label) - u(empty)),

    with u(weak) a conditional pass of the same network in which some layers are weakened.

    scale   1 is the conditional network
    layers  numbers of those layers: of a transformer's blocks, or of a UNet's attention layers, from 0, as they are run,
            each of which counts once
    cfg     scale of classifier-free guidance besides, for a third pass unless it is 1

    The weak pass is a separate call, after which the network is as before. Raises InputError for networks other than
    diffusers' DiTTransformer2DModel and UNet2DModel, for layers that the network has not or that cannot be weakened (attention
    processors that heed no mask, or take their queries elsewhere), and in rows that leave out blocks.
    """

    scale: float
    layers: tuple[int, ...]
    cfg: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = self.layers
        whole = isinstance(numbers, tuple | list) and all(
            isinstance(n, int | float) and not isinstance(n, bool) and n == n // 1 >= 0 for n in numbers
        )
        if not whole or not numbers:
            raise InputError(f"guidance layers is {numbers!r}; expected numbers of layers such as (2, 3), from 0")
        object.__setattr__(self, "layers", tuple(dict.fromkeys(int(n) for n in numbers)))

    @property
    def passes(self) -> int:
        """2, or 3 with classifier-free guidance."""
        return 1 + len(self.conditions)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Those of the whole network's passes."""
        return ("label",) if self.cfg == 1 else ("label", "empty")

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        if isinstance(passes.call, Played):
            raise InputError(
                f"{self.rule} weakens layers for its own pass; the plan's rows must run all of their blocks"
            )
        chosen = self._chosen(passes.module)
        strong, *others = passes.outputs(*self.conditions)
        with ExitStack() as stack:
            ran = [stack.enter_context(self.weakened(layer)) for layer in chosen]
            weak = passes.u(passes.call(passes.x_in, passes.t, passes.labels))
        for n, layer, each in zip(self.layers, chosen, ran, strict=True):
            if not each.yes:
                raise InputError(
                    f"{self.rule} cannot be used with this network: its passes do not run what is weakened of layer {n}, "
                    f"{named(getattr(layer, 'attn1', layer))}"
                )
        u = strong + (self.scale - 1) * (strong - weak)
        for without in others:
            u = u + (self.cfg - 1) * (strong - without)
        return u

    @abstractmethod
    def weakened(self, layer: nn.Module) -> AbstractContextManager[Ran]:
        """A context in which the layer is weakened, and which tells whether what is weakened has run."""

    def _chosen(self, network: nn.Module | None) -> list[nn.Module]:
        known = [] if network is None else layers(network)
        if not known:
            what = "a function" if network is None else f"a {type(network).__name__}"
            raise InputError(f"{self.rule} needs a {TRANSFORMER}, or a {UNET} with attention; the network is {what}")
        wrong = [n for n in self.layers if n >= len(known)]
        if wrong:
            raise InputError(f"guidance layers has {wrong[0]}; the network has layers 0 .. {len(known) - 1}")
        return [known[n] for n in self.layers]


@part(
    "skip-layer",
    title="Skip-layer guidance: away from the network with some layers left out",
    source="Hyung et al. 2024, Spatiotemporal Skip Guidance, arXiv:2411.18664",
    papers=(73,),
)
@dataclass(frozen=True)
class SkipLayer(Weakened):
    """The weak pass skips the layers: a transformer's block, or a UNet's attention layer with its residual connection,
    returns its input. The paper skips layers of video transformers; here they are of images.
    """

    rule: ClassVar[str] = "skip-layer"

    def weakened(self, layer: nn.Module) -> AbstractContextManager[Ran]:
        """The layer gives its input."""
        return watched(layer, _passing_by)


@part(
    "perturbed-attention",
    title="Perturbed-attention guidance: away from the network with identity maps for self-attention",
    source="Ahn et al. 2024, Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance, arXiv:2403.17377",
    papers=(354,),
)
@dataclass(frozen=True)
class PerturbedAttention(Weakened):
    """The weak pass has the identity for self-attention maps of the layers: each place attends to itself alone, softmax(Q K')
    V is V.
    """

    rule: ClassVar[str] = "perturbed-attention"

    def weakened(self, layer: nn.Module) -> AbstractContextManager[Ran]:
        """The layer's self-attention sees each place alone."""
        attention = getattr(layer, "attn1", layer)
        return watched(attention, masked(attention, _alone, self.rule))


def layers(network: nn.Module) -> list[nn.Module]:
    """Blocks of a DiTTransformer2DModel, or the attention layers of a UNet2DModel, as they are run; none of others."""
    if type(network).__name__ == TRANSFORMER:
        return list(network.get_submodule("transformer_blocks").children())
    if type(network).__name__ != UNET:
        return []
    stages = [getattr(network, name) for name in ("down_blocks", "mid_block", "up_blocks")]
    modules = [module for stage in stages if stage is not None for module in stage.modules()]
    return [module for module in modules if hasattr(module, "to_v") and hasattr(module, "to_out")]


def _passing_by(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden_states


def _alone(hidden_states: Tensor, places: int) -> Tensor:
    """The mask that leaves each place itself."""
    mask = hidden_states.new_full((places, places), float("-inf")).fill_diagonal_(0)
    return mask.expand(len(hidden_states), -1, -1)
