"""The driver of a link, over pipes in memory and real sockets."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MemoryReceiveStream, memory_stream_pair, wait_all_tasks_blocked

from rpyc_gateway.connection import Connection
from rpyc_gateway.errors import Code, LinkLost
from rpyc_gateway.proto.frames import (
    CircuitClass,
    Failure,
    FrameType,
    GoAway,
    Hello,
    Limits,
    Open,
    Routes,
    encode_failure,
    encode_frame,
    encode_hello,
)
from rpyc_gateway.proto.stream import WINDOW
from rpyc_gateway.transport import Pipe

CALL = CircuitClass.CALL
AWAY = Failure(Code.SHUTDOWN, "restarting", "near")


def hello(name: str) -> Hello:
    return Hello(name=name, vat=name.encode().ljust(16, b"-"), limits=Limits())


@dataclass
class Ear:
    """A handler that writes down what it hears, and takes what it gets at once unless told to wait."""

    connection: Connection
    label: int = 0
    patient: bool = False
    heard: list[tuple[object, ...]] = field(default_factory=list)
    got: bytearray = field(default_factory=bytearray)
    sent: int = 0
    thread: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    def note(self, *fact: object) -> None:
        self.heard.append(fact)
        self.connection.in_trio(self.wake)

    def wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def accepted(self, path: tuple[str, ...]) -> None:
        self.note("accepted", path)

    def refused(self, failure: Failure) -> None:
        self.note("refused", failure)

    def received(self, data: bytes) -> None:
        assert self.connection.turn.held
        self.got += data
        if not self.patient:
            self.connection.mux.consume(self.label, len(data))
        self.note("received", len(data))

    def received_alone(self, data: bytes) -> None:
        self.received(data)

    def finished(self) -> None:
        self.note("finished")

    def reset(self, failure: Failure) -> None:
        self.note("reset", failure)

    def stopped(self, failure: Failure) -> None:
        self.note("stopped", failure)

    def drained(self, count: int) -> None:
        self.thread = threading.get_ident()
        self.sent += count
        self.note("drained", count)

    async def wait(self, true: Callable[[], bool]) -> None:
        while not true():
            await self.changed.wait()


class Node:
    """An owner that welcomes everybody and takes every stream."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []
        self.ears: dict[int, Ear] = {}
        self.up = trio.Event()
        self.over = trio.Event()
        self.take: Callable[[Connection, int], Ear | None] = self.listen
        self.welcoming = True
        self.thread = 0

    def listen(self, connection: Connection, label: int) -> Ear | None:
        connection.mux.accept(label, ("near", "far"))
        return Ear(connection, label)

    def greeted(self, connection: Connection, peer: Hello) -> None:
        self.heard.append(("greeted", peer.name))
        if self.welcoming:
            connection.welcome()
        else:
            connection.refuse(Failure(Code.DUPLICATE, "near is here already", "far"))

    def established(self, connection: Connection) -> None:
        self.heard.append(("established",))
        self.up.set()

    def routed(self, connection: Connection, routes: Routes) -> None:
        self.heard.append(("routed", routes))

    def probed(self, connection: Connection) -> None:
        self.heard.append(("probed",))

    def leaving(self, connection: Connection, failure: Failure, grace: float) -> None:
        self.heard.append(("leaving", failure, grace))

    def lost(self, connection: Connection, failure: Failure) -> None:
        self.thread = threading.get_ident()
        self.heard.append(("lost", failure))
        self.over.set()

    def opened(self, connection: Connection, label: int, request: Open, kind: CircuitClass) -> Ear | None:
        self.heard.append(("opened", request.service, kind))
        ear = self.take(connection, label)
        if ear is not None:
            self.ears[label] = ear
        return ear


@dataclass
class Hop:
    near: Connection
    far: Connection
    here: Node
    there: Node

    def open(self, service: str = "clock", *, patient: bool = False) -> Ear:
        ear = Ear(self.near, patient=patient)
        ear.label = self.near.open(Open(service=service), CALL, ear)
        return ear


def in_memory() -> tuple[Pipe, Pipe]:
    one, two = memory_stream_pair()
    return Pipe(one, "memory one"), Pipe(two, "memory two")


