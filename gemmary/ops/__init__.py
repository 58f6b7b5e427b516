"""Gemma's operations, array to array, in one table with several makers (see `contract`)."""
