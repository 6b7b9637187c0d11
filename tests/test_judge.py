"""`fewer judge`: what its verdicts promise, the faults it must find, and the images it is given."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.integrate import quad
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

import fewer
from fewer.cli.main import run
from fewer.evaluate.distances.frechet import frechet_of_pairs
from fewer.images import Pixels
from fewer.judging import Judgement, intervals, measures
from fewer.judging.pairing import pairing
from fewer.judging.space import Within, softened


def scenes(n: int, side: int = 24, seed: int = 0, channels: int = 3) -> Pixels:
    """n different soft pictures with some texture (n, side, side, channels)."""
    rng = np.random.default_rng(seed)
    soft = gaussian_filter(rng.normal(size=(n, side, side, channels)), (0, side / 10, side / 10, 0))
    fine = gaussian_filter(rng.normal(size=(n, side, side, channels)), (0, 1, 1, 0))
    return np.clip(45 * soft / soft.std() + 10 * fine / fine.std() + 128, 0, 255).astype(np.uint8)


REFERENCE = scenes(120)


def save(folder: Path, images: Pixels, suffix: str = ".png", **options: Any) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(folder / f"{i:05d}{suffix}", **options)
    return folder


# equal quality


@settings(max_examples=25, deadline=None)
@given(
    images=st.integers(8, 10).flatmap(
        lambda n: st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from((1, 3))).flatmap(
            lambda shape: arrays(np.uint8, (n, *shape), elements=st.sampled_from((0, 1, 127, 255)), fill=st.just(0))
        )
    ),
    same=st.booleans(),
    unpaired=st.booleans(),
)
def test_equal_sets_are_never_worse(images: Pixels, same: bool, unpaired: bool) -> None:
    """Whatever they are: of one colour, all the same, tiny."""
    images = np.broadcast_to(images[:1], images.shape) if same else images
    found = fewer.judge(images, images.copy(), unpaired=unpaired)
    assert found.decision in ("not worse", "cannot tell")
    assert unpaired or not found.faults
    if not unpaired:
        assert fewer.judge(images, images.copy(), data=images).decision in ("not worse", "cannot tell")


def noisy(images: Pixels) -> Pixels:
    noise = np.random.default_rng(1).integers(-2, 3, images.shape)
    return np.clip(images.astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("images", [REFERENCE, np.repeat(REFERENCE[:1], 120, 0), np.repeat(REFERENCE[:12], 10, 0)])
def test_noise_that_no_eye_sees_is_not_worse(images: Pixels) -> None:
    """Also where many references are equal, and where all are."""
    found = fewer.judge(images, noisy(images))
    assert found.decision == "not worse"
    assert not found.faults


@pytest.mark.parametrize("quality", [75, 90])
def test_images_compressed_again_are_not_worse(tmp_path: Path, quality: int) -> None:
    images = scenes(110, 64)
    found = fewer.judge(save(tmp_path / "a", images), save(tmp_path / "b", images, ".jpg", quality=quality))
    assert (found.decision, found.faults) == ("not worse", [])


# what must be found


def black(images: Pixels, i: int) -> Pixels:
    images[i] = 0
    return images


def one_colour(images: Pixels, i: int) -> Pixels:
    images[i] = (10, 200, 90)
    return images


def garbage(images: Pixels, i: int) -> Pixels:
    images[i] = np.random.default_rng(i).integers(0, 256, images[i].shape)
    return images


def half_black(images: Pixels, i: int) -> Pixels:
    images[i, : 2 * images.shape[1] // 3] = 0
    return images


def swapped(images: Pixels, i: int) -> Pixels:
    images[[i, (i + 7) % len(images)]] = images[[(i + 7) % len(images), i]]
    return images


def repeated(images: Pixels, i: int) -> Pixels:
    images[i] = images[(i + 3) % len(images)]
    return images


def moved(images: Pixels, i: int) -> Pixels:
    images[i, :, 4:], images[i, :, :4] = images[i, :, :-4].copy(), 0
    return images


def rolled(images: Pixels, i: int) -> Pixels:
    images[i] = np.roll(images[i], (-2, 5), (0, 1))
    return images


FAULTS = {
    black: "constant", one_colour: "constant", garbage: "noise", half_black: "clipped", swapped: "swapped",
    repeated: "swapped", moved: "shifted", rolled: "shifted",
}  # fmt: skip


@pytest.mark.parametrize("spoil", FAULTS)
@settings(max_examples=4, deadline=None)
@given(i=st.integers(0, 49), seed=st.integers(0, 50))
def test_one_broken_image_is_named(spoil: Callable[[Pixels, int], Pixels], i: int, seed: int) -> None:
    images = scenes(50, seed=seed)
    found = fewer.judge(images, spoil(images.copy(), i))
    assert (f"image {i}", FAULTS[spoil]) in {(fault.image, fault.kind) for fault in found.faults}
    assert len({fault.image for fault in found.faults}) <= 2
    assert found.decision != "better"


@pytest.mark.parametrize("spoil", FAULTS)
@pytest.mark.parametrize("share", [0.3, pytest.param(1.0, marks=pytest.mark.slow)])
def test_many_broken_images_are_worse(spoil: Callable[[Pixels, int], Pixels], share: float) -> None:
    images = REFERENCE.copy()
    for i in range(0, 120, round(1 / share)):
        images = spoil(images, i)
    assert fewer.judge(REFERENCE, images).decision == "worse"


@pytest.mark.parametrize("kept", [1, 4, 20])
@pytest.mark.parametrize("unpaired", [False, True])
def test_a_collapse_to_few_images_is_worse(kept: int, unpaired: bool) -> None:
    """Also where no image is any of the reference's, and nothing tells which belong together."""
    few = (scenes(kept, seed=9) if unpaired else REFERENCE[:kept])[np.arange(120) % kept]
    found = fewer.judge(REFERENCE, few, unpaired=unpaired)
    assert found.decision == "worse"
    assert found.figures["distinct"].value == kept / 120
    assert found.figures["distinct_of_reference"].value == 1
    if kept == 1:
        assert found.criterion("diversity").decision == "worse"


