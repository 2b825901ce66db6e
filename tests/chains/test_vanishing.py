"""A client that vanishes in the middle of something: killed, or cut off. The server comes back to where it was, and others notice nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from textwrap import dedent
from typing import Any, NamedTuple

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.serving import Offer
from rpyc_gateway.worker import workers
from tests.blocking_house import House, open_blocking_lab


class Ward(gw.Service):
    """Where clients vanish: notes that they are in the middle of something, and waits until it is over with them."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()

    @gw.expose
    def here(self) -> None:
        """The client says that it is in the middle of it."""
        self.reached.set()

    @gw.expose
    def wait(self) -> None:
        self.reached.set()
        self.over.wait()

    @gw.expose
    async def wait_async(self) -> None:
        self.reached.set()
        await trio.sleep_forever()

    @gw.expose
    def call(self, function: Any) -> Any:
        return function()

    @gw.expose
    async def call_async(self, function: Any) -> Any:
        return await function()

    @gw.expose
    def iterate(self, values: Any) -> int:
        return sum(1 for _ in values)

    @gw.expose
    def count(self) -> Any:
        number = 0
        while True:
            yield number
            number += 1

    @gw.expose
    def items(self) -> list[int]:
        return list(range(100_000))

    @gw.expose
    def send(self, size: int) -> bytes:
        self.reached.set()
        return bytes(size)

    @gw.expose
    def take(self, blob: bytes) -> int:
        return len(blob)

    @gw.expose
    def fail(self) -> None:
        self.reached.set()
        raise ValueError("x" * 1_000_000, [self])

    @gw.expose
    def make(self, count: int) -> tuple[object, ...]:
        return tuple([object] for _ in range(count))


# What the client does; it is in the middle of it when it has called `ward.here()`, or when the ward has noticed by itself.
OPERATIONS = {
    "call": "ward.wait()",
    "call of an async def": "ward.wait_async()",
    "callback": "ward.call(lambda: (ward.here(), time.sleep(100)))",
    "callback of an async def": "ward.call_async(lambda: (ward.here(), time.sleep(100)))",
    "callback in a callback": "ward.call(lambda: ward.call(lambda: (ward.here(), time.sleep(100))))",
    "iteration over there": "for n in ward.count():\n  if n == 10: ward.here()",
    "iteration of a container": "for n in ward.items():\n  if n == 1000: ward.here()",
    "iteration over here": "ward.iterate(n if n != 10 else ward.here() or time.sleep(100) for n in itertools.count())",
    "bulk in": "threading.Timer(0, ward.here).start()\nward.take(bytes(200 * 2**20))",
    "bulk out": "ward.send(200 * 2**20)",
    "exception": "while True:\n  try: ward.fail()\n  except ValueError: pass",
    "release": "ward.here()\nwhile True: ward.make(100)",
    "many threads": "for _ in range(20): threading.Thread(target=ward.wait).start()\ntime.sleep(100)",
    "connect": "ward.here()\nwhile True: gw.connect(URL, node='lab', service='ward', name=f'laptop{next(numbers)}').root.make(1)",
    "nothing": "ward.here()\ntime.sleep(100)",
}


class State(NamedTuple):
    """What a server has, as far as clients cause it."""

    sessions: int
    busy_threads: int
    threads_of_callers: int
    circuits: int
    tasks: int


class Place(NamedTuple):
    house: House
    ward: Ward


@pytest.fixture
def place(hops: int) -> Iterator[Place]:
    ward = Ward()
    with open_blocking_lab(hops, {"ward": Offer(lambda: ward, ("*",))}) as house:
        yield Place(house, ward)


def state(house: House) -> State:
    """To be called in the thread that runs the nodes."""
    idle, kept = workers.statistics()
    all_of_them = sum(thread.name.startswith("rpyc-gateway worker") for thread in threading.enumerate())
    links = [link for node in house.nodes for link in node._neighbours]
    return State(
        sessions=len(house.lab._serving),
        busy_threads=all_of_them - idle - kept,
        threads_of_callers=kept,
        circuits=sum(link.statistics().streams for link in links),
        tasks=trio.lowlevel.current_statistics().tasks_living,
    )


def client(house: House, operation: str) -> subprocess.Popen[bytes]:
    script = dedent(f"""
        import itertools, threading, time
        import rpyc_gateway as gw
        URL, numbers = {house.url!r}, itertools.count(1)
        conn = gw.connect(URL, node="lab", service="ward", name="victim")
        ward = conn.root
    """)
    return subprocess.Popen([sys.executable, "-c", script + operation], stdin=subprocess.DEVNULL)


def killed(process: subprocess.Popen[bytes], _house: House) -> None:
    process.kill()


def cut_off(process: subprocess.Popen[bytes], house: House) -> None:
    """Its link is cut at the first node; it is stopped before, so that it cannot dial again."""
    process.send_signal(signal.SIGSTOP)

    def cut() -> None:
        for link, neighbour in list(house.nodes[0]._neighbours.items()):
            if neighbour.peer is not None and neighbour.peer.name.startswith(("victim", "laptop")):
                stream: Any = link.pipe.stream
                stream.socket.shutdown(socket.SHUT_RDWR)  # whoever reads it notices, as a reset

    house.ask(cut)


@pytest.mark.parametrize(("vanish", "hops"), [(killed, 1), (cut_off, 1), (killed, 3)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_client_vanishes_in_the_middle_of(operation: str, vanish: Callable[..., None], place: Place) -> None:
    house, ward = place
    with house.connect(name="bystander") as bystander:
        assert bystander.modules.os.getpid() == os.getpid()
        before: State = house.ask(lambda: state(house))
        with client(house, OPERATIONS[operation]) as process:
            try:
                while not ward.reached.wait(0.1):
                    assert process.poll() is None
                vanish(process, house)
                house.until(lambda: len(house.lab._serving) == 1)
                assert bystander.ping("nothing happened") == "nothing happened"
                ward.over.set()  # code that nobody can interrupt ends by itself, and then nothing is left of it
                house.until(lambda: state(house)._replace(tasks=0) == before._replace(tasks=0))
                house.until(lambda: state(house).tasks <= before.tasks + 1)  # the one that looks
                assert bystander.builtins.len([1, 2]) == 2
            finally:
                process.kill()
        (far,) = house.sessions()
        house.until(lambda: far.statistics()[1] == 0 and far.statistics().running == far.statistics().abandoned == 0)
    house.until_empty()
