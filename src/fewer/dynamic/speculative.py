"""Sequences of a masked model from left to right, several tokens a call of it, by drafts of a cheaper one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fewer.dynamic.multi_draft import choose, recursive_rejection
from fewer.errors import InputError, whole
from fewer.models.masked import MaskedDenoiser
from fewer.noise import drawn
from fewer.registry import part

RULES = {"importance": choose, "recursive": recursive_rejection}


@dataclass(frozen=True)
class Speculated:
    """Sequences `tokens` (n, L), and of each the `rounds` (n,): calls of the target one after the other."""

    tokens: Tensor
    rounds: Tensor

    @property
    def block_efficiency(self) -> float:
        """Mean tokens that a round gives."""
        return self.tokens.numel() / float(self.rounds.sum())


@part(
    "multi-draft",
    title="Speculative sampling with several drafts: one chosen by importance weights, then accepted or drawn again",
    source="Khisti et al. 2024, Multi-Draft Speculative Sampling: Canonical Decomposition and Theoretical Limits, "
    "arXiv:2410.18234",
    papers=(78,),
    role="procedure",
)
def speculative(
    target: MaskedDenoiser,
    draft: MaskedDenoiser,
    n: int = 64,
    *,
    drafts: int = 2,
    ahead: int = 3,
    seed: int = 0,
    rule: Literal["importance", "recursive"] = "importance",
) -> Speculated:
    """n sequences with the law of the target from left to right, prod_i p(x_i | x_<i), whatever the draft.

    In a round `drafts` independent continuations of `ahead` tokens are drawn from the draft, one call a token, and the
    target's laws after every prefix of them are had in one call. Place by place a token is taken (see
    `fewer.dynamic.multi_draft`) from the continuations that agree with all taken so far; a token that none of them has ends
    the round. Where all places are drafts the target's law gives one token more.

    drafts   K; 1 is speculative sampling (Leviathan et al. 2022, arXiv:2211.17192)
    rule     importance: the paper's; recursive: one draft after the other (Miao et al. 2023, arXiv:2305.09781)

    Drafts come from one model; the paper's general setting has different ones, which are not taken here. Raises InputError for
    models of different sizes and numbers below 1.
    """
    if (target.length, target.vocabulary) != (draft.length, draft.vocabulary):
        raise InputError(
            f"the draft has {draft.length} places of {draft.vocabulary} tokens; expected {target.length} of {target.vocabulary}"
        )
    for name, value in (("n", n), ("drafts", drafts), ("ahead", ahead)):
        whole(name, value)
    if rule not in RULES:
        raise InputError(f"rule is {rule!r}; expected {' or '.join(RULES)}")
    run = _Run(target, draft, drafts, ahead, rule, torch.Generator().manual_seed(seed))
    tokens, rounds = target.masked(n), torch.zeros(n, dtype=torch.int64)
    with torch.inference_mode():
        while bool((left := tokens[:, -1] == target.mask).any()):
            tokens[left] = run.round(tokens[left])
            rounds += left
    return Speculated(tokens, rounds)


@dataclass(frozen=True)
class _Run:
    target: MaskedDenoiser
    draft: MaskedDenoiser
    drafts: int
    ahead: int
    rule: str
    generator: torch.Generator

    def uniform(self, *size: int) -> Tensor:
        """Independent numbers in [0, 1)."""
        return torch.rand(size, dtype=torch.float64, generator=self.generator)

    def round(self, tokens: Tensor) -> Tensor:
        """Sequences (n, L), known up to a place of their own, with one to `ahead` + 1 tokens more."""
        n, length = tokens.shape
        at = (tokens != self.target.mask).sum(1)  # the first open place of each
        drafted, its_laws = self._continuations(tokens, at)
        laws = self._after_prefixes(drafted, at)
        alive = torch.ones(n, self.drafts, dtype=torch.bool)
        going = torch.ones(n, dtype=torch.bool)
        found = tokens.clone()
        rows = torch.arange(n)
        for g in range(self.ahead + 1):
            rows = rows[going[rows] & (at[rows] + g < length)]
            if not len(rows):
                break
            place, some = at[rows] + g, alive[rows].to(torch.int8).argmax(1)  # any continuation that agrees
            q = laws[rows, some, g]
            if g == self.ahead:
                found[rows, place] = drawn(q, self.uniform(len(rows)))
                break
            those = drafted[rows][torch.arange(len(rows)), :, place]
            numbers = self.uniform(len(rows), self.drafts + 2)
            y, accepted = RULES[self.rule](q, its_laws[rows, some, g], those, alive[rows], numbers)
            found[rows, place] = y
            alive[rows] &= (those == y[:, None]) & accepted[:, None]
            going[rows] = accepted
        return found

    def _continuations(self, tokens: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Drafts (n, K, L) and their laws (n, K, ahead, V)."""
        n, length = tokens.shape
        drafted = tokens.repeat_interleave(self.drafts, 0)
        rows, places = torch.arange(len(drafted)), at.repeat_interleave(self.drafts)
        laws = []
        for g in range(self.ahead):
            place = (places + g).clamp_max(length - 1)
            law = self.draft(drafted)[rows, place]
            inside = places + g < length
            y = drawn(law, self.uniform(len(drafted)))
            drafted[rows[inside], place[inside]] = y[inside]
            laws.append(law)
        return drafted.view(n, self.drafts, length), torch.stack(laws, 1).view(n, self.drafts, self.ahead, -1)

    def _after_prefixes(self, drafted: Tensor, at: Tensor) -> Tensor:
        """The target's laws (n, K, ahead + 1, V) of the next token after each prefix of each draft, in one call."""
        n, k, length = drafted.shape
        ends = (at[:, None] + torch.arange(self.ahead + 1)).clamp_max(length - 1)  # (n, ahead + 1)
        known = torch.arange(length) < ends[:, None, :, None]
        prefixes = torch.where(known, drafted[:, :, None, :], self.target.mask).expand(n, k, -1, -1)
        laws = self.target(prefixes.reshape(-1, length)).view(n, k, self.ahead + 1, length, -1)
        places = ends[:, None, :, None, None].expand(n, k, -1, 1, laws.shape[-1])
        return laws.gather(3, places)[:, :, :, 0]