def over_sockets(*, direct: bool = True, buffer: int = 0) -> tuple[Pipe, Pipe]:
    """A socket pair; with `direct` as transports give it, ready for any thread."""
    pipes = []
    for end in socket.socketpair():
        if buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))

        def send_nowait(*buffers: bytes | memoryview, fd: int = end.fileno()) -> int:
            try:
                return os.writev(fd, buffers)
            except BlockingIOError:
                return 0

        pipes.append(Pipe(stream, "socket", send_nowait=send_nowait if direct else None))
    return pipes[0], pipes[1]


@asynccontextmanager
async def hop(pipes: tuple[Pipe, Pipe]) -> AsyncIterator[Hop]:
    """Two connections that run, and have greeted each other; left by cancelling them."""
    here, there = Node(), Node()
    near, far = (
        Connection(pipes[0], hello("near"), here, dialler=True),
        Connection(pipes[1], hello("far"), there, dialler=False),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(near.run)
        await nursery.start(far.run)
        await here.up.wait()
        await there.up.wait()
        yield Hop(near, far, here, there)
        nursery.cancel_scope.cancel()


ways = pytest.mark.parametrize("pipes", [in_memory, over_sockets, lambda: over_sockets(direct=False)])
Pipes = Callable[[], tuple[Pipe, Pipe]]


# -- a life


@ways
async def test_a_stream_from_open_to_end(pipes: Pipes) -> None:
    async with hop(pipes()) as both:
        near = both.open()
        with both.near.step() as mux:
            mux.send(near.label, b"what time is it?")
            mux.finish(near.label)
        await near.wait(lambda: ("accepted", ("near", "far")) in near.heard)
        far = both.there.ears[near.label]
        await far.wait(lambda: ("finished",) in far.heard)
        assert far.got == b"what time is it?"
        with both.far.step() as mux:
            mux.send(far.label, b"noon")
            mux.finish(far.label)
        await near.wait(lambda: ("finished",) in near.heard)
        assert near.got == b"noon"
        assert both.near.statistics().streams == both.far.statistics().streams == 0
        assert both.near._handlers == both.far._handlers == {}
    assert [fact[0] for fact in both.here.heard] == ["greeted", "established", "lost"]
    assert both.near.peer_name == "far"
    assert "down" in repr(both.near)


@ways
async def test_much_data_both_ways_at_once(pipes: Pipes) -> None:
    async with hop(pipes()) as both:
        near = both.open()
        await near.wait(lambda: bool(near.heard) and near.heard[-1][0] == "accepted")
        far = both.there.ears[near.label]
        data = bytes(range(256)) * 8000
        for end in (near, far):
            with end.connection.step() as mux:
                mux.send(end.label, memoryview(data))
                mux.finish(end.label)
        await near.wait(lambda: ("finished",) in near.heard)
        await far.wait(lambda: ("finished",) in far.heard)
        assert near.got == far.got == data


async def test_the_last_handler_to_hear_is_told_even_when_the_other_link_has_gone() -> None:
    async with hop(in_memory()) as both:
        near = both.open()
        await wait_all_tasks_blocked()
        both.far.close(Failure(Code.LINK_LOST, "cable cut", "far"))
        await both.here.over.wait()
        far = both.there.ears[near.label]
        assert far.heard[-1] == ("reset", Failure(Code.LINK_LOST, "the link far -> near was lost: cable cut", "far"))
        assert near.heard[-1] == (
            "reset",
            Failure(Code.LINK_LOST, "the link near -> far was lost: closed by the peer", "near"),
        )
    assert both.here.heard.count(both.here.heard[-1]) == 1


# -- what the world does


@ways
async def test_a_peer_that_closes_is_told_as_lost_once(pipes: Pipes) -> None:
    near_pipe, far_pipe = pipes()
    here = Node()
    near = Connection(near_pipe, hello("near"), here, dialler=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(near.run)
        await far_pipe.stream.aclose()
    assert [fact[0] for fact in here.heard] == ["lost"]
    failure = here.heard[0][1]
    assert isinstance(failure, Failure)
    assert failure.code == Code.LINK_LOST
    with pytest.raises(trio.ClosedResourceError):
        await near_pipe.stream.receive_some()
    with pytest.raises(LinkLost):
        near.open(Open(), CALL, Ear(near))


async def test_a_caller_that_cannot_even_say_hello_hears_what_was_said_before_the_door_closed() -> None:
    for direct in (True, False):
        near_pipe, far_pipe = over_sockets(direct=direct)
        here = Node()
        full = Failure(Code.LIMIT, "too many callers", "far")
        await far_pipe.stream.send_all(encode_failure(FrameType.ERROR, 0, full, 4096))
        await far_pipe.stream.aclose()
        await Connection(near_pipe, hello("near"), here, dialler=True).run()
        assert here.heard == [("lost", full)]


async def test_who_left_in_order_does_not_destroy_its_goodbye(autojump_clock: trio.testing.MockClock) -> None:
    near_pipe, far_pipe = over_sockets()
    here = Node()
    near = Connection(near_pipe, hello("near"), here, dialler=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(near.run)
        await far_pipe.stream.send_all(encode_hello(hello("far")))
        await here.up.wait()
        await wait_all_tasks_blocked()
        assert far_pipe.send_nowait is not None
        far_pipe.send_nowait(encode_frame(FrameType.PING, 0, bytes(8)) * 8000)  # it crosses the goodbye
        near.leave(AWAY, 1.0)
        said = b""
        while data := await far_pipe.stream.receive_some(65536):  # not a connection that was reset
            said += data
        assert said.endswith(encode_failure(FrameType.GOAWAY, 0, GoAway(AWAY.code, AWAY.text, AWAY.hop, 1.0), 4096))
        await far_pipe.stream.aclose()


async def test_a_reset_connection_says_so() -> None:
    near_pipe, far_pipe = over_sockets()
    here = Node()

    def send_nowait(*_: bytes) -> int:
        raise ConnectionResetError(104, "Connection reset by peer")

    near_pipe.send_nowait = send_nowait
    await Connection(near_pipe, hello("near"), here, dialler=True).run()
    assert here.heard == [("lost", Failure(Code.LINK_LOST, "connection reset by peer", "near"))]
    await far_pipe.stream.aclose()


async def test_a_cancelled_connection_says_nothing_more_and_its_owner_hears_of_it() -> None:
    near_pipe, far_pipe = in_memory()
    here = Node()
    near = Connection(near_pipe, hello("near"), here, dialler=True)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(near.run)
            near.leave(AWAY, 1.0)
            scope.cancel()
    assert [fact[0] for fact in here.heard] == ["lost"]
    assert near.mux.down
    await far_pipe.stream.aclose()


@ways
async def test_a_refused_peer_hears_why(pipes: Pipes) -> None:
    near_pipe, far_pipe = pipes()
    here, there = Node(), Node()
    there.welcoming = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Connection(near_pipe, hello("near"), here, dialler=True).run)
        nursery.start_soon(Connection(far_pipe, hello("far"), there, dialler=False).run)
    reason = Failure(Code.DUPLICATE, "near is here already", "far")
    assert here.heard == [("lost", reason)]
    assert there.heard == [("greeted", "near"), ("lost", reason)]


async def test_last_words_arrive_though_the_peer_was_still_talking() -> None:
    near_pipe, far_pipe = over_sockets()
    there = Node()
    far = Connection(far_pipe, hello("far"), there, dialler=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.run)
        # More than one chunk is unread when the link ends: closing at once would reset the connection.
        await near_pipe.stream.send_all(b"SSH-2.0-OpenSSH_9.9\r\n" + bytes(150_000))
        answer = b""
        while chunk := await near_pipe.stream.receive_some(65536):
            answer += chunk
        assert answer[0] == FrameType.ERROR
        await near_pipe.stream.aclose()


async def test_an_http_caller_is_answered() -> None:
    near_pipe, far_pipe = over_sockets()
    there = Node()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Connection(far_pipe, hello("far"), there, dialler=False).run)
        await near_pipe.stream.send_all(b"GET / HTTP/1.1\r\nHost: far\r\n\r\n")
        assert (await near_pipe.stream.receive_some(4096)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert await near_pipe.stream.receive_some(4096) == b""
        await near_pipe.stream.aclose()
    assert [fact[0] for fact in there.heard] == ["lost"]


async def test_a_peer_that_breaks_the_rules_loses_its_link_and_hears_why() -> None:
    async with hop(over_sockets()) as both:
        await both.near.pipe.stream.send_all(encode_frame(99, 0))
        await both.here.over.wait()
        await both.there.over.wait()
    reason = Failure(Code.PROTOCOL, "unknown frame type 99", "far")
    assert both.there.heard[-1] == both.here.heard[-1] == ("lost", reason)


# -- nobody waits for anybody


async def test_the_reader_does_not_wait_for_the_writer() -> None:
    near_pipe, far_pipe = over_sockets(buffer=4096)
    async with hop((near_pipe, far_pipe)) as both:
        near = both.open(patient=True)
        await near.wait(lambda: bool(near.heard) and near.heard[-1][0] == "accepted")
        far = both.there.ears[near.label]
        for end in (near, far):
            with end.connection.step() as mux:
                for _ in range(20):
                    other = end.connection.open(Open(), CALL, Ear(end.connection))
                    mux.send(other, bytes(60_000))
                mux.send(end.label, bytes(WINDOW))
        await near.wait(lambda: len(near.got) == WINDOW)
        await far.wait(lambda: len(far.got) == WINDOW)


async def test_a_writer_that_is_stuck_does_not_keep_a_dead_link(autojump_clock: trio.testing.MockClock) -> None:
    near_pipe, far_pipe = in_memory()
    stuck = near_pipe.stream
    assert isinstance(stuck, trio.StapledStream)

    async def never() -> None:
        await trio.sleep_forever()

    here, there = Node(), Node()
    near, far = (
        Connection(near_pipe, hello("near"), here, dialler=True),
        Connection(far_pipe, hello("far"), there, dialler=False),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(near.run)
        await nursery.start(far.run)
        await here.up.wait()
        stuck.send_stream.send_all_hook = never
        await here.over.wait()
        lost_at = trio.current_time()
        assert 17 <= lost_at <= 20.1
    assert trio.current_time() <= lost_at + 6
    assert here.heard[-1][0] == "lost"


async def test_a_short_write_is_finished_by_the_writer() -> None:
    near_pipe, far_pipe = over_sockets()
    real = near_pipe.send_nowait
    assert real is not None
    near_pipe.send_nowait = lambda data, *_: real(data[:7])
    async with hop((near_pipe, far_pipe)) as both:
        near = both.open()
        data = os.urandom(200_000)
        with both.near.step() as mux:
            mux.send(near.label, data)
            mux.finish(near.label)
        await near.wait(lambda: near.sent == len(data))
        far = both.there.ears[near.label]
        await far.wait(lambda: ("finished",) in far.heard)
        assert far.got == data


# -- callers' threads


@ways
async def test_threads_of_callers_send_at_once(pipes: Pipes) -> None:
    async with hop(pipes()) as both:
        near = both.open()
        await near.wait(lambda: bool(near.heard))
        before = len(near.heard)

        def call() -> None:
            for _ in range(200):
                with both.near.step() as mux:
                    mux.send(near.label, b"0123456789")

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.to_thread.run_sync, call)
        far = both.there.ears[near.label]
        await far.wait(lambda: len(far.got) == 6000)
        assert far.got == b"0123456789" * 600
        await near.wait(lambda: near.sent == 6000)
        assert len(near.heard) > before


async def test_what_a_caller_s_thread_has_caused_is_told_though_nothing_else_happens() -> None:
    """What has happened to data is told in that thread, the rest in the trio thread, though nothing else wakes it."""
    async with hop(over_sockets()) as both:
        near = both.open()
        await near.wait(lambda: bool(near.heard))

        def call() -> int:
            with both.near.step() as mux:
                mux.send(near.label, b"0123456789")
            told = near.thread
            both.near.close(Failure(Code.DONE, "enough", "near"))
            return told if told == threading.get_ident() else 0

        assert await trio.to_thread.run_sync(call) == near.thread
        with trio.fail_after(5):
            await both.here.over.wait()
        assert near.sent == 10
        assert both.here.thread == threading.get_ident()


async def test_a_caller_s_thread_opens_a_stream_and_writes_by_itself() -> None:
    async with hop(over_sockets()) as both:
        written_by: list[int] = []
        real = both.near._send_nowait
        assert real is not None

        def watched(data: bytes) -> int:
            written_by.append(threading.get_ident())
            return real(data)

        both.near._send_nowait = watched
        caller: list[int] = []

        def call() -> None:
            caller.append(threading.get_ident())
            with both.near.step() as mux:
                ear = Ear(both.near)
                ear.label = both.near.open(Open(service="from a thread"), CALL, ear)
                mux.send(ear.label, b"x")

        await trio.to_thread.run_sync(call)
        await wait_all_tasks_blocked()
        assert written_by == caller
        while ("opened", "from a thread", CALL) not in both.there.heard:
            await trio.lowlevel.checkpoint()


async def test_a_caller_s_thread_may_come_too_late() -> None:
    async with hop(over_sockets()) as both:
        near = both.open()
    both.near.flush()

    def call() -> None:
        with both.near.step() as mux:
            mux.send(near.label, b"x")
        both.near.leave(AWAY, 1.0)

    await trio.to_thread.run_sync(call)
    assert both.near.mux.data_to_send(0.0) == []


def test_a_caller_s_thread_may_outlive_the_loop() -> None:
    made: list[Connection] = []

    async def make() -> None:
        made.append(Connection(in_memory()[0], hello("near"), Node(), dialler=True))

    trio.run(make)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            made[0].flush()
        except BaseException as exc:  # noqa: BLE001  (whatever it is, the test must hear of it)
            errors.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10)
    assert errors == []


# -- steps


async def test_an_inner_step_only_counts() -> None:
    async with hop(in_memory()) as both:
        near = both.open()
        await near.wait(lambda: bool(near.heard))
        with both.near.step() as mux:
            with both.near.step():
                mux.send(near.label, b"x")
            both.near.flush()
            assert both.near.turn.held
            assert mux.queued(near.label) == 1
        assert not both.near.turn.held


async def test_a_step_that_fails_gives_the_turn_back_and_sends_what_was_said() -> None:
    async with hop(over_sockets()) as both:
        near = both.open()

        def failing() -> None:
            with both.near.step() as mux:
                mux.send(near.label, b"said before")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing()
        assert not both.near.turn.held
        await near.wait(lambda: near.sent == 11)


async def test_a_reader_steps_the_link_it_forwards_to() -> None:
    async with hop(in_memory()) as one, hop(in_memory()) as two:

        @dataclass
        class Forward(Ear):
            onwards: Ear | None = None

            def received(self, data: bytes) -> None:
                assert self.onwards is not None
                with self.onwards.connection.step() as mux:
                    mux.send(self.onwards.label, data)
                self.note("received", len(data))

        class Backward(Ear):
            back: Forward

            def drained(self, count: int) -> None:
                with self.back.connection.step() as mux:
                    mux.consume(self.back.label, count)

        def take(connection: Connection, label: int) -> Ear:
            connection.mux.accept(label, ())
            onwards = Backward(two.near)
            onwards.label = two.near.open(Open(), CALL, onwards)
            onwards.back = Forward(connection, label, onwards=onwards)
            return onwards.back

        one.there.take = take
        near = one.open()
        data = os.urandom(1_000_000)
        with one.near.step() as mux:
            mux.send(near.label, data)
        await wait_all_tasks_blocked()
        (far,) = two.there.ears.values()
        assert far.got == data


async def test_an_owner_that_fails_ends_the_run_and_holds_no_turn() -> None:
    class Broken(Node):
        def routed(self, connection: Connection, routes: Routes) -> None:
            raise ZeroDivisionError

    near_pipe, far_pipe = in_memory()
    here, there = Node(), Broken()
    near, far = (
        Connection(near_pipe, hello("near"), here, dialler=True),
        Connection(far_pipe, hello("far"), there, dialler=False),
    )
    failures: list[BaseException] = []

    async def run_far() -> None:
        try:
            await far.run()
        except* ZeroDivisionError as group:
            failures.extend(group.exceptions)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.run)
        nursery.start_soon(run_far)
        await here.up.wait()
        near.announce(Routes(withdraw=("lab",)))
    assert len(failures) == 1
    assert not far.turn.held
    assert there.heard[-1][0] == here.heard[-1][0] == "lost"


