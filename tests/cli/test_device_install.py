"""`rpyc-gw device install` and `uninstall`: the agent on the flash of MicroPython, at a port or as a node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rpyc_gateway.device.flash import BEGIN
from tests.cli.boards import BOTH_WAYS, Board, open_board
from tests.device.boards import needs_micropython

pytestmark = needs_micropython


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


async def ask(board: Board, verb: str, *arguments: object, code: int = 0) -> list[str]:
    """What a command tells, where it is told if it ends so."""
    ended, out, err = await board.ask(verb, *arguments)
    assert ended == code, err
    return (err if code else out).splitlines()


@BOTH_WAYS
async def test_it_is_written_and_started_only_as_far_as_was_said(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROPYPATH", f"{tmp_path}/lib:.frozen")
    agent, main = tmp_path / "lib" / "gwagent.py", tmp_path / "main.py"
    root = ("--root", tmp_path)
    async with open_board(way) as board:
        assert await ask(board, "install", *root) == [
            f"{agent} is written",
            f"to start it add to {main}:",
            "",
            "import gwagent",
            "gwagent.begin()",
        ]
        assert files(tmp_path) == ["lib/gwagent.py"]
        assert await ask(board, "eval", "callable(__import__('gwagent').begin)") == ["True"]
        assert await ask(board, "install", *root, "--main") == [
            f"{agent} is written",
            f"{main} is written: it starts with the next reset",
        ]
        assert main.read_text() == BEGIN
        assert await ask(board, "install", *root, "--main") == [f"{agent} is written"]
        assert await ask(board, "uninstall", *root) == [f"{agent} is removed", f"{main} is removed"]
        assert files(tmp_path) == []


async def test_what_a_board_starts_with_is_its_owners(tmp_path: Path) -> None:
    main = tmp_path / "main.py"
    main.write_text("print('mine')\n")
    async with open_board("port") as board:
        name = board.target[-1]
        assert await ask(board, "install", "--root", tmp_path, "--main", code=1) == [
            f"rpyc-gw: {name}: {main}: is there, and does something else; nothing was written (--force does)"
        ]
        assert os.listdir(tmp_path) == ["main.py"]
        assert (await ask(board, "install", "--root", tmp_path))[:2] == [
            f"{tmp_path}/lib/gwagent.py is written",
            f"the board does not look for modules there: its sys.path has no {tmp_path}/lib",
        ]
        main.write_text(f"print('mine')\n{BEGIN}")
        assert await ask(board, "uninstall", "--root", tmp_path) == [
            f"{tmp_path}/lib/gwagent.py is removed",
            f"{main} still speaks of gwagent, and does more: that is yours to change",
        ]
        assert main.read_text() == f"print('mine')\n{BEGIN}"
        assert await ask(board, "uninstall", "--root", tmp_path, code=1) == [
            f"rpyc-gw: {name}: {tmp_path}/lib/gwagent.py: there is no agent"
        ]
        assert (await ask(board, "install", "--root", tmp_path, "--main", "--force"))[-1].startswith(
            f"{main} is written"
        ) is False
        main.write_text("print('mine')\n")
        assert (await ask(board, "install", "--root", tmp_path, "--main", "--force"))[-1].startswith(
            f"{main} is written"
        )
        assert main.read_text() == BEGIN
        assert (await ask(board, "install", "--force", code=2))[-1] == "Error: --force is for --main"
