"""A serial port with a descriptor: pyserial opens and configures it, trio reads and writes. POSIX only."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import termios
from contextlib import suppress
from pathlib import Path

import serial
import trio

from rpyc_gateway.transport import Buffer, Pipe
from rpyc_transports.portsettings import Settings
from rpyc_transports.portstream import PIECE, PortStream, in_thread

__all__ = ["UartStream", "open_uart"]

READ = 16_384
NOT_HERE = {errno.ENOTTY, errno.EINVAL}  # what a tty answers that has no such hardware: a pty, some adapters


class UartStream(PortStream):
    """A port with a descriptor."""

    def __init__(self, name: str, settings: Settings, port: serial.Serial) -> None:
        super().__init__(name, settings)
        self._port = port
        self._fd = port.fileno()
        self._clock = trio.lowlevel.current_clock()  # for threads, too

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Raises BrokenResourceError when the port is gone; a serial line has no other end."""
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        await trio.lowlevel.checkpoint()
        while True:
            self._check_open()
            try:
                data = os.read(self._fd, max_bytes or READ)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._fd)
            except OSError as exc:
                raise self._gone(exc.strerror) from exc
            else:
                if not data:
                    raise self._gone("end of file")
                return data

    def offer(self, pipe: Pipe) -> None:
        pipe.fileno = self._fd
        pipe.send_nowait = self.send_nowait
        pipe.receive_nowait = self.receive_nowait

    def send_nowait(self, *buffers: Buffer) -> int:
        """Write a piece, if the line is near to wanting one. Raises OSError if the port is gone or closed."""
        descriptor = self._descriptor()
        now = self._clock.current_time()
        if self._writing.wait(now, self._queued()) > 0:
            return 0
        try:
            taken = os.write(descriptor, b"".join(buffers)[:PIECE])
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise OSError(str(self._gone(exc.strerror))) from exc
        self._writing.wrote(taken, now)
        return taken

    def receive_nowait(self, limit: int) -> bytes | None:
        """What is there, None if nothing is. Raises OSError if the port is gone or closed: a serial line has no other end."""
        descriptor = self._descriptor()
        try:
            data = os.read(descriptor, limit)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise OSError(str(self._gone(exc.strerror))) from exc
        if not data:
            raise OSError(str(self._gone("end of file")))
        return data

    def _descriptor(self) -> int:
        if self._closed:
            raise OSError(errno.EBADF, f"{self.name} was closed")
        return self._fd

    async def wait_heard(self) -> None:
        self._check_open()
        await trio.lowlevel.wait_readable(self._fd)
        try:
            heard = self._port.in_waiting
        except OSError as exc:
            raise self._gone(exc.strerror) from exc
        if not heard:
            raise self._gone("end of file")

    async def _write(self, piece: memoryview) -> None:
        while piece:
            self._check_open()
            try:
                piece = piece[os.write(self._fd, piece) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._fd)
            except OSError as exc:
                raise self._gone(exc.strerror) from exc

    def _part(self) -> None:
        trio.lowlevel.notify_closing(self._fd)
        if self._queued():  # closing would wait for it, half a minute perhaps
            with suppress(OSError, termios.error):
                self._port.reset_output_buffer()

    def _close(self) -> None:
        self._port.close()

    async def _set_baudrate(self, baudrate: int) -> None:
        try:
            await trio.to_thread.run_sync(setattr, self._port, "baudrate", baudrate)
        except (OSError, ValueError, termios.error) as exc:
            raise trio.BrokenResourceError(f"{self.name} cannot be set to {baudrate} baud: {exc}") from exc

    def _queued(self) -> int:
        try:
            return self._port.out_waiting
        except OSError:
            return 0  # it is gone, and the write will say so


async def open_uart(path: str, settings: Settings) -> UartStream:
    """Open a port, in a thread: it can take seconds. Raises OSError. Cancelled, it is closed again whenever it does open."""
    port = await in_thread(lambda: _open(path, settings), lambda port: port.close())
    return UartStream(path, settings, port)


def _open(path: str, settings: Settings) -> serial.Serial:
    # inter_byte_timeout=0 sets VMIN to 1: with 0 there is no telling a port without data from one that is gone.
    port = _Port(exclusive=settings.exclusive or None, inter_byte_timeout=0)
    settings.configure(port)
    port.port = path
    port.open()
    try:
        _stay_up(port.fileno())
        _set_modem_lines(port.fileno(), settings)
        if settings.low_latency:
            _hurry(port, path)
    except termios.error as exc:
        port.close()
        raise OSError(*exc.args) from exc
    except BaseException:
        port.close()
        raise
    return port


class _Port(serial.Serial):
    """One that leaves DTR and RTS alone: they are set together, as moving one before the other is what resets boards."""

    def _update_dtr_state(self) -> None: ...

    def _update_rts_state(self) -> None: ...


def _stay_up(fd: int) -> None:
    """Closing the port leaves DTR and RTS as they are: what falls with them is, on many boards, the reset line."""
    attributes = termios.tcgetattr(fd)
    attributes[2] &= ~termios.HUPCL
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _set_modem_lines(fd: int, settings: Settings) -> None:
    """DTR and RTS as wanted, both in one step. What a flow control uses is its own."""
    lines = array.array("i", [0])
    wanted = [
        (termios.TIOCM_DTR, "keep" if settings.dsrdtr else settings.dtr),
        (termios.TIOCM_RTS, "keep" if settings.rtscts else settings.rts),
    ]
    try:
        fcntl.ioctl(fd, termios.TIOCMGET, lines)
        before = lines[0]
        for line, level in wanted:
            if level == "on":
                lines[0] |= line
            elif level == "off":
                lines[0] &= ~line
        if lines[0] != before:
            fcntl.ioctl(fd, termios.TIOCMSET, lines)
    except OSError as exc:
        if exc.errno not in NOT_HERE:
            raise


def _hurry(port: serial.Serial, path: str) -> None:
    """Have an adapter pass on at once what it hears, where it would wait 16 ms for more. Not all can; few need to."""
    try:
        port.set_low_latency_mode(True)
    except (OSError, ValueError):
        timer = Path("/sys/class/tty", os.path.basename(os.path.realpath(path)), "device/latency_timer")
        with suppress(OSError):  # not FTDI, or not ours to set
            timer.write_text("1")
