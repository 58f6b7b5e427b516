"""All of Gemma 3, in Python: run it, see with it, serve it, train it, measure it."""
