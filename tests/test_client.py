"""Sessions of a process that is no node of its own, over one hop or a list of them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway import transport
from rpyc_gateway.client import open_client, open_session
from rpyc_gateway.config import Config, Listen, NodeSection, Serve, process_name
from rpyc_gateway.errors import Code, Denied, DialFailed, LimitExceeded, LinkLost, NoService, ProtocolError, Unreachable
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.nursery import open_background
from rpyc_gateway.proto.frames import Failure, valid_name
from rpyc_gateway.service import Service, expose
from rpyc_gateway.serving import Offer
from rpyc_gateway.session import Session
from rpyc_gateway.sync import connect
from rpyc_gateway.testing import BadWire
from rpyc_gateway.transport import Pipe, find_transport
from rpyc_transports.memory import MemoryStream, MemoryTransport, memory_streams
from tests.raw_peer import RawPeer


class Greeter(Service):
    @expose
    async def hello(self, name: str) -> str:
        return f"hello {name}"


@asynccontextmanager
async def running(name: str, *, dial_for: tuple[str, ...] = ("*",)) -> AsyncIterator[Node]:
    """A node at memory://name that dials for those, and serves "greeter" to everybody."""
    config = Config(
        node=NodeSection(name=name),
        listen=(Listen(url=f"memory://{name}"),),
        serve=(Serve(service="dial", allow=dial_for),),
    )
    async with open_node(config, services={"greeter": Offer(Greeter, ("*",))}) as node:
        yield node


@asynccontextmanager
async def running_all(*names: str) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(name)) for name in names]


async def test_a_session_with_the_node_that_was_dialled(autojump_clock: MockClock) -> None:
    async with running("hq"), open_session("memory://hq", service="greeter", name="me") as session:
        assert await session.root.hello("hq") == "hello hq"
        assert session.path == ("me", "hq")


async def test_a_session_over_a_new_link_is_open_after_one_round_trip(autojump_clock: MockClock) -> None:
    async with running("hq"), BadWire("memory://hq", "memory://slow") as wire:
        wire.delay(0.5)
        began = trio.current_time()
        async with open_session(wire.url, service="greeter"):
            assert trio.current_time() - began == pytest.approx(1.0, abs=0.01)


