"""Folders of lighter networks: they come back as they were written, whole or not at all, and bad input is one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from refused_commands import check_refused
from small_networks import folder

import fewer
from fewer.cli.main import run
from fewer.compression import evidence
from fewer.compression.masks.best import BetterEnd
from fewer.compression.recover.distillation import EndDistillation
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.testing.models import transformer, unet

pytestmark = pytest.mark.usefixtures("short_evidence")

FEW = {"macs": 0.8, "noises": 64, "samples": 8, "batch": 16, "score": "magnitude"}


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    """A model's folder and what is made of it, once of each kind of units."""

    @cache
    def of(model, units):
        full = folder(tmp_path_factory.mktemp("full"), model)
        return full, fewer.compress(fewer.load(full), units=units, tune_steps=1, **FEW)

    return of


@pytest.mark.parametrize(
    ("model", "units"), [(unet(), "widths"), (transformer(4), "widths"), (transformer(4), "blocks")]
)
def test_a_light_folder_comes_back(model, units, compressed, tmp_path):
    full, made = compressed(model, units)
    source = made.full
    out = made.save(tmp_path / "light")
    again = fewer.load(out)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(again(x, 500.0, again.labels(3)), made.model(x, 500.0, again.labels(3)))
    assert call_macs(again) <= 0.8 * call_macs(source)
    written = json.loads((out / "evidence.json").read_text())
    assert written["macs"] == {"full": call_macs(source), "light": call_macs(again)}
    few = written["quality"]["fd"]["equal_cost"]
    assert few["calls"] == round(evidence.CALLS * call_macs(again) / call_macs(source)) < evidence.CALLS
    assert any(f"the full network in {few['calls']} calls" in line for line in made.lines)
    assert not any(path.name.startswith(".fewer-") for path in out.iterdir())
    if units == "blocks":  # the configuration says it all
        from diffusers import DiTTransformer2DModel

        plain = DiTTransformer2DModel.from_pretrained(out / "transformer")
        assert sum(p.numel() for p in plain.parameters()) == again.parameters
    joint = fewer.load(full)
    assert len({made.model.hash, made.full.hash, again.hash}) == 3
    assert made.model.hash in again.known_as()  # a plan of one knows the other, and not the full network
    replace(joint, others=(replace(again, name="light"),))  # rows of a plan may call it


@pytest.fixture(scope="module")
def light_unet(compressed, tmp_path_factory):
    """The folder of a light UNet."""
    return compressed(unet(), "widths")[1].save(tmp_path_factory.mktemp("light") / "one")


@pytest.fixture(scope="module")
def lighter_unet(light_unet):
    """A lighter one of that."""
    return fewer.compress(light_unet, tune_steps=0, **FEW)


def test_a_light_network_can_be_made_lighter(light_unet, lighter_unet, tmp_path):
    again = lighter_unet.save(tmp_path / "two")
    assert call_macs(fewer.load(again)) < call_macs(fewer.load(light_unet)) < call_macs(unet())


