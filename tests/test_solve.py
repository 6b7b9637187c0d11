"""`fewer.solve`: exact where theory says so, the same samples in any batch, and one line for what cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

import fewer
from fewer import GaussianMixture, InputError, Model, solve, standard
from fewer.errors import NotFinite
from fewer.guidance import guide
from fewer.models.linear_posterior import LinearPosterior, moments
from fewer.models.schedules import Flow, Schedule, VarianceExploding, betas, discrete
from fewer.registry import parts
from fewer.tasks.inverse.given_operators import Function, as_operator, says_something
from fewer.tasks.inverse.methods.diffpir import DiffPIR
from fewer.tasks.inverse.methods.dps import DPS
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.inverse.methods.pigdm import PiGDM
from fewer.tasks.inverse.methods.split_gibbs import SplitGibbs
from fewer.tasks.inverse.methods.tmpd import TMPD
from fewer.tasks.inverse.operators import Identity, Inpainting, Matrix, SuperResolution
from fewer.tasks.inverse.problem import Likelihood, Problem

VP = discrete(betas("linear"))
METHODS = [part.name for part in parts("tasks") if part.role == "posterior sampler"]
A = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]])
NOISE = 0.4


def gaussian(isotropic: float | None = None, schedule: Schedule = VP) -> Model:
    mixture = GaussianMixture.random(3, 1, seed=2)
    if isotropic is not None:
        mixture = replace(mixture, variances=torch.full((1, 3), isotropic, dtype=torch.float64))
    return Model.from_mixture(mixture, schedule)


def test_steps_with_the_exact_data_prediction_tend_to_the_exact_posterior() -> None:
    """In mean and covariance, in units of the posterior's deviation and variance; 4,000 samples leave about 0.03."""
    model, y = gaussian(), torch.tensor([1.0, -0.5])
    mean, covariance = moments(LinearPosterior(model.exact, A, NOISE).given(y))
    apart = []
    for calls in (6, 80):
        found = solve(
            model, A, y, plan=calls, method="exact-guidance", noise=NOISE, n=4000, batch=4000
        ).samples.double()
        size = float(covariance.trace())
        of_mean = float((found.mean(0) - mean).norm()) / size**0.5
        apart.append(max(of_mean, float((torch.cov(found.T) - covariance).norm()) / size))
    assert apart[1] < 0.08
    assert apart[0] > 2 * apart[1]


@pytest.mark.parametrize("schedule", [VP, Flow(), VarianceExploding(0.01, 50.0)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    ("method", "isotropic", "operator"),
    [
        (MMPS(), None, A),
        (PiGDM(variance=0.3, weighting="formula"), 0.3, A),
        (TMPD(), 0.3, torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])),
    ],
    ids=["mmps", "pigdm's formula, isotropic data", "tmpd, orthogonal rows"],
)
def test_of_a_gaussian_these_are_exact_at_every_level(
    schedule: Schedule, method: object, isotropic: float | None, operator: Tensor
) -> None:
    model, y = gaussian(isotropic, schedule), torch.tensor([1.0, -0.5])
    given = {"plan": 12, "noise": NOISE, "n": 16}
    found, exact = (solve(model, operator, y, method=each, **given).samples for each in (method, "exact-guidance"))  # type: ignore[arg-type]
    assert torch.allclose(found, exact, atol=5e-3)


def test_of_a_mixture_split_gibbs_and_exact_guidance_find_the_weights_of_modes() -> None:
    """Two far modes that y cannot tell apart but by its value: the share of one is known."""
    one = torch.ones(2, dtype=torch.float64)
    mixture = GaussianMixture(
        one, torch.tensor([[-2.0, 0.0], [2.0, 1.0]]).double(), torch.eye(2).double().expand(2, 2, 2),
        torch.full((2, 2), 0.09), 0 * one, (2,),
    )  # fmt: skip
    operator, y = torch.tensor([[0.0, 1.0]]), torch.tensor([0.6])
    exact = LinearPosterior(mixture, operator, 0.5).given(y)
    share = float(exact.weights[exact.means[:, 0] > 0].sum())
    model = Model.from_mixture(mixture, VP)
    for method, calls in (("exact-guidance", 40), (SplitGibbs(4), 120)):
        found = solve(model, operator, y, plan=calls, method=method, noise=0.5, n=300, batch=300).samples
        assert float((found[:, 0] > 0).double().mean()) == pytest.approx(share, abs=0.12)


