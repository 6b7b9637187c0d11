"""Searches over masks: which of many things are on, under a budget for their costs together."""
