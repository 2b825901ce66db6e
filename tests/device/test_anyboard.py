"""Whose turn it is to use a board, without one; and with one, sessions that want it at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

import rpyc_gateway
from rpyc_gateway.config import Config, Listen, NodeSection
from rpyc_gateway.device.anyboard import WAITING, AnyBoard, BoardError
from rpyc_gateway.device.conversation import Primitive, Step
from rpyc_gateway.device.node import open_board_node
from rpyc_gateway.device.repl import Platform
from rpyc_gateway.device.waiting import Cause, Waiter
from rpyc_gateway.errors import EncodeError, LimitExceeded, LinkLost, RemoteError
from tests.house import CLASSIC

from .boards import fake_board, needs_micropython

PLATFORM = Platform("micropython", "1.29", "none", 1 << 16, binary=True, printer=True, usb=False)


class OneByOne(AnyBoard):
    """Runs what a test lets it run. Not more than `most` programs are on their way to it."""

    def __init__(self, most: int = 3) -> None:
        super().__init__("the board", PLATFORM)
        self.most = most
        self.open: deque[tuple[str, Waiter]] = deque()
        self.calling_back = False

    async def serve(self, nursery: trio.Nursery) -> None: ...

    @property
    def ready(self) -> bool:
        return len(self.open) < self.most

    @property
    def idle(self) -> bool:
        return not self.open

    @property
    def nested(self) -> bool:
        return self.calling_back

    def start(self, steps: Sequence[Step], waiter: Waiter, *, copy: bool) -> None:
        (name,) = steps[0].args
        if name == "unsayable":
            raise EncodeError("unsayable")
        self.open.append((name, waiter))

    def interrupt(self, waiter: Waiter) -> None: ...

    def check(self, step: Step) -> None: ...

    def withdraw(self, function: Callable[..., object]) -> None: ...

    # -- for tests

    def ask(self, cause: Cause, name: str) -> Waiter:
        waiter = Waiter(cause)
        self.begin([Step(Primitive.EVAL, (name,))], waiter)
        return waiter

    def end_one(self) -> None:
        name, waiter = self.open.popleft()
        waiter.finish(name, None)
        self.go_on()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.open]


ANN, BOB, CID = Cause("ann"), Cause("bob"), Cause("cid")


def test_it_is_for_one_cause_at_a_time_and_then_for_who_came_next() -> None:
    board = OneByOne()
    for cause, name in [(ANN, "a1"), (ANN, "a2"), (BOB, "b1"), (CID, "c1"), (ANN, "a3"), (BOB, "b2")]:
        board.ask(cause, name)
    assert board.names == ["a1", "a2"]  # a3 has come when others waited
    assert board.tell() == "held by ann, 4 wait"
    board.end_one()
    assert board.names == ["a2"]
    board.end_one()
    assert board.names == ["b1"]
    board.end_one()
    assert board.names == ["c1"]
    board.end_one()
    assert board.names == ["a3"]
    assert board.tell() == "held by ann, 1 waits"
    board.end_one()
    board.end_one()
    assert board.names == []
    assert board.tell() == ""


def test_a_callback_of_the_holder_may_call_however_many_wait() -> None:
    board = OneByOne()
    board.ask(ANN, "a1")
    board.ask(BOB, "b1")
    board.ask(ANN, "a2")
    board.calling_back = True
    board.go_on()
    assert board.names == ["a1", "a2"]  # the callback may be waiting for that one
    board.ask(ANN, "a3")
    board.ask(BOB, "b2")
    assert board.names == ["a1", "a2", "a3"]


def test_what_one_cause_asks_is_sent_as_far_as_there_is_room() -> None:
    board = OneByOne(most=2)
    for name in ("1", "2", "3", "4"):
        board.ask(ANN, name)
    assert board.names == ["1", "2"]
    board.end_one()
    assert board.names == ["2", "3"]


def test_who_gives_up_is_not_waited_for() -> None:
    board = OneByOne()
    board.ask(ANN, "a1")
    given_up = board.ask(BOB, "b1")
    board.ask(CID, "c1")
    board.abandon(given_up)
    board.end_one()
    assert board.names == ["c1"]


def test_what_cannot_be_sent_fails_when_its_turn_comes_and_keeps_nobody() -> None:
    board = OneByOne()
    board.ask(ANN, "a1")
    bad = board.ask(BOB, "unsayable")
    board.ask(CID, "c1")
    board.end_one()
    assert type(bad.error) is EncodeError
    assert board.names == ["c1"]


def test_no_more_than_so_many_wait() -> None:
    board = OneByOne()
    board.ask(ANN, "a1")
    for n in range(WAITING):
        board.ask(BOB, str(n))
    with pytest.raises(LimitExceeded, match="256 programs of bob wait"):
        board.ask(BOB, "one too many")
    board.ask(CID, "not hers")


def test_who_waits_for_a_board_that_is_lost_is_told() -> None:
    board = OneByOne()
    board.ask(ANN, "a1")
    waiting = board.ask(BOB, "b1")
    board.lost = LinkLost("unplugged")
    board.end_turns(board.lost)
    assert type(waiting.error) is LinkLost


@needs_micropython
async def test_while_a_callback_of_one_session_runs_no_other_one_gets_between() -> None:
    config = Config(node=NodeSection(name="board"), listen=(Listen(url="memory://board"),), serve=CLASSIC)
    done: list[str] = []
    calling = trio.Event()
    async with (
        fake_board() as (pipe, _),
        open_board_node(config, pipe) as (_, board),
        rpyc_gateway.open_session("memory://board", node="board") as first,
        rpyc_gateway.open_session("memory://board", node="board") as second,
        trio.open_nursery() as nursery,
    ):
        await first.execute("def call(f): return f()")
        call = await first.eval("call")

        async def callback() -> Any:
            calling.set()
            while not board.tell().endswith("1 waits"):
                await trio.testing.wait_all_tasks_blocked(0.01)
            value = await first.eval("20 + 1")
            done.append("callback")
            return value

        async def get_between() -> None:
            await calling.wait()
            assert await second.eval("1 + 1") == 2
            done.append("second")

        nursery.start_soon(get_between)
        with trio.fail_after(10):
            assert await call(callback) == 21
            assert done[0] == "callback"


def test_who_floods_a_board_keeps_nobody_from_it() -> None:
    board = OneByOne(most=2)
    for n in range(20):
        board.ask(ANN, f"ann {n}")
    board.ask(BOB, "bob")
    board.ask(CID, "cid")
    seen = []
    while board.open:
        seen.append(board.names[0])
        board.end_one()
    assert seen.index("bob") <= 3
    assert seen.index("cid") <= 6
    assert len(seen) == 22


def test_a_client_that_does_not_have_this_class_catches_it_as_any_other_that_it_does_not_have() -> None:
    """What a client makes in its place has the parents that it has here."""
    assert issubclass(BoardError, RemoteError)
