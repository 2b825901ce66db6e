"""A node with boards in its configuration: they are waited for, kept, guarded, and left at their prompts."""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.config import Config, Device, Dial, Listen, NodeSection, Relay
from rpyc_gateway.testing import BadLine
from rpyc_transports.ports import Port
from tests.device.boards import board_on, microbit, needs_microbit, needs_micropython, pipe_to
from tests.device.interpreters import OLDEST
from tests.house import wait_nodes

SHIPPED = Path(__file__).parents[1] / "configs/board.toml"


def hub(port: str, *, listen: str = "memory://hub", allow: tuple[str, ...] = ("*",), agent: bool = True) -> Config:
    return Config(
        node=NodeSection(name="hub"),
        listen=(Listen(url=listen),),
        device=(Device(name="board", url=f"serial://{port}", allow=allow, agent=agent),),
        relay=Relay(allow=()),
    )


async def test_the_configuration_we_ship_starts_without_a_board_and_tells_that_it_waits(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    for there, here in (("/tmp/rpyc-gw-hub.sock", f"{tmp_path}/s"), ("/dev/ttyACM0", f"{tmp_path}/tty")):
        assert there in text
        text = text.replace(there, here)
    config = tmp_path / "board.toml"
    config.write_text(text)
    async with gw.open_node(config) as node:
        await wait_state(node, "waiting: ")
        assert [(info.name, info.link) for info in node.nodes()] == [("hub", ""), ("", f"serial://{tmp_path}/tty")]
        async with gw.open_session(node.urls[0], service="node") as session:
            assert len(await session.root.nodes()) == 2


async def wait_state(node: gw.Node, beginning: str) -> None:
    while not node.nodes()[-1].state.startswith(beginning):  # noqa: ASYNC110  # a dialer sets no event
        await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("allow", "error"),
    [
        ((), gw.Denied),
        (("parent", f"uid:{os.getuid() + 1}"), gw.Denied),
        ((f"uid:{os.getuid()}",), gw.Unreachable),  # it is let in, and the board is not there
    ],
)
async def test_who_may_use_a_board_is_decided_by_its_gateway_which_knows_who_asks(
    allow: tuple[str, ...], error: type[gw.GatewayError], tmp_path: Path
) -> None:
    async with gw.open_node(hub(f"{tmp_path}/tty", listen=f"unix://{tmp_path}/s", allow=allow)) as node:
        with pytest.raises(error, match="board"):
            async with gw.open_session(node.urls[0], node="board"):
                pass


@asynccontextmanager
async def plugged_in() -> AsyncIterator[BadLine]:
    with BadLine(math.inf) as line, board_on(line.far):
        yield line


@needs_micropython
async def test_a_board_is_a_node_of_its_own_behind_its_gateway() -> None:
    async with plugged_in() as line, gw.open_node(hub(line.near)) as node:
        await wait_nodes(node, lambda names: "board" in names)
        assert ("board", ("hub", "board"), 1, f"serial://{line.near}", "up", "") in node.nodes()
        async with gw.open_session("memory://hub", node="board") as session:
            assert await session.modules.sys.implementation.name == "micropython"
        with pytest.raises(gw.Denied):
            async with gw.open_session("memory://hub"):
                pass


@needs_micropython
async def test_a_board_that_is_unplugged_is_another_life_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    with BadLine(math.inf) as line, ExitStack() as back:
        async with gw.open_node(hub(line.near)) as node:
            with board_on(line.far):
                await node.wait_route("board")
                async with node.session("board") as session:
                    await session.execute("x = 1")
                line.unplug()
                await wait_nodes(node, lambda names: "board" not in names)
            line.plug()
            back.enter_context(board_on(line.far))
            await node.wait_route("board")
            async with node.session("board") as session:
                assert await session.eval("'x' in globals()") is False
    assert f"board at serial://{line.near}: " in caplog.text


@needs_micropython
async def test_a_session_that_was_idle_when_its_board_was_reset_is_told_why_it_is_over() -> None:
    with BadLine(math.inf) as line, board_on(line.far) as board:
        async with gw.open_node(hub(line.near)) as node:
            await wait_nodes(node, lambda names: "board" in names)
            async with node.session("board") as session:
                await session.eval("1")
                await trio.to_thread.run_sync(board.kill)
                await wait_nodes(node, lambda names: "board" not in names)
                with pytest.raises(gw.PeerRestarted, match="started anew"):
                    await use_up(session)


