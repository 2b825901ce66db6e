"""`rpyc-gw shell`: somebody at a terminal, and a node that is two links away; a bare Python; a board."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from rpyc_gateway.cli.demo import Hq
from tests.cli.boards import open_board
from tests.cli.typist import Typist, at_a_terminal
from tests.device.boards import needs_micropython
from tests.running import chain

PROMPT = ">>> "
BARE = f"stdio:?python=agent {sys.executable}"


@pytest.fixture(scope="module")
def hq() -> Iterator[Hq]:
    with chain() as hq:
        yield hq


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rpyc_gateway", "shell", *arguments]


@contextmanager
def at_prompt(state: Path, *arguments: str) -> Iterator[Typist]:
    with at_a_terminal(command(*arguments), XDG_STATE_HOME=str(state)) as typist:
        typist.see(PROMPT)
        yield typist


def ask(typist: Typist, typed: str) -> str:
    typist.type(typed)
    return typist.see(PROMPT).removeprefix(typed).removesuffix(PROMPT)


def told(text: str) -> list[str]:
    """The lines, without what differs: marks below code, and how many statements a node has seen before."""
    lines = (re.sub(r"<console \d+>", "<console N>", line.rstrip()) for line in text.splitlines())
    return [line for line in lines if set(line) - set(" ~^")]


def test_a_dialogue_is_as_in_pythons_own_shell(hq: Hq, tmp_path: Path) -> None:
    with at_a_terminal(command("--url", hq.url, "lab"), XDG_STATE_HOME=str(tmp_path)) as typist:
        version = ".".join(map(str, sys.version_info[:3]))
        assert typist.see(PROMPT) == f"Python {version} ({sys.platform}) on lab; Ctrl-C interrupts, Ctrl-D leaves\n>>> "
        assert ask(typist, "6 * 7\n") == "42\n"
        assert ask(typist, "_ + 1, print('süß')\n") == "süß\n(43, None)\n"
        assert ask(typist, "None\n") == ""
        assert ask(typist, "for i in range(2):\n  i\n\n") == "for i in range(2):\n...   i\n... \n0\n1\n"
        assert ask(typist, "def f():\n  return 1 / 0\n \n") == "def f():\n...   return 1 / 0\n...  \n"
        assert told(ask(typist, "f()\n")) == [
            "Traceback (most recent call last):",
            '  File "<console N>", line 1, in <module>',
            "    f()",
            '  File "<console N>", line 2, in f',
            "    return 1 / 0",
            "ZeroDivisionError: division by zero",
        ]
        assert ask(typist, "def (\n").splitlines()[-1] == "SyntaxError: invalid syntax"
        assert ask(typist, "import os; os.getppid() == __import__('os').getpid()\n") == "False\n"
        typist.type("import sys; sys.exit('bye')\n")
        code, said = typist.see_end()
        assert (code, said.splitlines()[-1]) == (1, "bye")


def test_the_page_shows_what_is_seen(hq: Hq, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/shell.md").read_text()
    _command, _banner, *lines = re.findall(r"```console\n(.*?)```", page, re.DOTALL)[0].splitlines()
    typed = [(line[:4].strip(), line[4:]) for line in lines if line[:4].strip() in (">>>", "...")]
    shown = ">>> "
    with at_prompt(tmp_path, "--url", hq.url, "lab") as typist:
        for (_, line), prompt in zip(typed, [*(prompt for prompt, _ in typed[1:]), ">>>"], strict=True):
            typist.type(f"{line}\n")
            shown += typist.see(f"{prompt} ")  # what is typed ahead would be seen where it is typed
    assert told(shown)[:-1] == told("\n".join(lines))


def test_it_streams_and_asks_while_a_statement_runs(hq: Hq, tmp_path: Path) -> None:
    with at_prompt(tmp_path, "--url", hq.url, "lab") as typist:
        typist.type("print('begun'), input('who? '), print('done')\n")
        typist.see("\nbegun\nwho? ")
        assert ask(typist, "Zoë\n") == "done\n(None, 'Zoë', None)\n"
        assert ask(typist, "import sys; print('err', file=sys.stderr)\n") == "err\n"
        ask(typist, "import threading; late = threading.Event()\n")
        ask(typist, "threading.Thread(target=lambda: (late.wait(), print('late'))).start()\n")
        ask(typist, "threading.Timer(0.5, late.set).start()\n")
        typist.type("1 + ")
        typist.see("late\n>>> 1 + ")
        assert ask(typist, "2\n") == "3\n"


def test_ctrl_c_interrupts_what_runs_there_and_the_prompt_comes_back(hq: Hq, tmp_path: Path) -> None:
    with at_prompt(tmp_path, "--url", hq.url, "lab") as typist:
        for statement in ("print('on')\nwhile True: pass", "while True: print('on')", "print('on'); input()"):
            typist.type(f"exec({statement!r})\n")
            typist.see("\non\n")
            assert ask(typist, "\x03").splitlines()[-1] == "KeyboardInterrupt"
            assert ask(typist, "'here'\n") == "'here'\n"
        ask(
            typist,
            "def ask():\n  try:\n    print('on')\n    while True: pass\n  except KeyboardInterrupt:\n    return input('really? ')\n\n",
        )
        typist.type("ask()\n")
        typist.see("\non\n")
        typist.type("\x03")  # which has been heard of when it asks
        typist.see("really? ")
        assert ask(typist, "yes\n") == "'yes'\n"
        ask(typist, "1 / 0\n")
        typist.type("import pdb; pdb.pm()\n")
        for _ in range(
            5
        ):  # at once, as far as the far side is concerned: whether it has asked already or not, it is told once
            typist.see("(Pdb) ")
            typist.type("\x03")
            assert typist.see("--KeyboardInterrupt--\n").removeprefix("^C") == "--KeyboardInterrupt--\n"
        typist.see("(Pdb) ")
        assert ask(typist, "q\n") == ""
        ask(typist, "import threading; stuck = threading.Event()\n")
        typist.type("print('on'); stuck.wait()\n")
        typist.see("\non\n")
        typist.type("\x03\x03")
        assert typist.see(PROMPT).endswith(
            "\nKeyboardInterrupt; it has not ended there yet, and the next statement runs beside it\n>>> "
        )
        typist.type("stuck.set()\n")
        typist.see("waiter.acquire()\nKeyboardInterrupt\n")  # at last
        typist.type("1 + 1\n")
        typist.see("2\n>>> ")
        typist.type("half a line")
        typist.see("half a line")
        typist.press_until("\x03", "\nKeyboardInterrupt\n>>> ")
        typist.type("'over'\n")
        typist.see("'over'\n'over'\n>>> ")
        typist.type("\x04")
        assert typist.see_end() == (0, "\n")


def test_names_of_the_node_are_completed_and_lines_come_back(hq: Hq, tmp_path: Path) -> None:
    with at_prompt(tmp_path, "--url", hq.url, "lab") as typist:
        ask(typist, "import sys\n")
        typist.type("sys.implem\t.na\t\n")
        assert typist.see(PROMPT) == "sys.implementation.name\n'cpython'\n>>> "
        typist.type("nowhere.x\t\n")
        assert "NameError" in typist.see(PROMPT)
        typist.type("exit(7)\n")
        assert typist.see_end()[0] == 7
    assert (tmp_path / "rpyc-gw" / "shell_history").read_text().splitlines()[:2] == [
        "import sys",
        "sys.implementation.name",
    ]
    with at_prompt(tmp_path, "--url", hq.url, "lab") as typist:
        typist.type("\x10\x10\n")  # Ctrl-P, as the arrow
        typist.see("NameError: name 'nowhere' is not defined\n>>> ")


@pytest.mark.parametrize("when", ["while somebody thinks", "while a statement runs"])
def test_a_lost_link_is_one_clear_line(when: str, tmp_path: Path) -> None:
    with chain() as hq, at_prompt(tmp_path, "--url", hq.url, "--via", "relay", "lab") as typist:
        parent = int(ask(typist, "import os; os.getppid()\n"))  # the relay, or what started it there
        if when == "while a statement runs":
            typist.type("print('begun'); import threading; threading.Event().wait()\n")
            typist.see("\nbegun\n")
        else:
            typist.type("half a line")
            typist.see("half a line")
        os.kill(parent, signal.SIGKILL)
        code, said = typist.see_end()
        assert code == 69
        assert said.splitlines()[-1].startswith("rpyc-gw: "), said
        assert "Traceback" not in said


def piped(given: str, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(command(*arguments), input=given, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_script_may_be_piped_in(hq: Hq) -> None:
    given = "def f(x):\n  return x * 2\n\n  # still f\nprint(f(21))\nimport sys\nsys.exit(3)\n"
    assert piped(given, "--url", hq.url, "lab") == (3, "42\n", "")
    code, out, err = piped("print(1)\n1 / 0\n", "--url", hq.url, "lab")
    assert (code, out, err.splitlines()[-1]) == (1, "1\n", "ZeroDivisionError: division by zero")
    assert piped("print(2)", "--url", BARE) == (0, "2\n", "")


def test_without_standard_input_or_a_node_it_says_so(hq: Hq, tmp_path: Path) -> None:
    line = f"{' '.join(command('--url', hq.url, 'lab'))} <&-"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (1, "rpyc-gw: standard input is closed: there is nothing to run\n")
    for node, code in (("nobody", 69), ("relay", 77)):
        with at_a_terminal(command("--url", hq.url, node), XDG_STATE_HOME=str(tmp_path)) as typist:
            ended, said = typist.see_end()
            assert (ended, said.count("\n")) == (code, 1), said


def test_a_bare_python_has_a_prompt_too(tmp_path: Path) -> None:
    with at_prompt(tmp_path, "--url", BARE) as typist:
        assert ask(typist, "6 * 7\n") == "42\n"
        typist.type("print('on'); import time; time.sleep(1000)\n")
        typist.see("\non\n")
        assert ask(typist, "\x03").endswith("\nKeyboardInterrupt\n")
        assert ask(typist, "_\n") == "42\n"
        typist.type("import os; os.kill(os.getpid(), 9)\n")
        code, said = typist.see_end()
        assert (code, said.splitlines()[-1].partition(":")[0]) == (69, "rpyc-gw"), said


@needs_micropython
async def test_at_a_board_it_is_the_shell_for_boards(tmp_path: Path) -> None:
    def tell(arguments: list[str]) -> None:
        with at_prompt(tmp_path, *arguments) as typist:
            ask(typist, "import sys\n")
            assert ask(typist, "sys.implementation.name\n") == "'micropython'\n"
            typist.type("\x04")
            assert typist.see_end() == (0, "\n")

    async with open_board("node") as board:
        await trio.to_thread.run_sync(tell, board.target)
