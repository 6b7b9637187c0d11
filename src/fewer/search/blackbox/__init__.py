"""Black-box optimizers, each in a file named after its method, and the strategy that plays them over a plan's numbers.

Left out: sparse inverse Cholesky factors for large Gaussian processes (Cao et al. 2023, arXiv:2301.13303), since a search makes a
few hundred values, of which the exact posterior takes milliseconds; and sampling and optimisation in a single loop (Marion et al.
2024, Implicit diffusion, arXiv:2402.05468), since a plan of n rows takes n evaluations a sample in whatever order samples are
advanced, so that its queue of staggered samples saves time on parallel machines and no evaluation, for gradients of older numbers.
"""
