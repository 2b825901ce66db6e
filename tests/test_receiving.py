"""What comes in by a link, while others send, and when who takes it fails."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
from trio.testing import wait_all_tasks_blocked

from rpyc_gateway.connection import Connection
from rpyc_gateway.errors import Code
from rpyc_gateway.proto.frames import (
    Failure,
    Open,
)
from rpyc_gateway.proto.stream import WINDOW
from tests.links import CALL, Ear, hop, in_memory, over_sockets


async def test_the_reader_does_not_wait_for_the_writer() -> None:
    near_pipe, far_pipe = over_sockets(buffer=4096)
    async with hop((near_pipe, far_pipe)) as both:
        near = both.open(patient=True)
        await near.wait(lambda: bool(near.heard) and near.heard[-1][0] == "accepted")
        far = both.there.ears[near.label]
        for end in (near, far):
            with end.connection.turn as mux:
                for _ in range(20):
                    other = end.connection.open(Open(), CALL, Ear(end.connection))
                    mux.send(other, bytes(60_000))
                mux.send(end.label, bytes(WINDOW))
        await near.wait(lambda: len(near.got) == WINDOW)
        await far.wait(lambda: len(far.got) == WINDOW)


async def test_a_reader_steps_the_link_it_forwards_to() -> None:
    async with hop(in_memory()) as one, hop(in_memory()) as two:

        @dataclass
        class Forward(Ear):
            onwards: Ear | None = None

            def received(self, data: bytes) -> None:
                assert self.onwards is not None
                with self.onwards.connection.turn as mux:
                    mux.send(self.onwards.label, data)
                self.note("received", len(data))

        class Backward(Ear):
            back: Forward

            def drained(self, count: int) -> None:
                with self.back.connection.turn as mux:
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
        with one.near.turn as mux:
            mux.send(near.label, data)
        await wait_all_tasks_blocked()
        (far,) = two.there.ears.values()
        assert far.got == data


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
        with both.near.turn as mux:
            mux.send(near.label, b"x")
        await wait_all_tasks_blocked()
        assert "its handler failed" in caplog.text
        assert near.heard[-1] == ("reset", Failure(Code.INTERNAL, "the handler of this stream failed", "far"))
        both.there.take = both.there.listen
        assert both.open().label != near.label
        await wait_all_tasks_blocked()
        assert both.far.mux.up
