"""Samples larger than a network's own: its windows over one large state, and measurements to choose among."""
