"""The report is one file that needs nothing else, tells the verdict, hides no baseline, and trusts no input."""

from __future__ import annotations

import json
import re
import zipfile
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewer.errors import InputError
from fewer.report import write_report
from fewer.report.samples import difference, sheet

STANDARD = [f"{solver} {steps}" for solver in ("ddim", "dpmpp-2m", "dpmpp-3m", "unipc", "ipndm", "deis", "euler")
            for steps in ("uniform", "karras", "logsnr", "exponential")]  # fmt: skip


def interval(value: float, n: int = 512) -> dict[str, Any]:
    return {"value": value, "low": 0.95 * value, "high": 1.06 * value, "n": n}


def cost(nfe: int) -> dict[str, Any]:
    return {"nfe": nfe, "macs": 2_300_000 * nfe, "ms": {"value": 0.9 * nfe, "low": 0.88 * nfe, "high": 0.95 * nfe}}


def plan(nfe: int, name: str, guided: bool = False) -> dict[str, Any]:
    """A two-step Adams-Bashforth plan on a quadratic grid of levels."""
    calls = nfe // 2 if guided else nfe
    tau = [0.985 * (1 - n / calls) ** 2 for n in range(calls + 1)]
    rows: list[dict[str, Any]] = []
    for n in range(calls):
        step = tau[n + 1] - tau[n]
        b = {"0": step} if n == 0 else {str(n - 1): -0.45 * step, str(n): 1.45 * step}
        rows.append({"t": 999 * tau[n] ** 0.5, "tau": tau[n], "b": b})
        if guided:
            rows[-1]["guidance"] = {"rule": "cfg", "scale": 2.0 + 0.25 * n}
    start = {"tau": 0.985, "scale": 0.985, "noise": 0, "offset": 0}
    return {
        "schema": 1,
        "name": name,
        "model": {"name": "digits", "hash": "3fa9"},
        "start": start,
        "rows": rows,
        "end": 0.0,
    }


def blobs(seed: int, blur: float, k: int = 16, side: int = 8, channels: int = 1) -> np.ndarray:
    """Smooth shapes, the same for all; `blur` mixes in what is the plan's own."""
    grid = np.linspace(-1, 1, side)
    x, y = np.meshgrid(grid, grid)
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    images = []
    for _ in range(k):
        a, b, c = shared.uniform(-0.5, 0.5, 3)
        radius = np.hypot(x - a / 2, (y - b / 2) * (0.7 + c / 3))
        image = np.exp(-(((radius - 0.55) / 0.22) ** 2)) + blur * own.normal(size=radius.shape)
        images.append(np.repeat(image[..., None], channels, axis=2))
    return np.clip(255 * np.array(images), 0, 255).astype(np.uint8)


