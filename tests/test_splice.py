"""Circuits through real nodes, between two neighbours made by hand."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.config import Config, Dial, Listen, NodeSection
from rpyc_gateway.connection import Connection
from rpyc_gateway.errands import Errands
from rpyc_gateway.errors import Code
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.proto.frames import CircuitClass, Failure, Limits
from rpyc_gateway.proto.stream import WINDOW
from rpyc_gateway.splice import SplicedStream
from rpyc_gateway.testing import BadWire
from rpyc_gateway.turn import Turn
from tests.raw_peer import RawPeer, accept_and_echo, accept_and_listen, listen_without_a_word, no

BULK = bytes(range(256)) * 2048  # half a megabyte: many windows


class Chain(NamedTuple):
    """user - gate1 - gate2 - ... - lab. The outer two are made by hand."""

    user: RawPeer
    gates: Sequence[Node]
    lab: RawPeer

    def queued(self) -> list[int]:
        return [sum(link.statistics().queued for link in list(gate._neighbours)) for gate in self.gates]

    def streams(self) -> list[int]:
        return [sum(link.statistics().streams for link in list(gate._neighbours)) for gate in self.gates]


@asynccontextmanager
async def open_chain(
    gates: int, *, wire: int = 0, limits: Limits | None = None
) -> AsyncIterator[tuple[Chain, BadWire | None]]:
    """A chain of so many gates. With `wire` n, gate n dials gate n+1 through a BadWire."""
    user, lab = RawPeer("user", kind="client"), RawPeer("lab", limits=limits)
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        bad = None
        for number in range(gates, 0, -1):
            dial = f"memory://gate{number + 1}"
            if number == wire:
                bad = await stack.enter_async_context(BadWire(dial, "memory://wire"))
                dial = bad.url
            config = Config(
                node=NodeSection(name=f"gate{number}"),
                listen=(Listen(url=f"memory://gate{number}"),),
                dial=(Dial(url=dial),) if nodes else (),
            )
            nodes.insert(0, await stack.enter_async_context(open_node(config)))
        await stack.enter_async_context(lab.link(f"memory://gate{gates}"))
        await stack.enter_async_context(user.link("memory://gate1"))
        await nodes[0].wait_route("lab")
        yield Chain(user, nodes, lab), bad


@pytest.mark.parametrize("gates", [1, 2, 3])
async def test_what_is_said_comes_back_over_any_number_of_hops(gates: int, autojump_clock: MockClock) -> None:
    async with open_chain(gates) as (chain, _):
        chain.lab.answer = accept_and_echo
        circuit = chain.user.open("lab")
        circuit.say(BULK)
        circuit.finish()
        await circuit.wait(lambda ear: "finished" in ear.ends)
        assert circuit.data == BULK
        assert circuit.path == ("user", *(gate.name for gate in chain.gates), "lab")
        await wait_all_tasks_blocked()
        assert chain.streams() == [0] * gates


async def test_one_direction_may_end_long_before_the_other(autojump_clock: MockClock) -> None:
    async with open_chain(2) as (chain, _):
        circuit = chain.user.open("lab")
        circuit.say(b"a question")
        circuit.finish()
        await chain.lab.wait(lambda lab: lab.ears)
        (far,) = chain.lab.ears
        await far.wait_end()
        assert (far.data, far.ends) == (b"a question", ["finished"])
        far.say(BULK)
        far.finish()
        await circuit.wait_end()
        assert (circuit.data, circuit.ends) == (BULK, ["finished"])


async def test_a_reader_that_stops_bounds_what_every_node_holds(autojump_clock: MockClock) -> None:
    async with open_chain(3) as (chain, _):
        circuit = chain.user.open("lab")
        await chain.lab.wait(lambda lab: lab.ears)
        (far,) = chain.lab.ears
        far.thirsty = "no"
        circuit.say(BULK * 8)
        await wait_all_tasks_blocked()
        assert len(far.data) == WINDOW
        assert all(0 < queued <= 4 * WINDOW for queued in chain.queued())  # what was granted, which has grown

        chain.lab.answer = accept_and_echo
        other = chain.user.open("lab")
        other.say(b"we are not held up")
        other.finish()
        await other.wait_end()
        assert other.data == b"we are not held up"


async def test_a_reader_that_goes_on_gets_everything(autojump_clock: MockClock) -> None:
    async with open_chain(2) as (chain, _):
        circuit = chain.user.open("lab")
        await chain.lab.wait(lambda lab: lab.ears)
        (far,) = chain.lab.ears
        far.thirsty = "no"
        circuit.say(BULK)
        circuit.finish()
        await wait_all_tasks_blocked()
        far.thirsty = "yes"
        with far.connection.turn as mux:
            mux.consume(far.label, len(far.data))
        await far.wait_end()
        assert (far.data, far.ends) == (BULK, ["finished"])


async def test_an_opener_that_loses_interest_resets_the_far_end(autojump_clock: MockClock) -> None:
    async with open_chain(3) as (chain, _):
        circuit = chain.user.open("lab")
        await chain.lab.wait(lambda lab: lab.ears)
        circuit.say(BULK)
        circuit.end_with(Failure(Code.CANCELLED, "never mind", "user"))
        (far,) = chain.lab.ears
        assert await far.wait_end() == ("reset", Failure(Code.CANCELLED, "never mind", "user"))
        await wait_all_tasks_blocked()
        assert chain.streams() == [0, 0, 0]
        assert chain.queued() == [0, 0, 0]


async def test_a_far_end_that_breaks_off_resets_the_opener(autojump_clock: MockClock) -> None:
    async with open_chain(2) as (chain, _):
        circuit = chain.user.open("lab")
        await chain.lab.wait(lambda lab: lab.ears)
        (far,) = chain.lab.ears
        far.end_with(Failure(Code.INTERNAL, "it broke", "lab"))
        assert await circuit.wait_end() == ("reset", Failure(Code.INTERNAL, "it broke", "lab"))


async def test_stop_is_passed_on_and_answered_by_the_one_who_sends(autojump_clock: MockClock) -> None:
    async with open_chain(2) as (chain, _):
        circuit = chain.user.open("lab")
        await chain.lab.wait(lambda lab: lab.ears)
        (far,) = chain.lab.ears
        circuit.say(BULK)
        far.stop(Failure(Code.CANCELLED, "enough", "lab"))
        assert await circuit.wait_end() == ("stopped", Failure(Code.CANCELLED, "enough", "lab"))
        assert far.ends == []
        circuit.finish()
        await far.wait_end()
        assert far.ends == ["finished"]
        far.say(b"but here is more")
        far.finish()
        await circuit.wait(lambda ear: "finished" in ear.ends)
        assert circuit.data == b"but here is more"


async def test_a_link_that_dies_resets_both_ends_and_names_the_hop(autojump_clock: MockClock) -> None:
    async with open_chain(3, wire=2) as (chain, wire):
        assert wire is not None
        chain.lab.answer = accept_and_echo
        circuit = chain.user.open("lab")
        circuit.say(b"hello")
        await circuit.wait(lambda ear: ear.data == b"hello")
        (far,) = chain.lab.ears
        wire.cut()

        end = await circuit.wait_end()
        assert isinstance(end, tuple)
        assert (end[0], end[1].code, end[1].hop) == ("reset", Code.LINK_LOST, "gate2")
        assert "gate3" in end[1].text
        end = await far.wait_end()
        assert isinstance(end, tuple)
        assert (end[0], end[1].code, end[1].hop) == ("reset", Code.LINK_LOST, "gate3")
        assert "gate2" in end[1].text


async def test_a_link_that_dies_takes_nobody_else_along(autojump_clock: MockClock) -> None:
    async with open_chain(2) as (chain, _), RawPeer("board").link("memory://gate2") as board:
        await chain.gates[0].wait_route("board")
        circuit, other = chain.user.open("lab"), chain.user.open("board")
        await chain.lab.wait(lambda lab: lab.ears)
        chain.lab.connection.close(Failure(Code.LINK_LOST, "pulled", "lab"))
        await circuit.wait_end()
        other.say(b"still here")
        await board.wait(lambda peer: peer.ears)
        await board.ears[0].wait(lambda ear: ear.data == b"still here")
        assert other.ends == []


async def test_what_is_said_early_arrives_before_the_answer_and_within_its_limit(autojump_clock: MockClock) -> None:
    async with open_chain(3) as (chain, _):
        chain.lab.answer = listen_without_a_word
        circuit = chain.user.open("lab")
        circuit.say(BULK)
        await chain.lab.wait(lambda lab: lab.ears)
        await wait_all_tasks_blocked()
        (far,) = chain.lab.ears
        assert circuit.path is None
        assert far.data == BULK[: Limits().early_stream]
        far.thirsty = "yes"
        far.accept()
        with far.connection.turn as mux:
            mux.consume(far.label, len(far.data))
        await far.wait(lambda ear: ear.data == BULK)


async def test_a_target_that_takes_nothing_early_gets_it_when_it_has_accepted(autojump_clock: MockClock) -> None:
    async with open_chain(1, limits=Limits(early_stream=0)) as (chain, _):
        chain.lab.answer = listen_without_a_word
        circuit = chain.user.open("lab")
        circuit.say(b"early")
        await chain.lab.wait(lambda lab: lab.ears)
        await wait_all_tasks_blocked()
        (far,) = chain.lab.ears
        assert far.data == b""
        far.accept()
        await far.wait(lambda ear: ear.data == b"early")


async def test_a_refusal_comes_through_as_it_was_said(autojump_clock: MockClock) -> None:
    async with open_chain(2) as (chain, _):
        chain.lab.answer = no
        circuit = chain.user.open("lab")
        assert await circuit.wait_end() == ("refused", Failure(Code.DENIED, "not for you", "lab"))
        await wait_all_tasks_blocked()
        assert chain.streams() == [0, 0]


async def test_a_link_that_takes_no_more_streams_refuses_only_the_one_too_many(autojump_clock: MockClock) -> None:
    async with open_chain(2, limits=Limits(streams=1)) as (chain, _):
        first, second = chain.user.open("lab"), chain.user.open("lab")
        end = await second.wait_end()
        assert isinstance(end, tuple)
        assert (end[0], end[1].code, end[1].hop) == ("refused", Code.LIMIT, "gate2")
        first.say(b"fine")
        await chain.lab.wait(lambda lab: lab.ears)
        await chain.lab.ears[0].wait(lambda ear: ear.data == b"fine")


async def test_no_circuit_may_go_before_the_control_frames_of_a_link(autojump_clock: MockClock) -> None:
    async with open_chain(1) as (chain, _):
        chain.lab.answer = accept_and_listen
        chain.user.open("lab", kind=CircuitClass.CONTROL)
        chain.user.open("lab", kind=CircuitClass.BULK)
        await chain.lab.wait(lambda lab: len(lab.ears) == 2)
        assert chain.lab.kinds == [CircuitClass.CALL, CircuitClass.BULK]


async def test_a_thousand_circuits_share_a_chain(autojump_clock: MockClock) -> None:
    async with open_chain(2) as (chain, _):
        chain.lab.answer = accept_and_echo
        circuits = [chain.user.open("lab") for _ in range(1000)]
        for number, circuit in enumerate(circuits):
            circuit.say(b"%d" % number)
            circuit.finish()
        with trio.fail_after(60):
            for circuit in circuits:
                await circuit.wait_end()
        assert [circuit.data for circuit in circuits] == [b"%d" % number for number in range(1000)]


# -- one small frame between two links that are not real ------------------------------------------------------------------


class FakeLink:
    """A link that writes down what is said on it and consumed; `takes` says whether a message leaves at once."""

    pass_on = Connection.pass_on

    def __init__(self) -> None:
        self.turn = Turn(self)
        self.mux = self
        self.errands: Errands[Any] = Errands()
        self.done: list[object] = []
        self.takes = True
        self.unsettled = False
        self.at_rest = True

    def say(self, label: int, data: bytes) -> bool:
        assert self.turn.held
        if not data:
            raise ValueError("nothing to say")
        self.done.append((label, data))
        return self.takes

    send = say

    def consume(self, label: int, count: int) -> None:
        assert self.turn.held
        self.done.append((label, count))

    def settle(self) -> None:
        self.unsettled = False
        self.errands.add(self, lambda link, label, value: link.done.append((label, value)), 0, "an errand")

    def disown(self, label: int) -> None:
        self.done.append(("disowned", label))

    def hear(self, stream: SplicedStream, data: bytes) -> None:
        """A step of this link that reads a small frame, and its end."""
        with self.turn:
            stream.received_alone(data)
        if self.errands.waiting:
            self.errands.run()


@pytest.fixture
def spliced() -> tuple[FakeLink, FakeLink, SplicedStream]:
    near, far = FakeLink(), FakeLink()
    return near, far, SplicedStream(near, far, 5, 3)  # type: ignore[arg-type]


Spliced = tuple[FakeLink, FakeLink, SplicedStream]


def test_a_small_frame_leaves_at_once_and_there_is_credit_for_it(spliced: Spliced) -> None:
    near, far, stream = spliced
    with near.turn:
        stream.received_alone(b"one")
        assert (near.done, far.done, list(near.errands.waiting)) == ([(3, 3)], [(5, b"one")], [])
    assert not far.turn.held


def test_there_is_no_credit_for_what_waits_to_leave(spliced: Spliced) -> None:
    near, far, stream = spliced
    far.takes = False
    near.hear(stream, b"one")
    assert (near.done, far.done) == ([], [(5, b"one")])


def test_a_thread_that_holds_a_turn_does_not_wait_for_another_and_order_is_kept(spliced: Spliced) -> None:
    near, far, stream = spliced
    taken, free = threading.Event(), threading.Event()

    def hold() -> None:
        with far.turn:
            taken.set()
            free.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(10)
    with near.turn:
        stream.received_alone(b"one")
        assert far.done == []
        free.set()
        holder.join(10)
        stream.received_alone(b"two")  # the turn is free, but this must not go before the first
        assert far.done == []
    near.errands.run()
    assert far.done == [(5, b"one"), (5, b"two")]


def test_nothing_goes_before_what_another_thread_is_about_to_send(spliced: Spliced) -> None:
    near, far, stream = spliced
    with near.errands._running:  # which a thread has that has taken an errand, and does not have the turn for it yet
        near.hear(stream, b"two")
        assert far.done == []
    near.errands.run()
    assert far.done == [(5, b"two")]


def test_what_the_other_link_has_to_do_on_third_ones_is_done_when_no_turn_is_held(spliced: Spliced) -> None:
    near, far, stream = spliced
    far.unsettled = True
    with near.turn:
        stream.received_alone(b"one")
        assert far.done == [(5, b"one")]
        assert far.errands.waiting
        assert near.errands.waiting  # a turn of the other link will follow, and its end runs them


def test_a_stream_that_cannot_be_sent_on_is_reset_there(spliced: Spliced) -> None:
    near, far, stream = spliced
    near.hear(stream, b"")
    assert (near.done, far.done) == ([], [("disowned", 5)])
    assert not far.turn.held
