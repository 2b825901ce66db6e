"""hq - a - b - lab: four processes over tcp, a unix socket and standard streams, used from both faces as if they were one."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from tests.chains.processes import (
    LAB_CHILD,
    LOOPBACK,
    RPYC_GW,
    House,
    connect_when_up,
    dial,
    listen,
    open_house,
)

BACK = "lab -> b -> a -> hq"  # the way that an exception has come


@pytest.fixture(scope="module")
def chain() -> Iterator[House]:
    with open_house() as house:
        b = house.start("b", listen(house.socket("b")) + dial(LAB_CHILD))
        a = house.start("a", listen(LOOPBACK) + dial(b.url))
        hq = house.start("hq", listen(house.socket("hq")) + dial(a.url))
        connect_when_up(hq.url, "lab").close()
        yield house


@pytest.fixture(scope="module")
def url(chain: House) -> str:
    return chain.socket("hq")


@pytest.fixture
def conn(url: str) -> Iterator[gw.BlockingSession]:
    with gw.connect(url, node="lab", name="me") as conn:
        yield conn


# -- calls


def test_the_lab_is_used_as_if_it_were_here(conn: gw.BlockingSession) -> None:
    assert conn.path == ("me", "hq", "a", "b", "lab")
    os = conn.modules.os
    assert os.getpid() != __import__("os").getpid()
    assert sorted(os.listdir("/")) == sorted(__import__("os").listdir("/"))
    assert os.path.join("/home", "you") == "/home/you"
    assert os.stat("/").st_ino > 0

    conn.modules.sys.path.append("lucy")
    assert conn.modules.sys.path[-1] == "lucy"
    assert conn.modules.sys.path.pop() == "lucy"

    conn.execute("class Counter:\n    count = 0\n    def __iadd__(self, n): self.count += n; return self")
    counter = conn.namespace["Counter"]()
    counter += 20
    counter.count += 1
    counter.count *= 2
    assert counter.count == 42
    assert [n * n for n in conn.builtins.range(5)] == [0, 1, 4, 9, 16]
    assert list(conn.eval("{n: n for n in range(1000)}")) == list(range(1000))
    assert "os.path" in conn.modules
    assert "no_such_module" not in conn.modules


async def test_the_lab_is_used_from_trio_code(url: str) -> None:
    async with gw.open_session(url, node="lab", name="me") as lab:
        await lab.wait_open()
        assert lab.path == ("me", "hq", "a", "b", "lab")
        assert await lab.modules.os.path.join("/home", "you") == "/home/you"
        assert await lab.eval("{'a': (1, 2.5, None)}")["a"] == (1, 2.5, None)

        path = await lab.modules.sys.path
        await path.append("lucy")
        assert await path[-1] == "lucy"
        assert await path.pop() == "lucy"

        await lab.execute("class Thing: pass")
        thing = await lab.namespace["Thing"]()
        await gw.ops.setattr(thing, "weight", 3)
        assert await thing.weight == 3
        assert [n async for n in await lab.eval("list(range(5))")] == [0, 1, 2, 3, 4]


async def test_many_calls_at_once_are_each_answered_with_their_own(url: str) -> None:
    async with gw.open_session(url, node="lab") as lab, trio.open_nursery() as nursery:
        square = await lab.eval("lambda n: n * n")

        async def ask(n: int) -> None:
            assert await square(n) == n * n

        for n in range(100):
            nursery.start_soon(ask, n)


# -- callbacks


def test_the_lab_calls_back_into_the_thread_that_waits(conn: gw.BlockingSession) -> None:
    conn.execute("def twice(f, x): return f(f(x))")
    threads = []

    def add_one(n: int) -> int:
        threads.append(threading.get_ident())
        return n + 1

    assert conn.namespace["twice"](add_one, 40) == 42
    assert threads == [threading.get_ident()] * 2


async def test_the_lab_calls_back_into_trio_code(url: str) -> None:
    async with gw.open_session(url, node="lab") as lab:
        await lab.execute("def twice(f, x): return f(f(x))")
        here = trio.lowlevel.current_trio_token()

        async def add_one(n: int) -> int:
            assert trio.lowlevel.current_trio_token() is here
            await trio.lowlevel.checkpoint()
            return n + 1

        assert await lab.namespace["twice"](add_one, 40) == 42
        assert await lab.namespace["twice"](lambda n: n + 1, 40) == 42


def test_here_and_the_lab_call_each_other_fifty_deep_on_one_stack(conn: gw.BlockingSession) -> None:
    conn.execute(
        "import threading\nthreads = set()\ndef down(n, up): threads.add(threading.get_ident()); return up(n - 1, down) + 1 if n else 0"
    )
    threads = set()

    def up(n: int, down: Any) -> int:
        threads.add(threading.get_ident())
        return down(n - 1, up) + 1 if n else 0

    assert conn.namespace["down"](50, up) == 50
    assert threads == {threading.get_ident()}
    assert len(conn.namespace["threads"]) == 1
    assert up(50, conn.namespace["down"]) == 50


async def test_tasks_here_and_threads_on_the_lab_call_each_other_fifty_deep(url: str) -> None:
    async with gw.open_session(url, node="lab") as lab:
        await lab.execute("def down(n, up): return up(n - 1, down) + 1 if n else 0")

        async def up(n: int, down: Any) -> int:
            return await down(n - 1, up) + 1 if n else 0

        assert await lab.namespace["down"](50, up) == 50
        assert await up(50, await lab.namespace["down"]) == 50


CALLER = """
import sys, threading, types
def call_later(name, f):
    story = sys.modules[name] = types.ModuleType(name)
    story.go = threading.Event()
    def later():
        story.go.wait(10)
        story.heard = f("hello")
    story.thread = threading.Thread(target=later, daemon=True)
    story.thread.start()
