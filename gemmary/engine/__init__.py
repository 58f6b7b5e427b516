"""Requests -> tokens: the loop that generates, the sampler, the prefix cache and the one thread that computes."""
