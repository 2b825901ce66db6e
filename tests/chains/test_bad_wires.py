"""A link over a wire that changes, loses, delays or breaks what it carries: it holds, or it ends in words; in virtual time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock

import rpyc_gateway as gw
from rpyc_gateway.testing import BadWire
from tests.house import open_house


@asynccontextmanager
async def lab_behind(seed: int = 0) -> AsyncIterator[BadWire]:
    async with open_house("lab"), BadWire("memory://lab", "memory://wire", seed=seed) as wire:
        yield wire


async def talk(calls: int = 200) -> int:
    """Call until it ends, and say how many were answered right."""
    right = 0
    async with gw.open_session("memory://wire", node="lab", name="laptop") as lab:
        for number in range(calls):
            right += await lab.builtins.str(number) == str(number)
    return right


async def talk_until_it_breaks(wire: BadWire, size: int) -> None:
    async with gw.open_session("memory://wire", node="lab", name="laptop") as lab:
        wire.cut_after(size)
        while True:
            await lab.builtins.str(1)


SAID = (gw.GatewayError, AttributeError, LookupError, TypeError, ValueError)
"""What ends a link, and what a far side may say to a question that was changed on its way."""


@pytest.mark.parametrize("toward", ["target", "dialler"])
@pytest.mark.parametrize("seed", range(25))
async def test_changed_bytes_harm_their_own_link_and_nobody_else(
    seed: int, toward: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing checks the bytes of a call on a stream transport: one may be answered wrong, or never (its length was changed). The rest holds."""
    async with lab_behind(seed) as wire:
        wire.corrupt(0.003, toward=toward)  # type: ignore[arg-type]
        with trio.move_on_after(60):
            with suppress(*SAID):
                await talk()
        assert trio.current_time() < 90, "leaving must not take long"
        wire.corrupt(0)
        assert await talk(3) == 3
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text


async def test_bytes_that_go_missing_end_a_link_or_leave_it_silent_until_it_is_given_up(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in range(25):
        async with lab_behind(seed) as wire:
            wire.lose(0.01)
            with trio.move_on_after(60):
                with suppress(*SAID):
                    await talk()
            wire.lose(0)
            assert await talk(3) == 3
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text


async def test_delay_jitter_and_a_slow_wire_change_nothing_but_the_time(autojump_clock: MockClock) -> None:
    async with lab_behind() as wire:
        wire.delay(0.2, jitter=0.3)
        wire.rate(5_000)
        assert await talk(20) == 20
        assert trio.current_time() > 20 * 0.4


async def test_half_open_silence_is_noticed_and_said(autojump_clock: MockClock) -> None:
    for toward in ("target", "dialler", "both"):
        async with lab_behind() as wire, gw.open_session("memory://wire", node="lab", name="laptop") as lab:
            assert await lab.builtins.str(1) == "1"
            began = trio.current_time()
            wire.blackhole(toward=toward)  # type: ignore[arg-type]
            with pytest.raises(gw.LinkLost) as caught:
                await lab.builtins.str(2)
            assert 5 < trio.current_time() - began < 30
            assert str(caught.value)


async def test_a_link_that_breaks_anywhere_breaks_in_words(autojump_clock: MockClock) -> None:
    for size in [*range(0, 600, 7), *range(600, 3000, 101)]:
        async with lab_behind() as wire:
            with pytest.raises((gw.LinkLost, gw.SessionClosed)) as caught:
                await talk_until_it_breaks(wire, size)
            assert str(caught.value)
            assert await talk(1) == 1
