"""Which blocks of the network a row runs, skips, reuses or forecasts."""