def test_blur_and_noise_that_are_seen_are_worse() -> None:
    blurred = gaussian_filter(REFERENCE, (0, 1.5, 1.5, 0))
    grain = np.clip(REFERENCE + np.random.default_rng(0).normal(size=REFERENCE.shape) * 30, 0, 255).astype(np.uint8)
    for images in (blurred, grain):
        assert fewer.judge(REFERENCE, images).criterion("detail").decision == "worse"


def test_images_of_other_seeds_are_other_images() -> None:
    found = fewer.judge(REFERENCE, scenes(120, seed=3))
    assert found.decision == "worse"
    assert found.figures["another_image"].value > 0.8
    assert any("--unpaired" in note for note in found.notes)


def test_another_image_of_the_same_prompt_is_told_where_prompts_are_given() -> None:
    """Images of a prompt differ less than those of two; only what is known of the prompt tells that one is another."""
    base = scenes(4, seed=1)[np.arange(120) % 4].astype(int)
    a, b = (np.clip(base + 0.5 * (scenes(120, seed=s).astype(int) - 128), 0, 255).astype(np.uint8) for s in (2, 3))
    told = fewer.judge(a, b, prompts=["a", "b", "c", "d"]).figures["another_image"].value
    assert told > 0.8
    assert fewer.judge(a, a, prompts=["a", "b", "c", "d"]).figures["another_image"].value == 0


def test_equal_references_are_not_taken_for_each_other() -> None:
    """Of equal prompts and seeds, or of a model that has collapsed itself."""
    few = REFERENCE[np.arange(120) % 3]
    found = fewer.judge(few, noisy(few)[np.roll(np.arange(120), 3)])
    assert (found.decision, found.faults) == ("not worse", [])


# data and metrics decide which way is better