async def use_up(session: Any) -> None:
    """Until it is over."""
    while True:
        await session.eval("1")


@needs_micropython
async def test_the_end_of_its_gateway_brings_a_board_back_to_its_prompt() -> None:
    async with plugged_in() as line:
        async with gw.open_node(hub(line.near)) as node:
            await node.wait_route("board")
        async with pipe_to(line.near) as pipe:
            await pipe.stream.send_all(b"6 * 7\r")
            said = b""
            with trio.fail_after(5):
                while b"42\n>>> " not in said:
                    said += await pipe.stream.receive_some(1000)


@needs_microbit
async def test_a_micro_bit_which_has_no_room_for_the_agent_is_a_node_all_the_same(tmp_path: Path) -> None:
    with microbit() as port:
        async with gw.open_node(hub(port, listen=f"unix://{tmp_path}/s")) as node:
            await wait_nodes(node, lambda names: "board" in names)
            told = next(info for info in node.nodes() if info.name == "board")
            assert told.about == "without the agent, by its REPL: no events"
            async with gw.open_session(node.urls[0], node="board") as session:
                assert await session.modules.microbit.running_time() > 0
                assert await session.eval("1 + 1") == 2
                await session.execute("class Led:\n def __init__(self): self.level = 0")
                led = await session.namespace["Led"]()
                await gw.ops.setattr(led, "level", 5)
                assert await led.level == 5
                items = await session.eval("[3, 4]")
                assert await gw.ops.len(items) == 2
                assert [item async for item in items] == [3, 4]
                with pytest.raises(ZeroDivisionError) as caught:
                    await session.eval("1 / 0")
                assert any("Traceback" in note for note in caught.value.__notes__)
                assert await session.eval("lambda f: f(1) + 1")(lambda x: x * 10) == 11
                with pytest.raises(TypeError, match="without the agent, by its REPL: no events"):
                    await session.root.events()
                with trio.move_on_after(0.3):
                    await session.execute("while True: pass")
                assert await session.eval("'still here'") == "still here"
                await blocking_story(node)


async def blocking_story(node: gw.Node) -> None:
    """The same by blocking code, in a thread."""

    def run() -> None:
        with gw.connect(node.urls[0], node="board") as conn:
            assert conn.modules.gc.mem_free() > 1000
            conn.namespace["x"] = (1, "two")
            assert conn.eval("x") == (1, "two")
            with pytest.raises(NameError):
                conn.eval("nothing_like_it")

    await trio.to_thread.run_sync(run)


@needs_micropython
async def test_a_board_may_be_driven_without_the_agent_because_its_configuration_says_so() -> None:
    async with plugged_in() as line, gw.open_node(hub(line.near, agent=False)) as node:
        await wait_nodes(node, lambda names: "board" in names)
        told = next(info for info in node.nodes() if info.name == "board")
        assert told.about.startswith("without the agent")
        async with gw.open_session("memory://hub", node="board") as session:
            assert await session.modules.sys.platform == "linux"


# -- boards that are plugged in and pulled out


class Bench:
    """Sockets with boards in them, that the system tells of as a system with USB would."""

    def __init__(self, ports: list[Port]) -> None:
        self.ports = ports
        self.plugs = ExitStack()

    def plug(self, line: BadLine, serial: str, location: str, *, heap: str = "") -> None:
        self.plugs.enter_context(board_on(line.far, heap))
        self.ports.append(Port(line.near, "2E8A", "0005", serial, location, "Pico"))

    def pull(self, *lines: BadLine) -> None:
        """All that is plugged in."""
        self.ports.clear()
        for line in lines:
            line.unplug()
        self.plugs.close()
        for line in lines:
            line.plug()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench([])
    monkeypatch.setattr("rpyc_transports.ports.plugged_in", lambda: list(bench.ports))
    monkeypatch.setattr("rpyc_gateway.lookout.PERIOD", 0.05)
    with bench.plugs:
        yield bench


def picos(name: str = "pico-{serial}", *, allow: tuple[str, ...] = ("*",)) -> Config:
    device = Device(name=name, url="serial://?vid=2E8A", allow=allow)
    return Config(
        node=NodeSection(name="hub"), listen=(Listen(url="memory://hub"),), device=(device,), relay=Relay(allow=())
    )