"""


def test_an_idle_client_is_called_long_after_its_call_has_returned(conn: gw.BlockingSession, url: str) -> None:
    said: list[str] = []
    done = threading.Event()

    def hear(word: str) -> str:
        said.append(word)
        done.set()
        return "hello yourself"

    conn.execute(CALLER)
    conn.namespace["call_later"]("idle", hear)
    with gw.connect(url, node="lab", name="other") as other:
        other.modules.idle.go.set()
        assert done.wait(5)
        assert said == ["hello"]
        other.modules.idle.thread.join(5)
        assert other.modules.idle.heard == "hello yourself"


async def test_an_idle_trio_client_is_called_too(url: str) -> None:
    send, receive = trio.open_memory_channel[str](1)

    async def hear(word: str) -> str:
        await send.send(word)
        return "hello yourself"

    async with gw.open_session(url, node="lab") as lab, gw.open_session(url, node="lab", name="other") as other:
        await lab.execute(CALLER)
        await lab.namespace["call_later"]("idle_trio", hear)
        await other.modules.idle_trio.go.set()
        with trio.fail_after(5):
            assert await receive.receive() == "hello"
        await other.modules.idle_trio.thread.join(5)
        assert await other.modules.idle_trio.heard == "hello yourself"


# -- exceptions


def test_an_exception_of_the_lab_is_raised_here_with_its_traceback_and_the_way_it_came(
    conn: gw.BlockingSession,
) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        conn.builtins.open("/no/such/file")
    assert (missing.value.errno, missing.value.filename) == (2, "/no/such/file")

    conn.execute("def outer(n): return inner(n)\ndef inner(n): return 1 / n")
    with pytest.raises(ZeroDivisionError) as raised:
        conn.namespace["outer"](0)
    told = "\n".join(raised.value.__notes__)
    assert BACK in told
    assert told.index("in outer") < told.index("in inner") < told.index("ZeroDivisionError: division by zero")

    conn.execute("class Broken(Exception): pass\ndef fail(): raise Broken('the pump', 7)")
    with pytest.raises(Exception, match="the pump") as own:
        conn.namespace["fail"]()
    assert type(own.value).__name__ == "Broken"
    assert own.value.args == ("the pump", 7)
    assert conn.eval("6 * 7") == 42


async def test_an_exception_of_the_lab_is_raised_in_trio_code(url: str) -> None:
    async with gw.open_session(url, node="lab") as lab:
        with pytest.raises(ZeroDivisionError) as raised:
            await lab.eval("1 / 0")
        assert BACK in "\n".join(raised.value.__notes__)
        await lab.execute("async def fail(): raise KeyError('the pump')")
        with pytest.raises(KeyError, match="the pump"):
            await lab.namespace["fail"]()
        assert await lab.eval("6 * 7") == 42


def test_an_exception_of_a_callback_passes_through_the_lab_and_comes_home(conn: gw.BlockingSession) -> None:
    conn.execute(
        "seen = []\ndef ask(f):\n    try: return f()\n    except LookupError as error: seen.append(str(error)); raise"
    )

    def fail() -> None:
        raise KeyError("nothing here")

    with pytest.raises(KeyError, match="nothing here") as raised:
        conn.namespace["ask"](fail)
    assert list(conn.namespace["seen"]) == ["'nothing here'"]
    assert BACK in "\n".join(raised.value.__notes__)


# -- long values


KEEP = """
import hashlib
kept = b""
def keep(data):
    global kept
    kept = data
    return hashlib.sha256(data).hexdigest()
