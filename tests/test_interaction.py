"""Somebody at a prompt whose statements run on the far side: in a terminal of its own, and without one."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.interaction import Dialogue, Terminal
from tests.blocking_house import House, open_blocking_lab
from tests.cli.typist import Typist, at_a_terminal

pytestmark = pytest.mark.usefixtures("untraced")  # much of it is interrupted

PROMPT = ">>> "
BARE = f"stdio:?python=agent {sys.executable}"
PROGRAM = """
import sys
import rpyc_gateway as gw

class Thing:
    here = __import__("os").getpid()

with gw.connect(sys.argv[1]) as conn:
    gw.interact(conn, {"twice": lambda x: (print("called"), x * 2)[1]} | ({"thing": Thing()} if sys.argv[2:] else {}))
print("and on")
"""


@pytest.fixture(scope="module", params=[1, 4], ids=["0 relays", "3 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@contextmanager
def dialogue(house: House) -> Iterator[Dialogue]:
    with house.connect() as conn, Dialogue(conn, Terminal()) as dialogue:
        yield dialogue


def test_statements_of_one_dialogue_run_in_one_thread_and_namespace(house: House) -> None:
    with redirect_stdout(io.StringIO()) as here, dialogue(house) as talk:
        assert "Python 3." in talk.about
        assert talk.about.endswith(" on lab")
        for statement in (
            "import sqlite3, decimal; base = sqlite3.connect(':memory:')",
            "decimal.getcontext().prec = 3",
            "base.execute('select 6 * 7').fetchone()",
            "decimal.Decimal(1) / 3",
        ):
            assert talk.run(statement) == ()
        assert talk.run("exit(3)") == (3,)
    assert here.getvalue() == "(42,)\nDecimal('0.333')\n"


def test_a_dialogue_leaves_nothing_behind(house: House) -> None:
    with dialogue(house) as talk:
        talk.run("x = 1")
    assert type(sys.stdout).__name__ != "_Router"
    house.until_empty()


def test_a_script_has_an_exit_code(house: House) -> None:
    with redirect_stdout(io.StringIO()) as here, dialogue(house) as talk:
        assert talk.script(b"print(1)\nimport sys\nsys.exit(7)", "script.py", "exec") == 7
    assert here.getvalue() == "1\n"


def test_trio_code_is_told_what_else_to_do(house: House) -> None:
    async def interact() -> None:
        async with gw.open_session(house.url, node="lab") as lab:
            with pytest.raises(TypeError, match="a session of trio code: use it in a thread"):
                gw.interact(lab)

    trio.run(interact)


# -- at a terminal --------------------------------------------------------------------------------------------------------


@contextmanager
def at_prompt(tmp_path: Path, url: str, *more: str) -> Iterator[Typist]:
    with at_a_terminal([sys.executable, "-c", PROGRAM, url, *more], XDG_STATE_HOME=str(tmp_path)) as typist:
        assert "; Ctrl-C interrupts, Ctrl-D leaves\n" in typist.see(PROMPT)
        yield typist


@pytest.fixture(scope="module")
def node() -> str:
    return f"stdio:{sys.executable} -m rpyc_gateway stdio --name lab --serve classic"


def ask(typist: Typist, typed: str) -> str:
    typist.type(typed)
    return typist.see(PROMPT).removeprefix(typed).removesuffix(PROMPT)


def test_what_stays_here_and_what_is_there(tmp_path: Path, node: str) -> None:
    with at_prompt(tmp_path, node, "thing") as typist:
        assert ask(typist, "twice(21)\n") == "called\n42\n"
        assert ask(typist, "import os; (thing.here == os.getppid(), thing.here == os.getpid())\n") == "(True, False)\n"
        assert ask(typist, "conn.path[-1]\n") == "'lab'\n"
        typist.type("\x04")
        assert typist.see_end() == (0, "\nand on\n")


def test_a_bare_python_has_such_a_prompt_too(tmp_path: Path) -> None:
    with at_prompt(tmp_path, BARE) as typist:
        assert ask(typist, "twice(21)\n") == "called\n42\n"
        typist.type("input('who? ')\n")
        typist.see("\nwho? ")
        assert ask(typist, "me\n") == "'me'\n"
        typist.type("input('who? ')\n")
        typist.see("\nwho? ")
        assert ask(typist, "\x03").endswith("\nKeyboardInterrupt\n")
        assert ask(typist, "'mine'\n") == "'mine'\n", "nobody else reads the next line"
        typist.type("print('begun'); import time; time.sleep(1000)\n")
        typist.see("\nbegun\n")
        assert ask(typist, "\x03").endswith("\nKeyboardInterrupt\n")
        typist.type("exit()\n")
        assert typist.see_end() == (0, "exit()\nand on\n")


def test_what_a_bare_python_cannot_take_is_said(tmp_path: Path) -> None:
    with at_a_terminal([sys.executable, "-c", PROGRAM, BARE, "thing"], XDG_STATE_HOME=str(tmp_path)) as typist:
        code, said = typist.see_end()
        assert code == 1
        assert "EncodeError: a board takes plain data and functions, and this is a __main__.Thing" in said


def test_what_is_printed_while_a_line_is_typed_is_shown_above_it() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal: Any = Terminal()
    with redirect_stdout(Screen()) as screen:
        terminal.prompt = lambda: ">>> 1 + "
        terminal.give("stdout", "late\n")
        terminal.prompt = None
        terminal.give("stdout", "later\n")
    assert screen.getvalue() == "\r\x1b[Klate\n>>> 1 + later\n"


def test_nobody_who_reads_is_remembered() -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError("closed")

    terminal = Terminal()
    with redirect_stdout(Closed()):
        with pytest.raises(BrokenPipeError):
            terminal.give("stdout", "x")
        assert isinstance(terminal.ended, BrokenPipeError)
        terminal.give("stderr", "what is said about that there")
