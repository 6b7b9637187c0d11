"""Bad input of every kind, to every command: the status, one line on stderr that names it, and nothing written.

A row is a command line, in words or as a list, and what its line says (alternatives between |). The status is 2 where a row
does not say otherwise. The lines run one after another in a folder of `bad_inputs`, which none of them may change.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import bad_inputs
import pytest

from fewer.cli import commands  # noqa: F401  (whose functions are the commands)
from fewer.cli.main import run

GOOD = "my_models:good"
TUNE, SAMPLE, COMPARE, INSPECT = (
    f"tune {GOOD} --nfe 2 --out out", f"sample {GOOD} --out out", f"compare {GOOD} --nfe 2 -n 16", f"inspect {GOOD}"
)  # fmt: skip
ESCAPE = "a\x1b[31m\nb\u2028c\u202ed"  # what would colour, break or turn the line


class Bad(NamedTuple):
    """A command line and how it ends."""

    line: str | list[str]
    says: str
    status: int = 2

    @property
    def arguments(self) -> list[str]:
        """The command line as a list."""
        return self.line.split() if isinstance(self.line, str) else self.line


def each(line: str, option: str, values: str | list[str], says: str | None = None) -> list[Bad]:
    """Rows that give an option each of these values; their line names the option by its word, or says the words."""
    given = values.split() if isinstance(values, str) else values
    name = option.lstrip("-")
    return [
        Bad([*line.split(), option, value], "too long" if len(value) > 4000 else says or name) for value in given
    ]  # a path that is too long is shown in part


NO_WHOLE = ["x", "", "1.5", "nan", "inf", "1e3", "0x10", " ", ESCAPE, "9" * 400]
NO_NUMBER = ["x", "", "nan", "inf", "-inf", "1,2", ESCAPE]
NO_PATH = ["", " "]
LONG = "n" * 5000

COMMANDS = [
    Bad("nonsense", "nonsense"),
    Bad(["tune\n"], "tune"),
    Bad([ESCAPE], "No such command"),
    Bad([""], "No such command"),
    Bad(["--nonsense"], "--nonsense"),
    Bad("tune", "MODEL"),
    Bad("sample", "MODEL"),
    Bad("compare", "MODEL"),
    Bad("inspect", "MODEL"),
    Bad("report", "DIR"),
    Bad(f"{TUNE} more", "more|unexpected"),
    Bad("report made more", "more|unexpected"),
    Bad("methods more", "more|unexpected"),
    Bad(f"{TUNE} --nonsense", "--nonsense"),
    Bad(f"{TUNE} --seed", "--seed"),
    Bad(f"{SAMPLE} -n", "-n"),
    Bad("methods --seed 5", "--seed"),
    Bad("report made --json", "--json"),
    Bad([*TUNE.split(), ESCAPE], "unexpected"),
    Bad([*TUNE.split(), "--" + ESCAPE], "No such option"),
]  # fmt: skip

MODELS = [
    Bad(["inspect", name], says)
    for name, says in {
        "no-such-model": "no-such-model", "": "no folder", ".": "no pipeline folder", "/": "no pipeline folder", "text": "text",
        "/dev/null": "/dev/null", "loop": "loop", "nowhere-link": "nowhere-link", "folder": "no pipeline folder",
        ESCAPE: "no folder",
        LONG: "no folder|cannot be read", "a\0b": "no folder", "plan.json": "plan.json", "owner/name": "cannot be fetched",
        "no_such_module:good": "no_such_module", "my_models:absent": "absent", "my_models:number": "expected a function",
        "my_models:nothing": "NoneType", "my_models:interrupts_nobody": "int", "os:getcwd": "str", "..my_models:good": "no folder",
        "my_models:": "no folder", ":good": "no folder", "a:b:c": "no folder",
    }.items()
] + [
    Bad(f"inspect {name}", says)
    for name, says in {
        "model-class": "NoSuchModel", "model-class-list": "UNet2DModel", "model-size": "size", "model-size-negative": "size",
        "model-channels": "model-channels", "model-blocks": "NoSuchBlock|cannot load", "model-scheduler": "NoSuchScheduler",
        "model-scheduler-os": "os", "model-betas": "no-such|beta", "model-prediction": "magic",
        "model-times": "DDIMScheduler|times",
        "model-times-text": "DDIMScheduler|times", "model-beta-order": "DDIMScheduler|beta", "model-name-number": "name",
        "model-name-control": "name", "model-name-long": "name", "model-range": "data_range", "model-range-text": "data_range",
        "model-empty-label": "empty label", "model-own-list": "fewer.json", "model-own-text": "fewer.json",
        "model-config-list": "config.json", "model-config-text": "config.json", "model-config-empty": "config.json",
        "model-weights-cut": "cannot load|safetensors", "model-weights-empty": "cannot load|safetensors",
        "model-weights-other": "weights", "model-scheduler-text": "scheduler_config.json", "model-parts": "safety",
        "model-index-list": "model_index.json", "model-no-scheduler": "scheduler", "model-pickled": "safetensors",
        "mixture-damaged": "mixture.safetensors",
    }.items()
]  # fmt: skip

NETWORKS = [
    *(Bad(f"{command} my_models:{name} --nfe 2{more}", says)
      for command, more in (("sample", " --out out"), ("tune", " --out out"), ("compare", " -n 8"))
      for name, says in (("nan", "not finite"), ("small", "returned shape"))),
    Bad("sample my_models:odd --out out --format png", "no images"),
    Bad("sample my_models:raises --out out", "RuntimeError: of the", 3),
    Bad("tune my_models:raises --nfe 2 --out out", "RuntimeError: of the", 3),
    Bad("inspect my_models:leaves", "SystemExit", 3),
    Bad("inspect raising:good", "ValueError: while it is", 3),
    Bad("inspect lacking:good", "no_such_library", 3),
]  # fmt: skip

SHARED = [
    row
    for line in (TUNE, SAMPLE, COMPARE, INSPECT)
    for row in (
        *each(line, "--seed", [*NO_WHOLE, "-1", str(2**60)]),
        *each(line, "--batch", [*NO_WHOLE, "-1", "0"]),
        *each(line, "--device", ["x", "", "cuda:99", "cpu:x", "meta", ESCAPE]),
        *each(line, "--dtype", ["x", "", "int8", "float128", "torch.float32", ESCAPE]),
        *each(line, "--empty-label", ["x", "", "-1", "1.5", "0", "99999"], "empty"),
        *each(line, "--prompts", ["text", "missing", "folder", "binary", "empty", "loop", *NO_PATH, LONG, ESCAPE]),
        *each(line, "--prompts", "prompts-many.txt prompts-blank.txt prompts-control.txt prompts-long.txt prompts-latin.txt"),
    )
]  # fmt: skip

FIGURES = [
    row
    for line in (TUNE, COMPARE)
    for row in (
        *each(line, "--data", ["missing", "text", "plan.json", "folder", "empty", "loop", "/dev/null", *NO_PATH, ESCAPE, LONG]),
        *each(line, "--data", [f"data-{name}.npz" for name in (
            "few", "none", "float", "flat", "large", "colour", "y", "pickled", "truncated", "text", "empty")]),
        *each(line, "--data", [f"images-{name}" for name in ("few", "large", "text", "cut", "deep", "hidden")], "images-"),
        *each(line, "--features", ["pixels", "pca-4"], "--data"),
        *each(f"{line} --data data.npz", "--features", [
            "x", "", "pca-0", "pca-99999", "random-0", "digits", "inception@", "inception@text", "inception@missing", "dino@",
            "dino@text", "dino@folder", "text", "folder", "missing.pt", "pickled.safetensors", "no_such_module:f",
            "my_models:absent",
            "my_models:no_module", "my_models:good@text", ESCAPE, LONG], "features|pca|images"),
        Bad(f"{line} --data data.npz --features my_models:module_raises", "OSError: no weights", 3),
        *each(line, "--metric", ["x", "", "no_such_module:f", "my_models:absent", "my_models:number", "lpips@", "lpips@text",
                                 "lpips@missing", "my_models:metric:more", ESCAPE]),
        *each(f"{line} --data data.npz", "--metric", [f"my_models:metric_{name}" for name in ("none", "nan", "turned", "text")]),
        Bad(f"{line} --data data.npz --metric my_models:metric_raises", "KeyError", 3),
        Bad(f"{line} --data data.npz --metric my_models:metric_leaves", "SystemExit", 3),
        *each(line, "--margin", [*NO_NUMBER, "-0.1", "10", "1e9"]),
    )
]  # fmt: skip

GUIDED = [
    row
    for line in (TUNE, SAMPLE, COMPARE)
    for row in (
        *each(line, "--guidance", [*NO_NUMBER, "1e300"]),
        Bad(f"{line} --guidance 3", "guidance 3"),
        Bad(f"{line.replace('good', 'labelled')} --guidance 3", "empty label"),
        Bad(f"{line} --negative-prompt dog", "--negative-prompt"),
        Bad(f"{line} --negative-prompt dog --guidance 3", "--negative-prompt|negative_prompt"),
    )
]  # fmt: skip

BUDGETS = [
    *(row for line in (f"tune {GOOD} --out out", f"compare {GOOD} -n 8") for row in each(line, "--nfe", [
        *NO_NUMBER[:-2], "0", "-1", "2.5", "4-2", "0-3", "1-", "-", ",", "1,,2", "1-2-3", "10001", "1-99999", "9" * 400])),
    *each(f"sample {GOOD} --out out", "--nfe", [*NO_WHOLE, "0", "-1", "10001"]),
    *each(f"tune {GOOD} --out out", "--macs", [*NO_NUMBER, "0", "-1", "1e-9", "1,x", "5,5"]),
    *each(f"tune {GOOD} --out out", "--ms", ["x", "", "nan", "inf", "-inf", "0", "-1", "1,x"]),
    Bad(f"tune {GOOD} --out out", "needs a budget"),
    Bad(f"{TUNE} --macs 1e9", "--macs"),
    Bad(f"{TUNE} --ms 3", "--ms"),
    Bad(f"tune {GOOD} --out out --ms 3 --macs 1e9", "--macs"),
    Bad(f"tune {GOOD} --out out --match --ms 3", "--ms"),
    Bad(f"tune {GOOD} --out out --match", "match"),
]  # fmt: skip

SEARCHES = [
    *each(TUNE, "--keep", ["x", "steps,x", "STEPS", ESCAPE]),
    *each(TUNE, "--trials", [*NO_WHOLE[:-1], "-1"]),
    *each(TUNE, "--study", ["", "x", "mysql://h/d", "postgresql://h", "sqlite://"], "study is"),
    *each(TUNE, "--study", [f"sqlite:///{name}" for name in (
        "text", "folder", "no/folder/x.db", "/dev/null/x", "plan.json", "made/plan.json")], "study|cannot be"),
    *each(TUNE, "--workers", [*NO_WHOLE, "0", "-1", "2000", "dask://", "dask://x", "http://x:1", "ray:", "rays"]),
    *each(TUNE, "--time", [*NO_NUMBER, "0", "-1"]),
    *each(TUNE, "--evaluations", [*NO_WHOLE[:-1], "0", "-1", "100"]),
    *each(TUNE, "--strategy", ["x", "", "standard", "joint", "networks", "guided-rows", "evolution,ays", ESCAPE],
    "strategy|search"),
    *each(TUNE, "--start-from", ["x", "regression", "ays,ays", "missing.json", "plan-truncated.json", "plan.json", "folder.json",
                                 "joint", ESCAPE], "start_from|search|plan"),
    *each(TUNE, "--with", ["no-such-model", GOOD, ""], "--with"),
    *each(f"tune {GOOD} --macs 1e9 --out out", "--with", ["no-such-model", "", "mixture16"], "no folder|second model|macs"),
    *each(f"{SAMPLE} --plan plan.json", "--with", [GOOD], "--with"),
    *each(TUNE, "--objective", ["x", "", "PAIRED", "rmse", "energy,fd", ESCAPE]),
    Bad(f"{TUNE} --objective metric", "--metric"),
    Bad(f"{TUNE} --objective fd --strategy per-step", "per-step"),
    Bad("tune my_models:labelled --nfe 2 --out out --guidance auto --data data.npz --objective energy", "guidance|objective"),
    Bad(f"{TUNE} --guidance auto", "--data"),
    Bad(f"{TUNE} --guidance auto --data data.npz", "guidance|labels"),
    Bad(f"{TUNE} --force --resume", "force"),
    Bad(f"compare {GOOD} --nfe 2 -n 8 --nll", "--data"),
]  # fmt: skip

SAMPLES = [
    *each(SAMPLE, "-n", [*NO_WHOLE, "0", "-1", "100001"]),
    *each(COMPARE, "-n", [*NO_WHOLE, "0", "-1", "7", "100001"]),
    *each(SAMPLE, "--label", [*NO_WHOLE, "0", "5"], "label|classes"),
    *each("sample my_models:labelled --out out", "--label", ["3", "-1", "99"], "label"),
    *each(SAMPLE, "--prompt", ["cat", "", ESCAPE, "n" * 4000], "--prompt"),
    Bad(f"{SAMPLE} --prompt cat --prompts text", "--prompts"),
    Bad(f"{SAMPLE} --plan plan.json --nfe 3", "--nfe"),
    Bad(f"{SAMPLE} --plan plan.json --guidance 3", "guidance"),
]  # fmt: skip

FAULTY_PLANS = [
    "newer", "no-schema", "true-schema", "old-schema", "no-rows", "rows-of-text", "rows-no-list", "no-start", "unknown-key",
    "infinite", "nan", "negative-level", "rising", "level-of-text", "future-output", "no-rule", "leaving", "absolute",
    "absent", "pickled", "cut", "second-network", "no-block", "long-name", "name-no-text", "truncated", "list",
    "number", "deep", "two", "nothing", "text", "null", "binary",
]  # fmt: skip
PLANS = [
    row
    for line in (SAMPLE, COMPARE)
    for row in (
        *each(line, "--plan", [f"plan-{name}.json" for name in FAULTY_PLANS], "plan|network|--with|safetensors"),
        *each(line, "--plan", ["missing", "folder", "text", "empty", "loop", "nowhere-link", "my_models.py", *NO_PATH, ESCAPE,
        LONG]),
        *each(line, "--plan", ["plan-unknown\nkey.json"]),
    )
]  # fmt: skip

OUTS = [
    *(row for line in (f"tune {GOOD} --nfe 2", f"sample {GOOD}") for row in (
        *each(line, "--out", [*NO_PATH, "text", "text/out", "/dev/null", "/dev/null/x", "loop", "loop/x", LONG, f"{LONG}/x",
        "/proc/x"],
              "cannot be|is no folder|out"),
        *each(line, "--out", ["stranger", "folder/..", ".", "..", "hidden", "model"], "--force"))),
    *each(f"tune {GOOD} --nfe 1", "--out", ["made"], "already holds a search"),
    *each(f"tune {GOOD} --nfe 2", "--out", ["made-link-front", "made-link-report.html", "made-link-study.db", "made-link-plan.json",
                                            "made-link-samples.npz"], "link"),
    *each(f"tune {GOOD} --nfe 2 --force", "--out", ["made-link-front", "made-link-study.db"], "link"),
    *each(f"tune {GOOD} --nfe 2", "--out", ["made-front-file", "made-plan-folder"], "made-"),
    *(row for resume in ("", " --resume") for row in each(f"tune {GOOD} --nfe 1{resume}", "--out", [
        f"made-study-{name}" for name in ("text", "cut", "folder", "other", "types", "asked", "version", "untold")], "study.db")),
    Bad(f"tune {GOOD} --nfe 1 --resume --out made-study-values", "study.db"),
    Bad(f"tune {GOOD} --nfe 1 --resume --out made --seed 5", "cannot resume"),
    Bad("tune my_models:labelled --nfe 1 --resume --out made", "cannot resume"),
    Bad(f"tune {GOOD} --nfe 1 --resume --out stranger", "--force"),
    Bad(f"sample {GOOD} --out made", "--force"),
]  # fmt: skip

JSON = [
    *(row for line in (COMPARE, INSPECT, "methods", "claims ddim") for row in each(line, "--json", [
        *NO_PATH, ".", "folder", "text/x.json", "/dev/null", "/dev/full", "loop", "text", "plan.json", "my_models.py", "binary",
        "data.npz", f"{LONG}.json", "/proc/x.json"], "cannot be|holds|json")),
    *each("claims", "--seed", [*NO_WHOLE, "-1", str(2**60)]),
    *each("claims", "--json", ["made/results.json"], "holds"),
    *(Bad(["claims", name], "no claim is called") for name in ("no-such-claim", "", ESCAPE, "ddim/no-such", LONG)),
]  # fmt: skip

REPORTS = [
    *(Bad(["report", name], "report|empty|cannot read|results.json") for name in (
        *NO_PATH, "missing", "folder", "text", "stranger", "loop", "/dev/null", ESCAPE, LONG, "made/results.json",
        "made-no-results",
        "made-cut-results", "made-no-front", "made-front-text", "made-no-verdict", "made-seed-text", "made-plan-outside",
        "made-plan-absent", "made-plan-null")),
    *(Bad(f"report made-{name}", says) for name, says in (
        ("no-plan", "plan.json"), ("bad-plan", "plan.json"), ("bad-front", "1.json"), ("bad-samples", "samples.npz"),
        ("link-report.html", "link"), ("plan-folder", "plan.json"))),
]  # fmt: skip

KINDS = {
    "commands": COMMANDS, "models": MODELS, "networks": NETWORKS, "shared": SHARED, "figures": FIGURES, "guidance": GUIDED,
    "budgets": BUDGETS, "searches": SEARCHES, "samples": SAMPLES, "plans": PLANS, "out": OUTS, "json": JSON, "report": REPORTS,
}  # fmt: skip
ROWS = [
    pytest.param(row, id=f"{kind}-{ascii(' '.join(row.arguments))[1:80]}")
    for kind, rows in KINDS.items()
    for row in rows
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bad")
    bad_inputs.make(folder)
    bad_inputs.searched(folder)
    sys.path.insert(0, str(folder))
    wrote, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    yield folder
    sys.path.remove(str(folder))
    sys.dont_write_bytecode = wrote
    for name in ("my_models", "raising", "lacking"):
        sys.modules.pop(name, None)


State = list[object]
AFTER: dict[Path, State] = {}  # that of a folder after the last line that ran in it, and so before the next


@cache
def places(folder: Path) -> list[str]:
    """The folder and all that is in it before the first line."""
    return [str(folder), *map(str, folder.rglob("*"))]


@cache
def names(folder: str, changed: int) -> list[str]:
    """What is in a folder that was changed then."""
    return sorted(os.listdir(folder))


def state(folder: Path) -> State:
    """Kind, size and time of change of every file and link, and what is in every folder."""
    found = ((place, os.lstat(place)) for place in places(folder))
    return [
        names(place, at.st_mtime_ns) if stat.S_ISDIR(at.st_mode) else (at.st_mode, at.st_size, at.st_mtime_ns)
        for place, at in found
    ]


@pytest.mark.parametrize("row", ROWS)
def test_bad_input(world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], row: Bad) -> None:
    """Status 2, or 3 for what the user's own code raises; one line on stderr, none on stdout, no file touched."""
    monkeypatch.chdir(world)
    before = AFTER.get(world) or state(world)
    capfd.readouterr()
    status = run(row.arguments)
    out, err = capfd.readouterr()
    AFTER[world] = state(world)
    assert (status, out) == (row.status, ""), err
    assert err.startswith("fewer: ")
    assert err.endswith("\n")
    assert err[:-1].isprintable(), err
    assert len(err) < 1100
    assert any(word in err for word in row.says.split("|")), err
    assert AFTER[world] == before


