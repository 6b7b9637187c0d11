"""The stages of a search, each a function of typed inputs and outputs."""
