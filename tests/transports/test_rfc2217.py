"""rfc2217:// against a real server of the protocol, with a line behind it."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.reliable import reliable
from rpyc_gateway.testing import BadLine, check_transport
from rpyc_gateway.transport import Pipe
from rpyc_transports.rfc2217 import Rfc2217Transport
from rpyc_transports.serial import SerialTransport

rfc2217 = Rfc2217Transport()
serial = SerialTransport()

SERVER = Path(__file__).with_name("port_server.py")

# pyserial 3.5 uses names that threads have had before Python 3.10.
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")


async def hears(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    heard = b""
    while len(heard) < count:
        heard += await stream.receive_some()
    return heard


@asynccontextmanager
async def port_server(path: str) -> AsyncIterator[str]:
    """Where it listens: host:port."""
    server = await trio.lowlevel.open_process([sys.executable, str(SERVER), path], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        async with server.stdout:
            yield f"127.0.0.1:{int(await server.stdout.receive_some())}"
    finally:
        server.kill()
        with trio.CancelScope(shield=True):
            await server.wait()


async def test_any_bytes_pass_both_ways_and_the_port_is_set_up_as_asked_for() -> None:
    data = bytes(range(256)) * 8
    async with BadLine(math.inf) as line, port_server(line.far) as server:
        async with serial.connect(f"serial://{line.near}") as near:
            async with rfc2217.connect(f"rfc2217://{server}?baudrate=57600") as far, trio.open_nursery() as nursery:
                assert (far.reliable, far.private, far.rate) == (False, False, 5760)
                assert far.peer == f"rfc2217://{server} at 57600 baud"
                with open(line.far, "rb", buffering=0) as port:  # noqa: ASYNC230  a tty opens at once
                    assert termios.tcgetattr(port)[5] == termios.B57600
                nursery.start_soon(near.stream.send_all, data)
                nursery.start_soon(far.stream.send_all, data[::-1])
                assert await hears(far.stream, len(data)) == data
                assert await hears(near.stream, len(data)) == data[::-1]


async def test_a_receive_that_is_cancelled_loses_nothing_and_ends_soon() -> None:
    async with BadLine(math.inf) as line, port_server(line.far) as server:
        async with serial.connect(f"serial://{line.near}") as near, rfc2217.connect(f"rfc2217://{server}") as far:
            for _ in range(3):
                with trio.move_on_after(0.01):
                    await far.stream.receive_some()
            await near.stream.send_all(b"whole")
            assert [await far.stream.receive_some(1) for _ in range(5)] == [b"w", b"h", b"o", b"l", b"e"]


async def test_another_rate_is_set_at_the_server() -> None:
    async with BadLine(None) as line, port_server(line.far) as server:
        async with rfc2217.connect(f"rfc2217://{server}") as far:
            assert far.set_rate is not None
            await far.set_rate(230_400)
            async with serial.connect(f"serial://{line.near}?baudrate=230400") as near:
                await far.stream.send_all(b"fast")
                assert await hears(near.stream, 4) == b"fast"


async def test_a_server_that_ends_is_a_port_that_is_gone() -> None:
    async with BadLine() as line:
        async with port_server(line.far) as server, rfc2217.connect(f"rfc2217://{server}") as far:
            line.unplug()
            with pytest.raises(trio.BrokenResourceError, match=f"rfc2217://{server} is gone"):
                await far.stream.receive_some()
            with pytest.raises(trio.BrokenResourceError, match=f"rfc2217://{server} is gone"):
                await far.stream.send_all(bytes(1000))
            await far.stream.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await far.stream.receive_some()


async def test_a_line_behind_a_server_is_served() -> None:
    async def echo(pipe: Pipe) -> None:
        await pipe.stream.send_all(await pipe.stream.receive_some())

    async with BadLine(math.inf) as line, port_server(line.far) as server, trio.open_nursery() as nursery:
        url = f"rfc2217://{server}"
        assert await nursery.start(rfc2217.serve, url, echo) == [url]
        async with serial.connect(f"serial://{line.near}") as near:
            await near.stream.send_all(b"?")
            assert await near.stream.receive_some() == b"?"
        nursery.cancel_scope.cancel()


RULES = (
    "facts_are_facts",
    "wrong_urls_are_said_to_be_wrong",
    "half_closed_it_still_hears",
    "orderly_end_loses_nothing",
)


async def test_it_keeps_the_rules_of_transports() -> None:
    """A server at each end of the line. The other rules were kept too; most take a dozen connections, and a port server some 0.7 s for each."""
    async with BadLine(921600, seed=1) as line, port_server(line.near) as near, port_server(line.far) as far:
        listen, dial = (f"rfc2217://{server}?baudrate=921600&fastest=0" for server in (near, far))
        await check_transport(
            listen, dial=dial, rules=RULES, wrong=["rfc2217:", "rfc2217://x"], layer=reliable, many=1, patience=30.0
        )


SER2NET = """%YAML 1.1
---
connection: &line
  accepter: telnet(rfc2217),tcp,127.0.0.1,{port}
  connector: serialdev,{path},115200n81,local
  options:
    chardelay: false
