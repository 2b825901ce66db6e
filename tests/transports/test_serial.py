"""serial:// over ptys, which are real tty devices, and over a line that is slow, noisy and can be unplugged."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import shutil
import subprocess
import sys
import termios
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.reliable import reliable
from rpyc_gateway.testing import BadLine, check_transport
from rpyc_gateway.transport import Handler, Pipe
from rpyc_transports import ports, uart
from rpyc_transports.ports import Port
from rpyc_transports.serial import SerialTransport
from tests.house import wait_until

serial = SerialTransport()

PICO = Port("/dev/ttyACM0", "2E8A", "0005", "E6614C77", "1-1", "Board in FS mode")
OTHER_PICO = Port("/dev/ttyACM1", "2E8A", "0005", "E6614C78", "1-2", "Board in FS mode")
CLONE = Port("/dev/ttyUSB0", "1A86", "7523", "", "1-3", "USB Serial")


async def hears(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    heard = b""
    while len(heard) < count:
        heard += await stream.receive_some()
    return heard


@asynccontextmanager
async def serving(url: str, handler: Handler) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        assert await nursery.start(serial.serve, url, handler) == [url]
        yield
        nursery.cancel_scope.cancel()


async def echo(pipe: Pipe) -> None:
    try:
        async for data in pipe.stream:
            await pipe.stream.send_all(data)
    except trio.BrokenResourceError:
        return  # unplugged


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def both_ends(line: BadLine, options: str = "") -> AsyncIterator[tuple[Pipe, Pipe]]:
    async with serial.connect(f"serial://{line.near}{options}") as near:
        async with serial.connect(f"serial://{line.far}{options}") as far:
            yield near, far


async def test_any_bytes_pass_both_ways_at_once() -> None:
    data = bytes(range(256)) * 40
    async with BadLine(math.inf) as line, both_ends(line) as (near, far), trio.open_nursery() as nursery:
        nursery.start_soon(near.stream.send_all, data)
        nursery.start_soon(far.stream.send_all, data[::-1])
        assert await hears(far.stream, len(data)) == data
        assert await hears(near.stream, len(data)) == data[::-1]


async def test_a_pipe_says_what_kind_of_line_it_is() -> None:
    async with BadLine() as line:
        async with serial.connect(f"serial://{line.near}?baudrate=9600&parity=even&stopbits=2") as pipe:
            assert not pipe.reliable
            assert pipe.private
            assert (pipe.rate, pipe.message, pipe.reserved) == (9600 / 12, 256, b"")
            assert (pipe.identity, pipe.peer) == (f"tty:{line.near}", f"{line.near} at 9600 baud")


async def test_software_flow_control_takes_two_bytes_for_itself() -> None:
    async with BadLine() as line, serial.connect(f"serial://{line.near}?xonxoff=1") as pipe:
        assert pipe.reserved == b"\x11\x13"


async def test_nothing_is_left_open() -> None:
    async with BadLine() as line:
        before = open_files()
        async with serial.connect(f"serial://{line.near}") as pipe:
            await pipe.stream.send_all(b"hello")
        assert open_files() == before


async def test_what_was_sent_last_leaves_before_the_port_is_closed() -> None:
    async with BadLine(19_200) as line:
        async with serial.connect(f"serial://{line.far}?baudrate=19200") as far:
            async with serial.connect(f"serial://{line.near}?baudrate=19200") as near:
                await near.stream.send_all(bytes(200) + b"goodbye")
            assert await hears(far.stream, 207) == bytes(200) + b"goodbye"


async def test_what_is_sent_waits_in_the_sender_and_not_in_the_kernel() -> None:
    """A small message that becomes due meanwhile can then go before the rest."""
    async with BadLine(9600) as line, both_ends(line, "?baudrate=9600") as (near, _):
        with trio.move_on_after(0.2):
            await near.stream.send_all(bytes(10_000))
        await wait_until(lambda: line.to_far.sent >= 192)
        assert line.to_far.sent <= 2 * 256 + 192


async def test_who_sends_and_receives_without_waiting_is_held_to_the_speed_of_the_line() -> None:
    text = bytes(range(256)) * 2
    async with BadLine(9600) as line:
        async with both_ends(line, "?baudrate=9600") as (near, far):
            send, receive = near.send_nowait, far.receive_nowait
            assert send is not None
            assert receive is not None
            assert receive(100) is None
            assert await trio.to_thread.run_sync(send, text[:3], memoryview(text)[3:]) == 256  # a piece of it
            assert send(text[256:]) == 0  # until the line has nearly sent that
            await near.stream.wait_send_all_might_not_block()
            assert send(text[256:]) == 256
            heard = b""
            while len(heard) < len(text):
                await trio.lowlevel.wait_readable(far.fileno)
                heard += await trio.to_thread.run_sync(receive, 100) or b""
            assert heard == text
        for use in (partial(send, b"x"), partial(receive, 1)):
            with pytest.raises(OSError, match="was closed"):
                use()


async def test_unplugged_it_says_so_to_who_does_not_wait() -> None:
    async with BadLine() as line, both_ends(line) as (near, far):
        assert near.receive_nowait is not None
        assert far.send_nowait is not None
        line.unplug()
        await trio.lowlevel.wait_readable(near.fileno)
        with pytest.raises(OSError, match="near is gone: it was unplugged"):
            near.receive_nowait(1)
        with pytest.raises(OSError, match="far is gone: it was unplugged"):
            far.send_nowait(b"x")


async def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    async with BadLine(math.inf) as line, both_ends(line) as (near, far):
        for _ in range(3):
            with trio.move_on_after(0.001):
                await far.stream.receive_some()
        await near.stream.send_all(b"whole")
        assert await hears(far.stream, 5) == b"whole"


async def test_a_small_buffer_gets_a_small_piece() -> None:
    async with BadLine(math.inf) as line, both_ends(line) as (near, far):
        await near.stream.send_all(b"abc")
        assert [await far.stream.receive_some(1) for _ in range(3)] == [b"a", b"b", b"c"]
        with pytest.raises(ValueError, match="at least 1"):
            await far.stream.receive_some(0)


async def test_two_tasks_cannot_send_or_receive_at_once() -> None:
    async with BadLine(9600) as line, both_ends(line) as (near, _), trio.open_nursery() as nursery:
        nursery.start_soon(near.stream.send_all, bytes(1000))
        nursery.start_soon(near.stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await near.stream.send_all(b"me too")
        with pytest.raises(trio.BusyResourceError):
            await near.stream.receive_some()
        nursery.cancel_scope.cancel()


async def test_closed_under_a_reader_it_says_so() -> None:
    async with BadLine() as line, both_ends(line) as (near, _), trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await near.stream.receive_some()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await near.stream.aclose()
        await near.stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await near.stream.send_all(b"late")


async def test_unplugged_it_says_so_to_who_reads_and_to_who_writes() -> None:
    async with BadLine() as line, both_ends(line) as (near, far):
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.BrokenResourceError, match="near is gone: it was unplugged"):
                    await near.stream.receive_some()

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            line.unplug()
        with pytest.raises(trio.BrokenResourceError, match="far is gone: it was unplugged"):
            await far.stream.send_all(bytes(2000))


async def test_both_ends_change_to_another_rate_and_back() -> None:
    async with BadLine(None) as line, both_ends(line, "?fastest=921600") as (near, far):
        assert near.fastest == 921_600
        for baudrate in (921_600, 0):
            for end in (near, far):
                assert end.set_rate is not None
                await end.set_rate(baudrate)
            await near.stream.send_all(b"still here")
            assert await hears(far.stream, 10) == b"still here"


async def test_a_change_of_rate_waits_for_what_was_sent() -> None:
    async with BadLine(None) as line, both_ends(line, "?baudrate=19200") as (near, far):
        assert near.set_rate is not None
        await near.stream.send_all(b"x" * 200)
        await near.set_rate(115_200)
        assert await hears(far.stream, 200) == b"x" * 200


async def test_a_second_program_hears_who_has_the_port() -> None:
    async with BadLine() as line, serial.connect(f"serial://{line.near}"):
        with pytest.raises(DialFailed, match="is in use: this program itself has locked it"):
            async with serial.connect(f"serial://{line.near}"):
                pass
        async with (
            serial.connect(f"serial://{line.far}?exclusive=0"),
            serial.connect(f"serial://{line.far}?exclusive=0"),
        ):
            pass


HOLD = "import serial, sys; port = serial.Serial(sys.argv[1], exclusive=True); print('ready', flush=True); sys.stdin.read()"


async def test_another_program_is_named() -> None:
    async with BadLine() as line:
        program = await trio.lowlevel.open_process(
            [sys.executable, "-c", HOLD, line.near], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert program.stdin is not None
        assert program.stdout is not None
        async with program.stdin, program.stdout:
            await program.stdout.receive_some()
            has_it = rf"is in use: `.*python.* \(pid {program.pid}\) has locked it; stop that"
            with pytest.raises(DialFailed, match=has_it):
                async with serial.connect(f"serial://{line.near}"):
                    pass
        await program.wait()


async def test_closing_does_not_let_the_modem_lines_fall() -> None:
    async with BadLine() as line:
        port = os.open(line.near, os.O_RDWR | os.O_NOCTTY)
        try:
            attributes = termios.tcgetattr(port)
            attributes[2] |= termios.HUPCL  # as a UART begins
            termios.tcsetattr(port, termios.TCSANOW, attributes)
            async with serial.connect(f"serial://{line.near}"):
                assert not termios.tcgetattr(port)[2] & termios.HUPCL
        finally:
            os.close(port)


class Modem:
    """What a UART has and a pty lacks: lines that can be asked for and set."""

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.set: list[int] = []

    def ioctl(self, fd: int, request: int, lines: object) -> int:
        assert isinstance(lines, uart.array.array)
        if request == termios.TIOCMGET:
            lines[0] = self.levels
        else:
            assert request == termios.TIOCMSET
            self.set.append(lines[0])
        return 0


DTR, RTS, CTS = termios.TIOCM_DTR, termios.TIOCM_RTS, termios.TIOCM_CTS


@pytest.mark.parametrize(
    ("before", "options", "then"),
    [
        (
            DTR | RTS | CTS,
            "",
            [],
        ),  # as the system leaves them when it opens a port: nothing moves, and no board is reset
        (CTS, "", [DTR | RTS | CTS]),  # in one step, as boards are reset by one without the other
        (DTR | RTS, "?dtr=off&rts=off", [0]),
        (DTR | RTS, "?dtr=keep&rts=off", [DTR]),
        (RTS, "?dtr=keep&rts=keep", []),
        (DTR, "?rtscts=1&rts=on", []),  # that line is the flow control's
        (RTS, "?dsrdtr=1&dtr=on", []),
    ],
)
async def test_the_modem_lines_are_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, before: int, options: str, then: list[int]
) -> None:
    modem, real = Modem(before), fcntl.ioctl

    def ioctl(fd: int, request: int, argument: object = 0, *more: bool) -> object:
        if request in (termios.TIOCMGET, termios.TIOCMSET):
            return modem.ioctl(fd, request, argument)
        return real(fd, request, argument, *more)  # type: ignore[call-overload]

    async with BadLine() as line:
        monkeypatch.setattr(fcntl, "ioctl", ioctl)
        async with serial.connect(f"serial://{line.near}{options}"):
            assert modem.set == then


READ_SERIAL, WRITE_SERIAL, FLAGS, LOW_LATENCY = 0x541E, 0x541F, 4, 0x2000  # of Linux


@pytest.mark.skipif(sys.platform != "linux", reason="ASYNC_LOW_LATENCY is Linux's")
@pytest.mark.parametrize(("options", "flags"), [("", [LOW_LATENCY | 1]), ("?low_latency=0", [])])
async def test_an_adapter_is_told_to_pass_on_at_once_what_it_hears(
    monkeypatch: pytest.MonkeyPatch, options: str, flags: list[int]
) -> None:
    written, real = [], fcntl.ioctl

    def ioctl(fd: int, request: int, argument: Any = 0, *more: bool) -> object:
        """A pty has no such settings."""
        if request == READ_SERIAL:
            argument[FLAGS] = 1
        elif request == WRITE_SERIAL:
            written.append(argument[FLAGS])
        else:
            return real(fd, request, argument, *more)
        return 0

    async with BadLine() as line:
        monkeypatch.setattr(fcntl, "ioctl", ioctl)
        async with serial.connect(f"serial://{line.near}{options}"):
            assert written == flags


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (
            "/dev/no-such-port",
            r"there is no port /dev/no-such-port; plugged in: /dev/ttyACM0 \(2E8A:0005, Board in FS mode",
        ),
        ("/etc/passwd", "/etc/passwd is no serial port; plugged in:"),
        ("/dev/null", "/dev/null is no serial port"),
        ("/tmp", "/tmp is no serial port"),
        ("?vid=1209", r"no port has vid 1209; plugged in: /dev/ttyACM0"),
        (
            "?vid=2e8a&pid=5",
            r"2 ports have vid 2E8A and pid 0005: /dev/ttyACM0 .*; /dev/ttyACM1 .*; add serial= or location=",
        ),
    ],
)
async def test_a_port_that_cannot_be_had_is_told_with_what_is_there(
    monkeypatch: pytest.MonkeyPatch, place: str, reason: str
) -> None:
    monkeypatch.setattr(ports, "plugged_in", lambda: [PICO, OTHER_PICO])
    with pytest.raises(DialFailed, match=f"^serial://.*: {reason}"):
        async with serial.connect(f"serial://{place}"):
            pass
    with pytest.raises(ConfigError, match=reason):
        await serial.serve(f"serial://{place}", echo)


async def test_nothing_plugged_in_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "plugged_in", list)
    with pytest.raises(DialFailed, match="there is no port /dev/ttyUSB77; no serial port is plugged in"):
        async with serial.connect("serial:///dev/ttyUSB77"):
            pass


async def test_without_permission_the_group_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with BadLine() as line:
        real, gid = os.open, os.stat(line.far).st_gid

        def refuse(path: str, flags: int, *more: Any, **options: Any) -> int:
            if path == line.far:
                raise PermissionError(13, "Permission denied", path)
            return real(path, flags, *more, **options)

        monkeypatch.setattr(
            "grp.getgrgid", lambda number: SimpleNamespace(gr_name="dialout") if number == gid else None
        )
        monkeypatch.setattr("os.open", refuse)
        with pytest.raises(
            DialFailed, match=r"permission denied; .*`sudo usermod -aG dialout \$USER`, then log in anew"
        ):
            async with serial.connect(f"serial://{line.far}"):
                pass


async def test_a_port_is_found_by_what_its_device_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with BadLine(math.inf) as line:
        monkeypatch.setattr(ports, "plugged_in", lambda: [CLONE, PICO._replace(path=line.near)])
        for ids in ("vid=2e8a&pid=0005", "serial=E6614C77", "location=1-1", "vid=0x2E8A"):
            async with serial.connect(f"serial://?{ids}") as pipe:
                assert pipe.identity == f"tty:{line.near}"


async def test_a_driver_that_does_not_answer_is_given_up_and_what_it_opens_late_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with BadLine() as line:
        before, open_port, answers = open_files(), uart._open, threading.Event()

        def slow(path: str, settings: object) -> object:
            answers.wait(10)
            return open_port(path, settings)  # type: ignore[arg-type]

        monkeypatch.setattr(uart, "_open", slow)
        monkeypatch.setattr("rpyc_transports.serial.OPEN_TIMEOUT", 0.01)
        with pytest.raises(
            DialFailed, match=r"it did not open within 0.01 s: its device does not answer; plug it in anew"
        ):
            async with serial.connect(f"serial://{line.near}"):
                pass
        answers.set()
        await wait_until(lambda: open_files() == before)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("serial:///dev/ttyUSB0", None),
        ("serial:///dev/ttyUSB0?baudrate=921600&parity=N&stopbits=1.5&xonxoff=1&rtscts=0&dsrdtr=0&bytesize=8", None),
        ("serial:///dev/serial/by-id/usb-Arduino__www.arduino.cc__0043-if00?dtr=off&rts=keep&exclusive=0", None),
        ("serial://?vid=2E8A&pid=0005&serial=E66&location=1-1.4&low_latency=0&fastest=2000000", None),
        ("serial:/dev/ttyUSB0", "is not of the form serial:///dev/ttyUSB0"),
        ("serial://dev/ttyUSB0", "did you mean serial:///dev/ttyUSB0?"),
        ("serial://", "does not say which port"),
        ("serial:///dev/ttyUSB0?serial=E66", "has a path and serial: give the one or the other"),
        ("serial:///dev/ttyUSB0?baud=9600", "there is no option 'baud'"),
        ("serial:///dev/ttyUSB0?baudrate=0", "the option 'baudrate' is 0, which is no baud rate"),
        ("serial:///dev/ttyUSB0?baudrate=fast", "the option 'baudrate' is 'fast', which is no whole number"),
        ("serial:///dev/ttyUSB0?bytesize=7", "the option 'bytesize' is '7', but a link needs whole bytes: 8"),
        ("serial:///dev/ttyUSB0?parity=both", "the option 'parity' is 'both': say N, E, O, M or S"),
        ("serial:///dev/ttyUSB0?stopbits=3", "the option 'stopbits' is '3': say 1, 1.5 or 2"),
        ("serial:///dev/ttyUSB0?dtr=up", "the option 'dtr' is 'up': say on, off or keep"),
        ("serial:///dev/ttyUSB0?rtscts=maybe", "the option 'rtscts' is 'maybe': say 1 or 0"),
        ("serial://?vid=pico", "the option 'vid' is 'pico', and such an id is up to four hexadecimal digits"),
        ("serial:///dev/tty%00USB0", "is not of the form"),
    ],
)
def test_what_is_wrong_with_a_url(url: str, problem: str | None) -> None:
    found = serial.check(url)
    assert found is None if problem is None else problem in (found or "")


async def test_what_is_wrong_with_a_url_is_told_when_it_is_dialled() -> None:
    with pytest.raises(DialFailed, match=r"^serial://: does not say which port"):
        async with serial.connect("serial://"):
            pass


async def test_serving_begins_a_pipe_when_something_is_heard_and_one_after_the_other() -> None:
    pipes: list[Pipe] = []

    async def answer(pipe: Pipe) -> None:
        pipes.append(pipe)
        await pipe.stream.send_all(await pipe.stream.receive_some())

    async with BadLine(math.inf) as line, serving(f"serial://{line.far}", answer):
        async with serial.connect(f"serial://{line.near}") as near:
            await trio.testing.wait_all_tasks_blocked()
            assert not pipes
            for number in (1, 2, 3):
                # Between two pipes the port is closed for a moment, and what is said then may be lost.
                with trio.move_on_after(5):
                    while len(pipes) < number:
                        await near.stream.send_all(b"?")
                        with trio.move_on_after(0.05):
                            await near.stream.receive_some()
        assert len(pipes) >= 3


async def test_a_served_port_that_was_unplugged_is_served_again_when_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpyc_transports.portserving.RETRY", 0.01)
    caplog.set_level(logging.WARNING)
    async with BadLine(math.inf) as line, serving(f"serial://{line.far}", echo):
        for _ in range(2):
            async with serial.connect(f"serial://{line.near}") as near:
                await near.stream.send_all(b"anybody?")
                assert await hears(near.stream, 8) == b"anybody?"
                caplog.clear()
                line.unplug()
                await wait_until(lambda: "waiting for it" in caplog.text)
            line.plug()
            await wait_until(lambda: "it is back" in caplog.text)
        assert sum("waiting for it" in message for message in caplog.messages) == 1


async def test_unplugged_while_nobody_speaks_it_begins_no_pipe(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    pipes: list[Pipe] = []

    async def note(pipe: Pipe) -> None:
        pipes.append(pipe)

    async with BadLine() as line, serving(f"serial://{line.far}", note):
        await trio.testing.wait_all_tasks_blocked()
        line.unplug()
        await wait_until(lambda: "waiting for it" in caplog.text)
    assert "it was unplugged" in caplog.text
    assert not pipes


async def test_a_served_device_is_found_under_another_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpyc_transports.portserving.RETRY", 0.01)
    async with BadLine(math.inf) as line, BadLine(math.inf) as other:
        monkeypatch.setattr(ports, "plugged_in", lambda: [PICO._replace(path=line.far)])
        async with serving(f"serial://{line.far}", echo):
            monkeypatch.setattr(ports, "plugged_in", lambda: [CLONE, PICO._replace(path=other.far)])
            line.unplug()
            async with serial.connect(f"serial://{other.near}") as near:
                with trio.fail_after(10):
                    heard = b""
                    while not heard:
                        await near.stream.send_all(b"anybody?")
                        with trio.move_on_after(0.05):
                            heard = await near.stream.receive_some()
                assert heard == b"anybody?"[: len(heard)]


async def test_a_handler_that_fails_ends_its_pipe_alone(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Pipe] = []

    async def answer(pipe: Pipe) -> None:
        calls.append(pipe)
        raise RuntimeError("in the handler")

    async with BadLine(math.inf) as line, serving(f"serial://{line.far}", answer):
        async with serial.connect(f"serial://{line.near}") as near:
            with trio.fail_after(10):
                while len(calls) < 2:
                    await near.stream.send_all(b"?")
                    await trio.sleep(0.01)
    assert "in the handler" in caplog.text


def test_a_line_is_private_and_nobody_on_it_is_known() -> None:
    assert serial.is_private("serial:///dev/ttyUSB0")
    assert not serial.is_guarded("serial:///dev/ttyUSB0")


def test_what_is_plugged_in_can_be_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "plugged_in", lambda: [PICO, CLONE])
    assert [(place.name, place.url) for place in serial.places()] == [
        ("/dev/ttyACM0", "serial://?serial=E6614C77"),
        ("/dev/ttyUSB0", "serial://?vid=1A86&pid=7523"),
    ]


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("serial://?vid=2e8a", ["serial://?vid=2E8A&serial=E6614C77&location=1-1"]),
        ("serial://?baudrate=9600&pid=7523", ["serial://?pid=7523&vid=1A86&location=1-3&baudrate=9600"]),
        ("serial://?location=1-1", ["serial://?location=1-1&serial=E6614C77"]),
        ("serial://?vid=0403", []),
        ("serial:///dev/ttyACM0?rtscts=1", ["serial:///dev/ttyACM0?rtscts=1"]),
        ("serial:///dev/null", ["serial:///dev/null"]),  # it is there; what it is is seen when it is opened
        ("serial:///dev/nowhere", []),
    ],
)
def test_which_ports_a_url_stands_for_each_with_what_tells_it_from_all_others(
    monkeypatch: pytest.MonkeyPatch, url: str, fits: list[str]
) -> None:
    monkeypatch.setattr(ports, "plugged_in", lambda: [PICO, CLONE])
    fitting = serial.fitting(url, serial.places())
    assert [place.url for place in fitting] == fits
    assert all(serial.check(place.url) is None for place in fitting)
    assert bool(serial.fields(url)) == ("//?" in url)


@pytest.mark.skipif(not shutil.which("socat"), reason="socat is not installed: apt-get install socat")
async def test_socat_makes_a_line_too(tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    program = await trio.lowlevel.open_process(["socat", f"pty,raw,echo=0,link={near}", f"pty,raw,echo=0,link={far}"])
    try:
        await wait_until(lambda: near.exists() and far.exists())
        async with serving(f"serial://{far}", echo), serial.connect(f"serial://{near}") as pipe:
            await pipe.stream.send_all(b"hello")
            assert await hears(pipe.stream, 5) == b"hello"
            program.kill()
            with pytest.raises(trio.BrokenResourceError, match="it was unplugged"):
                await pipe.stream.receive_some()
    finally:
        program.kill()
        await program.wait()


# -- with the line that makes it reliable, the rules for all transports

RULES = """
    facts_are_facts wrong_urls_are_said_to_be_wrong both_ways_at_once pieces_of_all_sizes half_closed_it_still_hears
    orderly_end_loses_nothing vanished_peer_is_noticed closing_twice_is_closing failing_handler_hurts_nobody
