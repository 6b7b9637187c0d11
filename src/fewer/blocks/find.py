"""Finds the blocks of a network by the names of its modules and by observing one call.

    down.0, mid, up.1    whole stages of a UNet, with what they give to the way up
    down.0.resnet.1      ResnetBlock2D (Ho et al. 2020), .attention.1 likewise
    deep.1               all below level 1 of a UNet, on the way down and on the way up (Ma et al. 2024, DeepCache)
    block.3              a transformer's block; block.3.attn1, .attn2, .ff its attention and feed-forward
    single.3             a block of its second list (Flux)
    after.1              all of the transformer's blocks from block 1 on

A block's *branch* is what a shortcut stands for: output - input where it is residual, the output itself where its
parent adds it to what flows on (attention and feed-forward of a transformer's block), and else the output, which then
replaces what flows. Any other module is a block under its own dotted name, residual where shapes allow it.
"""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewer.blocks.flops import FlopCounter
from fewer.blocks.streams import Form, form_of
from fewer.errors import InputError
from fewer.models.model import Model

Kind = Literal["residual", "branch", "replacing"]
LISTS = {"transformer_blocks": "block", "single_transformer_blocks": "single", "blocks": "block"}
SUBLAYERS = ("attn", "attn1", "attn2", "ff", "ff_context")
STAGES = {"down_blocks": "down", "up_blocks": "up"}
LAYERS = {"resnets": "resnet", "attentions": "attention"}


@dataclass(frozen=True)
class Block:
    """A part of the network that a row may leave out: modules through which the streams flow one after another.

    modules  dotted names, in the order of the call; `forms` are the layouts of their streams
    macs     multiply-accumulates of one pass of one sample
    """

    name: str
    modules: tuple[str, ...]
    kind: Kind
    forms: tuple[Form, ...]
    macs: int

    @property
    def skippable(self) -> bool:
        """Whether its branch may be zero."""
        return self.kind == "residual" or (self.kind == "branch" and self.forms[-1].same)

    def overlaps(self, other: Block) -> bool:
        """Whether a module of one is, or lies in, a module of the other."""
        return any(
            f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.") for a in self.modules for b in other.modules
        )


@dataclass
class _Seen:
    """Observations of a module in one call of the network: number of calls, turn of the last one, form, FLOPs."""

    form: Form | InputError | None = None
    calls: int = 0
    turn: int = 0
    flops: int = 0
    flops_before: int = 0


# by network, then by the shape of its samples
_seen: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], dict[str, _Seen]]] = WeakKeyDictionary()
_known: WeakKeyDictionary[nn.Module, dict[tuple[str, tuple[int, ...]], Block]] = WeakKeyDictionary()


def network_of(model: Model) -> nn.Module:
    """The model's network as a module, without the wrapper of torch.compile. Raises InputError where it is none."""
    network = getattr(model.network, "module", model.network)
    network = getattr(network, "_orig_mod", network)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"the network of {model.name} is a {type(network).__name__}; blocks are found in a torch.nn.Module (or in "
            "the attribute `module` of what is called)"
        )
    return network


def is_module(model: Model) -> bool:
    """Whether the network is a module, in which blocks can be found at all."""
    return isinstance(getattr(model.network, "module", model.network), nn.Module)


def blocks(model: Model) -> dict[str, Block]:
    """All blocks whose names diffusers' networks use, by name, in the order of the network.

    Raises InputError for a network that is no module.
    """
    network = network_of(model)
    seen = _look(model, network)
    candidate_blocks = {
        name: _block(name, modules, branch, seen)
        for name, (modules, branch) in candidates(network).items()
        if all(module in seen and seen[module].calls == 1 for module in modules)
    }
    return {name: block for name, block in candidate_blocks.items() if block is not None}


def block(model: Model, name: str) -> Block:
    """The block of this name, or the module of this dotted name as a block.

    Raises InputError where there is neither, or where its modules are used more than once in a call.
    """
    network = network_of(model)
    known = _known.setdefault(network, {})
    if (name, model.shape) not in known:
        known[name, model.shape] = _named(model, network, name)
    return known[name, model.shape]


def _named(model: Model, network: nn.Module, name: str) -> Block:
    modules, branch = candidates(network).get(name, ((name,), False))
    there = dict(network.named_modules(remove_duplicate=False))
    if any(module not in there or not module for module in modules):
        those = ", ".join(blocks(model)) or "none found; dotted names of modules will do"
        raise InputError(f"{model.name} has no block {name!r}; there are: {those}")
    seen = _look(model, network)
    for module in modules:
        calls = seen[module].calls if module in seen else 0
        if calls != 1:
            shared = "blocks share state, so none of them can be left out alone" if calls else "it is never run"
            raise InputError(f"block {name!r} of {model.name} is used {calls} times in one call: {shared}")
        form = seen[module].form
        if isinstance(form, InputError):
            raise form
    named = _block(name, modules, branch, seen)
    if named is None:
        raise InputError(f"block {name!r} of {model.name} returns what cannot be made again without it")
    return named


