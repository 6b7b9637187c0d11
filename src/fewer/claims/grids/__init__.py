"""Claims of grids."""
