"""Two real nodes on a serial line that is noisy, is pulled out, and whose ends are killed; a client that comes through both of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.testing import BadLine
from tests.chains.processes import House, Process, connect_when_up, dial, listen, serve

FAST = 921_600
BACK_WITHIN = 30.0  # a dialler waits longer each time that it has failed


class Cable(NamedTuple):
    """hq dials lab over the line, and clients come to hq by a unix socket."""

    house: House
    line: BadLine
    lab: Process
    hq: Process

    def start_lab(self) -> Process:
        return start_lab(self.house, self.line)

    def start_hq(self) -> Process:
        return start_hq(self.house, self.line)


def start_lab(house: House, line: BadLine) -> Process:
    return house.start("lab", listen(f"serial://{line.far}?baudrate={FAST}") + serve())


def start_hq(house: House, line: BadLine) -> Process:
    return house.start("hq", listen(house.socket("hq")) + dial(f"serial://{line.near}?baudrate={FAST}"))


NOISE = {"corrupt": 0.001, "lose": 0.0005, "duplicate": 0.0005, "burst": 0.0001}


@pytest.fixture(params=[{}, NOISE], ids=["clean", "noisy"])
def cable(request: pytest.FixtureRequest, house: House) -> Iterator[Cable]:
    with BadLine(FAST, seed=5, **request.param) as line:
        lab = start_lab(house, line)
        assert lab.url.startswith(f"serial://{line.far}")
        yield Cable(house, line, lab, start_hq(house, line))
        house.end()  # before the line is taken from them
        house.processes.clear()


def test_objects_are_used_and_much_is_sent_both_ways(cable: Cable) -> None:
    data = os.urandom(100_000)
    with connect_when_up(cable.hq.url, "lab", within=BACK_WITHIN) as conn:
        assert conn.modules.os.getpid() == cable.lab.pid
        assert conn.builtins.bytes(data) == data
        items = conn.builtins.list(range(100))
        assert list(items) == list(range(100))
        with pytest.raises(FileNotFoundError):
            conn.builtins.open("/missing")
        assert conn.eval("lambda call: call(41)")(lambda number: number + 1) == 42
    if cable.line.to_far.corrupted:
        assert cable.line.to_far.lost
        assert cable.line.to_near.duplicated


def test_a_program_that_has_closed_its_session_has_said_so_and_may_open_the_port_again(house: House) -> None:
    with BadLine(FAST, seed=5) as line:
        lab = start_lab(house, line)
        for _ in range(3):
            with gw.connect(f"serial://{line.near}?baudrate={FAST}") as conn:
                assert conn.modules.os.getpid() == lab.pid
            lab.wait_line(r"the end of the link with .* needs this link no longer")
        house.end()
        house.processes.clear()


def test_who_is_at_a_port_is_let_in_as_who_is_there_and_nobody_else(house: House) -> None:
    with BadLine(FAST, seed=5) as line:
        text = listen(f"serial://{line.far}?baudrate={FAST}") + listen(house.socket("lab"))
        house.start("lab", text + serve(to=f"tty:{line.far}"))
        with gw.connect(f"serial://{line.near}?baudrate={FAST}") as conn:
            assert conn.eval("6 * 7") == 42
        with pytest.raises(gw.Denied, match="it is allowed to tty:"):
            gw.connect(house.socket("lab"))
        house.end()
        house.processes.clear()


def test_several_clients_share_the_line(cable: Cable) -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(client, number)

    async def client(number: int) -> None:
        async with gw.open_session(cable.hq.url, node="lab") as lab:
            for turn in range(10):
                data = os.urandom(number * 400)
                assert await lab.builtins.bytes(data) == data
                assert await lab.builtins.abs(-turn) == turn

    connect_when_up(cable.hq.url, "lab", within=BACK_WITHIN).close()
    trio.run(run)


def test_pulled_out_in_the_middle_of_a_call_and_put_in_again(cable: Cable) -> None:
    with connect_when_up(cable.hq.url, "lab", within=BACK_WITHIN) as conn:
        pulling = threading.Timer(0.2, cable.line.unplug)
        pulling.start()
        with pytest.raises(gw.LinkLost, match=r"hq|lab"):
            conn.modules.time.sleep(60)
        pulling.join()
    cable.hq.wait_line(r"is gone: it was unplugged")
    cable.lab.wait_line(r"there is no port .*; waiting for it")
    cable.line.plug()
    with connect_when_up(cable.hq.url, "lab", within=BACK_WITHIN) as conn:
        assert conn.eval("6 * 7") == 42
    cable.lab.wait_line(r"it is back")


def test_the_far_node_is_killed_and_another_takes_its_place(cable: Cable) -> None:
    with connect_when_up(cable.hq.url, "lab", within=BACK_WITHIN) as conn:
        cable.lab.kill()
        again = cable.start_lab()
        with pytest.raises(gw.LinkLost):
            conn.modules.time.sleep(60)
    with connect_when_up(cable.hq.url, "lab", within=BACK_WITHIN) as conn:
        assert conn.modules.os.getpid() == again.pid


def test_the_node_that_dials_is_killed_and_another_takes_its_place(cable: Cable) -> None:
    connect_when_up(cable.hq.url, "lab", within=BACK_WITHIN).close()
    cable.hq.kill()
    again = cable.start_hq()
    with connect_when_up(again.url, "lab", within=BACK_WITHIN) as conn:
        assert conn.modules.os.getpid() == cable.lab.pid


def test_silence_and_garbage_for_a_while_are_outlasted(cable: Cable) -> None:
    with connect_when_up(cable.hq.url, "lab", within=BACK_WITHIN) as conn:
        for spoil in (cable.line.silence, cable.line.garble):
            spoil()
            mending = threading.Timer(0.5, cable.line.mend)
            mending.start()
            assert conn.eval("6 * 7") == 42
            mending.join()
