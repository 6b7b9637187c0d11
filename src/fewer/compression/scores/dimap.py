"""Magnitudes that are comparable within all layers of one role."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.scores.lamp import lamp
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.subject import Subject
from fewer.compression.units import Group
from fewer.compression.work import WithoutCalls
from fewer.registry import part

QUERIES = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
PROJECTIONS = ("to_out.0", "to_add_out")


@part(
    "dimap",
    title="Squared magnitudes over what of all layers of its role is at least as large",
    source="He & Zhou 2024, Data-independent Module-Aware Pruning for Hierarchical Vision Transformers, arXiv:2404.13648",
    papers=(266,),
)
@dataclass(frozen=True)
class DIMAP(WithoutCalls):
    """s_u = w_u^2 / sum_(v: w_v^2 >= w_u^2) w_v^2 over units u, v of all layers of one role.

    Roles are queries, keys and values of all attentions, their output projections, feed-forward layers, and all others. Units of
    one role are ranked as by their magnitudes, whatever the layer; those of different roles by what each takes of its role's
    squared norm, which bounds how far the role's information is distorted without it. No state of the network is needed.
    """

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale, from 0 to 1."""
        squares = Magnitude().rate(subject)
        roles: dict[str, list[str]] = {}
        for group in subject.groups:
            roles.setdefault(role(group), []).append(group.name)
        rated: dict[str, Tensor] = {}
        for names in roles.values():
            scores = lamp(torch.cat([squares[name] for name in names]))
            rated |= dict(zip(names, scores.split([len(squares[name]) for name in names]), strict=True))
        return {group.name: rated[group.name] for group in subject.groups}


def role(group: Group) -> str:
    """What a group's layer is for; of groups that are no single weights, their kind."""
    if group.kind != "weights":
        return group.kind
    if group.module.endswith(QUERIES):
        return "queries"
    if group.module.endswith(PROJECTIONS):
        return "projections"
    return "feed-forward" if ".ff." in group.module or ".net." in group.module else "others"