def contents(budgets: tuple[int, ...] = (5,), refused: bool = False) -> dict[str, Any]:
    """A results.json as `tune` writes it."""
    baselines = []
    for nfe in budgets:
        for i, name in enumerate(STANDARD):
            error = 0.62 * (1 + 0.23 * i) * (5 / nfe) ** 1.6 * (40 if name == "dpmpp-3m uniform" else 1)
            baselines.append({"name": name, "kind": "standard", "nfe": nfe, "cost": cost(nfe),
                              "quality": {"paired_rmse": interval(error)}})  # fmt: skip
    baselines.append({"name": "DDIMScheduler, 50 steps", "kind": "pipeline", "nfe": 50, "cost": cost(50),
                      "quality": {"paired_rmse": interval(0.071)}})  # fmt: skip
    ratio = 1.02 if refused else 0.31
    verdict = {
        "against": "ddim uniform", "margin": 0.05, "decision": "cannot tell" if refused else "better",
        "ratio": interval(ratio), "recommended": "standard" if refused else "tuned",
        "reason": "held-out noise does not show the tuned plan to be within 5 % of it" if refused else "",
    }  # fmt: skip
    front = []
    for nfe in budgets:
        error = ratio * 0.62 * (5 / nfe) ** 1.9
        front.append({"nfe": nfe, "name": f"tuned {nfe}", "plan": f"front/{nfe}.json", "cost": cost(nfe),
                      "quality": {"paired_rmse": interval(error)}, "verdict": verdict,
                      "searched": {"paired_rmse": 0.97 * error}})  # fmt: skip
    middle = front[len(front) // 2]
    return {
        "model": {"name": "digits", "hash": "3fa9c0d17b52", "shape": [1, 8, 8], "predicts": "noise",
                  "schedule": "scaled-linear", "parameters": 1_204_321, "classes": 10},
        "seed": 0,
        "budget": {"nfe": list(budgets), "match": False, "margin": 0.05, "keep": ["guidance"], "guidance": 2.0,
                   "trials": None, "time": 540.0},
        "cost": middle["cost"], "quality": middle["quality"], "reference": {"nfe": 128, "error": 0.0021},
        "baselines": baselines, "verdict": verdict,
        "versions": {"fewer": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "diffusers": "0.42.1"},
        "evaluations": 2_874_112, "seconds": 312.4, "command": f"fewer tune digits --nfe {budgets[0]} --seed 0",
        "created": "2025-11-21T02:40:11+00:00", "front": front,
        "notes": ["safe start: the last alpha is nearly zero, plans and baselines start at s = 64"],
    }  # fmt: skip


def make_folder(folder: Path, results: dict[str, Any], samples: bool = True, guided: bool = False) -> Path:
    """A tune folder with these results, a plan for each budget, and samples."""
    (folder / "front").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    for entry in results["front"]:
        table = plan(entry["nfe"], entry["name"], guided)
        (folder / "front" / f"{entry['nfe']}.json").write_text(json.dumps(table))
        if entry["nfe"] == results["cost"]["nfe"]:
            (folder / "plan.json").write_text(json.dumps(table))
    if samples:
        arrays = {"reference": blobs(1, 0), "pipeline": blobs(2, 0.05)}
        for entry in results["front"]:
            arrays[f"front/{entry['nfe']}"] = blobs(3, 0.4 / entry["nfe"])
            arrays[f"standard/{entry['nfe']}"] = blobs(4, 1.5 / entry["nfe"])
        np.savez(folder / "samples.npz", **arrays)
    return folder


class Page(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open:
            self.pieces.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def front(tmp_path: Path) -> Page:
    return Page(write_report(make_folder(tmp_path / "run", contents((8, 10, 12)), guided=True)))


def test_the_file_loads_nothing_from_elsewhere(front: Page) -> None:
    for tag, attrs in front.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attrs.get(name) or "data:").startswith(("data:", "#")), (tag, attrs)
    policy = next(a["content"] for a in front.of("meta") if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_policy_admits_the_page_s_own_script_and_no_other(tmp_path: Path) -> None:
    import base64
    import hashlib

    text = write_report(make_folder(tmp_path / "run", contents())).read_text()
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text.replace("&#39;", "'").replace("&#43;", "+")


def test_the_verdict_comes_first(tmp_path: Path) -> None:
    page = Page(write_report(make_folder(tmp_path / "run", contents())))
    said = "At 5 network evaluations per sample, the tuned plan is better than the best standard sampler, ddim uniform"
    assert said in page.text
    assert page.text.index(said) < page.text.index("What was asked")


def test_a_refusal_says_what_was_kept_and_why(tmp_path: Path) -> None:
    page = Page(write_report(make_folder(tmp_path / "run", contents(refused=True))))
    assert (
        "Kept the best standard plan, ddim uniform at 5 network evaluations per sample, because held-out noise"
        in page.text
    )


def test_every_sampler_appears_and_the_table_is_sorted_by_quality(front: Page, tmp_path: Path) -> None:
    for name in [*STANDARD, "DDIMScheduler, 50 steps", "tuned 8", "tuned 12"]:
        assert name in front.text
    text = (tmp_path / "run" / "report.html").read_text()
    table = text[text.index("<h2>All samplers") :]
    errors = [float(v) for v in re.findall(r'data-v="[\d.]+">[\d,]+</td><td class="n" data-v="([\d.]+)"', table)]
    assert len(errors) == 3 * len(STANDARD) + 1 + 3
    assert errors[0] == contents((8, 10, 12))["quality"]["paired_rmse"]["value"]  # the plan to use
    assert errors[1:] == sorted(errors[1:])


def test_one_budget_is_shown_without_script_and_the_slider_only_with_it(front: Page) -> None:
    shown = [attrs for _, attrs in front.tags if "data-entry" in attrs and "hidden" not in attrs]
    assert {attrs["data-entry"] for attrs in shown} == {"1"}
    assert [attrs for _, attrs in front.tags if attrs.get("class") == "budget" and "hidden" in attrs]
    assert front.of("input")[0]["max"] == "2"
    assert front.of("input")[0]["value"] == "1"


def test_the_plan_s_weights_are_in_units_of_the_step(front: Page) -> None:
    assert "−0.450" in front.text
    assert "1.450" in front.text
    assert "cfg 2.25" in front.text
    assert "x₀ = 0.9850 z" in front.text


def test_samples_of_all_four_sides_are_embedded(tmp_path: Path) -> None:
    page = Page(write_report(make_folder(tmp_path / "run", contents())))
    images = page.of("img")
    assert len(images) == 4 + 3  # and where three of them differ from the fourth
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)


def test_minimal_results_without_samples_or_finite_figures(tmp_path: Path) -> None:
    results = contents()
    empty = {"value": None, "low": None, "high": None, "n": None}
    results["model"].update(parameters=None, classes=None)
    results["budget"].update(guidance=None, trials=None, time=None, keep=[])
    results["cost"] = {"nfe": 5, "macs": None, "ms": None}
    results["quality"] = {"paired_rmse": empty}
    results["verdict"]["ratio"] = empty
    results["baselines"] = [{"name": "ddim", "kind": "standard", "nfe": 5, "cost": {"nfe": 5},
                             "quality": {"paired_rmse": None}}]  # fmt: skip
    for entry in results["front"]:
        entry.update(cost=results["cost"], quality={"paired_rmse": empty}, searched={})
    for key in ("command", "created", "notes"):
        del results[key]
    page = Page(write_report(make_folder(tmp_path / "run", results, samples=False)))
    assert "No plan has a finite figure to draw" in page.text
    assert "ddim" in page.text
    assert "None" not in page.text
    assert "nan" not in page.text.lower().split()


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    evil = "</title><script>alert(1)</script><img src=x onerror=alert(2)>\"'`"
    results = contents()
    results["model"].update(name=evil, hash=evil, predicts=evil, schedule=evil)
    results["verdict"].update(against=evil, reason=evil)
    results["front"][0].update(name=evil)
    results["versions"] = {evil: evil}
    results["quality"][evil] = {"value": 1.0, "low": 0.5, "high": 2.0, "n": 3, "features": evil}
    results["baselines"][0]["name"] = evil
    results.update(command=evil, created=evil, notes=[evil])
    folder = make_folder(tmp_path / "run", results)
    table = plan(5, evil[:200])
    (folder / "plan.json").write_text(json.dumps(table))
    page = Page(write_report(folder))
    assert len(page.of("script")) == 1
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert len(page.of("img")) == 7
    assert "alert(2)" in page.text


@pytest.mark.parametrize("key", ["model", "seed", "budget", "cost", "quality", "reference", "baselines", "verdict",
                                 "versions", "evaluations", "seconds", "front"])  # fmt: skip
def test_a_missing_key_is_named_in_one_line(tmp_path: Path, key: str) -> None:
    results = contents()
    folder = make_folder(tmp_path / "run", results, samples=False)
    del results[key]
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match=rf"results\.json: {key}: ") as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "\xff\xfe", '{"a\\nb": 1}'])
def test_results_that_are_no_results(tmp_path: Path, text: str) -> None:
    folder = make_folder(tmp_path / "run", contents(), samples=False)
    (folder / "results.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"results\.json") as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*results\.json"):
        write_report(tmp_path)
    with pytest.raises(InputError, match=r"cannot read .*results\.json"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../outside.json", "/etc/passwd", "front/../../x.json", "front/\0.json"])
def test_no_plan_is_read_from_outside_the_folder(tmp_path: Path, name: str) -> None:
    results = contents()
    folder = make_folder(tmp_path / "run", results)
    results["front"][0]["plan"] = name
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match="not inside the folder"):
        write_report(folder)


