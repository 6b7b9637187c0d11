"""Policies of the blocks column: which blocks run in which row."""