"""


@pytest.mark.skipif(not shutil.which("ser2net"), reason="ser2net is not installed: apt-get install ser2net")
async def test_ser2net_is_a_server_for_it(nobody: str, tmp_path: Path) -> None:
    async with BadLine() as line:
        config = tmp_path / "ser2net.yaml"
        config.write_text(SER2NET.format(port=nobody.rpartition(":")[2], path=line.far))
        ser2net = await trio.lowlevel.open_process(["ser2net", "-n", "-u", "-c", str(config)])
        try:
            await until_it_listens(nobody)
            with pytest.raises(
                DialFailed, match=r"option 'control'; .*no modem lines.*add ign_set_control=1"
            ):  # it is a pty
                async with rfc2217.connect(f"rfc2217://{nobody}"):
                    pass
            async with rfc2217.connect(f"rfc2217://{nobody}?ign_set_control=1") as far:
                async with serial.connect(f"serial://{line.near}") as near:
                    await near.stream.send_all(bytes(range(256)))
                    assert await hears(far.stream, 256) == bytes(range(256))
                    await far.stream.send_all(bytes(range(256)))
                    assert await hears(near.stream, 256) == bytes(range(256))
        finally:
            ser2net.kill()
            with trio.CancelScope(shield=True):
                await ser2net.wait()


async def until_it_listens(server: str) -> None:
    host, _, port = server.rpartition(":")
    while True:
        try:
            await (await trio.open_tcp_stream(host, int(port))).aclose()
        except OSError:
            await trio.sleep(0.01)
        else:
            return


async def test_where_nobody_listens_or_somebody_else_it_is_told(nobody: str) -> None:
    with pytest.raises(
        DialFailed, match=r"^rfc2217://.*refused; is the port server running, and is this its address\?"
    ):
        async with rfc2217.connect(f"rfc2217://{nobody}"):
            pass
    with pytest.raises(ConfigError, match="refused"):
        await rfc2217.serve(f"rfc2217://{nobody}", None)  # type: ignore[arg-type]


async def test_a_listener_that_does_not_speak_it_is_told() -> None:
    async def mute(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, mute, [listener])
        port = listener.socket.getsockname()[1]
        with pytest.raises(DialFailed, match=r"does not seem to support RFC2217.*is this a port server"):
            async with rfc2217.connect(f"rfc2217://127.0.0.1:{port}"):
                pass
        nursery.cancel_scope.cancel()


@pytest.fixture
async def nobody() -> str:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    listener.socket.close()
    return f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("rfc2217://ser2net:2217?baudrate=9600&dtr=off&rts=off&ign_set_control=1", None),
        ("rfc2217://[::1]:2217", None),
        ("rfc2217://ser2net", "is not of the form rfc2217://host:port"),
        ("rfc2217://ser2net:0", "port 0 is not in 1..65535"),
        ("rfc2217://ser2net:99999", "port 99999 is not in 1..65535"),
        ("rfc2217://ser2net:2217?dtr=keep", "the option 'dtr' is 'keep': say on or off"),
        ("rfc2217://ser2net:2217?exclusive=1", "there is no option 'exclusive'"),
        ("rfc2217://ser2net:2217?rtscts=1&xonxoff=1", "xonxoff and rtscts"),
    ],
)
def test_what_is_wrong_with_a_url(url: str, problem: str | None) -> None:
    found = rfc2217.check(url)
    assert found is None if problem is None else problem in (found or "")


def test_other_machines_can_reach_it() -> None:
    assert not rfc2217.is_private("rfc2217://127.0.0.1:2217")
    assert not rfc2217.is_guarded("rfc2217://127.0.0.1:2217")
