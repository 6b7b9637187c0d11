"""Claims of forecasts, on processes whose forecast laws are known."""
