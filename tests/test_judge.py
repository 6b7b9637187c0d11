"""`fewer judge`: what its verdicts promise, and the faults that it must find."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from judged import REFERENCE, noisy, save, scenes
from scipy.ndimage import gaussian_filter

import fewer
from fewer.images import Pixels

# equal quality


@settings(max_examples=15, deadline=None)
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
@settings(max_examples=2, deadline=None)
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


def test_as_many_images_as_are_asked_for_decide() -> None:
    """The figure asked for stays as it is, as the extrapolation assumes: each pair is given as often as is needed."""
    images = REFERENCE[:60]
    found = fewer.judge(images, noisy(images))
    assert found.decision == "cannot tell"
    assert found.images is not None
    assert 60 < found.images <= 120
    more = scenes(found.images)
    assert fewer.judge(more, noisy(more)).decision == "not worse"
