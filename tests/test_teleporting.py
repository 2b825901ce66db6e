"""Functions of this process, called on the far side: blocking code and trio code, over one link and four, as bytecode and as source."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import xml.dom.minidom
from collections.abc import Callable, Iterator
from os.path import basename
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import teleporting
from tests.blocking_house import House, open_blocking_lab

Call = Callable[..., Any]
LIMITS = {"low": [1, 2], "high": (3,)}
LOCK = threading.Lock()


@pytest.fixture(scope="module", params=[1, 4], ids=["0 relays", "3 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@pytest.fixture(params=["blocking", "trio"])
def call(request: pytest.FixtureRequest, house: House) -> Call:
    """Teleport a function, and call it there."""

    def blocking(function: Any, *args: Any, **named: Any) -> Any:
        with house.connect() as conn:
            return gw.obtain(conn.teleport(function)(*args, **named))

    def in_trio(function: Any, *args: Any, **named: Any) -> Any:
        async def run() -> Any:
            async with gw.open_session(house.url, node="lab") as session:
                there = await gw.teleport(session, function)
                return await gw.obtain(there(*args, **named))

        return trio.run(run)

    return blocking if request.param == "blocking" else in_trio


@pytest.fixture(params=["bytecode", "source"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "source":
        monkeypatch.setattr(teleporting, "MAGIC_NUMBER", b"another Python")


def even(number: int) -> bool:
    return number == 0 or odd(number - 1)


def odd(number: int) -> bool:
    return number != 0 and even(number - 1)


def uses_globals(path: str, *, most: int = 7) -> Any:
    title = xml.dom.minidom.parseString("<a>b</a>").documentElement.tagName
    return [basename(os.path.join(path, title)), LIMITS, most, even(10)]


@pytest.mark.usefixtures("form")
def test_the_globals_that_it_uses_go_with_it(call: Call) -> None:
    assert call(uses_globals, "x") == ["a", LIMITS, 7, True]
    assert call(uses_globals, "x", most=8)[2] == 8


@pytest.mark.usefixtures("form")
def test_closures_are_shared_there_as_they_are_here(call: Call) -> None:
    count = 5

    def add(by: int) -> None:
        nonlocal count
        count += by

    def twice(
        by: int = 2,
        *,
        _text: str = """a
b""",
    ) -> tuple[int, str]:
        add(by)
        add(by)
        return count, _text

    assert call(twice) == (9, "a\nb")
    assert count == 5


@pytest.mark.usefixtures("form")
def test_lambdas_generators_and_functions_that_call_themselves_are_functions(call: Call) -> None:
    def factorial(number: int) -> int:
        return 1 if number < 2 else number * factorial(number - 1)

    def squares(end: int) -> Iterator[int]:
        for number in range(end):
            yield number * number

    def listed(end: int) -> list[int]:
        return list(squares(end))

    async def waited() -> int:
        return 3

    def ran() -> int:
        return asyncio.run(waited())

    double = lambda number, by=2: number * by  # noqa: E731
    assert call(factorial, 5) == 120
    assert call(listed, 4) == [0, 1, 4, 9]
    assert call(double, 4) == 8
    assert call(ran) == 3


def test_what_a_reader_wants_to_know_goes_too(house: House) -> None:
    def told(number: int, other: House) -> str:
        """What it is for."""
        return ""

    told.mark = [1]  # type: ignore[attr-defined]
    with house.connect() as conn:
        there = conn.teleport(told)
        assert (there.__doc__, there.__name__, there.__module__) == (told.__doc__, "told", __name__)
        assert gw.obtain(there.mark) == [1]
        assert gw.obtain(there.__annotations__) == {"number": "int", "other": "House", "return": "str"}


def uses_lock() -> bool:
    return LOCK.locked()


def calls_what_uses_a_lock() -> bool:
    return uses_lock()


class Local:
    def method(self) -> None: ...


def uses_a_class() -> object:
    return Local()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (calls_what_uses_a_lock, "LOCK, a global that uses_lock uses, cannot go with calls_what_uses_a_lock"),
        (uses_a_class, "Local, a global that uses_a_class uses.*the class Local cannot be teleported"),
        (Local, "the class Local cannot be teleported"),
        (Local().method, "Local.method is a method, and its object stays here"),
        (len, "len is not written in Python"),
        (functools.partial(even, 1), "a partial cannot be teleported"),
        (3, "a int cannot be teleported"),
    ],
)
def test_what_cannot_go_is_named(call: Call, function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        call(function)


def test_without_source_another_python_is_told_apart(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, Any] = {}
    exec("def made(): return 1", space)
    assert call(space["made"]) == 1
    monkeypatch.setattr(teleporting, "MAGIC_NUMBER", b"another Python")
    monkeypatch.setattr(teleporting, "VERSION", "3.99.0")
    with pytest.raises(TypeError, match=r"made is of Python 3\.99\.0, and Python 3\.\d+\.\d+ is here.*conn.execute"):
        call(space["made"])


def test_a_module_that_is_not_there_is_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "__name__", "no_such_module")
    with pytest.raises(ImportError, match="uses_globals uses no_such_module, which cannot be imported here"):
        call(uses_globals, "x")


def test_an_error_of_it_is_an_error_of_the_call(call: Call) -> None:
    def fails() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        call(fails)
