"""The debugger of the far side, here: blocking code, over one link and four."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from tests.blocking_house import House, open_blocking_lab
from tests.cli.typist import at_a_terminal

FAR = """
import weakref

class Sample:
    pass

seen = []

def measure(raw):
    sample = Sample()
    seen.append(weakref.ref(sample))
    calibrated = raw * 2
    return calibrated["volts"]

async def measure_later(raw):
    return measure(raw)

def alive():
    return sum(ref() is not None for ref in seen)
"""


@pytest.fixture(scope="module", params=[1, 4], ids=["0 relays", "3 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@pytest.fixture
def conn(house: House) -> Iterator[gw.BlockingSession]:
    with house.connect() as conn:
        conn.execute(FAR)
        yield conn


class Somebody:
    """Who types, and sees what is shown since the last look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def type(self, text: str) -> None:
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    def shown(self) -> str:
        return self._capsys.readouterr().out


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Somebody:
    return Somebody(monkeypatch, capsys)


def fails(conn: gw.BlockingSession, kind: type[Exception], work: Callable[[], object]) -> Exception:
    """What leaves the block."""
    with pytest.raises(kind) as caught, gw.post_mortem(conn):
        work()
    return caught.value


WAYS: dict[str, Callable[[Any], object]] = {
    "called": lambda far: far["measure"]("ab"),
    "awaited there": lambda far: far["measure_later"]("ab"),
    "started": lambda far: gw.async_(far["measure"])("ab").value,
}


@pytest.mark.parametrize("how", WAYS)
def test_what_a_call_has_left_is_looked_into(how: str, conn: gw.BlockingSession, somebody: Somebody) -> None:
    somebody.type("p raw, calibrated\nup\np 6 * 7\nq\n")
    error = fails(conn, TypeError, lambda: WAYS[how](conn.namespace))
    assert "in measure\n" in gw.remote_traceback(error)
    shown = somebody.shown()
    assert shown.startswith("TypeError: string indices must be integers")
    assert "measure()\n(Pdb) ('ab', 'abab')\n(Pdb) " in shown
    assert ("measure_later()" in shown) == (how == "awaited there")  # who has called it, if that is not we
    assert shown.endswith("(Pdb) 42\n(Pdb) ")


def test_nothing_is_kept_but_in_the_block(conn: gw.BlockingSession, somebody: Somebody) -> None:
    far = conn.namespace
    measure: Callable[[], object] = lambda: far["measure"]("ab")  # noqa: E731
    with pytest.raises(TypeError):
        measure()
    assert far["alive"]() == 0
    with gw.post_mortem(conn):
        for _ in range(2):
            with pytest.raises(TypeError):
                measure()
        assert far["alive"]() == 1  # that of the last one
    assert far["alive"]() == 0
    somebody.type("q\n")
    fails(conn, TypeError, measure)
    assert far["alive"]() == 0
    with pytest.raises(TypeError):
        measure()
    assert far["alive"]() == 0


def test_errors_of_this_side_and_of_no_code_open_nothing(conn: gw.BlockingSession, somebody: Somebody) -> None:
    fails(conn, ZeroDivisionError, lambda: 1 / 0)
    assert somebody.shown() == ""
    fails(conn, IndexError, lambda: conn.modules.sys.path[300])
    assert somebody.shown().endswith("nothing to look into\n")
    fails(conn, gw.SessionClosed, lambda: (conn.close(), conn.ping()))  # type: ignore[func-returns-value]
    assert somebody.shown() == ""


def test_of_two_blocks_the_inner_one_looks(conn: gw.BlockingSession, somebody: Somebody) -> None:
    def work() -> None:
        somebody.type("q\n")
        fails(conn, KeyError, lambda: conn.execute("def find(): return {}[1]\nfind()"))
        assert somebody.shown().count("(Pdb) ") == 1
        somebody.type("p raw\nq\n")
        conn.namespace["measure"]("ab")

    fails(conn, TypeError, work)
    assert "(Pdb) 'ab'\n" in somebody.shown()
    with gw.post_mortem(conn) as block, pytest.raises(RuntimeError, match="entered already"):
        block.__enter__()


def test_wrong_input_is_told_at_once(house: House) -> None:
    with house.connect() as conn:
        assert "for what fails in a block: with gw.post_mortem(conn): ..." in repr(gw.post_mortem(conn))
    with pytest.raises(TypeError, match=r"a session of gw\.connect or gw\.open_session is needed here, not 5"):
        gw.post_mortem(5)
    with house.connect(service="node") as other, pytest.raises(gw.NotExposed, match="it is of 'classic'"):
        gw.post_mortem(other).__enter__()
    with gw.connect(f"stdio:?python=agent {sys.executable}") as bare:
        with pytest.raises(TypeError, match="is no whole node, and keeps nothing of an error"):
            gw.post_mortem(bare).__enter__()

    async def in_trio() -> None:
        async with gw.open_session(house.url, node="lab") as lab:
            with pytest.raises(TypeError, match=r"in a thread, with gw\.connect"):
                gw.post_mortem(lab)

    trio.run(in_trio)


PROGRAM = """
import sys
import rpyc_gateway as gw

with gw.connect(sys.argv[1]) as conn:
    conn.execute("def measure(raw):\\n  return raw * 2 + 1")
    with gw.post_mortem(conn):
        conn.namespace["measure"]("ab")
"""


@pytest.mark.usefixtures("untraced")
def test_at_a_terminal_ctrl_c_is_for_the_debugger(tmp_path: Path) -> None:
    node = f"stdio:{sys.executable} -m rpyc_gateway stdio --name lab --serve classic"
    with at_a_terminal([sys.executable, "-c", PROGRAM, node], XDG_STATE_HOME=str(tmp_path)) as typist:
        typist.see("measure()\n(Pdb) ")
        typist.type("p raw\n")
        typist.see("'ab'\n(Pdb) ")
        typist.type("\x03")
        typist.see("--KeyboardInterrupt--\n(Pdb) ")
        typist.type("exec(\"print('on')\\nwhile True: pass\")\n")
        typist.see("\non\n")
        typist.type("\x03")
        typist.see("*** KeyboardInterrupt\n(Pdb) ")
        typist.type("q\n")
        code, said = typist.see_end()
    assert code == 1
    assert 'TypeError: can only concatenate str (not "int") to str' in said
