"""`fewer.tune` against the best of diffusers' settings, on held-out noises and the same converged reference.

    python -m benchmarks.against_diffusers mixture16 --nfe 5,8
    python -m benchmarks.against_diffusers full-mixture --data FOLDER_OF_CIFAR_ZIPS --nfe 5,8
    python -m benchmarks.against_diffusers digits --nfe 5          (any bundled name or pipeline folder)

The reference is the reference solution (uniform in log-SNR, steps doubled until they change less than 5 % of the tuned
plan's error). The best setting is chosen on the test noises themselves, which favours it. The ratio's interval is
paired. Writes benchmarks/results/against_diffusers-MODEL.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fewer
from benchmarks.diffusers_settings import played
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.held_out import held_out_noise
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.endings import typical
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.pipelines.pipeline_defaults import PipelineDefaults
from fewer.models.schedules import betas, discrete
from fewer.versions import versions

SCALED_LINEAR = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}
TEST_SEED = 12345


def noise_model(mixture: GaussianMixture, name: str) -> Model:
    """The exact noise prediction of a mixture under the scaled-linear process."""
    schedule = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")
    exact = mixture.to(dtype=torch.float32)

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        tau = schedule.tau(t[0].double())
        state = x / schedule.scale(tau).float()
        data = exact.denoise(state, float(tau))
        return (state - (1 - float(tau)) * data) / float(tau)

    return Model(
        network, schedule, "noise", tuple(mixture.shape), name=name, exact=mixture,
        pipeline=PipelineDefaults("DDIMScheduler", {**SCALED_LINEAR, "clip_sample": False}, 50),
    )  # fmt: skip


def load(name: str, data: str | None) -> Model:
    """The benchmark's model: an exact mixture, a bundled model or a pipeline folder."""
    if name == "full-mixture":
        from benchmarks.cifar import images16

        x, y = images16(Path(data or "") / "cifar10-train.zip")
        return noise_model(GaussianMixture.fit(x, y), name)
    if name == "mixture16":
        exact = fewer.load(name).exact
        if exact is None:
            raise SystemExit("mixture16 is not exact")
        return noise_model(exact, name)
    return replace(fewer.load(name), clip=None)  # diffusers' samplers below do not clip either


def run(model: Model, nfe: int, n: int, options: dict[str, Any]) -> dict[str, Any]:
    """Tune, then score the plan and diffusers' settings on n noises that nothing was chosen on."""
    began = time.monotonic()
    result = fewer.tune(model, nfe=nfe, **options)
    seconds = time.monotonic() - began
    noise = held_out_noise(model, n, TEST_SEED)
    labels = model.labels(n)
    mine = fewer.sample(model, result.plan, noise=noise, labels=labels)
    evaluator = Evaluator(model, noise, labels).with_reference([mine])
    fine, own = evaluator.reference, evaluator.errors(mine)
    assert fine is not None  # it was just made
    samples = dict(played(model, nfe, noise, labels))
    table = {name: evaluator.errors(x) for name, x in samples.items()}
    best = min(table, key=lambda name: typical(table[name]).value)
    found = evaluator.compared(mine, samples[best])
    return {
        "nfe": nfe,
        "typical": None if found.error is None else found.error.to_dict(),
        "elsewhere": [share.to_dict() for share in found.shares],
        "decision": found.decision(0.05),
        "ratio": paired.ratio(own, table[best]).to_dict(),
        "plan": paired.rmse(own).to_dict(),
        "best diffusers setting": best,
        "diffusers": {
            name: float(e.mean().sqrt()) for name, e in sorted(table.items(), key=lambda i: float(i[1].mean()))
        },
        "reference": {"nfe": fine.nfe, "error": fine.error},
        "evaluations": result.results["evaluations"],
        "seconds": seconds,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data")
    parser.add_argument("--nfe", default="5")
    parser.add_argument("-n", type=int, default=512)
    parser.add_argument("--noises", type=int)
    parser.add_argument("--fresh", type=int)
    parser.add_argument("--evaluations", type=int, help="most network evaluations of the search, of single samples")
    arguments = parser.parse_args()
    model = load(arguments.model, arguments.data)
    rows = []
    for nfe in map(int, arguments.nfe.split(",")):
        options = {name: getattr(arguments, name) for name in ("noises", "fresh", "evaluations")}
        rows.append(run(model, nfe, arguments.n, options))
        print(json.dumps({k: v for k, v in rows[-1].items() if k != "diffusers"}, indent=1), flush=True)
    where = Path(__file__).parent / "results" / f"against_diffusers-{model.name}.json"
    where.parent.mkdir(exist_ok=True)
    where.write_text(json.dumps({"model": model.describe(), "versions": versions(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