def candidates(network: nn.Module) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Name -> (modules, whether their output is added by the parent), by the names that diffusers' networks use."""
    known: dict[str, tuple[tuple[str, ...], bool]] = {}
    if all(hasattr(network, name) for name in ("down_blocks", "mid_block", "up_blocks")):
        known |= {name: (modules, False) for name, modules in _deep(network).items()}
    flow: list[str] = []
    for name, _ in network.named_modules():
        words = name.split(".")
        short = _short(words)
        if short is None:
            continue
        kind = words[-2] if len(words) > 1 else ""
        if kind in LISTS or kind in LAYERS or short in _stages(network):
            known[short] = ((name,), False)
            if kind in LISTS and len(words) == 2:
                flow.append(name)
        elif words[-1] in SUBLAYERS and len(words) > 2 and words[-3] in LISTS:
            known[short] = ((name,), True)
    return known | {f"after.{n}": (tuple(flow[n:]), False) for n in range(1, len(flow))}


def _stages(network: nn.Module) -> list[str]:
    """A UNet's stages by their short names."""
    stages = [f"{short}.{n}" for name, short in STAGES.items() for n in range(len(getattr(network, name, ())))]
    return [*stages, "mid"] if hasattr(network, "mid_block") else stages


def _short(words: list[str]) -> str | None:
    """`down.0.resnet.1` for down_blocks.0.resnets.1; None where a word is not of those."""
    known = STAGES | LAYERS | LISTS | {"mid_block": "mid"} | {word: word for word in SUBLAYERS}
    if not all(word in known or word.isdigit() for word in words):
        return None
    return ".".join(known.get(word, word) for word in words)


def _deep(network: Any) -> dict[str, tuple[str, ...]]:
    """deep.l -> the modules below level l of a UNet: from the downsampler into it to the stage that comes back up."""
    levels = len(network.down_blocks)
    modules = {}
    for level in range(1, levels):
        into = getattr(network.down_blocks[level - 1], "downsamplers", None) or []
        modules[f"deep.{level}"] = (
            *(f"down_blocks.{level - 1}.downsamplers.{n}" for n in range(len(into))),
            *(f"down_blocks.{n}" for n in range(level, levels)),
            *(["mid_block"] if network.mid_block is not None else []),
            *(f"up_blocks.{n}" for n in range(levels - level)),
        )
    return modules


def _block(name: str, modules: tuple[str, ...], branch: bool, seen: dict[str, _Seen]) -> Block | None:
    """The block of these modules; None where they run in another order or an output is not of streams."""
    forms = [seen[module].form for module in modules]
    turns = [seen[module].turn for module in modules]
    known = tuple(form for form in forms if isinstance(form, Form))
    if len(known) < len(forms) or turns != sorted(turns):
        return None
    same = all(form.same and len(form.sources) == len(known[0].sources) for form in known)
    kind: Kind = "branch" if branch else "residual" if same else "replacing"
    return Block(name, modules, kind, known, sum(seen[module].flops // 2 for module in modules))


def _look(model: Model, network: nn.Module) -> dict[str, _Seen]:
    """Observations of every module in one call of one sample, made once for each network and shape."""
    known = _seen.setdefault(network, {})
    if model.shape in known:
        return known[model.shape]
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if name:
            names.setdefault(module, []).append(name)
    seen = {module: _Seen() for module in names}
    counter, turns, here = FlopCounter(), count(1), threading.get_ident()

    def before(module: nn.Module, args: Any) -> None:
        if threading.get_ident() != here:  # which calls the network, too
            return
        seen[module].flops_before = counter.get_total_flops()

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if threading.get_ident() != here:
            return
        record = seen[module]
        record.calls += 1
        record.turn = next(turns)
        record.flops += counter.get_total_flops() - record.flops_before
        try:
            record.form = form_of(names[module][0], args, kwargs, output)
        except InputError as error:
            record.form = error

    hooks = [module.register_forward_pre_hook(before) for module in names]
    hooks += [module.register_forward_hook(after, with_kwargs=True) for module in names]
    try:
        with torch.inference_mode(), _eager(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings(), counter:
            warnings.filterwarnings("ignore", message="Using `torch.compile")  # about hooks that fire once more
            x = torch.zeros(1, *model.shape, dtype=torch.float32, device=model.device)
            model(x, float(model.schedule.time(model.start)), model.labels(1))
    finally:
        for hook in hooks:
            hook.remove()
    known[model.shape] = {name: seen[module] for module in names if seen[module].calls for name in names[module]}
    return known[model.shape]


def _eager() -> AbstractContextManager[Any]:
    """Compiled networks run as they were written meanwhile, so that every module is seen."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled; importing it takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def at_granularity(model: Model, granularity: str) -> list[Block]:
    """Blocks that share no module, of one granularity.

    stage   a UNet's stages
    layer   resnets and attentions of a UNet, blocks of a transformer
    unit    the finest: attention and feed-forward of a transformer's block, and layers without such

    Raises InputError for other words, and where the network has none of that granularity.
    """
    network, known = network_of(model), list(blocks(model).values())
    if granularity == "stage":
        chosen = [b for b in known if b.name in _stages(network)]
    elif granularity == "layer":
        layers = [b for b in known if _is_layer(b.name)]
        chosen = [b for b in layers if not any(b.name.startswith(f"{other.name}.") for other in layers)]
    elif granularity == "unit":
        chosen = []  # a list's last block is also all that comes after the others
        for b in known:
            finest = not any(b.overlaps(o) and o.macs < b.macs for o in known)
            if finest and not any(b.overlaps(o) for o in chosen):
                chosen.append(b)
    else:
        raise InputError(f"level is {granularity!r}; expected stage, layer or unit")
    if not chosen:
        raise InputError(f"{model.name} has no blocks of level {granularity!r}")
    return chosen


def _is_layer(name: str) -> bool:
    return any(word in name.split(".")[-2:-1] for word in (*LAYERS.values(), *LISTS.values()))
