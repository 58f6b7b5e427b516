"""Requests -> tokens: the loop that generates, the sampler, the prefix cache, the one computing thread."""
