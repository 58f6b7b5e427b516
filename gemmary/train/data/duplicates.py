"""Documents that say the same: exactly, by digest; nearly, by datatrove's MinHash. The first of each is kept.

MinHash with datatrove's own settings: 5 words a shingle, 14 bands of 8 hashes, so that two documents that
share three quarters of their shingles are found three times in four (Broder 1997, Penedo et al. 2024).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import GemmaryError
from .words import words

Numbers = npt.NDArray[np.int64]


def exact_duplicates(digests: npt.NDArray[np.uint64]) -> Numbers:
    """Numbers of the rows of digests [documents, 2] that an earlier row equals."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equal digests stay in their order
    ranked = digests[order]
    again = np.zeros(len(order), bool)
    again[1:] = (ranked[1:] == ranked[:-1]).all(1)
    return np.sort(order[again])


def near_duplicates(texts: Iterable[str], folder: Path) -> Numbers:
    """Numbers of the texts that are nearly an earlier one, or nearly one that is, and so on.

    Texts of fewer than 5 words are not compared. Signatures are kept below `folder`, an empty folder on disk:
    about 1 KB a text; memory holds those of one band, 68 bytes a text.
    """
    minhash, tokenizer, documents = _datatrove()
    config = minhash.MinhashConfig()
    signatures, pairs, clusters = (str(folder / name) for name in ("signatures", "pairs", "clusters"))
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        minhash.MinhashDedupSignature(signatures, config, language=tokenizer).run(documents(texts))
        for band in range(config.num_buckets):
            step = minhash.MinhashDedupBuckets(signatures, pairs, config=config)
            step.run(rank=band, world_size=config.num_buckets)
        minhash.MinhashDedupCluster(pairs, clusters, config, save_cluster_id=True).run()
    return _later_members(folder / "clusters" / "000000.clusters")


def _later_members(path: Path) -> Numbers:
    """All but the first of every cluster; datatrove itself would keep any one of them."""
    if not path.exists():
        return np.zeros(0, np.int64)
    document, cluster = np.fromfile(path, "<u4").reshape(-1, 2).astype(np.int64).T
    order = np.lexsort((document, cluster))
    later = np.zeros(len(order), bool)
    later[1:] = cluster[order][1:] == cluster[order][:-1]
    return np.sort(document[order[later]])


Documents = Callable[[Iterable[str]], Iterator[Any]]


def _datatrove() -> tuple[Any, Any, Documents]:
    """Its module of MinHash, a tokenizer for it, and texts as its documents; imported when it is needed."""
    try:
        from datatrove.data import Document
        from datatrove.pipeline.dedup import minhash
        from datatrove.utils.logging import logger
        from datatrove.utils.word_tokenizers import WordTokenizer
    except ImportError as error:
        raise GemmaryError(
            "to find near duplicates, install what training needs: pip install 'gemmary[train]'; "
            "or prepare the data with near_duplicates = false"
        ) from error
    logger.disable("datatrove")

    class Words(WordTokenizer):
        """Words of ours instead of spaCy's; it asks for words only."""

        def word_tokenize(self, text: str) -> list[str]:
            return words(text)

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError

    def documents(texts: Iterable[str]) -> Iterator[Any]:
        return (Document(text, str(number)) for number, text in enumerate(texts))

    return minhash, Words(), documents