class LateTransport(MemoryTransport):
    """The node behind it is there after a minute only: somebody had to type a password first."""

    patience = 10.0

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        near, far = memory_streams()
        async with near, open_background() as nursery:
            nursery.start_soon(self._join, far, url.replace("late:", "memory:"))
            yield Pipe(near, url, patience=self.patience)

    async def _join(self, far: MemoryStream, url: str) -> None:
        await trio.sleep(60)
        async with super().connect(url) as pipe, trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, far, pipe.stream)
            nursery.start_soon(self._carry, pipe.stream, far)

    async def _carry(self, source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await sink.send_all(data)


async def test_a_link_that_is_given_more_time_gives_its_session_more(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = LateTransport()
    monkeypatch.setitem(transport._found, "late", late)
    async with running("hq"):
        with pytest.raises(DialFailed, match="did not say HELLO within 10 s"):
            async with open_session("late://hq", service="greeter"):
                pytest.fail("it waited")
        late.patience = inf
        async with open_session("late://hq", service="greeter") as session:
            assert await session.root.hello("hq") == "hello hq"


async def test_what_is_too_long_to_be_said_with_the_hello_is_said_after_it(autojump_clock: MockClock) -> None:
    async with running("hq"):
        with pytest.raises(NoService, match=f"does not serve '{'x' * 50}"):
            async with open_session("memory://hq", service="x" * 300):
                pytest.fail("it serves that")


async def test_a_link_that_is_refused_says_why_and_not_that_its_session_is_lost(autojump_clock: MockClock) -> None:
    async with running("hq") as hq:
        hq._departure = Failure(Code.LIMIT, "hq has 4096 links already", "hq")
        with pytest.raises(LimitExceeded, match=r"^hq has 4096 links already"):
            async with open_session("memory://hq", service="greeter"):
                pytest.fail("it is full")


async def test_every_further_hop_is_dialled_by_the_one_before(autojump_clock: MockClock) -> None:
    async with running_all("a", "b", "c", "d") as nodes:
        hops = [f"memory://{node.name}" for node in nodes]
        async with open_session(hops, service="greeter", name="me") as session:
            assert session.path == ("me", "a", "b", "c", "d")
            assert await session.root.hello("d") == "hello d"
        await wait_all_tasks_blocked()
        assert [len(node._neighbours) for node in nodes] == [0, 0, 0, 0]


async def test_a_node_behind_the_last_hop_and_behind_what_must_be_passed(autojump_clock: MockClock) -> None:
    async with running_all("a", "b", "c") as (_, b, _), b.link("memory://c"):
        async with RawPeer("board").link("memory://c"):
            await b.wait_route("board")
            async with open_session(["memory://a", "memory://b"], node="c", service="greeter", name="me") as session:
                assert session.path == ("me", "a", "b", "c")
            with pytest.raises(Unreachable, match="b knows no way to 'x', which this circuit must pass") as caught:
                async with open_session(["memory://a", "memory://b"], node="c", via=["x"], service="greeter"):
                    pytest.fail("x was skipped")
            assert caught.value.hop == "b"


async def test_users_that_ask_for_the_same_hop_share_its_link(autojump_clock: MockClock) -> None:
    async def use(leave: trio.Event, *, task_status: trio.TaskStatus[Session]) -> None:
        async with open_session(["memory://a", "memory://b"], service="greeter") as session:
            task_status.started(session)
            await leave.wait()

    async with running_all("a", "b") as (_, b), trio.open_nursery() as nursery:
        first_leaves, second_leaves = trio.Event(), trio.Event()
        one: Session = await nursery.start(use, first_leaves)
        two: Session = await nursery.start(use, second_leaves)
        assert len(b._neighbours) == 1
        first_leaves.set()
        await one.wait_closed()
        await wait_all_tasks_blocked()
        assert await two.root.hello("two") == "hello two"
        second_leaves.set()
        await two.wait_closed()
        await wait_all_tasks_blocked()
        assert b._neighbours == {}


async def test_a_hop_that_is_linked_already_is_used_and_left_alone(autojump_clock: MockClock) -> None:
    async with running_all("a", "b") as (a, _), a.link("memory://b"):
        async with open_session(["memory://a", "memory://b"], service="greeter") as session:
            assert await session.root.hello("b") == "hello b"
        await wait_all_tasks_blocked()
        assert list(a._up) == ["b"]


async def test_a_hop_that_dials_for_nobody_is_named(autojump_clock: MockClock) -> None:
    async with running("a", dial_for=()), running("b"):
        with pytest.raises(Denied, match="a does not let me use 'dial': it is allowed to nobody") as caught:
            async with open_session(["memory://a", "memory://b"], name="me"):
                pytest.fail("it was dialled")
        assert caught.value.hop == "a"


async def test_a_hop_that_cannot_be_reached_is_said_by_the_one_that_tried(autojump_clock: MockClock) -> None:
    async with running_all("a", "b"):
        with pytest.raises(DialFailed, match=r"b could not dial memory://nowhere: .*nobody listens there") as caught:
            async with open_session(["memory://a", "memory://b", "memory://nowhere"]):
                pytest.fail("nobody is there")
        assert caught.value.hop == "b"


async def test_a_first_hop_that_is_not_there(autojump_clock: MockClock) -> None:
    with pytest.raises(DialFailed, match="memory://nowhere"):
        async with open_session("memory://nowhere"):
            pytest.fail("nobody is there")


async def test_a_session_without_a_hop_is_a_mistake(autojump_clock: MockClock) -> None:
    with pytest.raises(ValueError, match="at least one hop"):
        async with open_session([]):
            pytest.fail("where to?")


@asynccontextmanager
async def stranger(first_words: bytes) -> AsyncIterator[None]:
    """Somebody else's server at memory://stranger."""

    async def serve(pipe: Pipe) -> None:
        if first_words:
            await pipe.stream.receive_some()
            await pipe.stream.send_all(first_words)
        while await pipe.stream.receive_some():
            continue

    async with trio.open_nursery() as nursery:
        await nursery.start(find_transport("memory://").serve, "memory://stranger", serve)
        yield
        nursery.cancel_scope.cancel()


async def test_a_listener_that_never_answers_is_given_up(autojump_clock: MockClock) -> None:
    async with stranger(b""):
        began = trio.current_time()
        with pytest.raises(DialFailed, match=r"memory://stranger did not become a link.*HELLO within 10 s"):
            async with open_session("memory://stranger"):
                pytest.fail("it said nothing")
        assert trio.current_time() - began < 15


async def test_a_listener_of_another_protocol_is_said_to_be_one(autojump_clock: MockClock) -> None:
    async with stranger(b"SSH-2.0-OpenSSH_9.6\r\n"):
        with pytest.raises(ProtocolError, match="began with b'SSH-2"):
            async with open_session("memory://stranger"):
                pytest.fail("it is no node")


async def test_a_first_hop_that_dies_ends_the_session_with_its_name(autojump_clock: MockClock) -> None:
    async with running("hq"), BadWire("memory://hq", "memory://wire") as wire:
        async with open_session(wire.url, service="greeter") as session:
            wire.cut()
            await session.wait_closed()
            with pytest.raises(LinkLost, match="hq"):
                await session.root.hello("anybody")


async def test_an_impatient_user_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    patience = trio.CancelScope()
    hung_up = trio.Event()

    async def never_answer(pipe: Pipe) -> None:
        patience.cancel()
        while await pipe.stream.receive_some():
            continue
        hung_up.set()

    async with running("a") as a, trio.open_nursery() as nursery:
        await nursery.start(find_transport("memory://").serve, "memory://silent", never_answer)
        with patience:
            async with open_session(["memory://a", "memory://silent"]):
                pytest.fail("it never answers")
        assert patience.cancelled_caught
        await hung_up.wait()
        await wait_all_tasks_blocked()
        assert a._neighbours == {}
        nursery.cancel_scope.cancel()


async def test_a_client_serves_nothing_and_is_no_way_to_anywhere(autojump_clock: MockClock) -> None:
    async with running("hq") as hq, running("lab") as lab, open_client("me") as client:
        async with client.link("memory://hq"), client.link("memory://lab"):
            await wait_all_tasks_blocked()
            assert [info.name for info in (*hq.nodes(), *lab.nodes())] == ["hq", "lab"]
            (back,) = hq._neighbours
            for service in ("classic", "node", "dial"):
                with pytest.raises(NoService, match="me does not serve"):
                    async with hq.session(service=service, connection=back):
                        pytest.fail("a client serves nothing")


@pytest.mark.parametrize("host", ["laptop", "x" * 200, "-- Größe --", ""])
def test_the_name_of_a_client_is_a_name(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert valid_name(process_name())


async def test_a_name_that_no_node_can_have_is_refused_before_anything_is_dialled() -> None:
    with pytest.raises(ValueError, match="not a node name"):
        async with open_session("memory://nowhere", name="somebody else"):
            pass


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"url": 5}, "`url` is a str, or a sequence of them for several hops, not '5'"),
        ({"url": ["memory://hq", None]}, "`url` is a str, or"),
        ({"via": "relay"}, r"`via` is a sequence of names of nodes, like \['relay'\], not 'relay'"),
        ({"via": [5]}, "`via` is a sequence of names"),
        ({"node": 5}, "`target` is a str, the name of a node, not int"),
        ({"service": None}, "`service` is a str, the name of a service, not NoneType"),
    ],
)
async def test_what_cannot_be_meant_is_told_before_anybody_is_asked(options: dict[str, Any], text: str) -> None:
    async with running("hq"):
        with pytest.raises(TypeError, match=text):
            async with open_session(**({"url": "memory://hq"} | options)):
                pass
        if options.keys() <= {"url", "via"}:  # a name is judged where the way is known
            with pytest.raises(TypeError, match=text):
                await trio.to_thread.run_sync(partial(connect, **({"url": "memory://hq"} | options)))
