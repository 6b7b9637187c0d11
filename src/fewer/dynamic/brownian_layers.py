"""Brownian bridges in layers: how far a bridge strays is drawn first, and then its values at any times, both exactly.

A bridge from x to y in time s, of a Brownian motion of variance 1 a unit of time, stays between l and u, D = u - l, with
probability

    sum_k exp(-2 k D (k D + y - x) / s) - exp(-2 (x - l + k D) (y - l + k D) / s),    k any whole number

(the images of x in both barriers). Layer i holds the bridges that stay within i widths of the ends' span and not within i - 1.
Given its values at some times a bridge is in layer i with a probability that is a difference of products of such terms: values
drawn without regard to the layer are kept with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_IMAGES = 3  # on either side; further ones are below 1e-20 of boxes as wide as a layer is at least, twice the root of the time
_LEAST = 1e-300


def stays(x: Tensor, y: Tensor, span: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Probability that a bridge from x to y in time `span` stays in (low, high), of tensors that broadcast; ends lie within.

    The box is at least twice as wide as the root of the time, for which the sum is cut. Of no time it is 1.
    """
    k = torch.arange(-_IMAGES, _IMAGES + 1, dtype=torch.float64) * (high - low)[..., None]
    x, y, s = (x - low)[..., None], (y - low)[..., None], span.clamp_min(_LEAST)[..., None]
    found: Tensor = (torch.exp(-2 * k * (k + y - x) / s) - torch.exp(-2 * (x + k) * (y + k) / s)).sum(-1)
    return found.clamp(0, 1)


class Layers(NamedTuple):
    """Bridges from x to y in time span, (..) float64 each, and the number of each one's layer, from 1 on."""

    x: Tensor
    y: Tensor
    span: Tensor
    number: Tensor

    def box(self, within: int = 0) -> tuple[Tensor, Tensor]:
        """Ends (..) of the layer's box, or of that of so many layers within it."""
        away = (self.number - within) * self.span.sqrt()
        return torch.minimum(self.x, self.y) - away, torch.maximum(self.x, self.y) + away

    def share(self, times: Tensor, values: Tensor) -> Tensor:
        """Probability (..) that bridges with values (.., m) at rising times (.., m) are in their layers."""
        ends = torch.cat([self.x[..., None], values, self.y[..., None]], -1)
        clock = torch.cat([torch.zeros_like(self.x)[..., None], times, self.span[..., None]], -1)
        spans = clock.diff(dim=-1)

        def within(low: Tensor, high: Tensor) -> Tensor:
            low, high = low[..., None], high[..., None]
            inside = ((ends > low) & (ends < high)).all(-1)
            at = ends.clamp(low, high)
            return torch.where(inside, stays(at[..., :-1], at[..., 1:], spans, low, high).prod(-1), 0.0)

        return within(*self.box()) - torch.where(self.number > 1, within(*self.box(1)), 0.0)


def drawn_layers(x: Tensor, y: Tensor, span: Tensor, generator: torch.Generator) -> Layers:
    """The layers of bridges from x to y (..), float64, in time span (..) > 0; a width is the root of the time."""
    u = torch.rand(x.shape, dtype=torch.float64, generator=generator)
    layers = Layers(x, y, span, torch.ones_like(x))
    while bool((outside := stays(x, y, span, *layers.box()) < u).any()):
        layers = layers._replace(number=layers.number + outside)
    return layers


def bridge_values(layers: Layers, times: Tensor, generator: torch.Generator) -> Tensor:
    """Values (.., m) of the bridges at rising times (.., m) in [0, span], drawn given their layers, by rejection."""
    shape = (*layers.x.shape, times.shape[-1])
    flat = Layers(*(each.expand(layers.x.shape).flatten() for each in layers))
    clock, found = times.expand(shape).flatten(0, -2), torch.empty(shape, dtype=torch.float64).flatten(0, -2)
    left = torch.arange(len(found))
    while len(left):
        tried = left.repeat(len(found) // len(left))  # the fewer are left, the more often each is tried at once
        some = Layers(*(each[tried] for each in flat))
        values = _bridge(some, clock[tried], generator)
        kept = torch.rand(len(tried), dtype=torch.float64, generator=generator) < some.share(clock[tried], values)
        found[tried[kept]] = values[kept]
        missing = torch.ones(len(found), dtype=torch.bool)
        missing[tried[kept]] = False
        left = left[missing[left]]
    return found.view(shape)


def _bridge(of: Layers, times: Tensor, generator: torch.Generator) -> Tensor:
    """Values (n, m) at rising times (n, m), whatever the layer: a path that is bent to its end."""
    clock = torch.cat([torch.zeros_like(of.x)[:, None], times, of.span[:, None]], -1)
    steps = clock.diff(dim=-1).clamp_min(0)
    path = (steps.sqrt() * torch.randn(steps.shape, dtype=torch.float64, generator=generator)).cumsum(-1)
    gone = (times / of.span[:, None]).clamp_max(1)
    return of.x[:, None] + path[:, :-1] + gone * (of.y - of.x - path[:, -1])[:, None]
