"""What the tokens of a step see, and how that work is cut into pieces.

What a token sees is one interval of positions of its own text. Tokens of one text that follow each other
make a block. A piece is a block and a key/value head: every page is read once for all of the block's
queries. Where that gives too few pieces for the threads (a token a step, late in a long text), a piece is a
run of its pages.
"""

from __future__ import annotations

import numpy as np

from ...errors import UnsupportedModelError
from ...formats.jit import compiled_for
from ..contract import PAGE, Ints
from .emit import LANES

ROWS = 48  # most query rows of a block: enough that a page comes from memory once and is used from the cache
RUN = 4  # pages of a run; runs begin at multiples of it
_PIECES_A_THREAD = 4  # with fewer, blocks are cut

# A block: its first token, tokens, first page, end of pages; runs and partial results of blocks before it.
FIELDS = 6
TOKEN, TOKENS, PAGES, END, RUNS, PARTS = range(FIELDS)


class Sight:
    """The work of attention in one kind of layers. It stays where it is, for tapes; `look` renews it.

    There is room for `tokens` tokens a step, and for `parts` partial results: one for each token and run of
    pages, 4 * heads * (head_dim + 16) bytes. Without room nothing is cut. One serves all layers of a kind.
    """

    def __init__(
        self, window: int | None, heads: tuple[int, int, int], threads: int, tokens: int, parts: int
    ) -> None:
        """heads: query heads, key/value heads, width. UnsupportedModelError where kernels cannot do them."""
        self.heads, self.kv_heads, self.head_dim = heads
        _check(*heads)
        self.window, self.threads, self.room = window, threads, parts
        self.seq, self.pos, self.first, self.last = (np.zeros(tokens, np.int32) for _ in range(4))
        self.blocks = np.zeros((tokens, FIELDS), np.int32)
        self.cut, self.new_pieces, self.pieces, self.fold_pieces = (np.zeros(1, np.int64) for _ in range(4))
        self.parts = np.empty(parts * self.heads * (self.head_dim + LANES), np.float32)

    def look(self, seq: Ints, pos: Ints, last: Ints, cut: bool | None = None) -> None:
        """The tokens of a step [T]: sequence, position, last position seen. `cut`: must blocks be, or not?

        ValueError where they must be and there is no room for the partial results.
        """
        tokens = len(seq)
        for mine, given in ((self.seq, seq), (self.pos, pos), (self.last, last)):
            mine[:tokens] = given
        self.first[:tokens] = 0
        if self.window is not None:
            reach = np.int32(self.window - 1)
            self.first[:tokens] = np.maximum(pos - reach, 0)
            self.last[:tokens] = np.minimum(last, pos + reach)
        most = max(1, ROWS * self.kv_heads // self.heads)
        count, runs, parts = _blocks(self.seq, self.first, self.last, tokens, most, self.blocks)
        if cut is None:
            few = self.threads > 1 and count * self.kv_heads < _PIECES_A_THREAD * self.threads
            cut = few and count < runs and parts <= self.room
        if cut and parts > self.room:
            raise ValueError(f"room for {self.room} partial results, and {parts} wanted")
        self.cut[0] = cut
        self.new_pieces[0] = count * self.kv_heads
        self.pieces[0] = (runs if cut else count) * self.kv_heads
        self.fold_pieces[0] = tokens * self.heads if cut else 0
        if not cut and count > 1:
            self._longest_first(self.blocks[:count])

    def _longest_first(self, blocks: Ints) -> None:
        work = blocks[:, TOKENS] * (blocks[:, END] - blocks[:, PAGES])
        blocks[:] = blocks[np.argsort(-work, kind="stable")]


def _check(heads: int, kv_heads: int, head_dim: int) -> None:
    if head_dim % LANES:
        raise UnsupportedModelError(
            f"heads are {head_dim} wide: attention on a CPU wants a multiple of {LANES}"
        )
    if heads % kv_heads or heads // kv_heads > ROWS:
        raise UnsupportedModelError(f"{heads} query heads cannot share {kv_heads} key/value heads on a CPU")


@compiled_for("UniTuple(int64,3)(int32[::1],int32[::1],int32[::1],int64,int64,int32[:,::1])")
def _blocks(seq: Ints, first: Ints, last: Ints, tokens: int, most: int, blocks: Ints) -> tuple[int, int, int]:
    """Fill `blocks`; how many there are, the runs that they see, and partial results."""
    count, runs, parts, t = 0, 0, 0, 0
    while t < tokens:
        after, low, high = t, first[t], last[t]
        while after < tokens and after < t + most and seq[after] == seq[t]:
            low, high = min(low, first[after]), max(high, last[after])
            after += 1
        page, end = low // PAGE, high // PAGE + 1
        blocks[count, TOKEN], blocks[count, TOKENS] = t, after - t
        blocks[count, PAGES], blocks[count, END] = page, end
        blocks[count, RUNS], blocks[count, PARTS] = runs, parts
        seen = (end - 1) // RUN - page // RUN + 1
        count, runs, parts, t = count + 1, runs + seen, parts + seen * (after - t), after
    return count, runs, parts
