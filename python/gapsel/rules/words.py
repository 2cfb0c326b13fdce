"""Texts as words: what is compared of them where their exact letters do not count.

Words are what Unicode calls so, in lower case; what stands between them is left out.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
# An odd number, so that no bit of a hash is lost; from the digits of the golden ratio (Knuth, TAOCP 6.4).
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def words_of(text: str) -> list[str]:
    """Return the words of a text."""
    return _WORD.findall(text.lower())


def shingles(text: str, size: int) -> list[str]:
    """Return each run of ``size`` words; of a text with fewer, all of them as one."""
    words = words_of(text)
    return [" ".join(words[at : at + size]) for at in range(max(1, len(words) - size + 1))]


def gram_hashes(texts: Sequence[str], size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return a 64-bit hash of each run of ``size`` words, (g,) uint64, and which text it is of, (g,) int64.

    A text with fewer words is one run, which none of longer texts is like; one without words has none. Two different
    runs have one hash with a probability of 2^-64 or little more.
    """
    found = [words for text in texts if (words := words_of(text))]
    owners = np.array([at for at, text in enumerate(texts) if _WORD.search(text)], np.int64)
    padded = [words + [""] * (size - len(words)) for words in found]
    key_of = {word: _key(word) for word in {word for words in padded for word in words}}
    keys = np.array([key_of[word] for words in padded for word in words], np.uint64)
    of_text = np.repeat(np.arange(len(padded)), [len(words) for words in padded])
    count = max(0, len(keys) - size + 1)
    hashes = np.zeros(count, np.uint64)
    for at in range(size):
        hashes = hashes * _FACTOR + keys[at : at + count]
    whole = of_text[:count] == of_text[size - 1 :][:count]
    return hashes[whole], owners[of_text[:count][whole]]


def _key(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
