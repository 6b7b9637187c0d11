"""Strategies of the search, each in a file named after its method."""