@pytest.mark.parametrize("method", METHODS)
def test_without_noise_and_with_a_map_of_noise(method: str) -> None:
    model = gaussian()
    for noise in (0.0, torch.tensor([0.05, 0.5])):
        found = solve(model, A, torch.tensor([0.5, 0.5]), plan=20, method=method, noise=noise, n=8)
        assert math.isinf(found.misfit) == (isinstance(noise, float))
    # the map is the deviation of each measured value: the first is met more closely, by methods whose samples have spread
    left = (found.samples @ A.T - 0.5).square().mean(0)
    assert float(left[0]) < float(left[1]) or method in ("red-diff", "dps")


def test_a_map_of_noise_has_the_exact_posterior() -> None:
    model, noise, y = gaussian(), torch.tensor([0.1, 0.9]), torch.tensor([1.0, -0.5])
    mean, covariance = moments(LinearPosterior(model.exact, A, noise).given(y))
    found = solve(model, A, y, plan=60, method="mmps", noise=noise, n=1500, batch=1500)
    assert torch.allclose(found.mean.double(), mean, atol=0.08)
    assert torch.allclose(found.spread.double(), covariance.diagonal().sqrt(), rtol=0.1)


def test_measurements_are_solved_one_by_one() -> None:
    model, y = gaussian(), torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]])
    told: list[tuple[int, int]] = []
    three = solve(model, A, y, plan=5, n=4, seed=3, batch=5, progress=lambda done, of: told.append((done, of)))
    assert three.samples.shape == (3, 4, 3)
    assert three.mean.shape == three.spread.shape == (3, 3)
    assert told == [(5, 12), (10, 12), (12, 12)]
    first = solve(model, A, y[0], plan=5, n=4, seed=3)
    assert torch.allclose(first.samples, three.samples[0], atol=1e-4)
    assert first.mean.shape == first.spread.shape == (3,)
    assert (first.method, first.nfe) == ("mmps", 5)
    assert not torch.equal(first.samples, solve(model, A, y[0], plan=5, n=4, seed=4).samples)


def test_any_plan_and_guidance_are_played() -> None:
    mixture = GaussianMixture.random((1, 2, 2), 4, seed=1, classes=2)
    model = Model.from_mixture(mixture, VP, conditional=True)
    operator, y = SuperResolution((1, 2, 2)), torch.zeros(1, 1, 1)
    for plan in (
        standard("dpmpp-2m", model, 8),
        guide(standard("heun", model, 8), 3.0),
        standard("dpmpp-2m-sde", model, 8),
    ):
        found = solve(model, operator, y, plan=plan, labels=1, n=4)
        assert found.nfe == plan.nfe
    alone = solve(model, operator, y, plan=standard("ddim", model, 8), labels=1, n=4).samples
    other = solve(model, operator, y, plan=standard("ddim", model, 8), labels=0, n=4).samples
    assert not torch.allclose(alone, other, atol=1e-2)
    anything, unlabelled = (
        solve(each, operator, y, plan=8, n=4).samples for each in (model, Model.from_mixture(mixture, VP))
    )
    assert torch.allclose(anything, unlabelled, atol=1e-4)