def test_nearer_to_the_data_is_better_and_farther_is_worse() -> None:
    data, dull = scenes(150, seed=4), np.clip(REFERENCE * 0.8, 0, 255).astype(np.uint8)
    assert fewer.judge(dull, REFERENCE, data=data).decision == "better"
    assert fewer.judge(REFERENCE, dull, data=data).decision == "worse"
    assert fewer.judge(REFERENCE, noisy(REFERENCE), data=data).decision == "not worse"


def brightness(samples: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return samples.mean((1, 2, 3)) + 1


def of_batch(samples: torch.Tensor, reference: torch.Tensor) -> float:
    return float((samples - reference).square().mean())


def test_a_metric_says_which_way_is_better() -> None:
    brighter = np.clip(REFERENCE + 12.0, 0, 255).astype(np.uint8)
    for higher, decision in ((True, "better"), (False, "worse")):
        brightness.higher_is_better = higher  # type: ignore[attr-defined]
        found = fewer.judge(REFERENCE, brighter, metric=brightness)
        assert found.criterion("metric").decision == decision
    assert found.figures["metric"].value == pytest.approx(brighter.mean() / 127.5, rel=1e-5)


def test_a_metric_of_many_images_at_once_needs_enough_of_them() -> None:
    of_batch.higher_is_better = False  # type: ignore[attr-defined]
    assert fewer.judge(scenes(128), scenes(128), metric=of_batch).criterion("metric").decision == "not worse"
    with pytest.raises(fewer.InputError, match="needs 128 images"):
        fewer.judge(REFERENCE[:30], REFERENCE[:30], metric=of_batch)


def test_a_metric_that_does_not_say_which_way_is_better_is_refused() -> None:
    with pytest.raises(fewer.InputError, match="higher_is_better"):
        fewer.judge(REFERENCE, REFERENCE, metric=lambda samples, reference: 1.0)


# statistics


@pytest.mark.parametrize("repetitions", [12, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("unpaired", [False, True])
def test_sets_of_equal_quality_are_seldom_worse(unpaired: bool, repetitions: int) -> None:
    """In at most 5 % of judgements: both of one generator, pairs of equal seeds but for 5 %, or all of different ones."""
    worse = 0
    for seed in range(repetitions):
        a, b = scenes(40, 8, seed), scenes(40, 8, 1000 + seed)
        if not unpaired:
            same = np.random.default_rng(seed).random(40) > 0.05
            b[same] = noisy(a)[same]
        worse += fewer.judge(a, b, unpaired=unpaired).decision == "worse"
    assert worse <= 0.05 * repetitions + 3 * math.sqrt(0.05 * 0.95 * repetitions)


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 100])
def test_every_interval_holds_at_its_level(n: int) -> None:
    """Coverage in 400 draws of pairs in the plane, of which a fifth is drawn anew: nothing has changed in truth."""
    level, missed = 0.95, {"distribution": 0, "diversity": 0, "difference": 0}
    for seed in range(400):
        rng = torch.Generator().manual_seed(seed)
        a = torch.randn(n, 2, generator=rng, dtype=torch.float64)
        fresh = torch.rand(n, 1, generator=rng) < 0.2
        b = torch.where(fresh, torch.randn(n, 2, generator=rng, dtype=torch.float64), a)
        pairs = pairing(a, b, torch.zeros(n))
        missed["distribution"] += not _holds(intervals.paired_energy(pairs, level), 0)
        logs = intervals.log_ratio_of_spreads(Within.of(b), Within.of(a), True, level)
        missed["diversity"] += not _holds(logs, 0)
        missed["difference"] += not _holds(intervals.difference(b[:, 0], a[:, 0], True, level), 0)
    assert all(count <= 0.05 * 400 + 3 * math.sqrt(0.05 * 0.95 * 400) for count in missed.values()), missed


def _holds(interval: Any, truth: float) -> bool:
    return bool(interval.low <= truth <= interval.high)


def test_the_energy_distance_of_pairs_is_that_of_their_distributions() -> None:
    """A shift by d standard deviations in one dimension, where A - B is N(d, 2), however the pairs hang together."""
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(1500, 1, generator=rng, dtype=torch.float64)
    b, d = a + 0.5, 0.5

    def mean_distance(shift: float) -> float:
        density = norm(shift, math.sqrt(2)).pdf
        return float(quad(lambda z: softened(torch.tensor(z)).item() * density(z), -9, 9)[0])

    expected = 2 * mean_distance(d) - 2 * mean_distance(0)
    interval = intervals.paired_energy(pairing(a, b, torch.zeros(1500)), 0.95)
    assert interval.low <= expected <= interval.high
    assert interval.high - interval.low < expected / 5
    shift = intervals.as_shift(interval, float(Within.of(a).rows.mean()))
    assert shift.value == pytest.approx(0.5, rel=0.2)


def test_the_frechet_distance_of_pairs_is_that_of_gaussians() -> None:
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(2000, 3, generator=rng, dtype=torch.float64)
    interval = frechet_of_pairs(a, 1.5 * a + 1)
    assert interval.low <= 3 + 3 * 0.25 <= interval.high
    assert abs(frechet_of_pairs(a, a).value) < 1e-9


@given(count=st.integers(0, 50), more=st.integers(0, 50), level=st.floats(0.5, 0.999))
@settings(max_examples=30, deadline=None)
def test_shares_lie_in_their_intervals(count: int, more: int, level: float) -> None:
    """Clopper and Pearson: the ends are where as many, or as few, have (1 - level) / 2 chance."""
    from scipy.stats import binom

    n = max(count + more, 1)
    interval = intervals.share(count, n, level)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    if 0 < count < n:
        assert binom.cdf(count, n, interval.high) == pytest.approx((1 - level) / 2, abs=1e-6)
        assert binom.sf(count - 1, n, interval.low) == pytest.approx((1 - level) / 2, abs=1e-6)


def test_as_many_images_as_are_asked_for_decide() -> None:
    """The figure asked for stays as it is, as the extrapolation assumes: each pair is given as often as is needed."""
    images = REFERENCE[:60]
    found = fewer.judge(images, noisy(images))
    assert found.decision == "cannot tell"
    assert found.images is not None
    assert 60 < found.images <= 120
    more = scenes(found.images)
    assert fewer.judge(more, noisy(more)).decision == "not worse"


# measures


def test_ssim_is_its_definition() -> None:
    """Means, variances and covariance under the Gaussian window, at every place where it lies within the image."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (14, 13, 1), np.uint8)
    b = np.clip(a + rng.normal(size=a.shape) * 20, 0, 255).astype(np.uint8)
    x, y = a[..., 0] / 255, b[..., 0] / 255
    at = np.arange(-5, 6)
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for r in range(5, 9):
        for c in range(5, 8):
            p, q = (z[r - 5 : r + 6, c - 5 : c + 6] for z in (x, y))
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    one, other = measures.single(a), measures.single(b)
    assert measures.ssim(one, other) == pytest.approx(np.mean(values), abs=1e-4)
    assert measures.ssim(one, one) == 1


@given(right=st.integers(-11, 11), down=st.integers(-11, 11), around=st.booleans())
@settings(max_examples=40, deadline=None)
def test_shifts_are_found(right: int, down: int, around: bool) -> None:
    wide = scenes(1, 80, seed=2)[0]
    image = wide[20:60, 20:60]
    there = np.roll(image, (down, right), (0, 1)) if around else wide[20 - down : 60 - down, 20 - right : 60 - right]
    assert measures.shift(image, there) == ((right, down) if right or down else None)


def test_no_shift_is_found_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    for image, other in zip(scenes(20, 32), scenes(20, 32, seed=1), strict=True):
        grain = np.clip(image + rng.normal(size=image.shape) * 25, 0, 255).astype(np.uint8)
        for there in (other, grain, np.zeros_like(image), image):
            assert measures.shift(image, there) is None


# what is given


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


# the command


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
