"""`compress --dry-run`: what parts say that they take is what they take, and nothing is computed or written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_networks import folder
from torch import nn

import fewer
from fewer.blocks.find import network_of
from fewer.cli.main import run
from fewer.compression import compress as room
from fewer.compression.asked import knows
from fewer.compression.calibration import Calibration
from fewer.compression.cut import cut
from fewer.compression.foresee import foresee
from fewer.compression.request import requested
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.subject import Subject
from fewer.compression.units import WIDTHS, find_units
from fewer.compression.work import BACKWARD, WithWork
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.registry import Part, parts
from fewer.testing.compression import costs_of
from fewer.testing.models import transformer

PARTS = [part for part in parts("compress") if part.role in ("score", "mask learner", "allocator", "recovery")]
UNKNOWN = ("pagcp",)  # greedy: how many units it tries depends on what they do
FEW = {"steps": 2, "batch": 3, "points": 2, "calls": 2, "probes": 2}


@contextmanager
def counted(network: nn.Module) -> Iterator[Counter[str]]:
    """Meanwhile the samples that the network and its copies are called on, and those of them that are differentiated."""
    made: Counter[str] = Counter()

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        made["evaluations"] += len(next(each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)))

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        out = output if isinstance(output, torch.Tensor) else output[0]
        if out.requires_grad:
            out.register_hook(lambda slope: made.update(gradients=len(slope)))

    handles = [
        network.register_forward_pre_hook(before, with_kwargs=True),
        network.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield made
    finally:
        for handle in handles:
            handle.remove()


def subject_of(model: Model, weights: bool) -> Subject:
    """Three batches of two states, of groups of widths or of single weights."""
    groups = find_units(model, ("weights",) if weights else WIDTHS)[:2]
    states = Calibration(model, unit_noise(1, range(4), model.shape), model.labels(4))
    return Subject(model, tuple(groups), states, 2, 3)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_parts_take_what_they_say(part: Part) -> None:
    made = part.make(**{name: value for name, value in FEW.items() if knows(part.make(), name)})
    assert isinstance(made, WithWork) == (part.name not in UNKNOWN)
    if part.name in UNKNOWN:
        return
    for weights in (False, True):
        subject = subject_of(transformer(2), weights)
        subject.states  # noqa: B018  they are counted for themselves
        importance, _ = (
            Magnitude().rate(subject),
            costs_of(subject, 1.0),
        )  # which calls the network for its own sake, once
        kept = {g.name: g.kept(importance[g.name], g.fewest or g.step) for g in subject.groups}
        try:
            with counted(subject.network) as took, torch.enable_grad():
                steps = called(part, made, subject, cut(subject.network, subject.groups, kept), kept)
        except InputError:
            continue
        said = made.work(subject)
        assert (took["evaluations"], took["gradients"]) == (said.evaluations, said.gradients)
        assert steps in (None, said.steps)
        return
    raise AssertionError(f"{part.name} refuses both kinds of units")


def called(part: Part, made: Any, subject: Subject, light: nn.Module, kept: dict[str, torch.Tensor]) -> int | None:
    """The work of a part; the gradient steps that it says it made, if it says so."""
    if part.role == "recovery":
        return int(made.recover(subject, light, kept))
    if part.role == "mask learner":
        costs = costs_of(subject, 1.0)
        return int(made.learn(subject, replace(costs, limit=costs.least)).steps)
    if part.role == "allocator":
        made.allocate(subject, Magnitude().rate(subject), costs_of(subject, 1.0))
    else:
        made.rate(subject)
    return None


def test_a_run_takes_what_was_foreseen() -> None:
    model = transformer(3)
    asked: dict[str, Any] = {
        "macs": 0.7, "score": "taylor", "recovery": ["distillation"], "tune_steps": 2, "samples": 8, "noises": 64, "batch": 8,
    }  # fmt: skip
    forecast = foresee(requested(model, **asked))
    gradients = 2 * 8 + 8 * 4  # of the steps, and of the score's states
    with counted(network_of(model)) as took:
        fewer.compress(model, **asked)
    assert took["gradients"] == gradients
    assert took["evaluations"] == pytest.approx(
        forecast.total - BACKWARD * gradients, abs=8
    )  # beside: single ones for sizes


class Own:
    """Another package's score, which does not say what it takes."""

    def rate(self, subject: Subject) -> dict[str, torch.Tensor]:
        return Magnitude().rate(subject)


def test_what_is_not_known_is_said_to_be_not_counted() -> None:
    asked = requested(transformer(2), macs=0.9, score=Own(), noises=64, batch=4)
    assert any("not counted" in note and "Own" in note for note in foresee(asked).notes)
    known = replace(asked, score=Magnitude())
    assert not any("not counted" in note for note in foresee(known).notes)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--macs 0.8", "multiply-adds would be left (80.0%)"), ("--size 0.9", "weights would be left (90.0%)"),
        ("--units 2:4", "weights would be left"), ("--ms 1e-9", "cannot be cut to"),
        ("--bits 8", "bytes would be left"), ("--bits mixed --size 0.5 --rounding gptq", "not counted: the calls of gptq"),
        ("--macs 1.5", "share between 0 and 1"), ("--bits 8 --rounding ofq --group 8", "scale for each channel"),
    ],
)  # fmt: skip
def test_a_dry_run_computes_and_writes_nothing(options, says, tmp_path, monkeypatch, capsys):
    """What would be refused is refused then."""
    source = folder(tmp_path / "full", transformer(2))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(room, "calibration_of", None)
    status = run(
        ["compress", str(source), *options.split(), "--noises", "64", "--out", str(tmp_path / "o"), "--dry-run"]
    )
    said = capsys.readouterr()
    assert says in said.out + said.err
    assert status == (0 if "would write" in said.out else 2)
    assert sorted(tmp_path.rglob("*")) == before