def test_a_function_is_linearised() -> None:
    """Of a linear function without a known adjoint the samples are those of its matrix; of others the misfit falls."""
    model, y = gaussian(), torch.tensor([0.5, 0.5])
    for method in (MMPS(), TMPD(), DPS(), "red-diff"):
        of_matrix, of_function = (
            solve(model, operator, y, plan=8, method=method, noise=0.3, n=4).samples
            for operator in (A, lambda x: x @ A.T)
        )
        if method != "red-diff":  # which begins elsewhere
            assert torch.allclose(of_matrix, of_function, atol=1e-4)
    found = solve(model, lambda x: x.square().sum(1, keepdim=True), torch.tensor([4.0]), plan=40, noise=0.2, n=64)
    assert float((found.samples.square().sum(1) - 4).abs().median()) < 0.5


@pytest.mark.parametrize("method", ["mmps", "tmpd", PiGDM(weighting="formula")])
@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.0, 1.0)])
def test_a_network_of_images_whose_derivative_is_no_covariance_leaves_their_range_by_a_width_at_most(
    method: object, ends: tuple[float, float]
) -> None:
    low, high = ends
    middle, width = (low + high) / 2, high - low
    rough = Model.from_denoiser(
        lambda x, t, y: middle + 0.3 * width * torch.sin(50 * x), Flow(), (1, 2, 2), hash="rough", data_range=ends
    )
    drawn = partial(solve, y=torch.full((1, 1, 1), high), plan=1, method=method, noise=0.1, n=64)
    samples = drawn(rough, SuperResolution((1, 2, 2))).samples
    reach = 1.01 * width  # a plan of one row adds a thousandth of its state
    assert low - reach <= float(samples.min()) <= float(samples.max()) <= high + reach
    latents = replace(rough, decode=lambda z: z)  # of which no range is known
    assert float(drawn(latents, SuperResolution((1, 2, 2))).samples.abs().max()) > high + reach


@pytest.mark.parametrize("method", ["mmps", "tmpd", "dps", "red-diff"])
@pytest.mark.parametrize(
    "function", [torch.round, torch.sign, lambda x: (x > 0).to(x) + 0 * x], ids=["round", "sign", "compare"]
)
def test_a_function_whose_derivative_says_nothing_is_refused(method: str, function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(InputError, match=r"derivative that is 0.*solve_black_box"):
        solve(gaussian(), function, torch.zeros(3), plan=2, method=method, n=2)


@pytest.mark.parametrize("method", ["mmps", "pigdm", "diffpir"])
@pytest.mark.parametrize("seen", [8.0, -8.0])
def test_a_measurement_out_of_reach_of_images_is_believed(method: str, seen: float) -> None:
    """Of a field N(0, 9 I) with the shape of an image, whose model says nothing of its range: the posterior is known."""
    field = Model.from_denoiser(
        lambda x, sigma, labels: x * 9 / (9 + sigma.view(-1, 1, 1, 1) ** 2),
        VarianceExploding(0.01, 80.0), (1, 2, 2), hash="field",
    )  # fmt: skip
    half = Inpainting(torch.tensor([[[True, False], [True, False]]]))
    y = torch.tensor([[seen, seen], [0.1, -0.2]])
    both = solve(field, half, y, plan=20, method=method, noise=0.1, n=8)
    assert float((both.samples[0, :, 0, :, 0] - seen).abs().max()) < 0.8
    alone = solve(field, half, y[0], plan=20, method=method, noise=0.1, n=8, batch=3)
    assert torch.allclose(both.samples[0], alone.samples, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["inpaint", "super-resolution", "deblur,width=2", "compressed-sensing", "denoise"])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1, 0.5])
def test_no_measurement_of_an_image_is_out_of_its_reach(name: str, noise: float) -> None:
    """Black and white images, the widest of all, and the noise of as many measurements as are tried here."""
    model = Model.from_denoiser(lambda x, t, y: x, Flow(), (3, 8, 8), hash="image", data_range=(0.0, 255.0))
    draw = torch.Generator().manual_seed(7)
    operator, images = as_operator(name, model.shape), 255.0 * torch.randint(0, 2, (200, 3, 8, 8), generator=draw)
    clean = operator(images)
    y = clean + noise * 127.5 * torch.randn(clean.shape, generator=draw)
    problem = Problem(model, standard("ddim", model, 1), Likelihood(operator, y, noise * 127.5), None, lambda *_: y)
    assert not bool(problem.beyond.any())


