"""Claims of solvers."""
