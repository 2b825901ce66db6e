"""What every server offers: the same code for ours and for each peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def add(a: int, b: int) -> int:
    return a + b


def numbers(n: int) -> list[int]:
    return list(range(n))


def generate(n: int) -> Iterator[int]:
    yield from range(n)


def length(data: bytes) -> int:
    return len(data)


def call_back(function: Callable[[int], int], n: int) -> int:
    """The sum of what `function` makes of the numbers below n."""
    return sum(function(i) for i in range(n))


class Thing:
    """An object to hold from afar; its class counts those that live."""

    alive = 0

    def __init__(self) -> None:
        Thing.alive += 1

    def __del__(self) -> None:
        Thing.alive -= 1


def make() -> Thing:
    return Thing()


def alive() -> int:
    return Thing.alive
