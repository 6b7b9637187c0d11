"""Tiny random pipelines of every class of diffusers, made from tables: a part a network class, a call an argument's name."""
