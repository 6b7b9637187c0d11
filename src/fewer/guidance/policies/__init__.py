"""Policies of guidance: which rows of a plan are guided, and how strongly."""
