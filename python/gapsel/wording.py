"""How a count is written before its noun, wherever people read it: messages, summaries, the report."""

from __future__ import annotations


def counted(count: int, noun: str, many: str | None = None) -> str:
    """Return "1 document" or "2,000 documents"; ``many`` is the plural of a noun that takes more than an s."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def are(count: int) -> str:
    """Return the verb of so many."""
    return "is" if count == 1 else "are"
