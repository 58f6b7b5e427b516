"""The order of candidates: floats as integers that sort alike, and the best k of some.

Candidates are sorted by falling logit, then rising id. As integers floats keep their order; 0 and -0 are
equal, and NaN, above all others, is never lost.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LOWEST = -0x7F800000  # the order of the least finite float32
NAN = 0x7F800001  # orders from here on are NaN
MAGNITUDE = 0x7FFFFFFF


@njit(error_model="numpy")
def order(x: np.float32) -> np.int32:
    """An integer that is larger where x is; 0 and -0 have the same, NaN the largest."""
    if x != x:
        return np.int32(MAGNITUDE)
    bits = np.float32(x + np.float32(0)).view(np.int32)
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(MAGNITUDE)))


@njit(error_model="numpy")
def value(order: np.int32) -> np.float32:
    """The float32 of an order."""
    return np.int32(order ^ ((order >> np.int32(31)) & np.int32(MAGNITUDE))).view(np.float32)


@njit(error_model="numpy")
def largest(orders: np.ndarray) -> int:
    """The largest of them, or what is just below LOWEST if none is finite."""
    top = np.int32(LOWEST - 1)
    for i in range(len(orders)):  # loops over numbers become vectors, loops over elements do not
        top = max(top, orders[i])
    return int(top)


@njit(error_model="numpy")
def border(orders: np.ndarray, k: int) -> int:
    """The k-th largest order; LOWEST where fewer than k are finite."""
    low, high = LOWEST, largest(orders)
    if _reached(orders, high) >= k:
        return max(low, high)
    while high - low > 1:  # fewer than k reach high; low is LOWEST or at least k reach it
        middle = (low + high) >> 1
        if _reached(orders, middle) >= k:
            low = middle
        else:
            high = middle
    return low


@njit(error_model="numpy")
def _reached(orders: np.ndarray, low: int) -> int:
    """How many are at least low, an int32."""
    least, count = np.int32(low), 0
    for i in range(len(orders)):
        count += orders[i] >= least
    return count


@njit(error_model="numpy")
def key(logit: np.float32, id: np.int64) -> int:
    """One int64 for a candidate: in the order of falling logits, then rising ids."""
    return int((~np.int64(order(logit)) << 32) | id)


@njit(error_model="numpy")
def settle(keys: np.ndarray, found: int, k: int, also: int) -> int:
    """Sort the k best of the first `found` keys, all different, and the `also` keys after them, each once.

    How many they are; they are left in front. Uses keys up to found + also.
    """
    kept = found
    if found > k:
        last, kept = _kth(keys[:found], k), 0
        for i in range(found):
            if keys[i] <= last:
                keys[kept] = keys[i]
                kept += 1
    for i in range(also):
        keys[kept + i] = keys[found + i]
    _sort(keys[: kept + also])
    count = 0
    for i in range(kept + also):
        if count == 0 or keys[i] != keys[count - 1]:
            keys[count] = keys[i]
            count += 1
    return count


@njit(error_model="numpy")
def _kth(keys: np.ndarray, k: int) -> int:
    """The k-th smallest of more than k different keys."""
    low = high = keys[0]
    for x in keys:
        low, high = min(low, x), max(high, x)
    while low < high:  # the k-th is in low .. high
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        count = 0
        for i in range(len(keys)):
            count += keys[i] <= middle
        if count >= k:
            high = middle
        else:
            low = middle + 1
    return high


@njit(error_model="numpy")
def _sort(keys: np.ndarray) -> None:
    """Shell's sort: short, in place, quick enough for some thousands."""
    gap = 1
    while gap < len(keys) // 3:
        gap = 3 * gap + 1
    while gap:
        for i in range(gap, len(keys)):
            x, at = keys[i], i
            while at >= gap and keys[at - gap] > x:
                keys[at] = keys[at - gap]
                at -= gap
            keys[at] = x
        gap //= 3


@njit(error_model="numpy")
def write(keys: np.ndarray, count: int, ids: np.ndarray, logits: np.ndarray) -> None:
    """Candidates in the form of the answer; columns left over have id 0 and logit -inf."""
    for i in range(len(ids)):
        ids[i] = np.int32(keys[i] & 0xFFFFFFFF) if i < count else np.int32(0)
        logits[i] = value(np.int32(~(keys[i] >> 32))) if i < count else np.float32(-np.inf)
