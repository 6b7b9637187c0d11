"""`fewer judge` at the command line: images of many kinds, what is refused, exit status and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judged import REFERENCE, noisy, save, scenes
from PIL import Image

import fewer
from fewer.cli.main import run
from fewer.judging import Judgement


def test_a_folder_an_npz_and_an_array_are_judged_alike(tmp_path: Path) -> None:
    images, other = scenes(20), noisy(scenes(20))
    np.savez_compressed(tmp_path / "a.npz", x=images)
    np.savez(tmp_path / "b.npz", x=other)
    found = [
        fewer.judge(images, torch.from_numpy(other)),
        fewer.judge(tmp_path / "a.npz", tmp_path / "b.npz", html=tmp_path / "page.html"),
        fewer.judge(save(tmp_path / "a", images), save(tmp_path / "b", other)),
        fewer.judge(tmp_path / "a", tmp_path / "b.npz"),
    ]
    assert len({json.dumps([c.to_dict() for c in each.criteria]) for each in found}) == 1


def test_images_of_many_kinds_are_read_and_said(tmp_path: Path) -> None:
    images = scenes(16)
    a, b = save(tmp_path / "a", images), save(tmp_path / "b", images)
    upright = Image.fromarray(np.rot90(images[0]))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    upright.save(b / "00000.png", exif=exif)
    Image.fromarray(np.dstack([images[1], np.full(images[1].shape[:2], 99, np.uint8)])).save(b / "00001.png")
    Image.fromarray(images[2]).convert("L").save(b / "00002.png")
    Image.fromarray(images[3]).convert("P", palette=Image.Palette.ADAPTIVE).save(b / "00003.png")
    (b / "00004.png").unlink()
    Image.fromarray(images[4]).convert("CMYK").save(b / "00004.jpg")
    frames = [Image.fromarray(image) for image in images[5:7]]
    frames[0].save(b / "00005.png", save_all=True, append_images=frames[1:])
    (b / "._00006.png").write_bytes(b"of another system")
    (b / ".DS_Store").write_bytes(b"likewise")
    Image.fromarray(images[7]).resize((48, 48)).save(b / "00007.png")
    (b / "00008.png").unlink()
    Image.fromarray(images[9]).save(b / "grid.png")
    (b / "notes.txt").write_text("no image")
    found = fewer.judge(a, b)
    said = "\n".join(found.notes)
    for word in ("EXIF", "transparent", "CMYK", "animated", "hidden", "sheets", "no image of that name"):
        assert word in said, said
    assert [(fault.image, fault.kind) for fault in found.faults] == [("00007.png", "size")]
    assert found.pairs == 15


def damaged(kind: str, folder: Path) -> tuple[Path, Path]:
    """A set to be refused beside a good one."""
    good = save(folder / "good", scenes(10))
    bad = save(folder / "bad", scenes(10))
    file = bad / "00003.png"
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:300])
    elif kind == "no image":
        file.write_bytes(b"text")
    elif kind == "16 bits":
        Image.fromarray(np.zeros((24, 24), np.uint16)).save(file)
    elif kind == "two of one name":
        Image.fromarray(scenes(1)[0]).save(bad / "00003.jpg")
    elif kind == "other names":
        for path in list(bad.iterdir()):
            path.rename(bad / f"x{path.name}")
    elif kind == "too few":
        for i in range(3, 10):
            (bad / f"{i:05d}.png").unlink()
    elif kind == "empty":
        bad = folder / "empty"
        bad.mkdir()
    elif kind == "missing":
        bad = folder / "missing"
    else:
        bad = folder / "bad.npz"
        content: Any = {
            "other keys": {"y": scenes(10)}, "floats": {"x": scenes(10) / 255.0}, "objects": {"x": np.array([{}] * 10)},
            "one image": {"x": scenes(1)[0]}, "torn": {"x": scenes(10)},
        }[kind]  # fmt: skip
        np.savez(bad, **content)
        if kind == "torn":
            bad.write_bytes(bad.read_bytes()[:-9000])
    return good, bad


KINDS = ("truncated", "no image", "16 bits", "two of one name", "other names", "too few", "empty", "missing", "other keys",
         "floats", "objects", "one image", "torn")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_judged_is_refused_in_one_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = damaged(kind, tmp_path)
    out = tmp_path / "out"
    for words in ([good, bad], [bad, good], [good, good, "--data", bad]):
        if (kind == "other names" and "--data" in words) or (kind == "two of one name" and words[0] == bad):
            continue
        assert run(["judge", *map(str, words), "--out", str(out)]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--margin", "0"], ["--margin", "1"], ["--margin", "nan"], ["--require", "better"], ["--require", "best"],
        ["--metric", "nowhere:function"], ["--metric", "no name"], ["--features", "nothing"], ["--features", "pca-99"],
        ["--prompts", "nowhere"], ["--html", "."], ["--out", "a"], ["--out", "o", "--html", "h"], ["--html", "a/00000.png/x"],
        ["--unpaired", "--metric", "math:fsum"], ["--unpaired", "--prompts", "p.txt"], ["--seed", "-1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a", scenes(9))
    assert run(["judge", "a", "a", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_status_is_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, images in (
        ("a", REFERENCE),
        ("same", noisy(REFERENCE)),
        ("few", REFERENCE[:9]),
        ("black", 0 * REFERENCE),
    ):
        np.savez(tmp_path / f"{name}.npz", x=images)
    a = str(tmp_path / "a.npz")
    status = {name: run(["judge", a, str(tmp_path / f"{name}.npz")]) for name in ("same", "few", "black")}
    assert status == {"same": 0, "few": 1, "black": 1}
    capsys.readouterr()
    same = str(tmp_path / "same.npz")
    assert run(["judge", a, same, "--data", a, "--require", "better", "--json", "-"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["decision"] in ("not worse", "cannot tell")
    assert all(set(figure) == {"value", "low", "high", "n"} for figure in record["figures"].values())
    assert Judgement.model_validate(record).to_dict() == record


def test_the_report_stands_alone_and_escapes_names(tmp_path: Path) -> None:
    images = scenes(10)
    a, b = save(tmp_path / "<i>a", images), save(tmp_path / "b", images)
    for folder, image in ((a, images[0]), (b, 0 * images[0])):
        Image.fromarray(image).save(folder / "<script>alert(1)<.png")
    assert run(["judge", str(a), str(b), "--out", str(tmp_path / "out")]) == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;alert(1)&lt;.png" in page
    assert page.count("data:image/png;base64,") == 3  # of the one pair that differs
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert json.loads((tmp_path / "out" / "judge.json").read_text())["faults"][0]["kind"] == "constant"
    assert run(["judge", str(a), str(b), "--out", str(tmp_path / "out")]) == 1  # its own folder is written again


def test_features_of_the_users_are_compared_on_too(tmp_path: Path) -> None:
    images = scenes(40)
    for name in ("pixels", "pca-8", "random-4"):
        found = fewer.judge(images, images, features=name)
        assert (found.features, found.criterion("distribution").figure.high) == (name, 0)
    grey = scenes(24, 8, channels=1)
    assert fewer.judge(grey, grey, features="digits").criterion("distribution").figure.high == 0


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = save(tmp_path / "a", scenes(9))

    def interrupt(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fewer.judging.gather.Compared.add", interrupt)
    assert run(["judge", str(a), str(a), "--out", str(tmp_path / "out"), "--json", str(tmp_path / "j")]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
