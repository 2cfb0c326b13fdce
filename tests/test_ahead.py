"""One item ahead: order kept, the next begun while the last is in use, faults handed on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from gapsel.pipeline.vectors.ahead import ahead

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("count", [0, 1, 5])
def test_all_items_come_in_order(count: int) -> None:
    assert list(ahead(iter(range(count)))) == list(range(count))


def test_the_next_item_is_made_while_the_last_is_used_and_no_more_than_that() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for row, event in enumerate(made):
            event.set()
            yield row

    used = ahead(items())
    assert next(used) == 0
    assert made[1].wait(10)
    assert not made[2].is_set()
    assert list(used) == [1, 2]


def test_a_fault_is_raised_where_its_item_would_have_been() -> None:
    used = ahead(int(text) for text in ("1", "two", "3"))
    assert next(used) == 1
    with pytest.raises(ValueError, match="two"):
        next(used)