"""
"""All that can be asked of a line with one pipe at a time; a handler that does not listen keeps it until it ends."""

WRONG = ["serial://", "serial:///dev/ttyUSB0?baud=1"]


async def test_it_keeps_the_rules_of_transports() -> None:
    async with BadLine(4_000_000) as line:
        far, near = (f"serial://{path}?baudrate=4000000" for path in (line.far, line.near))
        seen = await check_transport(far, dial=near, layer=reliable, many=1, wrong=WRONG, rules=RULES.split())
    assert seen["pieces_of_all_sizes"].startswith("1 to")


async def test_dialling_is_cancelled_at_any_step_and_leaves_nothing() -> None:
    async with BadLine(4_000_000) as line:
        far, near = (f"serial://{path}?baudrate=4000000" for path in (line.far, line.near))
        serve = [
            sys.executable,
            "-m",
            "rpyc_gateway.testing",
            "serve",
            "--layer",
            "rpyc_gateway.reliable:reliable",
            far,
        ]
        listener = await trio.lowlevel.open_process(serve, stderr=subprocess.PIPE)
        assert listener.stderr is not None
        try:
            async with listener.stderr:
                assert b"serving at" in await listener.stderr.receive_some()
                rules = ["cancelled_dials_leave_nothing"]
                await check_transport(None, dial=near, layer=reliable, many=1, rules=rules)
        finally:
            listener.kill()
            with trio.CancelScope(shield=True):
                await listener.wait()


async def test_closed_in_a_hurry_the_last_words_leave_all_the_same() -> None:
    async with BadLine(115_200) as line, serial.connect(f"serial://{line.far}") as far:
        async with serial.connect(f"serial://{line.near}") as near:
            await near.stream.send_all(bytes(200) + b"goodbye")
            await trio.aclose_forcefully(near.stream)
        assert await hears(far.stream, 207) == bytes(200) + b"goodbye"