# -- handlers


async def test_a_handler_that_fails_loses_its_stream_only(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Ear):
        def received(self, data: bytes) -> None:
            raise ZeroDivisionError

    def take(connection: Connection, label: int) -> Ear:
        connection.mux.accept(label, ())
        return Broken(connection, label)

    async with hop(in_memory()) as both:
        both.there.take = take
        near = both.open()
        with both.near.step() as mux:
            mux.send(near.label, b"x")
        await wait_all_tasks_blocked()
        assert "its handler failed" in caplog.text
        assert near.heard[-1] == ("reset", Failure(Code.INTERNAL, "the handler of this stream failed", "far"))
        both.there.take = both.there.listen
        assert both.open().label != near.label
        await wait_all_tasks_blocked()
        assert both.far.mux.up


async def test_an_owner_that_fails_refuses_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    def take(_connection: Connection, _label: int) -> Ear:
        raise ZeroDivisionError

    async with hop(in_memory()) as both:
        both.there.take = take
        near = both.open()
        await wait_all_tasks_blocked()
        assert near.heard[-1] == ("refused", Failure(Code.INTERNAL, "the owner of the link failed", "far"))
        assert both.far.mux.up
    assert "the owner of the link failed" in caplog.text


async def test_a_stream_nobody_takes_is_refused() -> None:
    async with hop(in_memory()) as both:
        both.there.take = lambda _connection, _label: None
        near = both.open()
        await wait_all_tasks_blocked()
        assert near.heard[-1] == ("refused", Failure(Code.NO_SERVICE, "nobody takes this stream", "far"))
        assert both.near._handlers == both.far._handlers == {}