"""


@pytest.fixture(scope="module")
def blob() -> bytes:
    return random.Random(7).randbytes(64 << 20)


def test_64_mib_arrive_whole_in_both_directions(conn: gw.BlockingSession, blob: bytes) -> None:
    conn.execute(KEEP)
    assert conn.namespace["keep"](blob) == hashlib.sha256(blob).hexdigest()
    assert conn.namespace["kept"] == blob


async def test_64_mib_arrive_whole_in_trio_code_while_small_calls_pass_them(url: str, blob: bytes) -> None:
    async with gw.open_session(url, node="lab") as lab:
        await lab.execute(KEEP)
        passed = 0
        async with trio.open_nursery() as nursery:

            async def chat() -> None:
                nonlocal passed
                while True:
                    assert await lab.ping(passed) == passed
                    passed += 1

            nursery.start_soon(chat)
            assert await lab.namespace["keep"](blob) == hashlib.sha256(blob).hexdigest()
            assert await lab.namespace["kept"] == blob
            nursery.cancel_scope.cancel()
        assert passed > 10


# -- cancelling


WAITERS = """
import threading, trio
seen = {}
def note(name, error):
    seen[name] = type(error).__module__.partition(".")[0] + "." + type(error).__name__
    done[name].set()
done = {name: threading.Event() for name in ("task", "thread")}
waiting = threading.Event()
seen_by_the_test = threading.Event()
async def time_left():
    return trio.current_effective_deadline() - trio.current_time()
async def wait_for_ever(started):
    try:
        await started()
        waiting.set()
        await trio.sleep_forever()
    except BaseException as error:
        note("task", error)
        raise
def ask(f):
    try:
        f()
    except BaseException as error:
        note("thread", error)
        raise
