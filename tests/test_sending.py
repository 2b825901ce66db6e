"""What leaves a link: at once where that can be, and what the writer does about the rest."""

from __future__ import annotations

import os
import threading

import trio
from trio.testing import wait_all_tasks_blocked

from rpyc_gateway.connection import Connection
from rpyc_gateway.proto.frames import (
    FrameType,
    Open,
    Opened,
    encode_hello,
    encode_map,
    encode_offset,
)
from tests.links import CALL, Ear, Node, Pipes, as_transports_share_them, hello, hop, in_memory, over_sockets, ways


async def test_a_short_write_is_finished_by_the_writer() -> None:
    near_pipe, far_pipe = over_sockets()
    real = near_pipe.send_nowait
    assert real is not None
    near_pipe.send_nowait = lambda data, *_: real(data[:7])
    async with hop((near_pipe, far_pipe)) as both:
        near = both.open()
        data = os.urandom(200_000)
        with both.near.turn as mux:
            mux.send(near.label, data)
            mux.finish(near.label)
        await near.wait(lambda: near.sent == len(data))
        far = both.there.ears[near.label]
        await far.wait(lambda: ("finished",) in far.heard)
        assert far.got == data


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


async def test_a_writer_that_waits_for_the_pipe_minds_the_time_as_well(autojump_clock: trio.testing.MockClock) -> None:
    near_pipe, far_pipe = as_transports_share_them()
    here = Node()
    near = Connection(near_pipe, hello("near"), here, dialler=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(near.run)
        await far_pipe.stream.send_all(encode_hello(hello("far")))
        await here.up.wait()
        ear = Ear(near)
        ear.label = near.open(Open(service="clock"), CALL, ear)
        credit = 1 << 20
        opened = encode_map(FrameType.OPENED, ear.label, Opened(path=("near", "far")), 4096)
        await far_pipe.stream.send_all(opened + encode_offset(FrameType.CREDIT, ear.label, credit))
        await ear.wait(lambda: bool(ear.heard))
        with near.turn as mux:  # more than the socket takes, and far reads nothing
            mux.send(ear.label, bytes(credit))
        await wait_all_tasks_blocked()
        assert near._left
        assert not here.over.is_set()
        began = trio.current_time()
        await here.over.wait()
        assert trio.current_time() - began <= 20.1
        assert here.heard[-1][0] == "lost"
    assert trio.current_time() - began <= 26  # and the writer gives up what is left
    await trio.aclose_forcefully(far_pipe.stream)


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


@ways
async def test_threads_of_callers_send_at_once(pipes: Pipes) -> None:
    async with hop(pipes()) as both:
        near = both.open()
        await near.wait(lambda: bool(near.heard))
        before = len(near.heard)

        def call() -> None:
            for _ in range(200):
                with both.near.turn as mux:
                    mux.send(near.label, b"0123456789")

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.to_thread.run_sync, call)
        far = both.there.ears[near.label]
        await far.wait(lambda: len(far.got) == 6000)
        assert far.got == b"0123456789" * 600
        await near.wait(lambda: near.sent == 6000)
        assert len(near.heard) > before


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
            with both.near.turn as mux:
                ear = Ear(both.near)
                ear.label = both.near.open(Open(service="from a thread"), CALL, ear)
                mux.send(ear.label, b"x")

        await trio.to_thread.run_sync(call)
        await wait_all_tasks_blocked()
        assert written_by == caller
        while ("opened", "from a thread", CALL) not in both.there.heard:
            await trio.lowlevel.checkpoint()


async def test_the_writer_takes_no_more_at_once_than_the_pipe_likes() -> None:
    near_pipe, far_pipe = in_memory()
    stream = near_pipe.stream
    assert isinstance(stream, trio.StapledStream)
    near_pipe.rate, near_pipe.message = 11520.0, 288
    taken: list[int] = []

    async with hop((near_pipe, far_pipe)) as both:
        real = stream.send_all

        async def send_all(data: bytes) -> None:
            taken.append(len(data))
            await real(data)

        stream.send_all = send_all  # type: ignore[method-assign]
        near = both.open()
        with both.near.turn as mux:
            mux.send(near.label, bytes(5000))
        await near.wait(lambda: near.sent == 5000)
    assert max(taken[1:]) == 288  # OPEN goes with the first
