"""What can be removed from a network without changing the shape of anything around it: the units inside of its blocks.

    channels   between the two convolutions of a ResnetBlock2D, equally many of each group of the norm between them
    heads      of an Attention
    width      of the hidden layer of a FeedForward
    blocks     of a transformer's list of equal blocks
    weights    single entries of matrices and kernels, which become zero: no kernel here is faster for that
    N:M        of every M neighbouring entries of a row N stay, of a kernel's row as it lies in memory; the others become zero

The first three need no graph of dependencies: what goes with a unit begins and ends in one block, whose input and output
keep their shapes, so that residual streams, skips and embeddings stay as they are. Without all of them a block is its shortcut
and a constant (`fewer.models.pipelines.narrow.Bare`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewer.blocks.find import network_of
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.pipelines.narrow import last_of

Kind = Literal["channels", "heads", "width", "blocks", "weights"]
WIDTHS: tuple[Kind, ...] = ("channels", "heads", "width")
LISTS = ("transformer_blocks",)  # of equal blocks, whose number the configuration has as num_layers
LAYERS = (nn.Linear, nn.Conv2d)
PORTIONS = 64  # in which a layer's single weights are removed


@dataclass(frozen=True)
class Span:
    """Entries of one parameter that go with the units of a group: unit i has index[i] of `index` (units, n) along `dim`."""

    parameter: str
    dim: int
    index: Tensor

    @property
    def layer(self) -> str:
        """The dotted name of the layer whose parameter it is."""
        return self.parameter.rpartition(".")[0]


@dataclass(frozen=True)
class Group:
    """Units of one kind in one place, which cost the same each.

    name    "module: kind"
    module  dotted name of what they are in
    spans   the entries that go with each
    size    number of units
    parts   runs of size / parts neighbouring units of which equally many stay: groups of a norm, or the Ms of N:M
    step    units that are removed together, a multiple of `parts`
    least   how many stay at least, in whole steps: 0 where the block can do without its branch
    members  where units are whole modules, their dotted names; there are no spans then
    macs    multiply-adds of one unit in a call of one sample; `weights`: its entries
    """

    kind: Kind
    module: str
    spans: tuple[Span, ...]
    size: int
    macs: int
    weights: int
    parts: int = 1
    step: int = 1
    members: tuple[str, ...] = ()
    least: int = 1

    @property
    def name(self) -> str:
        """What scores, masks and reports call it."""
        return f"{self.module}: {self.kind}"

    @property
    def steps(self) -> int:
        """How often a step of units can be removed."""
        return (self.size - self.least) // self.step

    @property
    def fewest(self) -> int:
        """The number of units that stays when all steps are removed."""
        return self.size - self.steps * self.step

    def at_most(self, share: float) -> int:
        """The greatest number of units that can stay and is at most a share in [0, 1] of them; where none is, the fewest but 0."""
        gone = math.ceil((1 - share) * self.size / self.step - 1e-9)
        return self.size - min(gone, (self.size - 1) // self.step, self.steps) * self.step

    def holds(self, parameter: str) -> bool:
        """Whether entries of the parameter of this name go with units."""
        if self.kind == "weights":
            return parameter == f"{self.module}.weight"
        return parameter.startswith(tuple(f"{member}." for member in self.members)) or any(
            span.parameter == parameter for span in self.spans
        )

    def sums(self, entries: dict[str, Tensor]) -> Tensor:
        """The sum over the entries of each unit (size,), float64, of a number for each entry of parameters by name."""
        total = torch.zeros(self.size, dtype=torch.float64)
        if self.kind == "weights" and f"{self.module}.weight" in entries:
            return entries[f"{self.module}.weight"].flatten().double().cpu()
        for n, member in enumerate(self.members):
            inside = [float(value.double().sum()) for name, value in entries.items() if name.startswith(f"{member}.")]
            total[n] = sum(inside)
        for span in self.spans:
            if span.parameter in entries:
                values = entries[span.parameter].double().cpu().movedim(span.dim, 0)
                values = values.reshape(len(values), -1).sum(1)
                total += values[span.index].sum(1)
        return total

    def kept(self, importance: Tensor, keep: int) -> Tensor:
        """The `keep` units of greatest importance (size,), equally many of each part, in their order."""
        by_part = importance.view(self.parts, -1)
        best = by_part.argsort(dim=1, descending=True, stable=True)[:, : keep // self.parts]
        start = torch.arange(self.parts).unsqueeze(1) * by_part.shape[1]
        return (best + start).flatten().sort().values


def refuse_single_weights(groups: Sequence[Group], what: str) -> None:
    """Raise InputError for groups of single weights, for a part that does something with every unit: `what`."""
    if any(group.kind == "weights" for group in groups):
        raise InputError(f"{what}, too many of single weights: --units widths or blocks")


def require_widths(groups: Sequence[Group], name: str) -> None:
    """Raise InputError for blocks and single weights, for a part that needs layers which read units: its `name`."""
    if any(not group.spans for group in groups):
        raise InputError(f"{name} is for channels, heads and neurons: --units widths")


def require_single_weights(groups: Sequence[Group], name: str) -> None:
    """Raise InputError for units that are no single weights, for a part that is for these: its `name`."""
    if any(group.kind != "weights" for group in groups):
        raise InputError(f"{name} is for single weights: --units weights, or N:M")


def find_patterns(model: Model, n: int, m: int) -> list[Group]:
    """Every layer's matrix or kernel whose rows are whole runs of m entries, in the order of the call: as it is, or with n of each.

    Raises InputError where there is none, and for a network whose layers share weights.
    """
    network = network_of(model)
    check_untied(network, model.name)
    groups = []
    for name, tokens in positions(model).items():
        size, row = _entries(network.get_submodule(name))
        if row % m == 0 and size > m:
            runs = size // m
            groups.append(Group("weights", name, (), size, tokens, 1, runs, (m - n) * runs, least=n * runs))
    if not groups:
        raise InputError(f"{model.name} has no layers whose rows are whole runs of {m} weights")
    return groups


def _entries(layer: Any) -> tuple[int, int]:
    """Of a layer's weight, and of a row of it."""
    return layer.weight.numel(), layer.weight[0].numel()


