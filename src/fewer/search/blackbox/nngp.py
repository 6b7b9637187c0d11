"""Bayesian optimisation with infinitely wide networks: as a Gaussian process, and mixed over its scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewer.registry import part
from fewer.search.blackbox.bayesian import Bayesian, Surrogate
from fewer.search.blackbox.kernels import Kernel, networks
from fewer.search.blackbox.process import likeliest


@part(
    "nngp",
    title="Bayesian optimisation of levels with an infinitely wide Bayesian network for surrogate",
    source="Li, Rudner & Wilson 2024, A study of Bayesian neural network surrogates for Bayesian optimization, arXiv:2305.20028",
    papers=(30,),
)
@dataclass(frozen=True)
class NNGP(Bayesian):
    """Expected improvement as in `bayesian`, with f a random network of rectified linear units whose layers are infinitely wide:
    a Gaussian process with the kernel

        K_(l+1)(x, y) = b + sqrt(K_l(x, x) K_l(y, y)) (sin a + (pi - a) cos a) / pi,   a the angle that K_l has between x and y.

    Depth and bias variance b are the likeliest of a few. Of the surrogates that the paper compares this is the one that it
    finds promising in many dimensions; the finite networks among them, which are sampled at length, are left out.
    """

    name = "nngp"

    def kernels(self, d: int) -> Sequence[Kernel]:
        """Networks of several depths and bias variances."""
        return networks()


@part(
    "nngp-student-t",
    title="Bayesian optimisation of levels with an infinitely wide network of random scale, a Student-t process",
    source="Lee, Yun, Yang & Lee 2022, Scale mixtures of neural network Gaussian processes, arXiv:2107.01408",
    papers=(102,),
)
@dataclass(frozen=True)
class NNGPStudentT(NNGP):
    """f | s ~ GP(0, s K) with the kernel of `nngp`, and s ~ inverse gamma (a, b), the scale of the last layer's weights: f is a
    Student-t process. Given n values it has 2 a + n degrees of freedom, the Gaussian process's mean, and its variances times
    (2 b + y' K^-1 y) / (2 a + n); the expected improvement is that of a t distribution.

    Its predictions of regression are exact. The paper's other priors of the scale, and classification, which need sampling,
    are left out: values of plans are real numbers.
    """

    a: float = 2.0
    b: float = 2.0

    name = "nngp-student-t"

    def surrogate(self, d: int) -> Surrogate:
        """The Student-t process."""
        return lambda x, y: likeliest(self.kernels(d), x, y, (self.a, self.b))
