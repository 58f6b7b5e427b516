"""HTTP: the API that every client speaks, and the web chat."""