def find_units(model: Model, kinds: Sequence[Kind] = WIDTHS) -> list[Group]:
    """The groups of these kinds in a model's network, in the order in which a call of it comes to them.

    Raises InputError where it has none of them, and for a network whose layers share weights.
    """
    network = network_of(model)
    check_untied(network, model.name)
    tokens = positions(model)
    groups = [group for kind in kinds for group in FINDERS[kind](network, tokens)]
    if not groups:
        raise InputError(f"{model.name} has no {', '.join(kinds)} that can be pruned")
    order = {name: n for n, name in enumerate(tokens)}

    def first(group: Group) -> int:
        return min(n for name, n in order.items() if name == group.module or name.startswith(f"{group.module}."))

    return sorted(groups, key=first)


def check_untied(network: nn.Module, name: str) -> None:
    """Raise InputError where two layers share a weight: what one loses, the other would lose with it."""
    owners: dict[int, str] = {}
    for layer, module in network.named_modules(remove_duplicate=False):
        for weight, parameter in module.named_parameters(recurse=False):
            other = owners.setdefault(id(parameter), f"{layer}.{weight}")
            if other != f"{layer}.{weight}":
                raise InputError(
                    f"weights {other} and {layer}.{weight} of {name} are tied, so neither can be pruned alone"
                )