# -- time


async def test_silence_at_the_beginning_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    near_pipe, _far_pipe = in_memory()
    here = Node()
    began = trio.current_time()
    await Connection(near_pipe, hello("near"), here, dialler=True).run()
    assert 10 <= trio.current_time() - began <= 13
    (told,) = here.heard
    failure = told[1]
    assert isinstance(failure, Failure)
    assert failure.code == Code.TIMEOUT
    assert isinstance(near_pipe.stream, trio.StapledStream)
    receiving = near_pipe.stream.receive_stream
    assert isinstance(receiving, MemoryReceiveStream)


async def test_an_idle_link_stays_up(autojump_clock: trio.testing.MockClock) -> None:
    async with hop(in_memory()) as both:
        await trio.sleep(3600)
        assert both.near.mux.up
        assert both.far.mux.up
        assert both.near.statistics().frames_in > 200


async def test_a_probe_makes_the_timer_wake_earlier(autojump_clock: trio.testing.MockClock) -> None:
    async with hop(in_memory()) as both:
        both.near.probe(2.0)
        await wait_all_tasks_blocked()
        assert both.here.heard[-1] == ("probed",)
        both.far._writing = True  # from here on far says nothing more
        began = trio.current_time()
        both.near.probe(2.0)
        await both.here.over.wait()
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.01)
        assert both.here.heard[-1] == ("lost", Failure(Code.LINK_LOST, "no answer to a probe", "near"))


async def test_leaving_waits_for_streams_and_then_ends_both_sides(autojump_clock: trio.testing.MockClock) -> None:
    async with hop(in_memory()) as both:
        near = both.open()
        await near.wait(lambda: bool(near.heard))
        both.near.leave(AWAY, 5.0)
        began = trio.current_time()
        await both.there.over.wait()
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.01)
        assert ("leaving", AWAY, 5.0) in both.there.heard
        assert both.here.heard[-1] == both.there.heard[-1] == ("lost", AWAY)


async def test_leaving_with_nothing_open_is_over_at_once() -> None:
    async with hop(in_memory()) as both:
        both.near.leave(AWAY, 5.0)
        await both.here.over.wait()
        await both.there.over.wait()
        assert both.here.heard[-1] == both.there.heard[-1] == ("lost", AWAY)
