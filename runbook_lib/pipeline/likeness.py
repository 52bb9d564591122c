"""How alike two texts are, without keeping either: MinHash over shingles of five words.

The sketch is the bottom-k form of MinHash (Broder, "On the resemblance and containment of documents",
1997): the k smallest hashes of all shingles. One hash a shingle, exact for short texts; with k = 128 the
estimate of the Jaccard index has a standard error of at most 0.045.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import blake2b

SHINGLE_WORDS = 5
SKETCH_HASHES = 128
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
# Scripts written without spaces: every two characters count as a word.
_UNSPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1780-\u17ff]{1,2}"
)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    if _UNSPACED.search(folded):
        folded = _UNSPACED.sub(lambda found: f" {found[0]} ", folded)
    return _WORD.findall(folded)


def shingles(words: Sequence[str], length: int = SHINGLE_WORDS) -> list[str]:
    """Every run of `length` words; a shorter text is one shingle by itself."""
    if not words:
        return []
    count = max(1, len(words) - length + 1)
    return [" ".join(words[start : start + length]) for start in range(count)]


def likeness_sketch(text: str) -> tuple[int, ...]:
    """The sketch of a text: at most 128 signed 64-bit numbers, ascending; empty for a text without words."""
    hashes = {_hash(shingle) for shingle in set(shingles(words_of(text)))}
    return tuple(heapq.nsmallest(SKETCH_HASHES, hashes))


def estimate_likeness(one: Sequence[int], other: Sequence[int]) -> float:
    """The estimated Jaccard index of two texts' shingles: 0 nothing in common, 1 the same."""
    if not one or not other:
        return 0.0
    first, second = set(one), set(other)
    # What lies beyond the last hash of a full sketch is not known of that text.
    horizon = min(
        (max(each) for each in (first, second) if len(each) >= SKETCH_HASHES), default=None
    )
    known = [each for each in first | second if horizon is None or each <= horizon]
    return sum(each in first and each in second for each in known) / len(known)


def first_likeness(
    sketch: Sequence[int], others: Iterable[Sequence[int]], at_least: float
) -> float | None:
    """The first estimate that reaches `at_least`, or None; made for hundreds of others."""
    own = frozenset(sketch)
    for other in others:
        # No estimate is greater than this share, which costs a tenth of one.
        if len(own.intersection(other)) / max(len(own), len(other), 1) < at_least:
            continue
        if (likeness := estimate_likeness(sketch, other)) >= at_least:
            return likeness
    return None


def _hash(shingle: str) -> int:
    digest = blake2b(shingle.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
