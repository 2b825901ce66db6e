"""`rpyc-gw device shell`: somebody at a terminal, and MicroPython on a port or as a node."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.cli.boards import BOTH_WAYS, Board, open_board
from tests.cli.typist import Typist, at_a_terminal
from tests.device.boards import needs_micropython

PROMPT = ">>> "
pytestmark = needs_micropython


async def type_at(board: Board, story: object, state: Path) -> None:
    """The story of a typist at the shell of this board, who keeps history in this directory."""

    def tell() -> None:
        with at_a_terminal(board.command("shell"), XDG_STATE_HOME=str(state)) as typist:
            typist.see(PROMPT)
            story(typist)  # type: ignore[operator]

    await trio.to_thread.run_sync(tell)


@BOTH_WAYS
async def test_a_dialogue_is_as_in_pythons_own_shell(way: str, tmp_path: Path) -> None:
    def story(typist: Typist) -> None:
        def ask(typed: str) -> str:
            typist.type(typed)
            return typist.see(PROMPT)

        assert ask("6 * 7\n") == "6 * 7\n42\n>>> "
        assert ask("_ + 1, print('süß')\n") == "_ + 1, print('süß')\nsüß\n(43, None)\n>>> "
        assert ask("None\n") == "None\n>>> "
        assert ask("for i in range(2):\n  print(i)\n\n") == "for i in range(2):\n...   print(i)\n... \n0\n1\n>>> "
        assert ask("def f():\n  return 1 / 0\n \n") == "def f():\n...   return 1 / 0\n...  \n>>> "
        assert ask("f()\n").splitlines()[1:-1] == [
            "Traceback (most recent call last):",
            '  File "<string>", line 1, in <module>',
            '  File "<string>", line 2, in f',
            "ZeroDivisionError: divide by zero",
        ]
        assert ask("def (\n").splitlines()[-2] == "SyntaxError: invalid syntax"
        assert ask(f"x = {'1 + ' * 1000}1\n").endswith("1\n>>> ")
        assert ask("x\n") == "x\n1001\n>>> "
        typist.type("while 1: print('on')\n\n")
        typist.see("on\non\n")
        assert ask("\x03").endswith("\nKeyboardInterrupt\n>>> ")
        assert ask("x\n") == "x\n1001\n>>> "
        typist.type("import sys; sys.exit(7)\n")
        assert typist.see_end()[0] == 7

    async with open_board(way) as board:
        await type_at(board, story, tmp_path)


@BOTH_WAYS
async def test_names_of_the_board_are_completed_and_lines_come_back(way: str, tmp_path: Path) -> None:
    def first(typist: Typist) -> None:
        typist.type("import sys\n")
        typist.see(PROMPT)
        typist.type("sys.implem\t.na\t\n")
        assert typist.see(PROMPT) == "sys.implementation.name\n'micropython'\n>>> "
        typist.type("nowhere.x\t\n")
        assert "NameError" in typist.see(PROMPT)
        typist.type("\x04")
        assert typist.see_end() == (0, "\n")

    def second(typist: Typist) -> None:
        typist.type("\x10\x10\n")  # Ctrl-P, as the arrow
        typist.see("NameError: name 'sys' isn't defined\n>>> ")
        typist.type("quit()\n")
        assert typist.see_end() == (0, "quit()\n")

    async with open_board(way) as board:
        await type_at(board, first, tmp_path)
        kept = tmp_path / "rpyc-gw" / "shell_history"
        assert kept.read_text().splitlines() == ["import sys", "sys.implementation.name", "nowhere.x"]
        assert kept.stat().st_mode & 0o077 == 0
        await type_at(board, second, tmp_path)


@BOTH_WAYS
async def test_who_thinks_is_told_that_the_board_is_gone(way: str, tmp_path: Path) -> None:
    async with open_board(way) as board:

        def story(typist: Typist) -> None:
            typist.type("1\n")
            typist.see(PROMPT)
            board.fake.kill()
            code, said = typist.see_end()
            assert (code, said.splitlines()[-1].split(":")[0]) == (69, "rpyc-gw"), said
            assert "has started anew" in said or (way == "node" and "board: its session has ended" in said)

        await type_at(board, story, tmp_path)


@BOTH_WAYS
async def test_a_script_may_be_piped_in(way: str) -> None:
    async with open_board(way) as board:
        given = b"def f(x):\n  return x * 2\n\n  # still f\nprint(f(21))\nimport sys\nsys.exit(3)\n"
        assert await board.ask("shell", given=given) == (3, "42\n", "")
        code, out, err = await board.ask("shell", given=b"print(1)\n1 / 0\n")
        assert (code, out, err.splitlines()[-1]) == (1, "1\n", "ZeroDivisionError: divide by zero")


async def test_what_is_printed_meanwhile_is_shown_above_the_line_that_is_typed(tmp_path: Path) -> None:
    def story(typist: Typist) -> None:
        typist.type("import _thread, time\n")
        typist.see(PROMPT)
        typist.type("_thread.start_new_thread(lambda: (time.sleep(0.5), print('late')), ())\n")
        typist.see(PROMPT)
        typist.type("1 + ")
        typist.see("late\n>>> 1 + ")
        typist.type("2\n")
        assert typist.see(PROMPT) == "2\n3\n>>> "

    async with open_board("port") as board:
        await type_at(board, story, tmp_path)
