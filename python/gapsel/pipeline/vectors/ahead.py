"""One item ahead: texts are read and tokenized in a thread while the model is at work on those before them.

Tokenizers leave Python's lock alone while they work, and so does the model; where the model runs on a GPU, this is
what keeps it fed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield what ``items`` yields, never None, in order; the next is made, in one thread, while the last is used."""
    with ThreadPoolExecutor(1, "gapsel-ahead") as worker:
        coming = worker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = worker.submit(next, items, None)
            yield item
