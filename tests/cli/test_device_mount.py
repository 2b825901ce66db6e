"""`rpyc-gw device mount`: a directory of this machine on MicroPython, at a port or behind a hub."""

from __future__ import annotations

import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from rpyc_gateway.cli.onboard.interpreters import BoardFailed
from rpyc_gateway.cli.onboard.mounts import mounted
from rpyc_gateway.cli.onboard.served import ServedDirectory
from tests.cli.boards import BOTH_WAYS, Here, open_board
from tests.cli.typist import at_a_terminal
from tests.device.boards import needs_micropython


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "pkg").mkdir(parents=True)
    (root / "gadget.py").write_text("X = 41\n")
    (root / "pkg" / "__init__.py").write_text("from .inner import Y\n")
    (root / "pkg" / "inner.py").write_text("Y = 'süß'\n" + "# long\n" * 600)
    (root / "text").write_text("äö\nzwei\n")
    return root


READING = """
import gadget, os, pkg
print(gadget.X, pkg.Y, os.getcwd(), os.listdir("pkg"))
f = open("text")
print([f.read(1), f.tell(), f.readline(), f.read(), f.read(), f.readline()] == ["ä", 2, "ö\\n", "zwei\\n", "", ""])
f.seek(0)
print(list(f) == ["äö\\n", "zwei\\n"])
with open("/remote/text", "rb") as f:
    print(f.read(3), f.readline(), f.readline(2), f.readlines())
print(os.stat("text")[6], os.stat("pkg")[0])
"""
WRITING = """
import os
os.mkdir("new")
os.chdir("new")
with open("file", "w") as f:
    print("sus", file=f)
    f.write("x" * 3000)
with open("file", "r+") as f:
    f.read(2)
    f.seek(0, 1)
    f.write("0")
os.rename("file", "/remote/renamed")
print(os.getcwd(), os.listdir(".."))
os.chdir("/remote")
os.rmdir("new")
"""


@needs_micropython
@BOTH_WAYS
async def test_a_program_imports_and_reads_what_is_here_and_leaves_nothing_there(way: str, project: Path) -> None:
    async with open_board(way) as board:
        assert await board.ask("mount", project, "exec", READING) == (
            0,
            "41 süß /remote ['__init__.py', 'inner.py']\n"
            "True\nTrue\n"
            "b'\\xc3\\xa4\\xc3' b'\\xb6\\n' b'zw' [b'ei\\n']\n"
            "10 16384\n",
            "",
        )
        (project / "gadget.py").write_text("X = 42\n")
        (project / "main.py").write_text("import gadget\nprint(gadget.X)\n")
        assert await board.ask("mount", project, "run", project / "main.py") == (0, "42\n", "")
        assert await board.ask("mount", project, "shell", given=b"import gadget\nprint(gadget.X)") == (0, "42\n", "")
        left = "'gadget' in __import__('sys').modules, __import__('os').getcwd() == '/remote'"
        assert await board.ask("eval", left) == (0, "(False, False)\n", "")
        code, out, err = await board.ask("eval", "__import__('os').stat('/remote')")
        assert (code, out, err.splitlines()[-1]) == (1, "", "OSError: [Errno 2] ENOENT")


@needs_micropython
@BOTH_WAYS
async def test_it_is_written_to_only_if_it_may_be(way: str, project: Path) -> None:
    async with open_board(way) as board:
        code, _, err = await board.ask("mount", project, "exec", WRITING)
        told = f"rpyc-gw: {project}: the board may only read it; --write before BOARD lets it write"
        assert (code, err.splitlines()[-2:]) == (1, ["OSError: 30", told])
        code, _, err = await board.ask("mount", project, "exec", "open('../../secret')")
        assert (code, err.splitlines()[-1]) == (1, "OSError: [Errno 13] EACCES")
        told = "/remote/new ['gadget.py', 'new', 'pkg', 'renamed', 'text']\n"
        assert await board.ask("mount", "--write", project, "exec", WRITING) == (0, told, "")
    assert (project / "renamed").read_text() == "su0\n" + "x" * 3000


@needs_micropython
@BOTH_WAYS
async def test_a_shell_stands_in_it(way: str, project: Path, tmp_path: Path) -> None:
    async with open_board(way) as board:

        def story() -> None:
            with at_a_terminal(board.command("mount", project), XDG_STATE_HOME=str(tmp_path)) as typist:
                typist.see(">>> ")
                typist.type("import gadget; gadget.X\n")
                typist.see(">>> ")
                typist.type("gadget.X\n")
                assert typist.see(">>> ") == "gadget.X\n41\n>>> "
                typist.type("\x04")
                assert typist.see_end()[0] == 0

        await trio.to_thread.run_sync(story)


@needs_micropython
@BOTH_WAYS
async def test_who_is_killed_leaves_a_board_on_which_the_next_can_mount(way: str, project: Path) -> None:
    async with open_board(way) as board, trio.open_nursery() as nursery:
        command = board.command("mount", project, "exec", "import time\nprint('up')\nwhile 1: time.sleep_ms(10)")
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        assert await process.stdout.receive_some() == b"up\n"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert await board.ask("mount", project, "exec", "import gadget; print(gadget.X)") == (0, "41\n", "")


@needs_micropython
@BOTH_WAYS
async def test_a_plug_that_is_pulled_is_told(way: str, project: Path) -> None:
    async with open_board(way) as board, trio.open_nursery() as nursery:
        command = board.command("mount", project, "exec", "print('up')\nf = open('text')\nwhile 1: f.seek(0)")
        run = partial(trio.run_process, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        process = await nursery.start(run)
        assert await process.stdout.receive_some() == b"up\n"
        board.line.unplug()
        said = b"".join([part async for part in process.stderr]).decode()
        assert (await process.wait(), "it was unplugged" in said, "Traceback" in said) == (69, True, False), said


@needs_micropython
async def test_two_do_not_mount_at_the_same_place(project: Path) -> None:
    async with open_board("node") as board, trio.open_nursery() as nursery:
        command = board.command(
            "mount", project, "exec", "import time\nprint('up')\nf = open('text')\nwhile 1: f.seek(0)"
        )
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        assert await process.stdout.receive_some() == b"up\n"
        other = board.command("mount", project, "eval", "1")
        waiting = await nursery.start(
            partial(trio.run_process, other, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        )
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        said = b"".join([data async for data in waiting.stdout])
        # Its turn comes when the program has ended, before or after that has left.
        assert said in (b"1\n", b"rpyc-gw: board: somebody else has a directory mounted at /remote\n")
        assert await board.ask("mount", project, "eval", "1") == (0, "1\n", "")


async def test_a_board_without_file_systems_of_ones_own_is_told_so(project: Path) -> None:
    with pytest.raises(
        BoardFailed, match=r"here: this Python has no file systems of one's own \(CircuitPython has none\)"
    ):
        async with mounted(Here(), ServedDirectory(project, writable=False)):
            raise AssertionError


@needs_micropython
async def test_what_cannot_be_mounted_is_wrong_usage(project: Path) -> None:
    async with open_board("port") as board:
        for arguments, said in [
            ((project / "text",), "is a file"),
            ((project / "missing",), "does not exist"),
            ((project, "run"), "'run' is none of: run FILE, exec CODE, eval EXPR, shell"),
            ((project, "run", project / "missing"), "No such file"),
        ]:
            code, out, err = await board.ask("mount", *arguments)
            assert (code, out) == (2, "")
            assert said in err