def test_a_change_within_reach_of_images_is_left_as_it_is() -> None:
    model = Model.from_denoiser(lambda x, t, y: x, Flow(), (1, 2, 2), hash="image", data_range=(0.0, 255.0))
    given = Likelihood(Identity((1, 2, 2)), torch.full((3, 1, 2, 2), 100.0), 1.0)
    problem = Problem(model, standard("ddim", model, 1), given, None, lambda *_: given.y)
    change = 1e-3 * torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(problem.held(torch.full((3, 1, 2, 2), 200.0), change), change)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(-3, 3),
        lambda x: x[:, :1].clamp(0.4, 0.6),
        lambda x: (x - 128).relu(),
        lambda x: (x - 600).abs().clamp(max=500),
    ],
    ids=["clipped", "one value in a narrow band", "dark of 0 .. 255 is 0", "of 16 bits"],
)
def test_a_function_that_is_flat_in_places_is_followed(function: Callable[[Tensor], Tensor]) -> None:
    y = torch.zeros(2, *function(torch.zeros(1, 3)).shape[1:])
    assert says_something(Function(function, (3,)), y)


def test_a_function_that_clips_is_followed_to_the_measurement() -> None:
    found = solve(gaussian(), lambda x: x.clamp(-3, 3), torch.zeros(3), plan=20, noise=0.1, n=8)
    assert float(found.samples.abs().median()) < 0.3


def test_an_operator_is_tried_on_no_more_samples_than_a_batch_has() -> None:
    """One that decodes latents fills the memory with two of them."""
    sizes: list[int] = []

    class Decoded:
        shape, measured = (3,), (3,)

        def __call__(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return x.tanh()

    solve(gaussian(), Decoded(), torch.zeros(2, 3), plan=2, noise=0.1, n=1, batch=1)
    assert max(sizes[:-1]) == 1  # the last is the misfit of all samples


class Rounds:
    """An operator of one's own, as `fewer.tasks.inverse.operators` has them."""

    shape, measured = (3,), (3,)

    def __call__(self, x: Tensor) -> Tensor:
        return x.round()


@pytest.mark.parametrize("method", ["mmps", "tmpd", "dps", "red-diff"])
def test_an_operator_of_ones_own_whose_derivative_says_nothing_is_refused(method: str) -> None:
    with pytest.raises(InputError, match=r"derivative that is 0.*solve_black_box"):
        solve(gaussian(), Rounds(), torch.zeros(3), plan=2, method=method, n=2)


def test_tmpd_sees_each_sample_alone() -> None:
    """Of values of variance 1e-5 and 1e5 in one batch, without noise."""
    model = Model.from_denoiser(
        lambda x, t, y: torch.where(x[:, :1] > 0, 1e-5 * x, 1e5 * x), Flow(), (2,), hash="two scales"
    )
    x = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])

    def drawn(own: slice) -> Tensor:
        given = Likelihood(Identity((2,)), torch.tensor([[2.0, 3.0], [2.0, 3.0]])[own], 0.0)
        with torch.no_grad():
            problem = Problem(model, standard("ddim", model, 1, [0.5]), given, None, lambda *_: x)
            return TMPD().draw(problem, x[own])

    both = drawn(slice(0, 2))
    assert torch.allclose(both, torch.cat([drawn(slice(0, 1)), drawn(slice(1, 2))]), rtol=1e-4)
    assert torch.allclose(both, torch.tensor([2.0, 3.0]), rtol=1e-2)


