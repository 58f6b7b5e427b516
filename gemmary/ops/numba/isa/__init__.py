"""Instruction sets: what each has of its own, and the choice between them."""
