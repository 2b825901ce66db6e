"""`rpyc-gw device`: MicroPython on a port, and the same as a node behind a gateway; what is asked of either is the same."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from rpyc_gateway.cli import main
from rpyc_gateway.cli.onboard import files, installs, mounts
from rpyc_gateway.cli.onboard.interpreters import BoardFailed
from rpyc_gateway.cli.onboard.served import ServedDirectory
from rpyc_gateway.config import Device
from rpyc_gateway.gateway import Node
from rpyc_transports import ports
from tests.cli.boards import BOTH_WAYS, EACH_WAY, FAST, Board, Here, open_board, open_small
from tests.device.boards import microbit, needs_microbit, needs_micropython
from tests.device.interpreters import OLDEST
from tests.terminal import answer_at_a_terminal


@needs_micropython
@EACH_WAY
async def test_programs_print_here_and_exit_here(way: str, tmp_path: Path) -> None:
    script = tmp_path / "blink.py"
    script.write_text("import sys\nprint('süß', 1, sep='-')\nprint('end', end='')\nsys.exit(3)\n")
    async with open_board(way) as board:
        code, out, err = await board.ask("run", script)
        assert (code, out.rstrip("\n"), err) == (3, "süß-1\nend", "")
        assert await board.ask("run", "-", given=b"print(__name__)") == (0, "__main__\n", "")
        assert await board.ask("exec", "import sys; print(sys.implementation[0])") == (0, "micropython\n", "")
        assert await board.ask("exec", "raise SystemExit('bye')") == (1, "", "bye\n")
        assert await board.ask("eval", "'a' + 'b'") == (0, "ab\n", "")


@needs_micropython
@EACH_WAY
async def test_a_program_longer_than_a_message_runs(way: str) -> None:
    program = "\n".join(f"x{number} = {number}" for number in range(500)) + "\nprint(x499)\n"
    async with open_board(way) as board:
        assert await board.ask("run", "-", given=program.encode()) == (0, "499\n", "")


@needs_micropython
@EACH_WAY
async def test_an_exception_has_the_traceback_of_the_program_alone(way: str, tmp_path: Path) -> None:
    script = tmp_path / "wrong.py"
    script.write_text("def f():\n    raise ValueError('no')\nprint('before')\nf()\n")
    async with open_board(way) as board:
        assert await board.ask("run", script) == (
            1,
            "before\n",
            "Traceback (most recent call last):\n"
            '  File "wrong.py", line 4, in <module>\n'
            '  File "wrong.py", line 2, in f\n'
            "ValueError: no\n",
        )
        code, _, err = await board.ask("exec", "class Mine(Exception): pass\nraise Mine('own')")
        assert code == 1
        assert "Mine: own" in err
        code, _, err = await board.ask("exec", "pass\nraise KeyboardInterrupt")
        assert (code, err.splitlines()[1:]) == (1, ['  File "<code>", line 2, in <module>', "KeyboardInterrupt:"])
        code, _, err = await board.ask("eval", "1 +")
        assert (code, err.splitlines()[-1]) == (1, "SyntaxError: invalid syntax")


@needs_micropython
@BOTH_WAYS
async def test_files_go_there_and_back(way: str, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    (flash / "lib").mkdir(parents=True)
    whole = bytes(range(256)) * 13 + b"\r\n\x03\x04"
    (tmp_path / "a.bin").write_bytes(whole)
    (tmp_path / "empty").write_bytes(b"")
    (flash / "old").write_bytes(b"old")
    async with open_board(way) as board:
        assert await board.ask("put", tmp_path / "a.bin", tmp_path / "empty", flash) == (0, "", "")
        assert await board.ask("put", tmp_path / "a.bin", flash / "old") == (0, "", "")
        assert (flash / "a.bin").read_bytes() == (flash / "old").read_bytes() == whole
        assert (flash / "empty").read_bytes() == b""
        assert await board.ask("ls", flash) == (
            0,
            "        3332 a.bin\n           0 empty\n           0 lib/\n        3332 old\n",
            "",
        )
        assert await board.ask("get", flash / "a.bin", tmp_path / "back") == (0, "", "")
        shown = await trio.run_process(board.command("cat", flash / "a.bin", flash / "old"), capture_stdout=True)
        assert shown.stdout == whole + whole
        assert (tmp_path / "back").read_bytes() == whole
        (tmp_path / "here").mkdir()
        assert await board.ask("get", flash / "empty", tmp_path / "here") == (0, "", "")
        assert (tmp_path / "here" / "empty").read_bytes() == b""
        assert await board.ask("rm", flash / "a.bin", flash / "empty") == (0, "", "")
    assert sorted(path.name for path in flash.iterdir()) == ["lib", "old"]


@needs_micropython
@BOTH_WAYS
async def test_what_the_board_refuses_is_told_in_its_words_and_leaves_all_as_it_was(way: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    missing = tmp_path / "missing"
    async with open_board(way) as board:
        name = board.target[-1]
        told = f"rpyc-gw: {name}: {missing}: OSError: [Errno 2] ENOENT\n"
        assert await board.ask("ls", missing) == (1, "", told)
        assert await board.ask("rm", missing) == (1, "", told)
        assert await board.ask("get", missing, kept) == (1, "", told)
        assert await board.ask("get", tmp_path, kept) == (
            1,
            "",
            f"rpyc-gw: {name}: {tmp_path}: is a directory: -r copies those\n",
        )
        told = f"rpyc-gw: {name}: {missing}/x: OSError: [Errno 2] ENOENT\n"
        assert await board.ask("put", kept, missing / "x") == (1, "", told)
        told = f"rpyc-gw: {name}: {kept}: is no directory there\n"
        assert await board.ask("put", kept, __file__, kept) == (1, "", told)
    assert kept.read_bytes() == b"kept"
    assert os.listdir(tmp_path) == ["kept"]


@needs_micropython
@EACH_WAY
async def test_who_interrupts_it_interrupts_the_board(way: str) -> None:
    async with open_board(way) as board, trio.open_nursery() as nursery:
        command = board.command("exec", "print('up')\nwhile True: pass")
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        assert await process.stdout.receive_some() == b"up\n"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert await board.ask("eval", "1") == (0, "1\n", "")


@needs_micropython
@EACH_WAY
async def test_who_stops_reading_stops_the_program(way: str) -> None:
    async with open_board(way) as board, trio.open_nursery() as nursery:
        command = board.command("exec", "while True: print('more')")
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        assert (await process.stdout.receive_some()).startswith(b"more\n")
        await process.stdout.aclose()
        assert await process.wait() == 1
        assert await board.ask("eval", "1") == (0, "1\n", "")


@needs_micropython
@BOTH_WAYS
async def test_a_reset_leaves_the_board_ready(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "machine.py").write_text("import os\ndef reset(): os.system('kill -9 $PPID')\n")
    monkeypatch.setenv("MICROPYPATH", str(tmp_path))
    async with open_board(way) as board:
        assert await board.ask("reset") == (0, "", "")
        with trio.fail_after(30):
            while await board.ask("eval", "1") != (0, "1\n", ""):
                pass


@needs_micropython
async def test_a_board_that_cannot_be_reset_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "machine.py").write_text("def reset(): raise OSError('not now')\n")
    monkeypatch.setenv("MICROPYPATH", str(tmp_path))
    async with open_board("port") as board:
        code, out, err = await board.ask("reset")
        assert (code, out, err.splitlines()[-1]) == (1, "", "OSError: not now")


@needs_micropython
async def test_a_node_whose_board_has_a_soft_reset_only_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "machine.py").write_text("def soft_reset(): raise SystemExit\n")
    monkeypatch.setenv("MICROPYPATH", str(tmp_path))
    async with open_board("node") as board:
        code, out, err = await board.ask("reset")
        told = "it has a soft reset only, which its agent survives: reset it at its port, or by its button"
        assert (code, out, err) == (1, "", f"rpyc-gw: board: {told}\n")


@needs_micropython
async def test_a_terminal_sees_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(4096))
    async with open_board("port") as board:
        command = board.command("put", tmp_path / "a.bin", tmp_path / "b.bin")
        seen = await trio.to_thread.run_sync(answer_at_a_terminal, command, b"never asked", b"")
    assert b"\ragent: " in seen
    assert b"\ra.bin: 50 %" in seen
    assert seen.endswith(b"\r\x1b[K")


@needs_micropython
async def test_the_path_of_a_port_is_enough() -> None:
    async with open_board("port") as board:
        path = board.target[0].removeprefix("serial://").removesuffix(FAST)
        assert await Board([path]).ask("eval", "6 * 7") == (0, "42\n", "")


@needs_microbit
async def test_a_node_that_is_a_micro_bit_runs_programs_by_each_command(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import microbit\nprint('süß', [microbit.running_time() > 0])\nraise SystemExit(3)\n")
    with microbit() as port:
        async with open_small(Device(name="board", url=f"serial://{port}?baudrate=19200", allow=("*",))) as node:
            board = Board(["--url", node.urls[0], "board"])
            assert await board.ask("run", script) == (3, "süß [True]\n", "")
            assert await board.ask("eval", "6 * 7") == (0, "42\n", "")
            assert await board.ask("shell", given=b"for n in range(2): print(n)\n") == (0, "0\n1\n", "")
            assert await asked_as_a_node(node, "eval", "6 * 7") == (0, "42\n", "")
            assert await asked_as_a_node(node, "exec", script) == (3, "süß [True]\n", "")
            code, out, err = await asked_as_a_node(node, "eval", "1 / 0")
            assert (code, out, err.splitlines()[-1]) == (1, "", "ZeroDivisionError: division by zero")


async def test_a_bare_python_is_reached_by_the_command_that_starts_it(tmp_path: Path) -> None:
    board = Board([f"stdio:{OLDEST} -I"])
    assert await board.ask("exec", "import sys\nprint('süß', end='')\nsys.exit(4)") == (4, "süß", "")
    assert await board.ask("eval", "6 * 7") == (0, "42\n", "")
    (tmp_path / "a").write_bytes(b"abc")
    os.mknod(tmp_path / "b", stat.S_IFSOCK | 0o600)  # what a host has, and no board
    (tmp_path / "c").mkdir()
    assert await board.ask("ls", tmp_path) == (0, "           3 a\n           0 b\n           0 c/\n", "")
    for verb, told in (
        ("reset", "of which each command starts another"),
        ("install", "to which the agent is sent each time"),
    ):
        code, _, err = await board.ask(verb)
        assert (code, f"this is a bare Python, {told}" in err) == (1, True)


class Small(Here):
    """A board with neither what a mounted directory needs nor what the agent does."""

    async def evaluate(self, source: str) -> Any:
        if source == installs.ABOUT:
            raise BoardFailed(self.name, "AttributeError", "'module' object has no attribute 'stdin'")
        return await super().evaluate(source)

    async def call(self, function: Any, *args: Any) -> Any:
        raise BoardFailed(self.name, "ImportError", "no module named 'io'")


async def test_what_a_micro_bit_has_no_room_for_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(
        BoardFailed, match=r"^here: a directory cannot be mounted on this board: .* \(ImportError: no mod"
    ):
        async with mounts.mounted(Small(), ServedDirectory(tmp_path, writable=False)):
            pass
    with pytest.raises(BoardFailed, match=r"^here: this board cannot run the agent, and is driven without it \(Attr"):
        await installs.places(Small(), "")


async def asked_as_a_node(node: Node, verb: str, argument: object) -> tuple[int, str, str]:
    """By the commands for any node."""
    command = [sys.executable, "-m", "rpyc_gateway", verb, "--url", node.urls[0], "board", str(argument)]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Damaging(Here):
    """A board whose flash damages what is written."""

    async def call(self, function: Any, *args: Any) -> Any:
        if getattr(function, "__name__", "") == "write":
            args = (args[0][:-1] + b"?",)
        return await super().call(function, *args)


async def test_a_file_that_arrived_damaged_takes_no_other_ones_place(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    with pytest.raises(BoardFailed, match="kept: of 3 bytes it holds 3, or others: what was there stays"):
        await files.put(Damaging(), tmp_path / "new", str(kept), lambda _done, _whole: None)
    assert kept.read_bytes() == b"kept"
    assert sorted(os.listdir(tmp_path)) == ["kept", "new"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["eval", "lab", "1"], 2, "'lab' is no port"),
        (["ls", "foo://x"], 2, "no transport 'foo' is installed"),
        (["ls", "--via", "relay", "/dev/ttyACM0"], 2, "--via is for a board that is a node, and needs --url"),
        (["put", "/dev/ttyACM0", "/nowhere/file", "x"], 2, "'/nowhere/file' does not exist"),
        (["eval", "/dev/nowhere", "1"], 69, "there is no port /dev/nowhere"),
        (
            ["ls", "stdio:cat"],
            69,
            "a command that leads to a bare Python ends in python3; a board is reached by its port",
        ),
        (["reset", "/dev/nowhere"], 69, "there is no port /dev/nowhere"),
        (["ls", "--url", "tcp://127.0.0.1:1", "lab"], 69, "127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_told(arguments: list[str], code: int, told: str) -> None:
    result = CliRunner().invoke(main, ["device", *arguments])
    assert result.exit_code == code
    assert told in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "verb",
    [
        "run",
        "exec",
        "eval",
        "ls",
        "cat",
        "put",
        "get",
        "rm",
        "mkdir",
        "reset",
        "shell",
        "mount",
        "watch",
        "install",
        "uninstall",
    ],
)
def test_each_command_explains_itself(verb: str) -> None:
    result = CliRunner().invoke(main, ["device", verb, "-h"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main device {verb} [OPTIONS] BOARD")


@pytest.mark.parametrize("name", ["ttyNOWHERE", "E6614C77"])
def test_a_serial_number_or_the_name_of_a_port_is_enough(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged_in = [ports.Port("/dev/ttyS99"), ports.Port("/dev/ttyNOWHERE", "2E8A", "0005", "E6614C77", "1-1", "Board")]
    monkeypatch.setattr(ports, "plugged_in", lambda: plugged_in)
    result = CliRunner().invoke(main, ["device", "ls", name])
    assert result.exit_code == 69
    assert "/dev/ttyNOWHERE" in result.stderr
