"""Tasks beside sampling: inverse problems, editing, forecasts, restoration."""
