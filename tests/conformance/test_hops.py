"""The rows over WebSocket, TCP, standard streams and a serial line, one after the other; also while every hop misbehaves.

A choice of them with every run, every twenty-third, and nearly all rows of trio code; all of them with `GW_ALL_HOPS=1`.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator

import pytest

import rpyc_gateway as gw
from tests.conformance.bounds import bounded
from tests.conformance.chapters import CHAPTERS
from tests.conformance.far import trio_world, world
from tests.conformance.hops import Chain, open_chain
from tests.conformance.known import CYCLES, KNOWN
from tests.conformance.outcomes import outcome, outcome_in_trio
from tests.conformance.rows import AsyncRow, Row
from tests.conformance.worlds import LocalWorld

HOPS = ("ws", "tcp", "stdio", "serial")
ROW_SECONDS = 30
BACK_WITHIN = 30.0  # seconds from a break at every hop to the next session
BREAK_AFTER = 20  # rows

ALL = os.environ.get("GW_ALL_HOPS") == "1"
EACH = 1 if ALL else 23
LONG = {"trio code: long generators"}  # 15 s where each item is a trip of its own over four slow hops
TRIO_ROWS = [
    row for chapter in CHAPTERS for row in chapter.async_rows if str(row) not in (KNOWN if ALL else {*KNOWN, *LONG})
]
ROWS = [row for chapter in CHAPTERS for row in chapter.rows if str(row) not in KNOWN][::EACH]


@pytest.fixture(scope="module", params=["good", "bad"])
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    gc.collect()
    gc.freeze()  # so that looking for what a test left behind does not look at all that pytest knows
    with open_chain(*HOPS, bad=request.param == "bad") as chain:
        yield chain


@pytest.mark.parametrize("number", range(len(ROWS)), ids=map(str, ROWS))
def test_row(number: int, chain: Chain) -> None:
    row = ROWS[number]
    if chain.wires and number % BREAK_AFTER == BREAK_AFTER - 1:
        break_all(chain)
    local = outcome(row.use, LocalWorld(row.setup, row.beyond))
    with chain.far.lent(chain.relays, cycles=CYCLES.get(str(row), "")) as conn:
        assert _remotely(row, conn) == local


def _remotely(row: Row, conn: gw.BlockingSession) -> tuple[object, ...]:
    with bounded(ROW_SECONDS):
        return outcome(row.use, world(conn, row.setup, row.beyond))


@pytest.mark.parametrize("row", TRIO_ROWS, ids=map(str, TRIO_ROWS))
async def test_row_of_trio_code(row: AsyncRow, chain: Chain) -> None:
    local = await outcome_in_trio(row.use, LocalWorld(row.setup), ROW_SECONDS)
    async with chain.far.lent_async(chain.relays) as lab:
        assert await outcome_in_trio(row.use, await trio_world(lab, row.setup), ROW_SECONDS) == local


def break_all(chain: Chain) -> None:
    """Reset every hop at once, and come back."""
    for wire in chain.wires:
        chain.do(wire.cut)
    give_up = time.monotonic() + BACK_WITHIN
    while True:
        try:
            assert chain.far.session(chain.relays).ping(1) == 1
        except (gw.Unreachable, gw.LinkLost, gw.SessionClosed):
            chain.far.lose(chain.relays)
            assert time.monotonic() < give_up
            time.sleep(0.05)
        else:
            return
