"""The driver of a link, over pipes in memory and real sockets."""

from __future__ import annotations

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rpyc_gateway.connection import Connection
from rpyc_gateway.errors import Code, LinkLost
from rpyc_gateway.proto.frames import (
    Failure,
    FrameType,
    GoAway,
    Open,
    Routes,
    encode_failure,
    encode_frame,
    encode_hello,
)
from tests.links import AWAY, CALL, Ear, Node, Pipes, hello, hop, in_memory, over_sockets, timers, ways

# -- a life


@ways
async def test_a_stream_from_open_to_end(pipes: Pipes) -> None:
    async with hop(pipes()) as both:
        near = both.open()
        with both.near.turn as mux:
            mux.send(near.label, b"what time is it?")
            mux.finish(near.label)
        await near.wait(lambda: ("accepted", ("near", "far")) in near.heard)
        far = both.there.ears[near.label]
        await far.wait(lambda: ("finished",) in far.heard)
        assert far.got == b"what time is it?"
        with both.far.turn as mux:
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
            with end.connection.turn as mux:
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


async def test_no_thread_touches_the_stream_while_it_says_goodbye() -> None:
    near_pipe, far_pipe = over_sockets()
    assert isinstance(near_pipe.stream, trio.SocketStream)
    near_pipe.fileno = near_pipe.stream.socket.fileno()
    closing, reads = False, 0
    close = near_pipe.stream.aclose

    def receive_nowait(_: int) -> None:
        nonlocal reads
        reads += closing

    async def aclose() -> None:
        nonlocal closing
        closing = True
        near.read()  # as a thread does that was about to
        await close()

    near_pipe.receive_nowait, near_pipe.stream.aclose = receive_nowait, aclose  # type: ignore[method-assign]
    near = Connection(near_pipe, hello("near"), Node(), dialler=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(near.run)
        near.leave(AWAY, 0.0)
        while await far_pipe.stream.receive_some(65536):
            continue
        await far_pipe.stream.aclose()
    assert closing
    assert not reads


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


# -- callers' threads


async def test_what_a_caller_s_thread_has_caused_is_told_though_nothing_else_happens() -> None:
    """What has happened to data is told in that thread, the rest in the trio thread, though nothing else wakes it."""
    async with hop(over_sockets()) as both:
        near = both.open()
        await near.wait(lambda: bool(near.heard))

        def call() -> int:
            with both.near.turn as mux:
                mux.send(near.label, b"0123456789")
            told = near.thread
            both.near.close(Failure(Code.DONE, "enough", "near"))
            return told if told == threading.get_ident() else 0

        assert await trio.to_thread.run_sync(call) == near.thread
        with trio.fail_after(5):
            await both.here.over.wait()
        assert near.sent == 10
        assert both.here.thread == threading.get_ident()


# -- steps


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


@timers
async def test_silence_at_the_beginning_is_bounded(pipes: Pipes, autojump_clock: trio.testing.MockClock) -> None:
    near_pipe, far_pipe = pipes()
    here = Node()
    began = trio.current_time()
    await Connection(near_pipe, hello("near"), here, dialler=True).run()
    assert 10 <= trio.current_time() - began <= 13
    (told,) = here.heard
    failure = told[1]
    assert isinstance(failure, Failure)
    assert failure.code == Code.TIMEOUT
    await trio.aclose_forcefully(far_pipe.stream)


@timers
async def test_an_idle_link_stays_up(pipes: Pipes, autojump_clock: trio.testing.MockClock) -> None:
    async with hop(pipes()) as both:
        await trio.sleep(3600)
        assert both.near.mux.up
        assert both.far.mux.up
        assert both.near.statistics().frames_in > 200


@timers
async def test_a_probe_makes_the_timer_wake_earlier(pipes: Pipes, autojump_clock: trio.testing.MockClock) -> None:
    async with hop(pipes()) as both:
        both.near.probe(2.0)
        await wait_all_tasks_blocked()
        assert both.here.heard[-1] == ("probed",)
        both.far._writing = True  # from here on far says nothing more
        began = trio.current_time()
        both.near.probe(2.0)
        await both.here.over.wait()
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.01)
        assert both.here.heard[-1] == ("lost", Failure(Code.LINK_LOST, "no answer to a probe", "near"))


@timers
async def test_leaving_waits_for_streams_and_then_ends_both_sides(
    pipes: Pipes, autojump_clock: trio.testing.MockClock
) -> None:
    async with hop(pipes()) as both:
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
