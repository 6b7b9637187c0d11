"""Intervals, paired comparisons, races and other statistics of samples."""
