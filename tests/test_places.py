"""Where served code runs: in worker threads, in the main thread, or in the trio thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.async_proxy import AsyncProxy
from rpyc_gateway.config import Config, Serve
from rpyc_gateway.places import MainThread, main_thread
from rpyc_gateway.serving import Offer
from tests.blocking_house import is_answered, open_blocking_lab
from tests.house import open_house, wait_until

SERVICE = """
    import signal, threading, time
    import trio
    import rpyc_gateway as gw
    from rpyc_gateway import deadlines

    stuck = threading.Event()

    class Lamp(gw.Service):
        def __init__(self): self.ends = []
        @gw.expose
        def where(self): return threading.current_thread() is threading.main_thread()
        @gw.expose
        async def where_async(self): return threading.current_thread().name
        @gw.expose
        def call(self, f, *args): return f(*args)
        @gw.expose
        def wait(self):
            print("begun", flush=True)
            try: stuck.wait()
            except BaseException as e: print(type(e).__name__, flush=True); raise
        @gw.expose
        def spin(self):
            try:
                while True: gw.checkpoint()
            except gw.Cancelled as e: self.ends.append(type(e).__name__); raise
        @gw.expose
        def how(self): return tuple(self.ends)
        @gw.expose
        def interrupt(self): raise KeyboardInterrupt("a peer says so")
        @gw.expose
        def left(self): return deadlines.current().left
"""


@contextmanager
def serving(tmp_path: Path, *, runs: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that serves a lamp, and its URL."""
    url = f"unix://{tmp_path}/lamp.sock"
    script = f"{dedent(SERVICE)}\ngw.serve(Lamp, {url!r}, runs={runs!r})\n"
    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            while not is_answered(url):
                assert program.poll() is None, program.communicate()
            yield program, url
        finally:
            program.kill()


