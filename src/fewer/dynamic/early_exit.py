"""Early exit: in each row a sample leaves the network after the first block whose uncertainty head is sure enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewer.blocks.find import network_of
from fewer.dynamic.exits import chain, check_exits, leaving, play_exits
from fewer.engine import MICRO_BATCH, History, Step, begin, bind, output, play
from fewer.errors import InputError, whole
from fewer.evaluate.cost.clock import macs
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.registry import part

RIDGE = 1e-3  # of the mean variance of a token's channels


@dataclass(frozen=True)
class Heads:
    """Affine maps of the tokens h (T, C) that a sample has after `depth` blocks in a row.

        g = h + h A + a          (C, C), (C,): what goes to the network's own output layer
        predicted error = mean_T sigmoid(h w + b)     (C,), (): of the row's output by g against the whole network's

    Stacked over rows and depths 1 .. L - 1: A (rows, L - 1, C, C), a and w (rows, L - 1, C), b (rows, L - 1).
    """

    A: Tensor
    a: Tensor
    w: Tensor
    b: Tensor

    def out(self, row: int, depth: int, tokens: Tensor) -> Tensor:
        """What the output layer is given of tokens (m, T, C)."""
        return tokens + tokens @ self.A[row, depth - 1] + self.a[row, depth - 1]

    def macs(self, model: Model) -> Tensor:
        """Multiply-accumulates (L,) of a call of one sample that leaves after 1, 2, .. L blocks, heads included."""
        x, t = (
            torch.zeros(1, *model.shape, dtype=torch.float32, device=model.device),
            float(model.schedule.time(model.start)),
        )

        def call(k: int) -> None:
            def leave(row: int, depth: int, who: Tensor, tokens: Tensor) -> Tensor:
                return (self.predicted_error(row, depth, tokens) >= 0) & (depth == k)

            with torch.inference_mode(), leaving(model, leave, self.out):
                model(x, t, model.labels(1))

        costs = [macs(partial(call, k)) for k in range(1, len(chain(model)) + 1)]
        return torch.tensor(costs, dtype=torch.float64, device=model.device)

    def predicted_error(self, row: int, depth: int, tokens: Tensor) -> Tensor:
        """The predicted error (m,) of leaving with tokens (m, T, C), in (0, 1)."""
        return torch.sigmoid(tokens @ self.w[row, depth - 1] + self.b[row, depth - 1]).mean(1)


@dataclass(frozen=True)
class Exited:
    """Samples x (n, *shape), the number of blocks that each row ran of each (rows, n), and mean MACs of a sample."""

    x: Tensor
    depths: Tensor
    macs: float


@part(
    "early-exit",
    title="Early exit by learned uncertainty heads",
    source="Tang et al. 2023, DeeDiff: dynamic uncertainty-aware early exiting (heads alone, the network as it "
    "is), arXiv:2309.17074",
    papers=(65,),
)
@dataclass(frozen=True)
class EarlyExit:
    """A sample leaves row n after the first block whose predicted error is at most the row's threshold.

    The heads are fitted to the model's own trajectories along the plan, in closed form: g by ridge regression to the
    tokens after the last block, and the logit of the predicted error by ridge regression to that of tanh|u_g - u|, between
    the row's output by g and by the whole network, averaged over a token's pixels. Each row has its own heads, which makes
    them aware of time.

    An error of u_n moves the sample by w_n = |sum_m b_mn| times as much, so that row n's threshold is theta / w_n.

    The paper trains output and uncertainty heads by gradients, together with the network, whose layers its loss weighs by
    their certainty, and takes one threshold for all rows. Here the network stays as it is, and its output layer is shared.

    thresholds  of each row, at least 0: at 0 nobody leaves, above 1 all do, after the first block
    costs       multiply-accumulates of a call that is left after 1, 2, .. L blocks, as `Heads.macs` counts them
    """

    plan: Plan
    heads: Heads
    thresholds: tuple[float, ...]
    costs: tuple[float, ...]

    @classmethod
    def fitted(
        cls, model: Model, plan: Plan, share: float, *, weighted: bool = True, noises: int = 192, seed: int = 0
    ) -> EarlyExit:
        """Heads fitted on so many noises of a seed, with the thresholds at which those take `share` of the plan's MACs.

        `weighted` False gives all rows the same threshold. They are found on the trajectories without exits. Costs
        rows x depths x noises network evaluations at most. Raises InputError for a share above 1 or below the first
        exit's, noises below 1, and for plans that `play_exits` refuses.
        """
        whole("noises", noises)
        check_exits(plan)
        heads, errors = _fit(model, plan, noises, seed)
        costs = heads.macs(model)
        if not costs[0] / costs[-1] <= share <= 1:
            raise InputError(f"share is {share!r}; expected {costs[0] / costs[-1]:.3g} (the first exit's) to 1")
        w = torch.tensor(weights(plan) if weighted else [1.0] * len(plan.rows), dtype=torch.float32).clamp_min(1e-9)
        theta = threshold(errors * w.to(errors)[:, None, None], costs, share)
        return cls(plan, heads, tuple((theta / w).tolist()), tuple(costs.tolist()))

    def sample(
        self, model: Model, n: int = 64, *, seed: int = 0, noise: Tensor | None = None, labels: Any = None,
        batch: int = MICRO_BATCH,
    ) -> Exited:  # fmt: skip
        """Samples as `fewer.sample` draws them from these arguments; a sample's exits do not depend on the others.

        Raises InputError as `play_exits` does.
        """
        n = n if noise is None else len(noise)
        z = unit_noise(seed, range(n), model.shape, device=model.device) if noise is None else noise.to(model.device)
        y = model.labels(n, labels)

        def sure(row: int, depth: int, who: Tensor, tokens: Tensor) -> Tensor:
            return self.heads.predicted_error(row, depth, tokens) <= self.thresholds[row]

        parts = [slice(at, at + batch) for at in range(0, n, batch)]
        done = [play_exits(model, self.plan, z[p], None if y is None else y[p], sure, self.heads.out) for p in parts]
        depths = torch.cat([ran for _, ran in done], 1)
        costs = torch.tensor(self.costs, dtype=torch.float64, device=depths.device)
        return Exited(torch.cat([x for x, _ in done]), depths, float(costs[depths - 1].sum(0).mean()))


def weights(plan: Plan) -> list[float]:
    """|sum_m b_mn| of each row n: how far the sample at the end moves with its output, for rows that start at the state."""
    return [abs(sum(float(row.b.get(n, 0.0)) for row in plan.rows)) for n in range(len(plan.rows))]


def threshold(errors: Tensor, costs: Tensor, share: float) -> float:
    """The least threshold at which samples of these predicted errors (rows, depths, n) cost at most a share of whole calls."""
    candidates = errors.flatten().sort().values
    low, high = -1, len(candidates) - 1  # indices: the least whose cost is small enough lies in (low, high]
    while high - low > 1:
        middle = (low + high) // 2
        leaves = torch.cat([errors <= candidates[middle], torch.ones_like(errors[:, :1], dtype=torch.bool)], 1)
        first = leaves.to(torch.int8).argmax(1)  # of several the first
        low, high = (low, middle) if float(costs[first].mean()) <= share * float(costs[-1]) else (middle, high)
    return float(candidates[high]) if share < 1 else 0.0


def _fit(model: Model, plan: Plan, noises: int, seed: int) -> tuple[Heads, Tensor]:
    """The heads, and the predicted errors (rows, depths, n) of the samples that they were fitted on."""
    noise, labels = unit_noise(seed, range(noises), model.shape, device=model.device), model.labels(noises)
    with torch.inference_mode():
        steps, history = bind(model, plan), History()
        tokens = _tokens(model, steps, begin(plan, noise, lambda: noise), labels, history)
        rows, count = tokens.shape[:2]
        fits = [[_ridge(tokens[r, k], tokens[r, -1] - tokens[r, k]) for k in range(count - 1)] for r in range(rows)]
        A, a = (torch.stack([torch.stack([fit[i] for fit in row]) for row in fits]) for i in range(2))
        heads = Heads(A, a, torch.zeros_like(a), torch.zeros_like(a[..., 0]))
        for r, step in enumerate(steps):
            for k in range(1, count):
                early = _early(model, step, r, k, history.states[r], labels, heads)
                target = _by_token((early - history.outputs[r]).abs().tanh(), tokens.shape[3])
                w, b = _ridge(tokens[r, k - 1], target.clamp(1e-4, 1 - 1e-4).logit()[..., None])
                heads.w[r, k - 1], heads.b[r, k - 1] = w[:, 0], b[0]
        errors = [[heads.predicted_error(r, k, tokens[r, k - 1]) for k in range(1, count)] for r in range(rows)]
    return heads, torch.stack([torch.stack(row) for row in errors])


def _tokens(model: Model, steps: list[Step], x: Tensor, labels: Tensor | None, history: History) -> Tensor:
    """Tokens (rows, blocks, n, T, C) after each block, of a run without exits."""
    modules = [network_of(model).get_submodule(name) for name in chain(model)]
    seen: list[Tensor] = []
    hooks = [module.register_forward_hook(lambda m, args, out: seen.append(out)) for module in modules]
    try:
        play(model, steps, x, labels, history=history)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(seen).unflatten(0, (len(steps), len(modules))).float()


def _early(model: Model, step: Step, row: int, depth: int, x: Tensor, labels: Tensor | None, heads: Heads) -> Tensor:
    """Output u (n, *shape) of a row that all samples leave after `depth` blocks."""

    def leave(_: int, at: int, who: Tensor, tokens: Tensor) -> Tensor:
        return torch.full((len(who),), at == depth, device=tokens.device)

    with leaving(model, leave, lambda _, at, tokens: heads.out(row, at, tokens)):
        return output(step, x, labels)


def _by_token(error: Tensor, tokens: int) -> Tensor:
    """Means (n, T) over the channels and pixels of square patches, in the order of rows, of errors (n, C, H, W)."""
    patch = math.isqrt(error.shape[2] * error.shape[3] // tokens)
    return F.avg_pool2d(error.mean(1, keepdim=True), patch).flatten(1)


def _ridge(tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(C, M) and (M,): the affine map of tokens (n, T, C) to targets (n, T, M) by ridge regression."""
    x, y = tokens.flatten(0, 1).double(), targets.flatten(0, 1).double()
    x0, y0 = x.mean(0), y.mean(0)
    gram = (x - x0).T @ (x - x0)
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram, (x - x0).T @ (y - y0))
    return weight.float(), (y0 - x0 @ weight).float()