def test_another_run_into_the_folder_leaves_nothing_of_the_first(tmp_path):
    full = folder(tmp_path / "full", transformer(3))
    common = f"--tune-steps 0 --noises 64 --samples 8 --batch 16 --score magnitude --out {tmp_path / 'light'}".split()
    assert run(["compress", str(full), "--macs", "0.8", *common]) == 0
    assert (tmp_path / "light" / "transformer" / "light.json").exists()
    assert run(["compress", str(full), "--macs", "0.8", "--units", "blocks", *common]) == 0
    assert not (tmp_path / "light" / "transformer" / "light.json").exists()
    assert call_macs(fewer.load(tmp_path / "light")) < call_macs(fewer.load(full))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--macs 0", "macs is 0.0; expected a share between 0 and 1"),
        ("--macs 1", "macs is 1.0"), ("--macs -0.5", "macs is -0.5"), ("--macs nan", "macs is nan"),
        ("--size 1.5", "size is 1.5"), ("", "expected one of macs, size and ms"), ("--ms 0", "ms is 0.0"),
        ("--ms 1e9 --batch 4", "a sample here already"),
        ("--macs 0.5 --size 0.5", "macs and size given"),
        ("--macs 0.01", "cannot be cut to 0.01 of its multiply-adds"),
        ("--macs 0.5 --units rows", "units is 'rows'"), ("--macs 0.5 --units blocks", "has no blocks"),
        ("--macs 0.5 --score nothing", "'nothing' is no method of compress"),
        ("--macs 0.5 --score knapsack", "score is 'knapsack'"), ("--macs 0.5 --allocator magnitude", "allocator is 'magnitude'"),
        ("--macs 0.5 --data {folder}/large.npz", "large.npz"), ("--macs 0.5 --features pixels", "give --data too"),
        ("--macs 0.5 --tune-steps -1", "tune-steps"), ("--macs 0.5 --dtype float16", "made lighter in float32"),
        ("--macs 0.5 --units weights --allocator erdos-renyi --score erdos-renyi", "score is 'erdos-renyi'"),
        ("--macs 0.5 --allocator erdos-renyi --samples 8", "erdos-renyi is for single weights"),
        ("--macs 0.5 --units weights --score output-loss --samples 8", "too many of single weights"),
        ("--macs 0.5 --units weights --score polarised-gates --samples 8", "too many of single weights"),
        ("--units 2:4 --score transport --samples 8", "N:M leaves nothing to learn"),
        ("--macs 0.5 --recovery taylor", "recovery is 'taylor'"),
        ("--macs 0.5 --recovery distillation --tune-steps 0", "steps is 0"),
        ("--units 2:4 --allocator knapsack", "allocator is given"),
        ("--macs 0.5 --recovery least-squares --tune-steps 100", "tune_steps is 100"),
        ("--macs 0.5 --units weights --recovery least-squares", "least-squares is for channels"),
        ("--bits 4 --rounding reste", "reste makes one bit"), ("--bits 8 --rounding ofq --group 8", "scale for each channel"),
        ("--bits 8 --units blocks", "--bits remove none"), ("--bits 8 --tune-steps 7", "--bits remove none"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_nothing_is_written(options, says, tmp_path, capsys):
    full = folder(tmp_path / "full", unet())
    np.savez(tmp_path / "large.npz", x=np.zeros((16, 9, 9, 1), np.uint8))
    check_refused(f"compress {full} --out {{out}} {options}", says, tmp_path, capsys)


def test_models_that_come_from_no_folder_cannot_be_written(tmp_path):
    made = fewer.compress(transformer(), tune_steps=0, **FEW)
    with pytest.raises(InputError, match="not loaded from a folder"):
        made.save(tmp_path / "light")
    assert not (tmp_path / "light").exists()


@pytest.mark.parametrize("change", [
    lambda part: (part / "light.json").write_text("[]"),
    lambda part: (part / "light.json").write_text('{"version": 1, "heads": {"nowhere": 2}}'),
    lambda part: (part / "light.json").write_text('{"version": 2, "heads": {}}'),
    lambda part: (part / "config.json").write_text(
        (part / "config.json").read_text().replace('"block_out_channels": [\n    8,', '"block_out_channels": [\n    4,')
    ),
])  # fmt: skip
def test_damaged_light_folders_are_refused(change, light_unet, tmp_path):
    out = shutil.copytree(light_unet, tmp_path / "light")
    fewer.load(out)
    change(out / "unet")
    with pytest.raises(InputError):
        fewer.load(out)


FAILURES = [
    (
        "fewer.compression.recover.distillation.trained",
        "--macs 0.8 --tune-steps 1 --samples 8 --batch 16 --score magnitude",
    ),
    ("fewer.compression.folder.write_network", "--macs 0.8 --tune-steps 0 --samples 8 --batch 16 --score magnitude"),
    ("fewer.models.quantised.file.write", "--bits 8"),
]


@pytest.mark.parametrize(("writer", "options"), FAILURES, ids=["recovery", "widths", "bits"])
@pytest.mark.parametrize(("error", "status"), [(OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)])
def test_failed_and_interrupted_runs_leave_nothing_behind(writer, options, error, status, tmp_path, monkeypatch):
    full = folder(tmp_path / "full", transformer())

    def fails(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(writer, fails)
    assert run(["compress", str(full), *options.split(), "--noises", "64", "--out", str(tmp_path / "o")]) == status
    assert not (tmp_path / "o").exists()


def test_what_others_wrote_is_not_written_over_unless_forced(lighter_unet, tmp_path):
    """In Python as by the command."""
    out = tmp_path / "others"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'thesis.txt', which this command did not write"):
        lighter_unet.save(out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    lighter_unet.save(out, force=True)
    assert (out / "thesis.txt").read_text() == "mine"
    assert fewer.load(out).parameters == lighter_unet.model.parameters


@pytest.mark.parametrize(
    ("took", "harmful"), [("end-gauss-newton", False), ("taylor", True), ("magnitude", False), ("magnitude", True)]
)
def test_the_evidence_says_which_score_and_recoveries_were_taken(took, harmful, tmp_path, monkeypatch, capsys):
    left = iter([0.1, 1.0] if took == "end-gauss-newton" else [1.0, 1.0])
    monkeypatch.setattr(BetterEnd, "_left", lambda *given: next(left))
    factor = 10.0 if harmful else 1.0
    monkeypatch.setattr(EndDistillation, "recover", lambda self, subject, light, kept: _times(light, factor))
    full, out = folder(tmp_path / "full", unet()), tmp_path / "light"
    score = "better-end" if took != "magnitude" else took
    parts = f"--score {score} --recovery least-squares --recovery end-distillation --tune-steps 1"
    assert run(f"compress {full} --macs 0.8 --samples 8 --batch 16 --noises 64 --out {out} {parts}".split()) == 0
    said, written = capsys.readouterr().out, json.loads((out / "evidence.json").read_text())
    assert written["choice"]["score"] == score
    assert written["choice"]["recovery"] == ["least-squares", "end-distillation"]
    assert written["taken"]["score"] == took
    assert "least-squares" in written["taken"]["recovery"]
    assert ("end-distillation" in written["taken"]["recovery"]) == (not harmful)
    assert (f"score of the units: {took}, which better-end took" in said) == (score == "better-end")
    assert ("end-distillation was taken back" in said) == harmful


def _times(light, factor):
    with torch.no_grad():
        for parameter in light.parameters():
            parameter.mul_(factor)
    return 1