async def wait_boards(node: gw.Node, *rows: tuple[str, str]) -> None:
    """Until `nodes` has these, by name, or else by URL, and state, and no more."""
    with trio.fail_after(20):
        while sorted((info.name or info.link, info.state.partition(":")[0]) for info in node.nodes()[1:]) != [*rows]:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def heap_of(node: gw.Node, name: str) -> int:
    with trio.fail_after(20):
        await node.wait_route(name)
        async with node.session(name) as session:
            free: int = await session.modules.gc.mem_free()
            return free


@needs_micropython
async def test_each_board_that_fits_is_a_node_of_its_own_name_wherever_it_is_plugged_in(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rpyc_gateway")
    with BadLine(math.inf) as one, BadLine(math.inf) as two:
        async with gw.open_node(picos()) as node:
            await wait_state(node, "waiting: nothing is plugged in there")
            bench.plug(one, "A", "1-1", heap="200K")
            await node.wait_route("pico-A")
            bench.plug(two, "B", "1-2", heap="900K")
            assert await heap_of(node, "pico-A") < 200_000
            assert await heap_of(node, "pico-B") > 500_000
            async with gw.open_session("memory://hub", node="pico-B") as session:
                assert await session.eval("1 + 1") == 2
                bench.pull(one, two)
                with pytest.raises(gw.LinkLost):
                    await use_up(session)
            await wait_boards(node, ("serial://?vid=2E8A", "waiting"))
            bench.plug(one, "B", "1-1", heap="900K")
            bench.plug(two, "A", "1-2", heap="200K")
            assert await heap_of(node, "pico-B") > 500_000
            assert await heap_of(node, "pico-A") < 200_000
            await wait_boards(node, ("pico-A", "up"), ("pico-B", "up"))
    assert caplog.text.count("pico-{serial} at serial://?vid=2E8A: nothing is plugged in there") == 2  # each time once


@needs_micropython
async def test_whom_a_template_lets_in_is_whom_each_of_its_boards_lets_in(bench: Bench) -> None:
    with BadLine(math.inf) as line:
        bench.plug(line, "A", "1-1")
        async with gw.open_node(picos(allow=())) as node:
            await node.wait_route("pico-A")
            with pytest.raises(gw.Denied, match="pico-A of hub does not let in"):
                async with gw.open_session("memory://hub", node="pico-A"):
                    pass


@needs_micropython
async def test_one_that_is_served_keeps_its_name_from_another_that_claims_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with BadLine(math.inf) as one, BadLine(math.inf) as two:
        bench.plug(one, "A", "1-1", heap="200K")
        async with gw.open_node(picos()) as node:
            await node.wait_route("pico-A")
            bench.plug(two, "A", "1-2", heap="900K")
            while "would all be pico-A" not in caplog.text:  # noqa: ASYNC110  # a log sets no event
                await trio.sleep(0.01)
            assert await heap_of(node, "pico-A") < 200_000
            bench.ports.pop(0)
            one.unplug()
            await wait_state(
                node, f"waiting: {two.near} (Pico, serial number A, at 1-2) would be pico-A, as another was"
            )
    assert f"{one.near} (Pico, serial number A, at 1-1) and {two.near} (Pico, serial" in caplog.text
    assert f"{one.near} keeps the name" in caplog.text


async def test_boards_that_nothing_tells_apart_are_not_served_and_both_are_told(bench: Bench) -> None:
    bench.ports += [Port("/dev/ttyA", "2E8A", "0005", "1", "1-1"), Port("/dev/ttyB", "2E8A", "0005", "1", "1-2")]
    async with gw.open_node(picos()) as node:
        await wait_state(node, "waiting: /dev/ttyA (serial number 1, at 1-1) and /dev/ttyB (serial number 1, at 1-2)")
        assert "none of them is served" in node.nodes()[-1].state


async def test_a_plain_name_for_several_boards_is_refused_with_a_list_of_them(bench: Bench) -> None:
    bench.ports += [Port("/dev/ttyA", "2E8A", "0005", "1", "1-1"), Port("/dev/ttyB", "2E8A", "0005", "2", "1-2")]
    async with gw.open_node(picos("pico")) as node:
        await wait_state(node, "waiting: 2 ports fit: /dev/ttyA (serial number 1, at 1-1); /dev/ttyB (serial number 2")
        assert 'or name each: `name = "pico-{serial}"`' in node.nodes()[-1].state


@pytest.mark.parametrize("name", ["hub", "bench"])
async def test_a_board_does_not_get_the_name_of_another_node(bench: Bench, name: str) -> None:
    bench.ports.append(Port("/dev/ttyA", "2E8A", "0005", name, "1-1"))
    other = Device(name="bench", url="serial:///dev/nowhere", allow=())
    config = picos("{serial}")
    async with gw.open_node(config.but(device=(other, *config.device))) as node:
        await wait_state(node, f"waiting: /dev/ttyA (serial number {name}, at 1-1) would be {name}, which is the name")


@needs_micropython
async def test_a_device_of_its_own_goes_before_a_template(bench: Bench) -> None:
    with BadLine(math.inf) as line:
        bench.plug(line, "A", "1-1")
        config = picos()
        own = Device(name="own", url="serial://?serial=a", allow=())
        async with gw.open_node(config.but(device=(*config.device, own))) as node:
            await node.wait_route("own")
            await wait_boards(node, ("own", "up"), ("serial://?vid=2E8A", "waiting"))


async def test_a_node_at_the_other_end_of_a_cable_is_dialled_when_the_cable_is_plugged_in(bench: Bench) -> None:
    with BadLine(math.inf) as line:
        dials = Config(node=NodeSection(name="hub"), dial=(Dial(url="serial://?vid=0403"),))
        listens = Config(node=NodeSection(name="lab"), listen=(Listen(url=f"serial://{line.far}"),))
        async with gw.open_node(listens), gw.open_node(dials) as node:
            await wait_state(node, "waiting: nothing is plugged in there")
            bench.ports.append(Port(line.near, "0403", "6001", "FT1", "1-1", "FT232R"))
            with trio.fail_after(10):
                await node.wait_route("lab")


# -- a bare Python


BARE = f"{OLDEST} -I"


async def test_a_bare_python_that_is_dialled_is_a_node_of_the_name_that_it_is_given() -> None:
    config = Config(node=NodeSection(name="hub"), dial=(Dial(url=f"stdio:?name=lab {BARE}"),))
    async with gw.open_node(config) as node:
        await wait_nodes(node, lambda names: "lab" in names)
        (info,) = (info for info in node.nodes() if info.name == "lab")
        assert re.fullmatch(r"`.*` \(pid \d+\), bare Python 3\.\d+\.\d+", info.link)
        async with node.session("lab") as session:
            pid = await session.modules.os.getpid()
            await session.execute("x = 1")
            with pytest.raises(gw.LinkLost, match="was killed by SIGKILL"):
                await session.modules.os.kill(pid, int(signal.SIGKILL))
        await wait_nodes(node, lambda names: "lab" not in names)
        await node.wait_route("lab")
        async with node.session("lab") as session:
            assert await session.eval("'x' in globals()") is False


async def test_what_a_bare_python_lacks_is_told_by_who_keeps_dialling_it() -> None:
    config = Config(node=NodeSection(name="hub"), dial=(Dial(url="stdio:sh -c 'exit 3; python3'"),))
    async with gw.open_node(config) as node:
        await wait_state(node, "waiting: ")
        assert "exited with status 3" in node.nodes()[-1].state


async def test_sessions_of_one_client_share_its_interpreter_and_two_clients_have_two() -> None:
    url = f"stdio:{BARE}"
    async with gw.open_session(url) as one, gw.open_session(url) as other:
        assert await one.modules.os.getpid() != await other.modules.os.getpid()
    with trio.fail_after(10):
        first, second = await trio.to_thread.run_sync(blocking_pids, url)
    assert first == second


def blocking_pids(url: str) -> tuple[int, int]:
    with gw.connect(url) as one, gw.connect(url) as other:
        one.execute("x = 1")
        assert other.eval("x") == 1
        return one.modules.os.getpid(), other.modules.os.getpid()


@pytest.mark.parametrize("patience", [0.0, 0.01, 0.03, 0.05, 0.08])
async def test_who_gives_up_dialling_a_bare_python_leaves_nothing(patience: float) -> None:
    with trio.move_on_after(patience):
        async with gw.open_session(f"stdio:{BARE}"):
            pass
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222  # it does not wait
