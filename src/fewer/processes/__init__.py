"""Processes other than data plus Gaussian noise: counts that die out, bridges between two laws, mixtures of many.

Each defines its own corruption, its own loss where a network learns it, and its own sampler; none is a table of rows. All have
members whose law is known in closed form.
"""
