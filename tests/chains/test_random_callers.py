"""Callers who say anything at all to a listener of a node: they are sent away, nothing of them is left, and others are served meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import rpyc_gateway as gw
from rpyc_gateway.testing.leftovers import Belongings
from rpyc_gateway.transport import find_transport
from tests.fuzz.targets import seeds
from tests.house import open_house

CALLERS_HAVE = 30.0  # virtual seconds until the last of them must be gone: a link that answers no PING lives for 20

HELLOS = [data for data in seeds() if data[4:8] == b"RPGW"]

frames = st.builds(
    lambda kind, label, payload: bytes([kind, 0]) + len(payload).to_bytes(2) + label.to_bytes(4) + payload,
    st.integers(0, 20),
    st.integers(0, 5),
    st.binary(max_size=40),
)
words = st.lists(st.binary(max_size=60) | st.sampled_from(HELLOS) | frames, max_size=6)
callers = st.lists(st.tuples(words, st.sampled_from(["waits", "half-closes", "vanishes"])), min_size=1, max_size=4)


@given(callers=callers)
def test_whatever_they_say_they_are_gone_and_nobody_is_harmed(callers: list[tuple[list[bytes], str]]) -> None:
    with complaints() as logged:
        trio.run(_story, callers, clock=MockClock(autojump_threshold=0.02))  # calls are served in threads
    assert logged == []


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What is logged as an error meanwhile."""
    logged: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    house = logging.getLogger("rpyc_gateway")
    house.addHandler(handler)
    try:
        yield logged
    finally:
        house.removeHandler(handler)


async def _story(callers: list[tuple[list[bytes], str]]) -> None:
    async with open_house("hq"), gw.open_session("memory://hq", node="hq") as bystander:
        assert await bystander.builtins.str(6) == "6"
        before = Belongings.now()
        with trio.fail_after(CALLERS_HAVE):
            async with trio.open_nursery() as nursery:
                for words, end in callers:
                    nursery.start_soon(_call, words, end)
                assert await bystander.builtins.str(7) == "7"
        assert await bystander.builtins.str(8) == "8"
        assert await before.what_is_more(CALLERS_HAVE) == ""


async def _call(words: list[bytes], end: str) -> None:
    async with find_transport("memory://hq").connect("memory://hq") as pipe:
        assert isinstance(pipe.stream, trio.abc.HalfCloseableStream)
        try:
            for word in words:
                await pipe.stream.send_all(word)
            if end == "vanishes":
                return
            if end == "half-closes":
                await pipe.stream.send_eof()
            while await pipe.stream.receive_some():
                continue
        except trio.BrokenResourceError:
            return
