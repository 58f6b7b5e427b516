"""Instruction sets: what each has of its own; `instructions` chooses."""
