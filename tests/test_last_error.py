"""What the last error of a session has left; tests/test_debugging.py looks into it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import rpyc_gateway as gw
from rpyc_gateway.last_error import LastError
from tests.blocking_house import open_blocking_lab


@pytest.fixture
def conn() -> Iterator[gw.BlockingSession]:
    with open_blocking_lab(1) as house, house.connect() as conn:
        yield conn


def test_it_is_of_a_session() -> None:
    with pytest.raises(RuntimeError, match="of the session whose call is being served, and none is here"):
        LastError()


def test_it_begins_where_code_of_the_user_does(conn: gw.BlockingSession) -> None:
    kept = conn.modules["rpyc_gateway.last_error"].LastError()
    with pytest.raises(ZeroDivisionError):
        conn.execute("def f(): 1 / 0\nf()")
    trace = kept._trace
    assert trace.tb_frame.f_code.co_name == "<module>"
    assert trace.tb_next.tb_frame.f_code.co_name == "f"
    with pytest.raises(AttributeError):
        conn.modules.sys.nothing  # noqa: B018
    assert kept._trace is None
    with pytest.raises(ZeroDivisionError):
        conn.eval("1 / 0")
    assert kept.take().tb_frame.f_code.co_name == "<module>"
    with pytest.raises(ZeroDivisionError):
        conn.eval("1 / 0")
    assert kept.take() is None
    kept.close()


def test_of_two_the_later_one_is_told_until_it_is_closed(conn: gw.BlockingSession) -> None:
    far = conn.modules["rpyc_gateway.last_error"]
    first, second = far.LastError(), far.LastError()

    def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            conn.eval("1 / 0")

    fail()
    assert (first._trace is None, second._trace is None) == (True, False)
    second.close()
    fail()
    assert (first._trace is None, second._trace is None) == (False, True)
    first.close()
    fail()
    assert (first._trace, second._trace) == (None, None)