"""


async def test_a_call_that_is_given_up_is_cancelled_four_nodes_away(url: str) -> None:
    async with gw.open_session(url, node="lab") as lab:
        await lab.execute(WAITERS)
        with trio.CancelScope() as scope:

            async def give_up() -> None:
                scope.cancel()

            await lab.namespace["wait_for_ever"](give_up)
        assert scope.cancelled_caught
        assert await lab.namespace["done"]["task"].wait(5)
        assert await lab.namespace["seen"]["task"] == "trio.Cancelled"


async def test_a_deadline_here_is_one_there(url: str) -> None:
    async with gw.open_session(url, node="lab") as lab:
        await lab.execute(WAITERS)
        with trio.fail_after(5):
            assert 4 < await lab.namespace["time_left"]() < 5
        with trio.move_on_after(0.2) as scope:
            await lab.namespace["wait_for_ever"](int)
        assert scope.cancelled_caught
        assert await lab.namespace["done"]["task"].wait(5)
        assert await lab.namespace["seen"]["task"] == "trio.Cancelled"


async def test_a_far_thread_that_waits_for_a_callback_is_freed_and_so_is_the_callback(url: str) -> None:
    async with gw.open_session(url, node="lab") as lab:
        await lab.execute(WAITERS)
        given_up = trio.Event()
        with trio.CancelScope() as scope:

            async def never() -> None:
                scope.cancel()
                try:
                    await trio.sleep_forever()
                finally:
                    given_up.set()

            await lab.namespace["ask"](never)
        assert scope.cancelled_caught
        with trio.fail_after(5):
            await given_up.wait()
        assert await lab.namespace["done"]["thread"].wait(5)
        assert await lab.namespace["seen"]["thread"] == "rpyc_gateway.Cancelled"


CTRL_C = """
import sys
import rpyc_gateway as gw
with gw.connect(sys.argv[1], node="lab") as conn:
    try:
        conn.modules.ctrl_c.wait_for_ever(int)
    except KeyboardInterrupt:
        print("interrupted", conn.eval("6 * 7"), file=sys.stderr)
    conn.modules.ctrl_c.seen_by_the_test.wait(10)  # the end of a session cancels too
"""


def test_ctrl_c_in_a_blocking_call_cancels_it_four_nodes_away(chain: House, conn: gw.BlockingSession, url: str) -> None:
    conn.execute(
        f"import sys, types\nstory = sys.modules['ctrl_c'] = types.ModuleType('ctrl_c')\nexec({WAITERS!r}, vars(story))"
    )
    client = chain.run("client", sys.executable, "-W", "error", "-c", CTRL_C, url)
    assert conn.modules.ctrl_c.waiting.wait(10)
    client.interrupt()
    client.wait_line("interrupted 42", within=5)
    assert conn.modules.ctrl_c.done["task"].wait(5)
    assert conn.modules.ctrl_c.seen["task"] == "trio.Cancelled"
    conn.modules.ctrl_c.seen_by_the_test.set()


def test_ctrl_c_in_a_callback_ends_the_call_that_it_is_part_of(conn: gw.BlockingSession) -> None:
    conn.execute("def ask(f):\n    try: return f()\n    except BaseException: return 'swallowed'")
    with pytest.raises(KeyboardInterrupt):
        conn.namespace["ask"](lambda: signal.raise_signal(signal.SIGINT))
    assert conn.eval("6 * 7") == 42


# -- the command line


def rpyc_gw(command: str, url: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*RPYC_GW, command, "--url", url, *arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_nodes_tells_who_can_be_reached_and_how(url: str) -> None:
    told = rpyc_gw("nodes", url, "--json")
    assert (told.returncode, told.stderr) == (0, "")
    rows = {row["name"]: row for row in json.loads(told.stdout)}
    assert list(rows) == ["hq", "a", "b", "lab"]
    assert rows["lab"]["path"] == ["hq", "a", "b", "lab"]
    assert rows["lab"]["cost"] == 3
    assert rows["lab"]["state"] == "up"


def test_eval_prints_a_value_of_the_lab(url: str) -> None:
    told = rpyc_gw("eval", url, "lab", "[n * n for n in range(4)]")
    assert (told.returncode, told.stdout, told.stderr) == (0, "[0, 1, 4, 9]\n", "")


def test_exec_runs_a_script_there_and_prints_here(chain: House, url: str) -> None:
    script = chain.directory / "script.py"
    script.write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)\n", encoding="utf-8")
    told = rpyc_gw("exec", url, "lab", str(script))
    assert (told.returncode, told.stdout, told.stderr) == (3, "out\n", "err\n")


def test_exec_reads_standard_input_and_shows_the_traceback_of_what_it_ran(url: str) -> None:
    told = rpyc_gw("exec", url, "lab", "-", stdin="print('before')\nprint(1 / 0)\n")
    assert (told.returncode, told.stdout) == (1, "before\n")
    assert "line 2" in told.stderr
    assert told.stderr.endswith("ZeroDivisionError: division by zero\n")