@pytest.mark.parametrize("line", ["--traceback sample my_models:raises", "sample my_models:raises --traceback"])
def test_traceback_shows_where_before_the_line(
    world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    monkeypatch.chdir(world)
    assert run(line.split()) == 3
    err = capfd.readouterr().err
    assert 'raise RuntimeError("of the' in err
    assert err.splitlines()[-1].startswith("fewer: model 'my_models:raises' raised RuntimeError: of the")


@pytest.mark.parametrize(
    "fault",
    [KeyError("a\nb"), ValueError(""), SystemExit(0), SystemExit("said"), AssertionError(), RecursionError("deep")],
    ids=repr,
)  # fmt: skip
def test_a_fault_of_fewer_is_one_line_and_no_word_of_a_check(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: BaseException
) -> None:
    def methods(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(sys.modules["fewer.cli.main"], "_commands", lambda: methods)
    assert run(["methods"]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert type(fault).__name__ in err
    assert "--traceback" in err


@pytest.mark.parametrize(
    ("shell", "status", "says"),
    [
        ("{fewer} methods >&-", 2, "stdout is closed"),
        ("{fewer} nonsense 2>&-", 2, ""),
        ("mkdir gone && cd gone && rmdir ../gone && {fewer} methods", 2, "working folder"),
        ("{fewer} nonsense 0<&-", 2, "nonsense"),
        ("{fewer} $(printf 'a\\377b')", 2, "No such command"),
        ("PYTHONIOENCODING=ascii {fewer} bébé", 2, "No such command"),
    ],
)
def test_streams_and_folders_that_are_gone(tmp_path: Path, shell: str, status: int, says: str) -> None:
    """In processes of their own, whose streams they are."""
    line = shell.format(fewer=f"{sys.executable} -m fewer")
    ended = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (status, ""), ended.stderr
    assert ended.stderr.count("\n") == (1 if says else 0), ended.stderr
    assert says in ended.stderr
    assert not list(tmp_path.iterdir())
