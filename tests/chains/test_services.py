"""me - hq - a - lab, real processes: a service as RPyC's users write one, and what it shows, in both faces."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from tests.chains.processes import LOOPBACK, connect_when_up, dial, listen, open_house

PROGRAM = str(Path(__file__).with_name("served_program.py"))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with open_house() as house:
        house.run("lab", sys.executable, "-W", "error", PROGRAM, house.socket("lab"))
        a = house.start("a", listen(LOOPBACK) + dial(house.socket("lab")))
        hq = house.start("hq", listen(LOOPBACK) + dial(a.url))
        with pytest.raises(gw.Denied, match="what is served: dial, lab, node"):
            connect_when_up(hq.url, "lab")
        yield hq.url


@pytest.fixture
def conn(url: str) -> Iterator[gw.BlockingSession]:
    with gw.connect(url, node="lab", service="lab", name="me") as conn:
        yield conn


def test_the_tutorial_s_service_sends_events(conn: gw.BlockingSession, tmp_path: Path) -> None:
    path = tmp_path / "floop.bloop"
    path.write_text("")
    events: SimpleQueue[tuple[int, int]] = SimpleQueue()
    mon = conn.root.FileMonitor(str(path), lambda old, new: events.put((old, new)), 0.005)
    mon.looked.wait()
    with path.open("w") as file:
        for text, sizes in (("shmoop", (0, 6)), ("groop", (6, 11))):
            file.write(text)
            file.flush()
            assert events.get() == sizes
    mon.stop()
    for name in ("work", "active"):
        assert hasattr(mon, name)  # of what is handed out public names are granted
    with pytest.raises(AttributeError):
        mon._hidden  # noqa: B018


def test_attributes_have_rules(conn: gw.BlockingSession) -> None:
    root = conn.root
    assert root.level == 1
    root.level = 7
    assert root.level == 7
    with pytest.raises(ValueError, match="too loud"):
        root.level = 11
    for name in ("private", "value", "on_connect", "_x", "nothing"):
        with pytest.raises(AttributeError):
            getattr(root, name)
        with pytest.raises(AttributeError):
            setattr(root, name, 1)
    with pytest.raises(AttributeError):
        del root.level
    with pytest.raises(LookupError, match="this attribute raises"):
        root.broken  # noqa: B018
    assert root.level == 7


def test_a_view_shows_more_to_whom_it_is_handed(conn: gw.BlockingSession) -> None:
    view = conn.root.view()
    assert view.private() == "shown by the view only"
    view.value = 3
    assert (view.value, conn.root.level) == (3, 3)
    with pytest.raises(AttributeError):
        view.level  # noqa: B018
    with pytest.raises(AttributeError):
        view.private = 1


def test_each_session_has_an_instance_and_is_told_of_its_end(conn: gw.BlockingSession, url: str) -> None:
    sessions, _ = conn.root.counts()
    with gw.connect(url, node="lab", service="lab", name="another") as other:
        assert other.root.instance != conn.root.instance
        assert other.root.counts()[0] == sessions + 1
    while conn.root.counts()[0] != sessions:
        threading.Event().wait(0.001)


def test_coroutines_and_generators_are_served_to_blocking_code(conn: gw.BlockingSession) -> None:
    root = conn.root
    assert root.later("x") == "x"
    assert list(root.steps(3)) == [0, 1, 2]
    assert list(gw.buffiter(root.ticks(3))) == [0, 1, 2]
    assert gw.async_(root.later)(5).value == 5
    with gw.batch(conn) as b:
        later, level = b.root.later(b.root.later("y")), b.root.level
        b.root.level = 5
        after = b.root.level
    assert (later.value, level.value, after.value) == ("y", 1, 5)


async def test_coroutines_and_generators_are_served_to_trio_code(url: str) -> None:
    async with gw.open_session(url, node="lab", service="lab") as lab:
        assert await lab.root.later(lab.root.later("x")) == "x"
        assert [n async for n in lab.root.ticks(4)] == [0, 1, 2, 3]
        assert [n async for n in lab.root.steps(4)] == [0, 1, 2, 3]
        await gw.ops.setattr(lab.root, "level", 4)
        assert await lab.root.level == 4
        with pytest.raises(gw.NotExposed):
            await lab.root.private()
        with trio.fail_after(30):
            async for n in lab.root.ticks(10**9):
                if n == 3:
                    break
        told: list[Any] = []
        mon = await lab.root.FileMonitor(__file__, told.append, 0.005)
        await mon.looked.wait()
        await mon.stop()
        assert told == []
