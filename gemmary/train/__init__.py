"""Data to weights: packing, losses, optimizers, the one loop, checkpoints."""
