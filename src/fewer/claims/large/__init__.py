"""Claims of larger samples, and of which measurements to take."""
