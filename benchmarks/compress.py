"""Every score of units at 20, 40 and 60 % of the multiply-adds removed, before and after repair: docs/compress.md.

    python -m benchmarks.compress [--models dit-digits digits] [--sparse dit-digits] [--steps 20] [--seed 0] [--scores ecodiff]
    python -m benchmarks.compress --models --half dit-digits=160 cifar16-unet=83 --cifar ZIP

For each bundled network, share and score, with numbers of units by the score's usual allocator: the root mean square difference
of the light network's outputs from the full one's on 512 states that neither has seen, as cut, after least squares, and after as
many gradient steps of distillation, each with its 95 % interval. `--sparse`: likewise of single weights, two of four neighbouring
ones and a fifth of all, by score and allocator, as cut and after the steps. Writes benchmarks/results/compress.json, beside what
other models and scores have there, and docs/compress.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import fewer
from benchmarks.cifar import images16
from fewer.claims.compress.beds import errors, light, repaired, subject
from fewer.claims.guidance import cifar
from fewer.compression import Allocator
from fewer.compression.allocate.erdos_renyi import ErdosRenyi
from fewer.compression.allocate.knapsack import Uniform
from fewer.compression.asked import default_allocator
from fewer.compression.compress import Compressed
from fewer.compression.recover.distillation import Distillation
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.subject import Subject
from fewer.compression.units import find_patterns
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import rmse
from fewer.registry import Part, find, parts
from fewer.versions import versions

REMOVED = (0.2, 0.4, 0.6)
SLOW = ("output-loss",)  # of as many calls as there are channels: for blocks
SCORES = [part.name for part in parts("compress") if part.role == "score" and part.name not in SLOW]
DENSITY, RANDOM = (
    0.2,
    ("random", "magnitude"),
)  # of single weights; scores whose densities may be those of random graphs
ALLOCATORS = [part for part in parts("compress") if part.name in ("global", "uniform", "knapsack")]
KNAPSACK = "knapsack"
PER_CLASS = 1000  # images of each class
RESULTS = Path(__file__).parent / "results" / "compress.json"
PAGE = Path(__file__).parents[1] / "docs" / "compress.md"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["dit-digits", "digits"])
    parser.add_argument(
        "--scores", nargs="*", default=SCORES, choices=SCORES, help="the others' lines stay as they are"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--half",
        nargs="*",
        metavar="MODEL=STEPS[:BATCH]",
        default=[],
        help="also `fewer.compress(MODEL, macs=0.5, tune_steps=STEPS, batch=BATCH)`",
    )
    parser.add_argument("--half-seed", type=int, default=1, help="of the halves")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10's zip of training images, the data of the 16x16 networks")
    parser.add_argument("--sparse", nargs="*", default=[], metavar="MODEL", help="also tables of single weights")
    parser.add_argument("--page", action="store_true", help="make the page again from the results that are there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.page:
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        same = before.get("steps") == given.steps and before.get("seed") == given.seed
        models = before["models"] if same else {}
        found = {"steps": given.steps, "seed": given.seed, "models": models, "versions": versions()}
        found["half"] = before.get("half", {})
        found["sparse"] = before.get("sparse", {}) if same else {}
        for name, steps, batch in (re.split("[=:]", f"{each}:64")[:3] for each in given.half):
            made = halved_network(name, int(steps), int(batch), given.half_seed, given.cifar)
            found["half"][name] = made.to_dict()
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        for name in given.models:
            found["models"][name] = measured(name, given.steps, given.seed, given.scores, models.get(name, []))
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        for name in given.sparse:
            found["sparse"][name] = sparse(name, given.steps, given.seed)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page(json.loads(RESULTS.read_text())))


class Axes(torch.nn.Module):
    """The leading axes of the features of the bundled classifier of 16x16 images."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = cifar.classifier()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (n, 16) of images (n, 3, 16, 16), clipped to what a picture holds."""
        return cifar.features(x).float()


def halved_network(name: str, steps: int, batch: int, seed: int, images: Path | None) -> Compressed:
    """Half of the multiply-adds; of a network of CIFAR with its data, which lie in the order of labels that a model deals out."""
    if not name.startswith("cifar16"):
        return fewer.compress(name, macs=0.5, tune_steps=steps, noises=1024, batch=batch, seed=seed)
    if images is None:
        raise SystemExit(f"{name} is measured against CIFAR-10: give --cifar ZIP")
    x, y = images16(images)
    places = [(y == k).nonzero().flatten()[:PER_CLASS] for k in range(10)]
    data = x[torch.stack(places, 1).flatten()]
    return fewer.compress(
        name, macs=0.5, tune_steps=steps, noises=1024, data=data, features="benchmarks.compress:Axes", batch=batch, seed=seed,
        progress=lambda what, done, total: print(f"{name}: {what} {done} of {total}", file=sys.stderr, flush=True),
    )  # fmt: skip


