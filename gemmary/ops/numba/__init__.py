"""The CPU op table: NumPy arrays and compiled loops over packed weights. Never imports torch."""
