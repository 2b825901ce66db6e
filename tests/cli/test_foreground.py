"""Blocking code in the main thread, trio in another: what is asked, what is interrupted, what is lost."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from rpyc_gateway.cli.foreground import Foreground
from rpyc_gateway.errors import LinkLost


@asynccontextmanager
async def a_board() -> AsyncIterator[list[str]]:
    seen = ["opened"]
    try:
        yield seen
    finally:
        seen.append("closed")


async def nothing(_: object) -> None:
    await trio.lowlevel.checkpoint()


async def never(_: object) -> None:
    await trio.sleep_forever()


def test_what_is_asked_is_done_in_another_thread() -> None:
    async def where(seen: list[str]) -> int:
        await trio.lowlevel.checkpoint()
        seen.append("asked")
        return threading.get_ident()

    with Foreground(a_board, never) as foreground:
        assert foreground.call(where) != threading.get_ident()
    assert foreground.it == ["opened", "asked", "closed"]


def test_what_it_raises_is_raised_here_and_the_next_is_done() -> None:
    async def fail(_: object) -> None:
        raise ValueError("no")

    with Foreground(a_board, never) as foreground:
        with pytest.raises(ValueError, match="no"):
            foreground.call(fail)
        foreground.call(nothing)


def test_an_interrupt_cancels_what_was_asked_and_waits_until_it_has_ended() -> None:
    async def wait(seen: list[str]) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await trio.sleep_forever()
        finally:
            seen.append("interrupted")

    with Foreground(a_board, never) as foreground:
        with pytest.raises(KeyboardInterrupt):
            foreground.call(wait)
        assert foreground.it == ["opened", "interrupted"]
        foreground.call(nothing)


def test_what_cannot_be_opened_is_raised_here() -> None:
    @asynccontextmanager
    async def closed() -> AsyncIterator[None]:
        raise OSError("there is no port")
        yield

    with pytest.raises(OSError, match="there is no port"), Foreground(closed, never):
        raise AssertionError


def test_a_loss_is_told_to_who_thinks_to_who_waits_and_to_who_asks_later() -> None:
    lost = threading.Event()

    async def lose(_: object) -> None:
        await trio.to_thread.run_sync(lost.wait)
        raise LinkLost("gone")

    def think(foreground: Foreground[list[str]]) -> None:
        ours, theirs = os.pipe()
        with foreground.waiting_for_people():
            lost.set()
            try:
                select.select([ours], [], [], 20)
                raise AssertionError("nobody was told")
            finally:
                os.close(ours)
                os.close(theirs)

    def wait(foreground: Foreground[list[str]]) -> None:
        async def ask(_: object) -> None:
            lost.set()
            await trio.sleep_forever()

        foreground.call(ask)

    for meet in (think, wait):
        lost.clear()
        with pytest.raises(LinkLost, match="gone"), Foreground(a_board, lose) as foreground:
            meet(foreground)
        with pytest.raises(LinkLost, match="gone"), foreground.waiting_for_people():
            raise AssertionError
