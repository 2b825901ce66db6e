"""Each row does the same to far objects as to local ones, and leaves nothing behind."""

from __future__ import annotations

import pytest

import rpyc_gateway as gw
from tests.conformance.bounds import bounded
from tests.conformance.chapters import CHAPTERS
from tests.conformance.far import RELAYS, Far, world
from tests.conformance.known import CYCLES, KNOWN
from tests.conformance.outcomes import outcome
from tests.conformance.rows import Row
from tests.conformance.worlds import LocalWorld

ROW_SECONDS = 10


def _marked(row: Row) -> object:
    reason = KNOWN.get(str(row))
    return pytest.param(row, id=str(row), marks=pytest.mark.xfail(reason=reason) if reason else ())


ROWS = [_marked(row) for chapter in CHAPTERS for row in chapter.rows]


@pytest.mark.parametrize("relays", RELAYS)
@pytest.mark.parametrize("row", ROWS)
def test_row(row: Row, relays: int, far: Far) -> None:
    local = outcome(row.use, LocalWorld(row.setup, row.beyond))
    with far.lent(relays, cycles=CYCLES.get(str(row), "")) as conn:
        assert _remotely(row, conn) == local


def _remotely(row: Row, conn: gw.BlockingSession) -> tuple[object, ...]:
    with bounded(ROW_SECONDS):
        return outcome(row.use, world(conn, row.setup, row.beyond))


def test_known_deviations_are_rows() -> None:
    names = [str(row) for chapter in CHAPTERS for row in (*chapter.rows, *chapter.async_rows)]
    assert len(names) == len(set(names))
    assert {*KNOWN, *CYCLES} <= set(names)
