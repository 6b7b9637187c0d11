"""Plays of plans shared out to workers: processes of this machine, or those of a Dask or Ray cluster.

What is shared out are `Play`s, a plan from one micro-batch of noises each. Their results come back in the order in which they
were given, so that one worker and a hundred give the same bits.
"""