def test_tmpd_without_noise_leaves_out_values_whose_row_sums_are_not_positive() -> None:
    """Two values that vary against each other: the sums of their covariance cancel, or nearly do."""
    against = GaussianMixture(
        torch.ones(1, dtype=torch.float64), torch.zeros(1, 2).double(), torch.eye(2).double()[None],
        torch.tensor([[1.0, 1.0]], dtype=torch.float64), torch.zeros(1).double(), (2,),
    )  # fmt: skip
    operator = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    found = solve(
        Model.from_mixture(against, VP), operator, torch.tensor([1.0, -1.0]), plan=8, method="tmpd", noise=0.0, n=4
    )
    assert bool(found.samples.isfinite().all())


class NoDerivative(torch.nn.Module):
    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return x.detach() * 0.5


def test_what_cannot_be_is_one_line() -> None:
    model, y = gaussian(), torch.tensor([0.5, 0.5])
    cases: list[tuple[dict[str, object], str]] = [
        ({"operator": torch.ones(2, 5)}, "expected \\(m, 3\\)"),
        ({"operator": Identity((4,))}, "the model's are \\(3,\\)"),
        ({"y": torch.zeros(3)}, "y has shape \\(3,\\); the operator gives \\(2,\\)"),
        ({"y": torch.tensor([math.nan, 1.0])}, "y holds 1 values that are not finite"),
        ({"y": torch.zeros(2, dtype=torch.int64)}, "floating"),
        ({"noise": -1.0}, "at least 0"),
        ({"noise": math.nan}, "finite"),
        ({"noise": "loud"}, "noise is 'loud'"),
        ({"noise": torch.tensor([0.0, 1.0])}, "map with 0"),
        ({"noise": torch.ones(5)}, "broadcasts to"),
        ({"method": "mmsp"}, "mmps"),
        ({"method": "explicit-inversion"}, "no posterior sampler"),
        ({"method": "stream-batch"}, "without a default|no posterior sampler"),
        ({"n": 0}, "n is 0"),
        ({"plan": 0}, "plan is 0"),
        ({"plan": None}, "plan is None"),
        ({"plan": "nowhere.json"}, "nowhere.json"),
        ({"labels": 1}, "no classes"),
        ({"operator": torch.tanh, "y": torch.zeros(3), "method": "pigdm"}, "needs a linear operator"),
        ({"operator": lambda x: x[:, :2].detach(), "method": "mmps"}, "no derivative"),
        ({"operator": lambda x: x[:, :2].detach(), "method": "dps"}, "no derivative"),
        ({"operator": lambda x: x[:, :2].detach(), "method": "red-diff"}, "no derivative"),
    ]
    for given, word in cases:
        operator, measured = given.pop("operator", A), given.pop("y", y)
        with pytest.raises(InputError, match=word):
            solve(model, operator, measured, **{"n": 2, "plan": 3, **given})  # type: ignore[arg-type]
    blind = Model.from_denoiser(NoDerivative(), VP, (3,))
    with pytest.raises(InputError, match="network of denoiser has no derivative"):
        solve(blind, A, y, n=2, plan=3)
    assert solve(blind, A, y, n=2, plan=3, method=DiffPIR()).samples.isfinite().all()  # which needs none
    with pytest.raises(InputError, match="is none"):
        solve(blind, A, y, n=2, plan=3, method="exact-guidance")
    with pytest.raises(NotFinite, match="smaller strength"):
        solve(model, A, y, n=2, plan=30, method=MMPS(strength=1e30))
    labelled = Model.from_mixture(GaussianMixture.random(3, 2, classes=2), VP, conditional=True)
    guided = guide(standard("ddim", labelled, 4), 2.0)
    with pytest.raises(InputError, match="under guidance"):
        solve(labelled, A, y, n=2, plan=guided, method="split-gibbs", labels=0)


def test_it_is_public() -> None:
    assert fewer.solve is solve
    assert Matrix(A, (3,)).measured == (2,)
