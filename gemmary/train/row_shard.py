"""Rows of a tensor that this process has: FSDP2 cuts dimension 0 into equal pieces, the last ones shorter."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor, Shard

Tensor = torch.Tensor


def shards_of(tensor: DTensor) -> tuple[int, int]:
    """Into how many pieces `tensor` is cut, and which of them is here."""
    at = next(dim for dim, placement in enumerate(tensor.placements) if isinstance(placement, Shard))
    return tensor.device_mesh.size(at), tensor.device_mesh.get_local_rank(at)


def rows_of(count: int, shards: int, place: int) -> tuple[int, int]:
    """First row, and the row after the last, of piece `place` of `count` rows."""
    size = -(-count // shards)
    return min(place * size, count), min((place + 1) * size, count)


def rows_here(tensor: Tensor) -> tuple[int, int]:
    """First row, and the row after the last, of what this process has of `tensor`."""
    if not isinstance(tensor, DTensor):
        return 0, len(tensor)
    return rows_of(tensor.shape[0], *shards_of(tensor))


def local(tensor: Tensor) -> Tensor:
    """What this process has of `tensor`, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def first_replica(tensor: Tensor) -> bool:
    """Whether of all processes that have these rows this is the one that writes them."""
    if not isinstance(tensor, DTensor):
        return True
    coordinate = tensor.device_mesh.get_coordinate() or ()
    others = [at for at, p in zip(coordinate, tensor.placements, strict=True) if not isinstance(p, Shard)]
    return not any(others)
