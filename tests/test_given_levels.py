"""`fewer audit --sigmas`, and lists of levels as input of other commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fewer.audit.given_levels import GivenLevels, faults_of
from fewer.audit.shifts import shift
from fewer.cli.main import run
from fewer.models.schedules import Flow, VarianceExploding

FLOW = ("--flow",)
REGULAR = np.linspace(1, 0.125, 8)


def _list(levels: np.ndarray, digits: int = 16) -> str:
    return ",".join(f"{level:.{digits}g}" for level in [*levels.tolist(), 0.0])


@pytest.mark.parametrize(
    ("given", "options", "name"),
    [
        ("14.6,5,6,1,0", (), "rising levels"),
        ("14.6,5,5,1,0", (), "repeated levels"),
        ("14.6,5,0,0", (), "zero before the end"),
        ("14.6,5,1", (), "no terminal zero"),
        ("14.6,5,1,0", FLOW, "beyond the process"),
        ("999,500,0", FLOW, "beyond the process"),
        ("0.8,0.5,0", FLOW, "late start"),
        ("1,0.5,0.0001,0", FLOW, "below the process"),
        ("1,0.5,0", (*FLOW, "--solver", "dpmpp-2m"), "infinite log-SNR"),
        (_list(shift(shift(REGULAR, 3), 3)), (*FLOW, "--shift", "3"), "shift twice"),
        (_list(shift(shift(REGULAR, 3), 3), 3), (*FLOW, "--shift", "3"), "shift twice"),
        (_list(shift(shift(np.linspace(1, 0.2, 5), 1.15), 1.15)), (*FLOW, "--shift", "1.15"), "shift twice"),
        (_list(shift(np.linspace(1, float(shift(0.001, 3)), 8), 3)), (*FLOW, "--shift", "3"), "shift twice"),
        ("1,0.9643,0.9,0.75,0", (*FLOW, "--shift", "3"), "shift twice"),
    ],
)  # fmt: skip
def test_each_fault_is_found_alone_and_said_in_a_line(
    given: str, options: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "--sigmas", given, *options]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert run(["audit", "--sigmas", given, *options, "--json", "-"]) == 1
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert [fault["name"] for fault in faults] == [name]
    assert lines[0] == f"{faults[0]['sentence']}: {faults[0]['repair']}"


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("14.6,5.2,1.1,0.3,0", ()),
        (_list(REGULAR), FLOW),
        (_list(REGULAR), (*FLOW, "--shift", "3")),
        (_list(shift(REGULAR, 3)), (*FLOW, "--shift", "3")),
        (_list(shift(np.linspace(1, 0.001, 8), 3)), (*FLOW, "--shift", "3")),
        ("0.9999,0.5,0", (*FLOW, "--solver", "dpmpp-2m")),
        ("[1, 0.5, 0]", (*FLOW, "--solver", "dpmpp_2m")),
    ],
)
def test_right_lists_have_no_fault(given: str, options: tuple[str, ...]) -> None:
    assert run(["audit", "--sigmas", given, *options]) == 0


def test_the_process_of_a_folder_is_read_without_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {
        "_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "beta_end": 0.012, "num_train_timesteps": 1000, "prediction_type": "epsilon",
    }  # fmt: skip
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    assert run(["audit", str(tmp_path), "--sigmas", "14.6146,3,0.03,0"]) == 0
    assert run(["audit", str(tmp_path), "--sigmas", "20,3,0.03,0"]) == 1
    assert "noisiest level is 14.6146" in capsys.readouterr().out


def test_a_variance_exploding_list_that_begins_late() -> None:
    schedule = VarianceExploding(0.002, 80)
    assert [fault.name for fault in faults_of(GivenLevels((80.0, 3.0, 0.0), schedule))] == []
    assert [fault.name for fault in faults_of(GivenLevels((14.6, 3.0, 0.0), schedule))] == ["late start"]


BAD = ["14.6,five,0", "", " ", "3", "3,-1,0", "inf,1,0", "nan,0", "3,,0", "[]"]


@pytest.mark.parametrize("given", BAD)
@pytest.mark.parametrize(
    "command",
    [("audit",), ("sample", "mixture16", "-n", "1"), ("compare", "mixture16", "-n", "8")],
    ids=["audit", "sample", "compare"],
)
def test_what_is_no_list_is_refused_in_a_line(
    given: str,
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*command, "--sigmas", given]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "sigmas" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["audit"], ["audit", "--flow"], ["audit", "--sigmas", "5,0", "--shift", "3"], ["audit", "digits", "--shift", "3"],
        ["audit", "--sigmas", "1,0", "--flow", "--shift", "0"], ["audit", "--sigmas", "1,0", "--flow", "--solver", "nobody"],
        ["sample", "mixture16", "--solver", "euler"], ["sample", "mixture16", "--sigmas", "9,1,0", "--nfe", "2"],
        ["sample", "mixture16", "--sigmas", "9,1"], ["sample", "mixture16", "--sigmas", "9,10,0"],
        ["sample", "mixture16", "--sigmas", "90,10,0"], ["sample", "mixture16", "--sigmas", "9,1,0", "--solver", "nobody"],
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused_in_a_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_list_is_sampled_as_its_standard_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", "mixture16", "--sigmas", "30,5,1,0", "--solver", "heun", "-n", "2", "--out", str(tmp_path / "s")]
    assert run([*words, "--format", "npz", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["nfe"] == 5


def test_a_shift_is_for_flows() -> None:
    assert faults_of(GivenLevels((1.0, 0.5, 0.0), Flow(), 3.0)) == []
