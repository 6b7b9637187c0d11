"""Tasks beside sampling: inversion and restoration."""
