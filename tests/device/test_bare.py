"""A bare Python at the other end of a pipe, under each that this machine has: real processes, as `stdio:` starts them."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import rpyc_gateway.device.bare
from rpyc_gateway.device.bare import Arrival, arrive, open_agent
from rpyc_gateway.device.board import Board, BoardError, Event
from rpyc_gateway.device.codec import Ref
from rpyc_gateway.device.conversation import Primitive, Step
from rpyc_gateway.device.waiting import TaskWaiter
from rpyc_gateway.errors import DialFailed, LinkLost
from rpyc_gateway.transport import Interpreter, find_transport

from .interpreters import EVERY, OLDEST, find

NONCE = b"life"
HERE = Path(rpyc_gateway.device.__file__).parent


@asynccontextmanager
async def bare(command: str, **options: Any) -> AsyncIterator[tuple[Board, Arrival]]:
    url = f"stdio:?python=agent {command}"
    async with find_transport(url).connect(url) as pipe:
        assert pipe.interpreter == Interpreter(whole=False)
        arrival = await arrive(pipe, pipe.interpreter, NONCE)
        async with open_agent(pipe, arrival, NONCE, **options) as board:
            yield board, arrival


@pytest.mark.parametrize("interpreter", EVERY)
async def test_nothing_is_installed_and_it_can_be_called(interpreter: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rpyc_gateway.stdio")
    async with bare(f"{interpreter} -bb -W error -X dev") as (board, arrival):
        assert arrival.implementation == "cpython"
        assert interpreter.endswith(arrival.version.rpartition(".")[0])
        assert await board.evaluate("__import__('os').getpid()") == arrival.pid != os.getpid()
        with pytest.raises(BoardError, match="FileNotFoundError") as caught:
            await board.evaluate("open('/missing')")
        assert caught.value.failure.errno == 2
        assert await board.call(await board.evaluate("lambda f: f(20) + 1"), lambda n: n * 2) == 41
        await board.execute("class Thing: pass")
        assert isinstance(await board.evaluate("Thing()"), Ref)
        assert await board.evaluate("Thing.__module__") == "__main__"
        assert await board.evaluate("__import__('pickle').loads(__import__('pickle').dumps(Thing)) is Thing")
        assert not await board.evaluate("hasattr(__import__('sys'), 'ps1')")
        await interrupts(board, "import time\ntime.sleep(60)")
        await interrupts(board, "while True: pass")
        await interrupts(board, "import subprocess\nsubprocess.run(['sleep', '60'])")
        data = os.urandom(300_000)
        assert await board.call(Primitive.SAME, data) == data
    assert "BytesWarning" not in caplog.text  # of the agent


async def interrupts(board: Board, source: str) -> None:
    """Cancelling this ends it, and the next one is answered."""
    with trio.move_on_after(0.2) as scope:
        await board.execute(source)
    assert scope.cancelled_caught
    with trio.fail_after(5):
        assert await board.evaluate("6 * 7") == 42


async def test_a_call_that_waits_for_its_callback_is_interrupted_and_no_other() -> None:
    asked = trio.Event()

    async def never() -> None:
        asked.set()
        await trio.sleep_forever()

    async with bare(OLDEST) as (board, _):
        call = await board.evaluate("lambda f: f()")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(board.call, call, never)
            await asked.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            assert await board.call(call, lambda: 7) == 7


async def test_an_interrupt_never_leaves_a_message_half_said() -> None:
    async with bare(OLDEST) as (board, _):
        await board.execute("def ask(f, n):\n for i in range(n): f(i)\n return 'done'")
        ask = await board.evaluate("ask")
        for patience in range(40):
            with trio.move_on_after(patience / 4000):
                await board.call(ask, lambda _: None, 100_000)
            with trio.fail_after(5):
                assert await board.call(Primitive.SAME, (patience, b"x" * 5000)) == (patience, b"x" * 5000)


STORY = """
user = {"interrupted": interrupted, "sys": sys}
exec("def f(): interrupted(2, sys._getframe())", user)
table.append(user["f"])
call_f = bytes((1, len(table) - 1))

def of_the_agent():
    user["f"]()
    interrupted(2, sys._getframe())

work(call_f, [])  # nobody has pressed the key
pressed = 1
of_the_agent()
assert pressed
try:
    work(call_f, [])
except KeyboardInterrupt:
    print(pressed)
