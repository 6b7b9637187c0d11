"""Forecasts of time series and fields by models of whole windows, and by models that go from one time to the next."""
