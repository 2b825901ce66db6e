"""The blocking face: threads that use the objects of another node while trio runs in the background."""

from __future__ import annotations

import functools
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from textwrap import dedent
from types import FrameType
from typing import Any

import pytest
import trio
import trio.testing

import rpyc_gateway as gw
from rpyc_gateway.background import Told, background
from rpyc_gateway.config import Config, Dial, Listen, NodeSection
from rpyc_gateway.held import held_by
from tests.blocking_house import is_answered
from tests.house import CLASSIC


async def _serve_chain(ready: SimpleQueue[Any]) -> None:
    lab = Config(node=NodeSection(name="lab"), listen=(Listen(url="memory://sync-lab"),), serve=CLASSIC)
    hq = Config(
        node=NodeSection(name="hq"), listen=(Listen(url="tcp://127.0.0.1:0"),), dial=(Dial(url="memory://sync-lab"),)
    )
    async with gw.open_node(lab), gw.open_node(hq) as gate:
        await gate.wait_route("lab")
        over = trio.Event()
        ready.put((gate.urls[0], trio.lowlevel.current_trio_token(), over.set))
        await over.wait()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where to connect to: hq, with lab behind it, in a thread of their own."""
    ready: SimpleQueue[Any] = SimpleQueue()
    thread = threading.Thread(target=trio.run, args=(_serve_chain, ready))
    thread.start()
    address, token, stop = ready.get()
    yield address
    token.run_sync_soon(stop)
    thread.join()


@pytest.fixture
def conn(url: str) -> Iterator[gw.BlockingSession]:
    with gw.connect(url, node="lab", name="laptop") as session:
        yield session


def test_a_session_that_is_closed_leaves_no_task_in_the_thread_that_ran_it(url: str) -> None:
    before = background().run(_tasks_at_rest)
    with gw.connect(url, node="lab", name="tidy") as conn:
        assert conn.eval("[]") == []
        assert background().run(_tasks_at_rest) == before + 3  # of its link, of itself, and of what it holds
    assert background().run(_tasks_at_rest) == before


async def _tasks_at_rest() -> int:
    await trio.testing.wait_all_tasks_blocked()
    return len(background()._nursery.child_tasks)


def test_the_vocabulary_of_rpyc(conn: gw.BlockingSession) -> None:
    assert conn.modules.os.path.join("a", "b") == "a/b"
    assert conn.modules["os.path"].join("a", "b") == "a/b"
    assert "os" in conn.modules
    assert "no_such_module" not in conn.modules
    conn.modules.sys.path.append("lucy")
    assert conn.modules.sys.path[-1] == "lucy"
    assert conn.modules.sys.path.pop() == "lucy"
    assert conn.builtins.len((1, 2)) == conn.builtin.len((1, 2)) == 2
    conn.execute("x = 6")
    assert conn.namespace["x"] * conn.eval("x + 1") == 42
    assert conn.root.eval("x") == 6
    assert conn.ping("there") == "there"
    assert conn.path == ("laptop", "hq", "lab")
    assert repr(conn) == "<BlockingSession laptop -> hq -> lab open>"


def test_a_remote_exception_has_its_type_and_both_tracebacks(conn: gw.BlockingSession) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/file") as caught:
        conn.builtins.open("/no/such/file")
    assert "remote traceback (lab -> hq)" in caught.value.__notes__[-1]


def test_a_proxy_behaves_as_what_it_stands_for(conn: gw.BlockingSession) -> None:
    items = conn.eval("[3, 1, 2]")
    assert (len(items), items[0], 2 in items, list(items), sorted(items)) == (3, 3, True, [3, 1, 2], [1, 2, 3])
    items += [4]
    items[0] = 9
    del items[1]
    assert list(items) == [9, 2, 4]
    assert list(items * 2) == [9, 2, 4] * 2
    assert isinstance(items, list)
    assert not callable(items)
    assert repr(items) == str(items) == "[9, 2, 4]"
    assert "append" in dir(items)
    with pytest.raises(TypeError, match="unhashable"):
        hash(items)
    table = conn.eval("{'a': 1}")
    assert dict(table.items()) == {"a": 1}
    with conn.eval("__import__('io').StringIO('text')") as file:
        assert file.read() == "text"
    assert file.closed


def test_one_object_has_one_proxy_and_comes_home_as_itself(conn: gw.BlockingSession) -> None:
    conn.execute("kept = []")
    assert conn.namespace["kept"] is conn.namespace["kept"]
    mine = object()
    conn.execute("def same(x): return x")
    assert conn.namespace["same"](mine) is mine
    thing = conn.eval("object()")
    assert {thing: 1}[thing] == 1


def test_a_context_manager_there_sees_the_exception_here(conn: gw.BlockingSession) -> None:
    conn.execute(
        dedent("""
        class Swallow:
            def __enter__(self): return self
            def __exit__(self, kind, error, traceback):
                self.seen = kind.__name__, error.args
                return kind is ValueError
        """)
    )
    swallow = conn.namespace["Swallow"]()
    with swallow:
        raise ValueError("gulp")
    assert swallow.seen == ("ValueError", ("gulp",))
    with pytest.raises(KeyError), swallow:
        raise KeyError("not this one")


def test_calls_of_one_thread_run_in_one_far_thread_and_those_of_others_in_parallel(conn: gw.BlockingSession) -> None:
    conn.execute("import threading; barrier = threading.Barrier(4, timeout=10)")
    assert len({conn.eval("threading.get_ident()") for _ in range(5)}) == 1
    with conn.eval("threading.RLock()") as held:
        assert held
    with ThreadPoolExecutor(4) as pool:
        far = list(pool.map(lambda _: conn.eval("(barrier.wait(), threading.get_ident())[1]"), range(4)))
    assert len(set(far)) == 4


def test_an_idle_client_answers_callbacks(conn: gw.BlockingSession) -> None:
    called = threading.Event()
    conn.execute("timers = []\ndef later(f): timers.append(__import__('threading').Timer(0, f)); timers[0].start()")
    conn.namespace["later"](called.set)
    assert called.wait(10)
    conn.eval("timers[0].join()")  # it has heard our answer before we leave


def test_callbacks_run_on_the_stack_of_the_thread_that_waits_for_them(conn: gw.BlockingSession) -> None:
    conn.execute("def call(f, *args): return f(*args)")
    call = conn.namespace["call"]
    threads: set[int] = set()

    def down(depth: int) -> int:
        threads.add(threading.get_ident())
        return 0 if depth == 0 else 1 + call(down, depth - 1)

    assert call(down, 40) == 40
    assert threads == {threading.get_ident()}


def test_threads_share_a_session_and_sessions_share_a_link(url: str, conn: gw.BlockingSession) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(conn.ping, range(200))) == list(range(200))
    with gw.connect(url, node="lab", name="laptop") as other:
        assert other._session._connection is conn._session._connection
        assert other.ping(1) == 1
    assert conn.ping(2) == 2


def test_a_long_answer_is_not_held_up(conn: gw.BlockingSession) -> None:
    with gw.timeout(5):  # the far side opens the stream of bodies first, which only the trio thread here may be told of
        assert sum(conn.builtins.list(range(50_000))) == sum(range(50_000))


def test_what_is_dropped_dies_there_before_the_next_call(conn: gw.BlockingSession) -> None:
    conn.execute("class Mortal:\n def __del__(self): dead.append(1)\ndead = []")
    mortal = conn.namespace["Mortal"]()
    assert conn.eval("len(dead)") == 0
    del mortal
    gc.collect()
    assert conn.eval("len(dead)") == 1


def test_a_closed_session_says_so(url: str) -> None:
    conn = gw.connect(url, node="lab")
    items = conn.eval("[]")
    conn.close()
    conn.close()
    assert conn.closed
    with pytest.raises(EOFError, match="closed here"):
        conn.eval("1")
    assert "closed here" in repr(items)


def test_errors_on_the_way_are_typed_and_name_the_hop(url: str) -> None:
    with pytest.raises(gw.Unreachable, match="mars"):
        gw.connect(url, node="mars")
    with pytest.raises(gw.Denied, match="classic"):
        gw.connect(url)  # hq itself serves nobody
    with pytest.raises(gw.NoService, match="tea"):
        gw.connect(url, node="lab", service="tea")
    with pytest.raises(gw.DialFailed, match=r"127\.0\.0\.1"):
        gw.connect("tcp://127.0.0.1:1")


async def test_a_blocking_proxy_in_the_trio_thread_raises_at_once(url: str) -> None:
    conn = await trio.to_thread.run_sync(lambda: gw.connect(url, node="lab"))
    try:
        with pytest.raises(RuntimeError, match="runs trio"):
            background().run(_touch, conn)
    finally:
        await trio.to_thread.run_sync(conn.close)


async def _touch(conn: gw.BlockingSession) -> None:
    conn.ping()


def test_a_finalizer_that_calls_while_the_turn_is_held_is_refused(conn: gw.BlockingSession) -> None:
    with conn._session.step(), pytest.raises(RuntimeError, match="finalizer"):
        conn.ping()
    assert conn.ping(1) == 1


def run_script(url: str, body: str) -> subprocess.Popen[str]:
    script = f"import rpyc_gateway as gw\nconn = gw.connect({url!r}, node='lab')\n{dedent(body)}"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_ctrl_c_interrupts_a_call_and_cancels_it_there(url: str) -> None:
    program = run_script(
        url,
        """
        conn.execute('''
        import threading
        over = threading.Event()
        def work(tell):
            try:
                while True: tell()
            finally: over.set()
        ''')
        told = []
        def tell():
            if not told: print("working", flush=True)
            told.append(1)
        try:
            conn.namespace["work"](tell)
        except KeyboardInterrupt:
            print("over:", conn.eval("over.wait(10)"), conn.ping("well"))
        """.replace("\n        ", "\n"),
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "working\n"
        program.send_signal(signal.SIGINT)
        output, _ = program.communicate(timeout=30)
    assert output == "over: True well\n", output
    assert program.returncode == 0


def test_a_forked_child_cannot_use_the_session_and_may_open_its_own(url: str) -> None:
    program = run_script(
        url,
        f"""
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: just that is tried here
        child = os.fork()
        if child == 0:
            try: conn.ping()
            except EOFError as error: print("forked" in str(error), flush=True)
            with gw.connect({url!r}, node="lab") as own: print(own.ping("child"), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(conn.ping("parent"))
        """.replace("\n        ", "\n"),
    )
    output, _ = program.communicate(timeout=20)
    assert output == "True\nchild\nparent\n", output


def wait_interrupted(told: Told, steps: int) -> bool:
    """Interrupt a wait after so many steps; whether that was before its end."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps -= 1
            if steps == 0:
                raise KeyboardInterrupt
        return trace

    gc.disable()  # hypothesis counts its time in a callback, which is no step of the wait

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        told.wait(0)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
    return False


def test_a_wait_may_be_interrupted_between_any_two_steps_of_it() -> None:
    for count in range(1, 1000):
        told = Told()
        # In a thread of its own: a tracer raises where no signal does, also between the handling of Empty and its end, and the thread then takes
        # that for handled for ever, which would be the context of whatever later tests raise.
        with ThreadPoolExecutor(1) as pool:
            if not pool.submit(wait_interrupted, told, count).result():
                break
        setter = threading.Thread(target=told.set, daemon=True)
        setter.start()
        setter.join(10)
        assert not setter.is_alive()
        assert told.wait(10)
    assert 10 < count < 999
    assert sys.exc_info() == (None, None, None)


@pytest.mark.parametrize("runs", ["threads", "trio"])
def test_ctrl_c_ends_serve_in_a_keyboard_interrupt_that_can_be_caught(runs: str, tmp_path: Path) -> None:
    place = tmp_path / "s"
    script = f"""
import rpyc_gateway as gw
try: gw.serve("classic", "unix://{place}", runs={runs!r})
except KeyboardInterrupt: print("interrupted")
"""
    program = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with program:
        while True:
            assert program.poll() is None, program.communicate()
            with suppress(gw.DialFailed), gw.connect(f"unix://{place}") as conn:
                conn.ping()
                break
        program.send_signal(signal.SIGINT)
        output, _ = program.communicate(timeout=20)
    assert output == "interrupted\n"
    assert program.returncode == 0


def test_ctrl_c_while_connecting_leaves_nothing_behind(tmp_path: Any) -> None:
    mark = f"{tmp_path}/alive"
    script = (
        f"import rpyc_gateway as gw\nprint('go', flush=True)\ngw.connect('stdio:sh -c \"touch {mark}; exec sleep 99\"')"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with program:
        while not os.path.exists(mark):
            assert program.poll() is None, program.communicate()
        tasks = Path(f"/proc/{program.pid}/task").iterdir()
        (child,) = [pid for task in tasks for pid in (task / "children").read_text().split()]
        program.send_signal(signal.SIGINT)
        _, error = program.communicate(timeout=20)
    assert "KeyboardInterrupt" in error
    assert not os.path.exists(f"/proc/{child}")


def test_closing_the_last_session_of_a_link_returns_when_the_link_is_over() -> None:
    conn = gw.connect(f"stdio:{sys.executable} -m rpyc_gateway stdio --name child --serve classic")
    child = conn.modules.os.getpid()
    conn.close()
    assert not os.path.exists(f"/proc/{child}")


async def test_connecting_in_trio_code_says_what_to_write_instead(url: str) -> None:
    with pytest.raises(RuntimeError, match="open_session"):
        gw.connect(url)


@pytest.mark.parametrize(
    ("service", "error"),
    [("clasic", gw.ConfigError), (int, TypeError), (None, TypeError), (functools.partial(int, 1), TypeError)],
)
def test_what_cannot_be_served_is_refused(service: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        gw.serve(service, "memory://nobody")


def test_a_program_that_never_closes_ends_all_the_same(url: str) -> None:
    program = run_script(url, "items = conn.eval('[1]'); print(len(items))")
    output, _ = program.communicate(timeout=20)
    assert (output, program.returncode) == ("1\n", 0)


class Adder(gw.Service):
    def __init__(self, start: int = 0) -> None:
        self.start = start

    @gw.expose
    def add(self, a: int, b: int) -> int:
        return a + b


class Needy(Adder):
    def __init__(self, start: int) -> None:
        super().__init__(start)


@pytest.mark.parametrize(("served", "start"), [("Adder", 0), ("functools.partial(Adder, start=4)", 4), ("Adder(5)", 5)])
def test_a_service_is_served_in_three_lines(served: str, start: int, tmp_path: Any) -> None:
    socket = f"unix://{tmp_path}/adder.sock"
    script = dedent(f"""
        import functools
        import rpyc_gateway as gw
        class Adder(gw.Service):
            def __init__(self, start=0): self.start = start
            @gw.expose
            def add(self, a, b): self.start += a + b; return self.start
        gw.serve({served}, {socket!r})
    """)
    program = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    with program:
        try:
            while not is_answered(socket):
                assert program.poll() is None, program.communicate()
            with gw.connect(socket, service="adder") as conn:
                assert conn.root.add(2, 3) == 5 + start
                with gw.connect(socket, service="adder") as other:
                    assert other.root.add(2, 3) == 5 + start + (5 if served == "Adder(5)" else 0)
                with pytest.raises(gw.NotExposed):
                    _ = conn.root.on_connect
        finally:
            program.send_signal(signal.SIGINT)
            program.communicate(timeout=20)


@pytest.mark.parametrize("served", [Needy, functools.partial(Adder, 1, 2), functools.partial(Needy, begin=1)])
def test_a_service_that_no_session_could_have_is_an_error_at_once(served: Any) -> None:
    with pytest.raises(TypeError, match=r"no '(adder|needy)' can be made for a session .*: serve functools.partial"):
        gw.serve(served, "memory://nobody")


def test_where_a_service_may_not_listen_is_an_error() -> None:
    with pytest.raises(gw.ConfigError, match="insecure"):
        gw.serve(Adder, "tcp://0.0.0.0:0")


def test_whoever_has_fetched_a_method_passes_on_the_lead_that_came_with_it(conn: gw.BlockingSession) -> None:
    conn.execute("import time\nclass User:\n def greet(self): return 'hello'\nuser = User()")
    session, user, sleep = conn._session, conn.namespace["user"], conn.modules.time.sleep
    sleep(0)
    lead = session.lead
    assert lead is not None
    while not lead.standing_by:
        os.sched_yield()
    interval = sys.getswitchinterval()
    with ThreadPoolExecutor() as pool:
        greet = user.greet
        assert lead.claim()
        with session.step():
            session.asking.send_readings()
        seen = pool.submit(held_by, greet)
        while len(lead._followers) < 1:
            os.sched_yield()
        slept = pool.submit(sleep, 0.1)
        while len(lead._followers) < 2:
            os.sched_yield()
        assert select.select([lead.fileno], [], [], 10)[0]
        sys.setswitchinterval(1)  # the lead comes while the answer has not been taken yet
        try:
            lead._read()
            lead.leave()
        finally:
            sys.setswitchinterval(interval)
        try:
            assert slept.result(10) is None
        finally:
            conn.ping()  # whoever else waits is read for
        assert seen.result(10).count


def test_what_comes_while_an_interrupt_waits_goes_back(
    conn: gw.BlockingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.execute(
        """import weakref
class Thing: pass
made = []
def make():
    thing = Thing()
    made.append(weakref.ref(thing))
    return thing
"""
    )
    make, is_gone = conn.namespace["make"], conn.eval("lambda: made[0]() is None")
    lead = conn._session.lead
    assert lead is not None
    read = lead._read

    def read_and_press() -> None:
        read()
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(lead, "_read", read_and_press)
            with pytest.raises(KeyboardInterrupt):
                make()
    finally:
        signal.signal(signal.SIGINT, before)
    end = time.monotonic() + 10
    while not is_gone():
        assert time.monotonic() < end
