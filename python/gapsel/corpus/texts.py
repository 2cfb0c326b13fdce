"""What of a row is its text: a field, the messages of a conversation in a field, or several fields one after another.

A conversation is a list of objects, each of which says something in ``content``, as OpenAI's and Hugging Face's do, or
in ``value``, as ShareGPT's do; where that is a list of parts, it is what the parts with a ``text`` say. Names with
commas between them are several fields: those that a row has are joined, unless one field bears the whole name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

# A field that is not there, as against one that holds null.
NO_FIELD = object()
_BETWEEN = "\n\n"
SAYS = ("content", "value", "text")


def fields_of(name: str, there: Collection[str]) -> list[str]:
    """Return the fields that a name means among those that are there; [] unless all are."""
    names = [name] if name in there else [one.strip() for one in name.split(",")]
    return names if all(one in there for one in names) else []


def text_in(row: Mapping[str, object], name: str) -> object:
    """Return the text of a row by the name of its field or fields, NO_FIELD where it has none of them.

    What is no text is returned as it is.
    """
    if name in row:
        return said(row[name])
    names = (one.strip() for one in name.split(","))
    values = [row[one] for one in names if one in row]
    return joined(values) if values else NO_FIELD


def joined(values: Iterable[object]) -> object:
    """Return the texts of several fields as one, without those that are empty or null; or the first that is no text."""
    texts = [said(value) for value in values if value is not None]
    other = next((text for text in texts if not isinstance(text, str)), None)
    return _BETWEEN.join(text for text in texts if isinstance(text, str) and text) if other is None else other


def said(value: object) -> object:
    """Return what a conversation says, as one text; any other value as it is."""
    if not isinstance(value, list) or not value:
        return value
    messages = [_message(one) for one in value]
    return _BETWEEN.join(filter(None, messages)) if None not in messages else value


def _message(message: object) -> str | None:
    """Return what a message, or a part of one, says: "" where that is no text, None where it is no message."""
    name = next((name for name in SAYS if isinstance(message, dict) and name in message), None)
    if not isinstance(message, dict) or (name is None and "type" not in message and "role" not in message):
        return None
    found = said(message.get(name)) if name else None
    return found if isinstance(found, str) else ""
