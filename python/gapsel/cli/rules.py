"""What the rules of a choice did, told to people: a line for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gapsel.wording import counted


def in_lines(said: dict[str, Any], chosen: int) -> list[str]:
    """Say what each rule did that was in use."""
    lines = [_tokens(said["tokens"])] if "tokens" in said else []
    lines += [_excluded(one) for one in said.get("exclude", ())]
    lines += [_held_out(one) for one in said.get("held_out", ())]
    if "threshold" in said:
        one = said["threshold"]
        lines.append(
            f"threshold {one['score']:g}: {counted(one['documents'], 'document')} within it, {chosen:,} chosen"
        )
    lines += [_quota(one) for one in said.get("at_most", ())]
    if "copies" in said:
        lines.append(f"near copies: {counted(said['copies']['documents'], 'document')} passed over for a better one")
    if "temperature" in said:
        one = said["temperature"]
        lines.append(f"temperature {one['in_eps']:g} eps, {one['in_cost']:.3g} of the cost: drawn, not ranked")
    return lines


def _tokens(one: dict[str, Any]) -> str:
    words = f"tokens: {one['used']:,} of {one['budget']:,}"
    if one["too_large"]:
        words += f"; {counted(one['too_large'], 'document')} passed over for which there was not enough left"
    if one["without"]:
        words += f"; {counted(one['without'], 'document')} without a number of tokens, which cannot be chosen"
    if one["cut"]:
        words += (
            f"; {one['cut']:,} of the chosen may be longer, since the encoder cut them at {one['max_tokens']:,}: name "
            "a field with the numbers (--token-field)"
        )
    return words


def _excluded(one: dict[str, Any]) -> str:
    return (
        f"exclude {Path(one['file']).name}: {one['matched']:,} of its {one['entries']:,} entries are in the pool, "
        f"{counted(one['documents'], 'document')} left out"
    )


def _held_out(one: dict[str, Any]) -> str:
    return (
        f"held out {Path(one['file']).name}: {counted(one['documents'], 'document')} left out that share 13 words in a "
        f"row with one of its {one['held_out']:,}"
    )


def _quota(one: dict[str, Any]) -> str:
    words = f"at most {100 * one['share']:g} % of one {one['field']}: "
    names = ", ".join(one["names"]) + (" ..." if one["full"] > len(one["names"]) else "")
    full = f"{one['full']:,} of {one['groups']:,} full ({names})" if one["full"] else f"none of {one['groups']:,} full"
    words += f"{full}, {counted(one['passed_over'], 'document')} passed over"
    if one["without"]:
        words += f"; {counted(one['without'], 'document')} of the pool without one count as one"
    return words
