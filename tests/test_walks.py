"""Walks: items in batches, exceptions in their place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.awaiting import Later
from rpyc_gateway.walks import LOOK, WEIGHT, Walk, weigh


def numbers(count: int, error: Exception | None) -> Iterator[int]:
    yield from range(count)
    if error is not None:
        raise error


async def numbers_async(count: int, error: Exception | None) -> AsyncIterator[int]:
    for n in range(count):
        yield n
    if error is not None:
        raise error


Producer = Callable[[int, Exception | None], Any]
PRODUCERS = st.sampled_from([numbers, numbers_async])


def drive(batch: Any) -> Any:
    """What a batch comes to whose iterator waits for nothing."""
    if type(batch) is not Later:
        return batch
    with pytest.raises(StopIteration) as stop:
        batch.coroutine.send(None)
    return stop.value.value


@given(
    count=st.integers(0, 30),
    sizes=st.lists(st.integers(1, 9), min_size=40, max_size=40),
    most=st.integers(1, 12),
    producer=PRODUCERS,
)
def test_batches_of_any_size_are_the_items_in_order(
    count: int, sizes: list[int], most: int, producer: Producer
) -> None:
    walk = Walk(producer(count, None), 1000, most)
    seen: list[object] = []
    for size in sizes:
        items, done = drive(walk.take(size))
        assert len(items) <= min(size, most)
        assert items or done
        seen += items
        if done:
            break
    assert seen == list(range(count))[: len(seen)]
    assert drive(walk.take(1)) == ((), True) or len(seen) < count


@given(count=st.integers(0, 10), size=st.integers(1, 12), producer=PRODUCERS)
def test_an_exception_is_raised_behind_the_items_before_it(count: int, size: int, producer: Producer) -> None:
    error = ValueError("mine")
    walk = Walk(producer(count, error), 1000, 1000)
    seen: list[object] = []
    while len(seen) < count:
        seen += drive(walk.take(size))[0]
    assert seen == list(range(count))
    with pytest.raises(ValueError, match="mine"):
        _raise(walk.take(size))
    assert drive(walk.take(size)) == ((), True)


def _raise(batch: Any) -> None:
    if type(batch) is Later:
        batch.coroutine.send(None)


def test_what_runs_no_code_comes_in_larger_batches() -> None:
    for items in ([1, 2, 3], (1, 2, 3), {1: 1, 2: 2, 3: 3}, {1: 1, 2: 2, 3: 3}.keys(), range(1, 4), {1, 2, 3}):
        assert Walk(items, 2, 1).take(100) == ((1, 2), False)
        assert Walk(iter(items), 2, 1).take(100) == ((1,), False)

    class Own(list[int]):
        def __iter__(self) -> Iterator[int]:
            return iter((7, 8))

    assert Walk(Own(), 2, 1).take(100) == ((7,), False)


def test_a_batch_of_long_items_is_full_sooner() -> None:
    lines = ["x" * 1024] * 10_000
    walk = Walk(lines, 8192, 1)
    items, done = drive(walk.take(8192))
    assert not done
    assert WEIGHT // 1100 <= len(items) <= WEIGHT // 1024 + LOOK
    for long in ([b"x" * WEIGHT] * 1000, [("x" * WEIGHT, 1)] * 1000, [object() for _ in range(1000)]):
        assert len(Walk(long, 8192, 1).take(8192)[0]) == LOOK  # type: ignore[index]
        assert len(Walk(iter(long), 8192, 8192).take(8192)[0]) == LOOK  # type: ignore[index]


def test_no_item_is_asked_for_its_size() -> None:
    class Shy:
        def __sizeof__(self) -> int:
            raise AssertionError("asked")

    assert weigh([Shy(), (Shy(), 1), 2**100, [Shy()]]) > 0
    assert len(Walk([Shy(), Shy()], 8192, 1).take(8192)[0]) == 2  # type: ignore[index]


def test_what_changes_meanwhile_is_told_behind_the_items_before_it() -> None:
    table = dict.fromkeys(range(1000))
    walk = Walk(table, 8192, 1)
    assert drive(walk.take(300)) == (tuple(range(300)), False)
    table["new"] = None
    with pytest.raises(RuntimeError, match="changed size"):
        walk.take(300)
    items = list(range(10))
    walk = Walk(items, 8192, 1)
    items.extend(range(10, 20))
    assert drive(walk.take(15)) == (tuple(range(15)), False)
    del items[:]
    assert drive(walk.take(15)) == ((), True)


def test_a_batch_at_a_time() -> None:
    def again() -> Iterator[object]:
        with pytest.raises(RuntimeError, match="being fetched"):
            walk.take(1)
        yield 1

    walk = Walk(again(), 1, 1)
    assert walk.take(1) == ((1,), False)


def test_what_cannot_be_iterated_says_so() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        Walk(5, 1, 1)
