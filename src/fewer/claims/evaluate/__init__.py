"""Claims of measures, intervals and costs."""
