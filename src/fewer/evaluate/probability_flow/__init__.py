"""The probability flow by an adaptive solver, and the likelihood along it."""