def positions(model: Model) -> dict[str, int]:
    """Layer -> how often a call of one sample uses each of its weights: pixels of a convolution's output, or tokens."""
    seen: dict[str, int] = {}

    def hook(name: str, outputs: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def after(module: nn.Module, args: Any, output: Tensor) -> None:
            seen[name] = seen.get(name, 0) + output.numel() // outputs

        return after

    layers = [(name, each) for name, each in network_of(model).named_modules() if isinstance(each, LAYERS)]
    hooks = [each.register_forward_hook(hook(name, len(each.weight))) for name, each in layers]
    try:
        with torch.inference_mode():
            x = torch.zeros(1, *model.shape, dtype=torch.float32, device=model.device)
            model(x, float(model.schedule.time(model.start)), model.labels(1))
    finally:
        for each in hooks:
            each.remove()
    return seen


def _channels(network: nn.Module, tokens: dict[str, int]) -> Iterator[Group]:
    for name, block in network.named_modules():
        if type(block).__name__ != "ResnetBlock2D" or f"{name}.conv1" not in tokens:
            continue
        inner: Any = block
        channels = inner.conv1.out_channels
        own = torch.arange(channels).unsqueeze(1)
        spans = [*_out(f"{name}.conv1", own), *_out(f"{name}.norm2", own), Span(f"{name}.conv2.weight", 1, own)]
        if inner.time_emb_proj is not None:
            both = inner.time_embedding_norm == "scale_shift"  # scales of all channels, then shifts
            spans += _out(f"{name}.time_emb_proj", torch.cat([own, own + channels], 1) if both else own)
        yield _group("channels", name, network, spans, tokens, inner.norm2.num_groups, inner.norm2.num_groups)


def _heads(network: nn.Module, tokens: dict[str, int]) -> Iterator[Group]:
    for name, module in network.named_modules():
        if type(module).__name__ != "Attention" or f"{name}.to_q" not in tokens:
            continue
        layer: Any = module
        width = layer.to_q.out_features
        plain = layer.add_k_proj is None and layer.to_k is not None and layer.to_k.out_features == width
        if not plain or _across_heads(layer) or width % layer.heads:
            continue
        index = torch.arange(width).view(layer.heads, -1)
        spans = [span for each in ("to_q", "to_k", "to_v") for span in _out(f"{name}.{each}", index)]
        spans.append(Span(f"{name}.to_out.0.weight", 1, index))
        products = tokens[f"{name}.to_q"] * tokens[f"{name}.to_k"] * 2 * index.shape[1]
        yield _group("heads", name, network, spans, tokens, more=products)


def _width(network: nn.Module, tokens: dict[str, int]) -> Iterator[Group]:
    for name, module in network.named_modules():
        first, last = f"{name}.net.0.proj", f"{name}.net.2"
        if type(module).__name__ != "FeedForward" or first not in tokens or last not in tokens:
            continue
        inner: Any = module
        hidden, outputs = inner.net[2].in_features, inner.net[0].proj.out_features
        own = torch.arange(hidden).unsqueeze(1)
        gated = torch.cat([own, own + hidden], 1) if outputs == 2 * hidden else own
        yield _group(
            "width", name, network, [*_out(first, gated), Span(f"{last}.weight", 1, own)], tokens, step=_step(hidden)
        )


def _blocks(network: nn.Module, tokens: dict[str, int]) -> Iterator[Group]:
    for name in LISTS:
        held = getattr(network, name, None)
        config: Any = getattr(network, "config", None)
        if not isinstance(held, nn.ModuleList) or config is None or config.get("num_layers") != len(held):
            continue
        members = tuple(f"{name}.{n}" for n in range(len(held)))
        costs = Counter(_cost(network, member, tokens) for member in members)
        (macs, weights), number = costs.most_common(1)[0]
        if (
            number > 1
        ):  # one that the network uses elsewhere too costs more, as DiT's first, which embeds the output's time
            alike = tuple(member for member in members if _cost(network, member, tokens) == (macs, weights))
            yield Group("blocks", name, (), number, macs, weights, members=alike)


def _cost(network: nn.Module, module: str, tokens: dict[str, int]) -> tuple[int, int]:
    """Multiply-adds and weights of a module: of its layers, and of the products of its attentions."""
    macs = weights = 0
    each: Any
    for name, each in network.get_submodule(module).named_modules(prefix=module):
        weights += sum(p.numel() for p in each.parameters(recurse=False))
        if isinstance(each, LAYERS):
            macs += tokens.get(name, 0) * each.weight.numel()
        elif type(each).__name__ == "Attention" and f"{name}.to_k" in tokens:
            macs += 2 * tokens[f"{name}.to_q"] * tokens[f"{name}.to_k"] * each.to_q.out_features
    return macs, weights


def _across_heads(attention: Any) -> bool:
    """Whether a norm of an attention's queries is over all heads together, so that each depends on the others."""
    weight = getattr(getattr(attention, "norm_q", None), "weight", None)
    return weight is not None and attention.heads > 1 and weight.numel() == attention.to_q.out_features


def _step(hidden: int) -> int:
    """How many neurons are removed together: a 32nd of them, in multiples of 8, which kernels are fast at, where that divides."""
    return next(step for step in (hidden // 32 // 8 * 8, 8, 4, 2, 1) if step and hidden % step == 0)


def _weights(network: nn.Module, tokens: dict[str, int]) -> Iterator[Group]:
    for name, layer in network.named_modules():
        if isinstance(layer, LAYERS) and name in tokens and layer.weight.numel() > 1:
            size = layer.weight.numel()
            step = next(n for n in range(max(1, size // PORTIONS), 0, -1) if size % n == 0)
            yield Group("weights", name, (), size, tokens[name], 1, step=step)


FINDERS: dict[Kind, Callable[[nn.Module, dict[str, int]], Iterator[Group]]] = {
    "channels": _channels, "heads": _heads, "width": _width, "blocks": _blocks, "weights": _weights,
}  # fmt: skip


def _out(layer: str, index: Tensor) -> list[Span]:
    """The outputs of a layer: rows of its weight, and its bias, which a layer without one does not have."""
    return [Span(f"{layer}.weight", 0, index), Span(f"{layer}.bias", 0, index)]


def _group(
    kind: Kind, name: str, network: nn.Module, spans: Sequence[Span], tokens: dict[str, int], parts: int = 1, step: int = 1,
    more: int = 0,
) -> Group:  # fmt: skip
    """The group with what its units cost: `more` multiply-adds than their weights make."""
    parameters = dict(network.named_parameters())
    there = tuple(span for span in spans if span.parameter in parameters)
    size, macs, weights = len(there[0].index), more, 0
    least = 1 if last_of(network.get_submodule(name)) is None else 0
    for span in there:
        parameter = parameters[span.parameter]
        entries = parameter.numel() // parameter.shape[span.dim] * span.index.shape[1]
        weights += entries
        macs += entries * tokens.get(span.layer, 0) if parameter.ndim > 1 else 0
    return Group(kind, name, there, size, macs, weights, parts, step, least=least)
