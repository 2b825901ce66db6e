"""The turn of a link, and threads that come to it too late."""

from __future__ import annotations

import threading

import pytest
import trio

from rpyc_gateway.connection import Connection
from tests.links import AWAY, Node, hello, hop, in_memory, over_sockets


async def test_an_inner_step_only_counts() -> None:
    async with hop(in_memory()) as both:
        near = both.open()
        await near.wait(lambda: bool(near.heard))
        with both.near.turn as mux:
            with both.near.turn:
                mux.send(near.label, b"x")
            both.near.flush()
            assert both.near.turn.held
            assert mux.queued(near.label) == 1
        assert not both.near.turn.held


async def test_a_step_that_fails_gives_the_turn_back_and_sends_what_was_said() -> None:
    async with hop(over_sockets()) as both:
        near = both.open()

        def failing() -> None:
            with both.near.turn as mux:
                mux.send(near.label, b"said before")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing()
        assert not both.near.turn.held
        await near.wait(lambda: near.sent == 11)


async def test_a_caller_s_thread_may_come_too_late() -> None:
    async with hop(over_sockets()) as both:
        near = both.open()
    both.near.flush()

    def call() -> None:
        with both.near.turn as mux:
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
