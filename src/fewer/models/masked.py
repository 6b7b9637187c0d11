"""Masked discrete models: the laws of the masked tokens of a sequence, given those that are known, and one that is exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import ForeignError, InputError, foreign


@dataclass(frozen=True)
class MaskedDenoiser:
    """p(x_i = v | the known tokens) of all places i at once: what absorbing discrete diffusion needs of a network, without a time.

    network     tokens (n, length) int64 -> probabilities (n, length, vocabulary), each row of sum 1; tokens are 0 ..
                vocabulary - 1, and `mask` = vocabulary where a place is masked. What it says of known places is not used.
    length      tokens of a sequence L
    vocabulary  their number V

    Raises InputError for sizes below 1.
    """

    network: Callable[[Tensor], Tensor]
    length: int
    vocabulary: int
    name: str = "masked denoiser"

    def __post_init__(self) -> None:
        if self.length < 1 or self.vocabulary < 1:
            raise InputError(f"length is {self.length} and vocabulary {self.vocabulary}; expected at least 1 of each")

    @property
    def mask(self) -> int:
        """The token of a masked place."""
        return self.vocabulary

    def masked(self, n: int) -> Tensor:
        """Sequences (n, L) with every place masked."""
        return torch.full((n, self.length), self.mask)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Probabilities (n, L, V) float64 of clean tokens by one call of the network; ForeignError for what it raises or gives."""
        with foreign(f"the network of {self.name}"):
            given = self.network(tokens.clone()).double()
        expected = (*tokens.shape, self.vocabulary)
        if tuple(given.shape) != expected:
            raise ForeignError(f"{self.name} returned shape {tuple(given.shape)}; expected {expected}")
        if not bool((given >= 0).all()) or not torch.allclose(given.sum(-1), torch.ones_like(given[..., 0]), atol=1e-4):
            raise ForeignError(f"{self.name} returned a row that is not one of probabilities")
        return given / given.sum(-1, keepdim=True)


@dataclass(frozen=True, eq=False)
class MarkovChain:
    """A chain of L tokens with first law (V,) and transition matrix (V, V), whose every conditional is known (float64).

    Raises InputError for sizes that disagree and rows that are no probabilities.
    """

    first: Tensor
    transition: Tensor
    length: int

    def __post_init__(self) -> None:
        v = self.first.numel()
        if tuple(self.first.shape) != (v,) or tuple(self.transition.shape) != (v, v) or self.length < 1:
            raise InputError(
                f"a chain of first law {tuple(self.first.shape)} and matrix {tuple(self.transition.shape)}"
            )
        rows = torch.cat([self.first[None], self.transition]).double()
        if not bool((rows >= 0).all()) or not torch.allclose(rows.sum(1), torch.ones(v + 1).double()):
            raise InputError("a row of the chain is not one of probabilities")
        for name, value in (("first", self.first), ("transition", self.transition)):
            object.__setattr__(self, name, value.double())

    @classmethod
    def random(cls, vocabulary: int, length: int, seed: int = 0, sharpness: float = 1.0) -> MarkovChain:
        """Rows softmax(sharpness z) of unit-normal z: the sharper, the more a token says of its neighbours."""
        z = torch.randn(vocabulary + 1, vocabulary, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        first, *rows = torch.softmax(sharpness * z, 1)
        return cls(first, torch.stack(rows), length)

    @property
    def vocabulary(self) -> int:
        """Number of tokens V."""
        return len(self.first)

    def denoiser(self) -> MaskedDenoiser:
        """The exact denoiser."""
        return MaskedDenoiser(self.conditionals, self.length, self.vocabulary, "Markov chain")

    def conditionals(self, tokens: Tensor) -> Tensor:
        """p(x_i = v | the known tokens) (n, L, V), by the forward-backward recursion; one-hot where a token is known.

        Raises InputError where the known tokens have probability 0.
        """
        known = torch.nn.functional.one_hot(tokens, self.vocabulary + 1)[..., :-1].double()
        seen = torch.where((tokens == self.vocabulary)[..., None], torch.ones_like(known), known)
        forward, backward = [self.first * seen[:, 0]], [torch.ones_like(seen[:, 0])]
        for i in range(1, self.length):
            forward.append(_scaled(forward[-1]) @ self.transition * seen[:, i])
            backward.append(_scaled(backward[-1] * seen[:, self.length - i]) @ self.transition.T)
        joint = torch.stack(forward, 1) * torch.stack(backward[::-1], 1)
        if not bool((joint.sum(-1) > 0).all()):
            raise InputError("known tokens have probability 0 under the chain")
        return joint / joint.sum(-1, keepdim=True)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-probability (n,) of sequences (n, L)."""
        steps = self.transition[tokens[:, :-1], tokens[:, 1:]]
        return self.first[tokens[:, 0]].log() + steps.log().sum(1)

    def sequences(self) -> Tensor:
        """All V^L sequences, in lexicographic order."""
        return torch.cartesian_prod(*[torch.arange(self.vocabulary)] * self.length).view(-1, self.length)

    def numbers(self, tokens: Tensor) -> Tensor:
        """The places of sequences (n, L) in that order (n,)."""
        weights = self.vocabulary ** torch.arange(self.length - 1, -1, -1)
        return (tokens * weights).sum(1)


def _scaled(message: Tensor) -> Tensor:
    """Scaled so that long chains do not underflow."""
    return message / message.sum(1, keepdim=True).clamp_min(1e-300)
