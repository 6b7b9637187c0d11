"""Promises of policies that leave out blocks of the network or call another network in its place."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from fewer.blocks import BlockPolicy
from fewer.engine import sample
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.guidance.cfg import ClassifierFree
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.plan.difference import differences
from fewer.samplers import standard
from fewer.testing import demand, kept_by_a_file
from fewer.testing.models import transformer, unet

SCALES = (1.0, 2.0, 1.0, 2.0, 2.0, 1.0)  # of guided rows, one of which makes passes that the row before did not


def check(policy: BlockPolicy) -> None:
    """On a transformer and on a UNet, each with another network beside it, of which it may refuse one with InputError."""
    refused = []
    for model in (replace(transformer(), others=(transformer(1),)), replace(unet(), others=(unet(1),))):
        for plan in _plans(model):
            try:
                policy.apply(plan, model)
            except InputError as error:
                refused.append(str(error))
                break
            check_plan(policy, plan, model)
    demand(len(refused) < 2, f"{policy} refuses a transformer and a UNet: {'; '.join(refused)}")


def check_plan(policy: BlockPolicy, plan: Plan, model: Model) -> None:
    """The table stays but for blocks and networks; the plan costs no more, can be played and kept, and is always the same."""
    new = policy.apply(plan, model).check(tuple(model.shape))
    demand(not differences(new, policy.apply(plan, model)), f"{policy} makes two plans of one")
    rows = [replace(row, blocks={}, network=0, t=own.t) for row, own in zip(new.rows, plan.rows, strict=True)]
    demand(rows == list(plan.rows), f"{policy} changes more than the blocks and networks of rows")
    demand(not new.rows[0].blocks, f"{policy} leaves out blocks of the first row, which none has run before")
    costs = [plan_macs(model, each, _macs(model)) for each in (new, plan)]
    demand(costs[0] <= costs[1], f"{policy} makes a plan of {costs[0]:g} MACs from one of {costs[1]:g}")
    kept_by_a_file(new)
    demand(bool(sample(model, new, 3).isfinite().all()), f"{policy}: samples are not finite")


@cache
def _macs(model: Model) -> int:
    return call_macs(model)


def _plans(model: Model) -> list[Plan]:
    """One without guidance, and where the model has classes one whose rows make different passes."""
    plain = standard("ipndm", model, len(SCALES), "logsnr")
    rows = [replace(row, guidance=ClassifierFree(s)) for row, s in zip(plain.rows, SCALES, strict=True)]
    return [plain] if model.classes is None else [plain, replace(plain, rows=tuple(rows))]