def test_a_failure_leaves_the_old_report_whole(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", contents())
    before = write_report(folder).read_bytes()
    (folder / "front" / "5.json").write_text('{"schema": 1')
    with pytest.raises(InputError):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == [
        "front",
        "plan.json",
        "report.html",
        "results.json",
        "samples.npz",
    ]


def npy(header: str, body: bytes) -> bytes:
    padded = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + body


@pytest.mark.parametrize(
    "member",
    [
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 1, 1), }", b"cos\nsystem\n(S'x'\ntR."),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99999, 99999, 999, 3), }", b"few"),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 8, 8, 1), }", b""),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1, 1), }", bytes(8)),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 8, 8), }", bytes(128)),
        npy("__import__('os')", b""),
        b"not an array",
    ],
)
def test_samples_that_are_no_images_are_refused(tmp_path: Path, member: bytes) -> None:
    folder = make_folder(tmp_path / "run", contents(), samples=False)
    with zipfile.ZipFile(folder / "samples.npz", "w") as archive:
        archive.writestr("reference.npy", member)
    with pytest.raises(InputError, match=r"samples\.npz") as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)


def test_a_samples_file_that_is_no_archive(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", contents(), samples=False)
    (folder / "samples.npz").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match=r"samples\.npz"):
        write_report(folder)


@pytest.mark.parametrize(("side", "channels", "small"), [(8, 1, True), (32, 3, True), (96, 3, False), (256, 3, False)])
def test_a_sheet_shows_the_images_in_order(side: int, channels: int, small: bool) -> None:
    import base64

    from PIL import Image

    levels = np.arange(1, 21, dtype=np.uint8) * 12
    images = np.broadcast_to(levels[:, None, None, None], (20, side, side, channels))
    page = sheet(images)
    picture = np.asarray(Image.open(BytesIO(base64.b64decode(page.uri.partition(",")[2]))))
    assert page.small is small
    assert picture.shape == (page.height, page.width, 4)
    assert max(page.width, page.height) <= 4 * 128 + 3 * 4
    middles = [round((i + 0.5) * page.width / 4) for i in range(4)]
    seen = [int(picture[y, x, 0]) for y in middles for x in middles]
    assert seen == levels[:16].tolist()


def test_samples_that_are_the_reference_solution_s_own_differ_from_it_nowhere() -> None:
    images = blobs(1, 0.1)
    assert difference(images, images)[..., 3].max() == 0
    moved = images.copy()
    moved[3, 2, 1] = 255 - moved[3, 2, 1]
    inked = np.argwhere(difference(images, moved)[..., 3])
    assert inked.tolist() == [[3, 2, 1]]