def measured(
    name: str, steps: int, seed: int, scores: Sequence[str], before: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A line for each share and score; those of scores that are not asked for are of the lines before."""
    of, lines = subject(seed, name), []
    for removed in REMOVED:
        for score in SCORES:
            if score not in scores:
                lines += [line for line in before if (line["removed"], line["score"]) == (removed, score)]
                continue
            part = find("compress", score)
            allocator = default_allocator(part.make())
            network, kept = light(of, part.make(), find("compress", allocator).make(), 1 - removed)
            fitted = repaired(of, network, kept, LeastSquares())
            taught = repaired(of, fitted, kept, Distillation(steps))
            figures = {"cut": network, "least squares": fitted, "distilled": taught}
            line = {key: rmse(errors(of, each)).to_dict() for key, each in figures.items()}
            lines.append({"removed": removed, "score": score, "allocator": allocator, **line})
            print(name, lines[-1], file=sys.stderr, flush=True)
    return lines


def sparse(name: str, steps: int, seed: int) -> list[dict[str, Any]]:
    """A line for each pattern, score and allocator of single weights."""
    of, lines = subject(seed, name, ("weights",)), []
    patterns = replace(of, groups=tuple(find_patterns(of.model, 2, 4)))
    half = sum(g.fewest for g in patterns.groups) / sum(g.size for g in patterns.groups)
    scores = [find("compress", name) for name in SCORES if name != "ecodiff"]
    choices: list[tuple[str, Subject, float, Part, str, Allocator]]
    choices = [("2:4", patterns, half, score, "all layers", Uniform()) for score in scores]
    for allocator in ALLOCATORS:
        choices += [("80%", of, DENSITY, score, allocator.name, allocator.make()) for score in scores]
    choices += [("80%", of, DENSITY, score, "erdos-renyi", ErdosRenyi()) for score in scores if score.name in RANDOM]
    for pattern, bed, share, score, named, how in choices:
        network, kept = light(bed, score.make(), how, share, "weights")
        taught = repaired(bed, network, kept, Distillation(steps, features=0.0))
        line = {key: rmse(errors(bed, each)).to_dict() for key, each in (("cut", network), ("distilled", taught))}
        lines.append({"pattern": pattern, "score": score.name, "allocator": named, **line})
        print(name, lines[-1], file=sys.stderr, flush=True)
    return lines


def page(found: dict[str, Any]) -> str:
    """The page in words and tables."""
    text = ["# Lighter networks", "", *WORDS, ""]
    if found.get("half"):
        text += halved(found["half"])
    for name, lines in found["models"].items():
        heads = ("removed", "score", "as cut", "after least squares", f"after {found['steps']} gradient steps")
        text += [f"## {name}", "", "| " + " | ".join(heads) + " |", "|---|---|---|---|---|"]
        for line in lines:
            figures = (Interval.from_dict(line[key]) for key in ("cut", "least squares", "distilled"))
            by = line.get("allocator", KNAPSACK)  # that of lines from before they said so
            score = line["score"] if by == KNAPSACK else f"{line['score']}, numbers by {by}"
            text.append(f"| {line['removed']:.0%} | {score} | " + " | ".join(map(str, figures)) + " |")
        text.append("")
    for name, lines in found.get("sparse", {}).items():
        heads = ("pattern", "score", "layers by", "as cut", f"after {found['steps']} gradient steps")
        text += [
            f"## Single weights of {name}",
            "",
            *SPARSE,
            "",
            "| " + " | ".join(heads) + " |",
            "|---|---|---|---|---|",
        ]
        for line in lines:
            figures = (Interval.from_dict(line[key]) for key in ("cut", "distilled"))
            words = (line["pattern"], line["score"], line["allocator"], *map(str, figures))
            text.append("| " + " | ".join(words) + " |")
        text.append("")
    return "\n".join(text)


def halved(found: dict[str, Any]) -> list[str]:
    """A table of the networks at half of their multiply-adds."""
    heads = ("model", "seed", "steps", "states a step", "multiply-adds", "time", "difference of samples",
             "Frechet distance of the full one", "of the light",
             "light less full", "at 15 %", "full one in fewer calls", "light less that", "at equal cost")  # fmt: skip
    text = ["## Half of the multiply-adds", "", *HALF, "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, made in found.items():
        quality, macs = made["quality"], made["macs"]
        fd = quality["fd"]
        figures = (made["time"]["ratio"], quality["paired_rmse"], fd["full"], fd["light"], fd["difference"])
        told = " | ".join(str(Interval.from_dict(each)) for each in figures)
        few, beside = fd.get("equal_cost"), "| | "
        if few is not None:
            full, less = (Interval.from_dict(few[key]) for key in ("full", "difference"))
            beside = f"{few['calls']} calls: {full} | {less} | {few['decision']}"
        text.append(
            f"| {name} | {made['choice']['seed']} | {made['recovery']['steps']} | {made['time']['batch']} | "
            f"{macs['light'] / macs['full']:.1%} | {told} | {fd['decision']} | "
            f"{beside} |"
        )
    return [*text, ""]


SPARSE = """2:4: of every four neighbouring weights of a row two stay, in all layers. 80%: a fifth of all weights of layers stays.
Weights that are removed are zeros: no kernel here is faster for them.""".splitlines()
HALF = """`fewer.compress(MODEL, macs=0.5, tune_steps=STEPS, batch=STATES)`: time of a call of as many samples over the full
network's on one busy core, the root mean square difference of samples of DPM-Solver++(2M) in 10 calls from equal noises, and
Frechet distances: of the 16x16 networks to CIFAR-10 on 16 axes of their classifier's features, of the others to other samples of
the full network. Of a distance near 0, as these others' own is, a share is no scale; what the same multiply-adds buy otherwise is
one: the full network in 5 calls. Steps are at most 2 % of those that the networks were trained in.

Networks that predict noise (digits, cifar16-unet) are cut by `better-end` and repaired by `end-distillation`, flows by `taylor`
and `distillation`: where a network predicts noise, an error of its mean at high levels is multiplied by sigma / alpha, and losses
over pixels and levels alike do not see it. `better-end` takes `end-gauss-newton` of cifar16-unet, where it leaves a seventh of
the loss that `taylor` leaves to repair, and `taylor` of digits, where it leaves four fifths: there, on seed 1, gradient steps end
at 0.249 of difference and a distance of 0.0785 by `end-gauss-newton`, at 0.242 and 0.0890 with eight times its directions, and at
0.185 and 0.0433 by `taylor`.

What was tried for half of cifar16-unet, on 512 noises of seed 0 (difference of samples, and distance, of the full network 10.5):
cut by `taylor` and repaired by least squares alone 1.54 and 49.5, then by 83 steps of `distillation` 1.17 and 38.7, or of
`end-distillation` 0.303 and 24.0; cut by `end-gauss-newton` and repaired by least squares alone 0.375 and 18.9, then by 83 steps
of `end-distillation` at a rate of 1e-4 0.171 and 17.2. Rates of 4.8e-4, and of 2e-4 with the plain loss beside, raised the loss
nine and five times in the first 20 steps and were not followed to their end. A closed-form fit of the last layer by the same loss
lowers it by 18 % before the steps, and not at all after them. On digits steps along orthogonal matrices leave a loss of 0.0059
where AdamW leaves 0.0053. On dit-digits, a flow, `gauss-newton` and `end-gauss-newton` leave samples 3 and 5 % farther than
`taylor` after least squares. Larger batches, a mean of the weights along the steps, two cuts in turn and other units of
cifar16-dit were not tried.""".splitlines()
WORDS = """<!-- Made by `python -m benchmarks.compress` from benchmarks/results/compress.json. -->

`fewer compress MODEL --macs 0.5 --out DIR` removes channels, heads and hidden neurons inside of blocks until half of the
multiply-adds are left, whole branches of blocks among them, fits the layers that read them in closed form so that each block
gives what it gave, and lets the light network learn from the full one for some gradient steps. `--units blocks` leaves out whole
blocks of a transformer, `--units 2:4` half of the weights of every layer, and `--size` and `--ms` set the budget in weights or in
milliseconds on this machine. `--score` may also be a learner of masks (transport, polarised-gates, gumbel-subnetworks): gradient
steps of its own choose the units within the budget, with the weights where the method trains them. `--dry-run` says beforehand
what all of it would take and leave. `--recovery NAME` says what follows the cut, once for each in turn, in `--tune-steps`
gradient steps. The folder has evidence.json: which score and which recoveries were taken in the end, what the network costs, and
how far its samples are from the full network's under the same plan. `fewer tune MODEL --with DIR` lets rows of a plan call it.

A light network is worth a column where plans are cheap. Untuned, 9 rows or so of dit-digits and of its light network within the
multiply-adds of 6 full calls have 0.60 [0.56, 0.64] of the best standard plan's error. `tune --with` chooses which rows call
which from one recorded way, at one call of the light network on each of its states, and tries rows of both within 8,000
evaluations. Once plans are tuned, whole calls are ahead again: after 12,000 evaluations the median error of samples is 0.028 and
0.014 at 4 and 6 whole calls, and 0.042 and 0.020 of the rows of both at the same multiply-adds. The light network's own samples
are off by 0.05.

The verdict of a Frechet distance is against 15 % of the full network's own. Where that is near 0, as here, hardly any difference
is within it: read the difference itself, and the verdict against the full network in as many calls as the light one's
multiply-adds pay for.

A folder whose blocks were left out is plain: diffusers reads it. Widths inside of single blocks are nothing that a diffusers
configuration can say: `fewer.load(DIR)` reads such a folder (light.json beside the weights marks it), and
`fewer.load(DIR).network.module` is the diffusers network itself, for a pipeline's `unet` or `transformer`.

The tables: root mean square difference of the light network's outputs from the full one's (outputs have a mean square near 1), on
512 states that neither has seen, by score of the units; numbers by the exact knapsack, where no other allocator is named; one
seed. A loss that is low before the repair says little of what is left after it. `ecodiff` orders units by probabilities, which do
not add up: the knapsack would go by costs alone, so that its default is `global`, which ranks all units together. So, and without
repair, samples of dit-digits at 80 % of its multiply-adds are 0.69 [0.67, 0.71] times as far off as by `taylor`.""".splitlines()


if __name__ == "__main__":
    main()