@pytest.fixture
def lamp(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A lamp that is served in the main thread of another process."""
    with serving(tmp_path, runs="main") as (program, url), gw.connect(url, service="lamp") as conn:
        yield program, conn.root


def test_the_main_thread_runs_one_call_after_the_other(lamp: Any) -> None:
    _, root = lamp
    assert root.where() is True
    assert root.where_async() == "rpyc-gateway trio"
    numbers: list[Any] = []
    workers = [threading.Thread(target=lambda: numbers.append(root.where())) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert numbers == [True] * 5


def test_callbacks_of_the_main_thread_come_back_to_it(lamp: Any) -> None:
    _, root = lamp
    assert root.call(lambda: root.call(lambda: root.where())) is True
    assert root.call(lambda x: x + 1, 41) == 42

    def down(n: int) -> int:
        return 0 if n == 0 else 1 + root.call(down, n - 1)

    assert down(50) == 50


def test_in_the_main_thread_deadlines_and_cancellations_are_noticed(lamp: Any) -> None:
    _, root = lamp
    with gw.timeout(1000):
        assert 0 < root.left() <= 1000
    with pytest.raises(TimeoutError), gw.timeout(0.25):
        root.spin()
    assert set(root.how()) <= {"TimedOut", "Cancelled"}
    assert len(root.how()) == 1


def test_a_peer_cannot_end_the_process_by_an_interrupt_of_its_own(lamp: Any) -> None:
    program, root = lamp
    with pytest.raises(gw.RemoteError, match="a peer says so"):
        root.interrupt()
    assert root.where() is True
    assert program.poll() is None


@pytest.mark.parametrize("busy", ["idle", "busy"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_a_server_that_runs_its_code_in_the_main_thread(
    number: signal.Signals, busy: str, tmp_path: Path
) -> None:
    with serving(tmp_path, runs="main") as (program, url):
        with gw.connect(url, service="lamp") as conn:
            ends: list[BaseException] = []
            if busy == "busy":
                thread = threading.Thread(target=_expect_end, args=(conn.root, ends))
                thread.start()
                assert program.stdout
                assert program.stdout.readline() == "begun\n"
                with gw.connect(url, service="lamp") as other, pytest.raises(TimeoutError), gw.timeout(0.25):
                    other.root.where()  # the main thread is taken
            program.send_signal(number)
            output, errors = program.communicate(timeout=20)
            if busy == "busy":
                thread.join()
                assert isinstance(ends[0], gw.RemoteError | gw.SessionClosed | gw.LinkLost)
                assert output == "KeyboardInterrupt\n"
        assert program.returncode == -number
        assert not os.path.exists(tmp_path / "lamp.sock")
        assert ("KeyboardInterrupt" in errors) == (number is signal.SIGINT)  # as of any program that is interrupted


def _expect_end(root: Any, ends: list[BaseException]) -> None:
    try:
        root.wait()
    except Exception as error:  # noqa: BLE001  # it is looked at
        ends.append(error)


async def test_a_program_that_runs_trio_in_its_main_thread_cannot_have_it() -> None:
    with pytest.raises(
        gw.ConfigError, match=r"service 'classic': runs: .*main thread, which runs trio here: .*gw\.serve"
    ):
        async with gw.open_node(Config(serve=(Serve(service="classic", allow=("*",), runs="main"),))):
            pass
    with pytest.raises(gw.ConfigError, match="service 'lamp': runs: must be one of 'threads', 'main', 'trio', not 'x'"):
        async with gw.open_node(Config(), services={"lamp": Offer(gw.Service, ("*",), runs="x")}):  # type: ignore[arg-type]
            pass


def test_only_the_main_thread_can_be_given() -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            gw.serve(gw.Service, "memory://nobody", runs="main")
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "call this there" in str(caught[0])
    assert not main_thread.given


def test_what_trio_raises_is_raised_in_the_main_thread() -> None:
    async def fail(_told: trio.Event) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        MainThread().run(fail, [])


def test_a_signal_ends_it_whichever_thread_the_system_gave_it_to() -> None:
    place = MainThread()

    async def wait_told(told: trio.Event) -> None:
        signal.raise_signal(signal.SIGUSR1)
        await told.wait()

    before = signal.getsignal(signal.SIGUSR1)
    assert place.run(wait_told, [signal.SIGUSR1]) is signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) is before


# -- trio ---------------------------------------------------------------------------------------------------------------


class Inline(gw.Service):
    """Notes where it is called, and with what."""

    def __init__(self) -> None:
        self.kinds: list[object] = []
        self.forward: Any = None

    @gw.expose
    def where(self) -> int:
        return threading.get_ident()

    @gw.expose
    async def where_async(self) -> int:
        await trio.lowlevel.checkpoint()
        return threading.get_ident()

    @gw.expose
    def take(self, value: object) -> None:
        self.kinds.append(type(value))

    @gw.expose
    async def call(self, f: Any, *args: Any) -> Any:
        return await f(*args)

    @gw.expose
    async def nap(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.kinds.append("over")

    @gw.expose
    def fail(self, error: str) -> None:
        raise {"ValueError": ValueError, "KeyboardInterrupt": KeyboardInterrupt}[error]("no")

    @gw.expose
    async def fail_async(self) -> None:
        raise KeyboardInterrupt("no")

    @gw.expose
    def blocked(self) -> Any:
        return self.forward()

    @gw.expose
    def open_file(self) -> Any:
        return self.forward


async def test_the_trio_thread_runs_code_inline_and_gives_it_proxies_to_be_awaited() -> None:
    inline = Inline()
    async with open_house("hq", "lab", services={"inline": Offer(lambda: inline, ("*",), runs="trio")}) as nodes:
        async with nodes[0].session("lab", service="inline") as lab:
            assert await lab.root.where() == threading.get_ident()
            assert await lab.root.where_async() == threading.get_ident()
            await lab.root.take([1])
            assert inline.kinds == [AsyncProxy]
            assert await lab.root.call(lambda x: x + 1, 41) == 42  # in a thread over here

            async def increment(x: int) -> int:
                return x + 1

            assert await lab.root.call(increment, 41) == 42
            with pytest.raises(ValueError, match="no"):
                await lab.root.fail("ValueError")
            for call in (lambda: lab.root.fail("KeyboardInterrupt"), lambda: lab.root.fail_async()):
                with pytest.raises(gw.RemoteError):
                    await call()
            assert await lab.ping("alive") == "alive"
            ((far, _),) = nodes[1]._serving._sessions.values()
            assert far.statistics()[4:] == (0, 0, 0)


async def test_in_the_trio_thread_cancelling_and_deadlines_are_those_of_tasks() -> None:
    inline = Inline()
    async with open_house("hq", "lab", services={"inline": Offer(lambda: inline, ("*",), runs="trio")}) as nodes:
        async with nodes[0].session("lab", service="inline") as lab:
            await lab.ping()
            ((far, _),) = nodes[1]._serving._sessions.values()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_await, lab.root.nap())
                    await wait_until(lambda: far.statistics().running)
                    scope.cancel()
            await wait_until(lambda: inline.kinds == ["over"])
            with trio.move_on_after(0.1) as patience:
                await lab.root.nap()
            assert patience.cancelled_caught
            await wait_until(lambda: inline.kinds == ["over", "over"] and not far.statistics().running)
            nap = lab.root.nap()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_expect, gw.SessionClosed, nap)
                await wait_until(lambda: far.statistics().running)
                lab.close()
            await wait_until(lambda: inline.kinds == ["over"] * 3 and not far.statistics().running)


async def test_a_blocking_proxy_is_refused_in_the_trio_thread_and_what_is_passed_on_is_not() -> None:
    inline = Inline()
    with open_blocking_lab() as house:
        async with open_house("hq", "middle", services={"inline": Offer(lambda: inline, ("*",), runs="trio")}) as nodes:
            async with nodes[0].session("middle", service="inline") as middle:
                conn = await trio.to_thread.run_sync(house.connect)
                inline.forward = await trio.to_thread.run_sync(lambda: conn.modules.os.getpid)
                with pytest.raises(RuntimeError, match="trio face"):
                    await middle.root.blocked()
                passed_on = await middle.root.open_file()
                assert (
                    await passed_on() == os.getpid()
                )  # the middle forwards in a thread: that is not the service's code
                await trio.to_thread.run_sync(conn.close)


async def _await(expression: Any) -> None:
    await expression


async def _expect(kind: type[BaseException], expression: Any) -> None:
    with pytest.raises(kind):
        await expression
