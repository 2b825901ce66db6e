"""The whole vocabulary over three hops, the first of which is a bad wire: what is slow and comes in pieces is right, and what breaks ends in words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.serving import Offer
from rpyc_gateway.testing import BadWire
from tests.house import open_house

SIZE = 200_000  # bytes of a file
DATA = bytes(range(256)) * (SIZE // 256)


class Bell(gw.Service):
    """Tells whoever wants to hear it."""

    @gw.expose
    def ring(self, hear: Any, times: int) -> None:
        for number in range(times):
            gw.async_(hear)(number)

    @gw.expose
    async def strokes(self, times: int) -> AsyncIterator[int]:
        for number in range(times):
            yield number


@asynccontextmanager
async def open_chain() -> AsyncIterator[BadWire]:
    services = {"bell": Offer(Bell, ("*",))}
    async with open_house("first", "second", "lab", services=services), BadWire("memory://first") as wire:
        yield wire


def square(number: int) -> int:
    return number * number


# -- in blocking code


def calls_that_nobody_waits_for(conn: Any, _url: str, _place: Path) -> None:
    results = [gw.async_(conn.builtins.pow)(2, number) for number in range(50)]
    assert [result.value for result in results] == [2**number for number in range(50)]
    with pytest.raises(gw.TimedOut):
        gw.timed(conn.modules.time.sleep, 0.05)(1).wait()


def a_batch(conn: Any, _url: str, _place: Path) -> None:
    with gw.batch(conn) as b:
        here = b.modules.os.getcwd()
        name = b.modules.os.path.basename(here)
    assert here.value.endswith(name.value)


def a_stream(conn: Any, _url: str, _place: Path) -> None:
    assert list(gw.buffiter(conn.builtins.range(3000))) == list(range(3000))


def files(conn: Any, _url: str, place: Path) -> None:
    gw.upload(conn, place / "source", str(place / "there"))
    gw.download(conn, str(place / "there"), place / "target")


def a_function(conn: Any, _url: str, _place: Path) -> None:
    assert conn.teleport(lambda number: square(number) + SIZE)(3) == 9 + SIZE


def events(conn: Any, url: str, _place: Path) -> None:
    heard: list[int] = []
    whole = Event()

    def hear(number: int) -> None:
        heard.append(number)
        if number == 49:
            whole.set()

    with gw.connect(url, node="lab", service="bell", name="listener") as bell:
        bell.root.ring(hear, 50)
        while not whole.wait(0.1):
            conn.builtins.str(1)  # raises if the link is lost
        assert sorted(heard) == list(range(50))


def an_executor(conn: Any, _url: str, _place: Path) -> None:
    with gw.Executor(conn, per_node=3) as pool:
        assert list(pool.map(square, range(40), chunksize=7)) == [number * number for number in range(40)]


BLOCKING = [
    calls_that_nobody_waits_for,
    a_batch,
    a_stream,
    files,
    a_function,
    events,
    an_executor,
]


# -- in trio code


async def calls_at_once(lab: Any, _url: str, _place: Path) -> None:
    results: dict[int, int] = {}

    async def ask(number: int) -> None:
        results[number] = await lab.builtins.pow(2, number)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)
    assert results == {number: 2**number for number in range(50)}
    with trio.move_on_after(0.05) as scope:
        await lab.modules.time.sleep(1)
    assert scope.cancelled_caught


async def a_stream_in_trio(lab: Any, _url: str, _place: Path) -> None:
    assert [number async for number in gw.ops.iterate(lab.builtins.range(3000))] == list(range(3000))


async def files_in_trio(lab: Any, _url: str, place: Path) -> None:
    await gw.upload(lab, place / "source", str(place / "there"))
    await gw.transfer(lab, str(place / "there"), lab, str(place / "between"))
    await gw.download(lab, str(place / "between"), place / "target")


async def a_function_in_trio(lab: Any, _url: str, _place: Path) -> None:
    there = await gw.teleport(lab, lambda number: square(number) + SIZE)
    assert await there(3) == 9 + SIZE


async def events_in_trio(lab: Any, url: str, _place: Path) -> None:
    heard: list[int] = []
    async with gw.open_session(url, node="lab", service="bell", name="listener") as bell:
        await bell.root.ring(heard.append, 50)
        while len(heard) < 50:
            await lab.builtins.str(1)  # raises if the link is lost
        assert sorted(heard) == list(range(50))
        assert [number async for number in bell.root.strokes(200)] == list(range(200))


TRIO = [calls_at_once, a_stream_in_trio, files_in_trio, a_function_in_trio, events_in_trio]

Story = Callable[[str, Path], Awaitable[None]]


@pytest.fixture(params=[*BLOCKING, *TRIO], ids=lambda story: story.__name__)
def story(request: pytest.FixtureRequest) -> Story:
    """One of them, by a session of its own."""
    told = request.param

    def block(url: str, place: Path) -> None:
        with gw.connect(url, node="lab", name="laptop") as conn:
            told(conn, url, place)

    async def run(url: str, place: Path) -> None:
        if told in BLOCKING:
            await trio.to_thread.run_sync(block, url, place, abandon_on_cancel=True)
            return
        async with gw.open_session(url, node="lab", name="laptop") as lab:
            await told(lab, url, place)

    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(DATA)
    return tmp_path


def whole(place: Path) -> set[str]:
    """Which files are there; each must be whole."""
    there = {path.name: path for path in place.iterdir() if path.name in ("there", "between", "target")}
    assert all(path.read_bytes() == DATA for path in there.values())
    return set(there)


async def test_over_a_wire_that_is_slow_and_uneven_all_of_it_is_right(story: Story, place: Path) -> None:
    async with open_chain() as wire:
        wire.delay(0.001, jitter=0.005)
        wire.rate(2_000_000)
        await story(wire.url, place)
    assert whole(place) in (set(), {"there", "target"}, {"there", "between", "target"})


@pytest.mark.parametrize("size", [400, 1_500, 4_000, 20_000])
async def test_a_wire_that_breaks_ends_it_in_words_and_what_comes_next_is_right(
    size: int, story: Story, place: Path
) -> None:
    async with open_chain() as wire:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_after, wire, size)
            try:
                await story(wire.url, place)
            except* gw.GatewayError:
                pass
            nursery.cancel_scope.cancel()
        whole(place)
        await story(wire.url, place)
        whole(place)


async def break_after(wire: BadWire, size: int) -> None:
    """Break the first connection when so much has come."""
    while not wire.connections:  # noqa: ASYNC110  # it tells nobody
        await trio.sleep(0.001)
    wire.cut_after(size)
