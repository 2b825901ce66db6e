"""A laptop, a gateway, a relay that has a board: rpyc-gw as it is used, and MicroPython at the end of a serial line."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import rpyc_gateway as gw
from rpyc_gateway.testing import BadLine
from tests.chains.processes import LOOPBACK, RPYC_GW, House, Process, connect_when_up, dial, listen
from tests.device.boards import FakeBoard, board_on, needs_micropython

pytestmark = needs_micropython

BAUD = 921_600
BACK_WITHIN = 30.0  # it is looked for, found, and its gateway told


class Lab(NamedTuple):
    """The gateway is dialled by the relay, at whose port the board is."""

    house: House
    line: BadLine
    board: FakeBoard
    hq: Process
    relay: Process

    def start_relay(self) -> Process:
        return start_relay(self.house, self.line, self.hq)

    def connect(self) -> gw.BlockingSession:
        return connect_when_up(self.hq.url, "board", within=BACK_WITHIN)


def device(line: BadLine, *, to: str = "*") -> str:
    return f'[[device]]\nname = "board"\nurl = "serial://{line.near}?baudrate={BAUD}"\nallow = ["{to}"]\n'


def start_relay(house: House, line: BadLine, hq: Process) -> Process:
    return house.start("relay", listen(house.socket("relay")) + dial(hq.url) + device(line))


@pytest.fixture
def lab(house: House) -> Iterator[Lab]:
    with BadLine(BAUD, seed=7) as line, board_on(line.far) as board:
        hq = house.start("hq", listen(LOOPBACK))
        yield Lab(house, line, board, hq, start_relay(house, line, hq))
        house.end()  # before the line is taken from them
        house.processes.clear()


def test_the_laptop_uses_the_board_which_is_reset_and_whose_relay_is_killed(lab: Lab) -> None:
    with lab.connect() as conn:
        assert conn.path[1:] == ("hq", "relay", "board")
        assert conn.modules.sys.implementation.name == "micropython"
        conn.execute("def twice(f): return f(1) + f(2)")
        assert conn.namespace["twice"](lambda number: number * 10) == 30
        with pytest.raises(ZeroDivisionError) as caught:
            conn.eval("1 / 0")
        assert any("on the board" in note for note in caught.value.__notes__)

        lab.line.garble()
        mending = threading.Timer(0.2, lab.line.mend)
        mending.start()
        assert conn.eval("6 * 7") == 42
        mending.join()

        reset = threading.Timer(0.2, lab.board.kill)
        reset.start()
        with pytest.raises(gw.PeerRestarted, match="started anew"):
            conn.execute("while True: pass")
        reset.join()
    with lab.connect() as conn:
        assert conn.eval("'twice' in globals()") is False
        lab.board.kill()  # while nothing is asked
        with pytest.raises(gw.PeerRestarted, match="started anew"):
            use_up(conn)
    with lab.connect() as conn:
        lab.relay.kill()
        with pytest.raises(gw.LinkLost):
            conn.execute("while True: pass")
    lab.start_relay()
    with lab.connect() as conn:
        assert conn.eval("6 * 7") == 42


def test_the_command_line_runs_code_on_the_board(lab: Lab) -> None:
    lab.connect().close()
    assert run(lab, "eval", "board", "6 * 7") == (0, "42\n", "")
    status, output, errors = run(
        lab, "exec", "board", "-", said="print('a', 1, sep='')\nfor n in range(2): print(n)\n1 / 0\n"
    )
    assert (status, output) == (1, "a1\n0\n1\n")
    assert errors.startswith("Traceback")
    assert "ZeroDivisionError" in errors
    status, output, _ = run(lab, "nodes")
    assert (status, "hq > relay > board" in output) == (0, True)


def run(lab: Lab, command: str, *arguments: str, said: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        [*RPYC_GW, command, "--url", lab.hq.url, *arguments], input=said, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def use_up(conn: gw.BlockingSession) -> None:
    """Until it is over."""
    while True:
        conn.eval("1")