"""


def test_a_call_is_interrupted_and_the_agent_is_not_in_its_own_work() -> None:
    source = "".join(section_of(name) for name in ("hosted", "core", "callbacks", "roomy")) + STORY
    done = subprocess.run(
        [OLDEST, "-"], input=f"exec({source!r}, {{}})", capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def section_of(name: str) -> str:
    """As it is written, with the names that it has there."""
    whole = "".join((HERE / file).read_text() for file in ("agent.py", "hosted.py"))
    return re.split(rf"^#: {name}$", whole, flags=re.MULTILINE)[1].partition("\n#: ")[0]


async def test_an_answer_is_said_to_its_end_whenever_its_call_is_interrupted() -> None:
    async with bare(OLDEST) as (board, _):
        for patience in range(20):
            with trio.move_on_after(patience / 400):
                await board.evaluate("bytes(4 << 20)")
            with trio.fail_after(5):
                assert await board.evaluate("6 * 7") == 42


async def test_nothing_is_said_twice_however_long_the_way_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    async with bare(OLDEST) as (board, _):
        await board.execute("import threading\ndef later(): open(fifo, 'w').close()")
        await board.execute(f"fifo = '{tmp_path}/fifo'")
        before = board.line.statistics().frames_in
        board.begin([Step(Primitive.EXEC, ("threading.Timer(0.3, later).start()",))], waiter := TaskWaiter())
        await trio.testing.wait_all_tasks_blocked()
        (tmp_path / "fifo").read_bytes()  # this side is deaf for so long
        await waiter.wait(board.abandon)
        assert await board.evaluate("1") == 1
        assert board.line.statistics().frames_in - before <= 4


async def test_what_a_program_prints_there_is_no_part_of_the_link(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rpyc_gateway.stdio")
    async with bare(OLDEST) as (board, _):
        await board.execute(
            "import os, sys\nprint('printed')\nos.write(1, b'written\\n')\nos.system('echo child')\nread = sys.stdin.read()"
        )
        assert await board.evaluate("read") == ""
    said = [record.getMessage().partition("): ")[2] for record in caplog.records if record.name == "rpyc_gateway.stdio"]
    assert said == ["printed", "written", "child"]


async def test_events_and_what_nobody_has_any_more() -> None:
    heard: list[int] = []
    async with bare(OLDEST) as (board, _):
        await board.execute("def many(event):\n for i in range(30): event(i)\ndef new(): return []")
        await board.call(await board.evaluate("many"), Event(heard.append))
        new = await board.evaluate("new")
        for _ in range(50):
            thing = await board.call(new)
            assert thing.number < 20
            del thing
        with trio.fail_after(5):
            while len(heard) < 30:
                await board.evaluate("1")
    assert heard == list(range(30))


async def test_threads_may_tell_and_only_the_main_one_may_ask() -> None:
    heard: list[str] = []
    told = trio.Event()

    def hear(what: str) -> None:
        heard.append(what)
        if len(heard) == 20:
            told.set()

    async with bare(OLDEST) as (board, _):
        await board.execute(
            "import threading\n"
            "def start(ask, event):\n"
            " def work():\n"
            "  try: ask('asked')\n"
            "  except RuntimeError as error: event(str(error))\n"
            " for _ in range(20): threading.Thread(target=work).start()\n"
        )
        await board.call(await board.evaluate("start"), lambda _: None, Event(hear))
        with trio.fail_after(5):
            await told.wait()
    assert set(heard) == {"only the main thread may call what is on the other side; any may call an Event"}


async def test_a_child_that_is_forked_does_not_hold_the_pipe() -> None:
    async with bare(OLDEST) as (board, _):
        await board.execute(
            "import os\ndef opened(): return tuple(sorted(os.listdir('/proc/self/fd')))\nread, write = os.pipe()"
        )
        await board.execute("if not os.fork():\n os.write(write, repr(opened()).encode())\n os._exit(0)")
        here, there = (
            await board.evaluate("opened()"),
            ast.literal_eval((await board.evaluate("os.read(read, 999)")).decode()),
        )
        assert len(here) == len(there) + 2


async def test_much_goes_both_ways_and_too_much_is_refused_by_who_should_take_it() -> None:
    async with bare(OLDEST) as (board, _):
        size = 4 << 20
        assert await board.call(await board.evaluate("len"), bytes(size)) == size
        assert await board.evaluate(f"bytes({size})") == bytes(size)
        with pytest.raises(BoardError, match=r"MemoryError: an answer of 671\d* bytes"):
            await board.evaluate("bytes((1 << 26) + 1)")
        assert await board.evaluate("1") == 1


async def test_modules_of_the_directory_that_it_is_in_do_not_get_in_its_way(tmp_path: Path) -> None:
    for name in ("queue", "traceback", "binascii"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('wrong')")
    (tmp_path / "mine.py").write_text("answer = 42")
    async with bare(f"sh -c 'cd {tmp_path} && exec {OLDEST} -B'") as (board, _):
        assert await board.evaluate("__import__('mine').answer") == 42


# -- its end


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def wait_gone(pid: int) -> None:
    with trio.fail_after(10):
        while is_there(pid):  # noqa: ASYNC110  # what it looks at is in another process
            await trio.sleep(0.01)


async def ends_by_itself(interpreter: str, busy: str) -> None:
    """Whatever it is at."""
    async with trio.open_nursery() as nursery, bare(f"{interpreter} -X dev") as (board, arrival):
        await board.evaluate("1")
        nursery.start_soon(fails, board, busy)
        await trio.testing.wait_all_tasks_blocked(0.02)
        board.broken = True
        await board._pipe.stream.aclose()
        await wait_gone(arrival.pid)


@pytest.mark.parametrize("interpreter", EVERY)
async def test_no_python_is_left_when_its_input_ends(interpreter: str) -> None:
    for busy in ("pass", "import time\ntime.sleep(100)", "while True: pass"):
        await ends_by_itself(interpreter, busy)


async def test_what_does_not_listen_when_its_input_ends_has_two_seconds() -> None:
    async with trio.open_nursery() as nursery:
        for busy in (
            "while True:\n try:\n  while True: pass\n except BaseException: pass",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()",
        ):
            nursery.start_soon(ends_by_itself, OLDEST, busy)


async def fails(board: Board, source: str) -> None:
    try:
        await board.execute(source)
    except LinkLost:
        return


async def test_one_that_has_fallen_silent_is_given_up_and_one_that_works_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpyc_gateway.device.bare, "PAUSE", 0.1)
    monkeypatch.setattr(rpyc_gateway.device.bare, "SILENCE", 1.0)
    async with bare(OLDEST) as (board, arrival):
        await board.execute("import time\ntime.sleep(1.3)")
        os.kill(arrival.pid, signal.SIGSTOP)
        try:
            with trio.fail_after(5), pytest.raises(LinkLost, match="it has said nothing for 1 s"):
                await board.evaluate("1")
        finally:
            os.kill(arrival.pid, signal.SIGKILL)


async def test_one_that_is_forgotten_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpyc_gateway.device.bare, "FORGOTTEN", 1.0)
    async with bare(OLDEST) as (board, arrival):
        with trio.fail_after(5):
            assert "Python has ended there" in str(await board.wait_lost())
        await wait_gone(arrival.pid)


async def test_what_runs_at_exit_is_run(tmp_path: Path) -> None:
    async with bare(OLDEST) as (board, arrival):
        await board.execute(f"import atexit\natexit.register(open, '{tmp_path}/left', 'w')")
    await wait_gone(arrival.pid)
    assert (tmp_path / "left").exists()


async def test_a_python_that_is_killed_or_ends_is_a_lost_link_that_says_so() -> None:
    for ending, said in {
        "os.kill(os.getpid(), 9)": "was killed by SIGKILL",
        "os._exit(3)": "exited with status 3: last words",
        "os._exit(0)": "Python has ended there, with status 0",
    }.items():
        async with bare(OLDEST) as (board, _):
            await board.execute("import os, sys")
            await board.execute("print('last words')")
            with pytest.raises(LinkLost, match=f"Python on .*: .*{said}"), trio.fail_after(5):
                await board.execute(ending)


# -- what is no Python for an agent


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("{python2}", r"exited with status 1: rpyc-gateway: Python 3.8 or later is needed there, and this is 2.7"),
        ("{python37}", r"exited with status 1: rpyc-gateway: Python 3.8 or later is needed there, and this is 3.7"),
        ("sh -c '{python} 2>&1'", r"standard error goes where standard output goes"),
        ("sh -c 'python3.999'", r"status 127: .*not found.*Python 3.8 or later is needed there"),
        ("{python}.missing", r"no such command"),
        ("sh -c 'exit 0; python3'", r"exited with status 0"),
        (
            r"""sh -c 'printf "abc\1\0\0\5RPPY(1,2)"; cat >/dev/null; python3'""",
            r"asked what it is, it said b'\(1,2\)'",
        ),
        (r"""sh -c 'printf "\1\0\0\5RPPY((((,"; cat >/dev/null; python3'""", r"asked what it is, it said b'\(\(\(\(,'"),
        (r"""sh -c 'printf "\1\0\0\5RPGWhello"; cat >/dev/null; python3'""", r"this is a node already"),
        ("sh -c 'exec cat; python3'", r"sends back what it is sent"),
    ],
)
async def test_what_cannot_run_it_is_told_with_what_to_do(command: str, said: str) -> None:
    versions = {"python": OLDEST, "python2": find("2.7"), "python37": find("3.7")}
    if not all(path for name, path in versions.items() if f"{{{name}}}" in command):
        pytest.skip("python2.7 is not installed, or python3.7 is not")
    with pytest.raises(DialFailed, match=said), trio.fail_after(20):
        async with bare(command.format(**versions)):
            pass


@pytest.mark.parametrize("noise", ["echo Welcome", "printf 'no end of line'", "head -c 20000 /dev/urandom"])
async def test_what_a_shell_says_before_is_skipped(noise: str) -> None:
    async with bare(f'sh -c "{noise}; exec {OLDEST}"') as (board, _):
        assert await board.evaluate("6 * 7") == 42


# -- where the package is installed


async def test_where_the_package_is_installed_it_becomes_a_node() -> None:
    url = f"stdio:?name=lab {sys.executable}"
    async with find_transport(url).connect(url) as pipe:
        assert pipe.interpreter == Interpreter("lab", whole=True)
        arrival = await arrive(pipe, pipe.interpreter, NONCE)
        assert arrival.whole
        assert arrival.version.startswith("3.")
