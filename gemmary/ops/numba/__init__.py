"""The CPU op table: NumPy arrays and compiled loops over packed weights. Never imports torch."""

from ...formats import codecache as codecache  # before anything is compiled
